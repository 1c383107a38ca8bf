"""A Dockerfile, taken apart far enough to compare it and to follow its steps without an engine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    arguments: str

    @property
    def words(self) -> list[str]:
        """The arguments one by one: of the JSON form, or as a shell splits them."""
        if self.arguments.startswith("["):
            words: list[str] = json.loads(self.arguments)
            return words
        return shlex.split(self.arguments)


def parse(path: Path) -> Iterator[Instruction]:
    """Every instruction of the file, in order."""
    pending = ""
    for line in path.read_text().splitlines():
        if line.lstrip().startswith("#") or not (line.strip() or pending):
            continue
        pending += line.rstrip("\\").strip() + " " if line.endswith("\\") else line.strip()
        if not line.endswith("\\"):
            name, _, arguments = pending.partition(" ")
            yield Instruction(name.upper(), arguments.strip())
            pending = ""
