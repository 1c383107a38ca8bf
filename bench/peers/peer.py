"""What the benchmark knows of a proxy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import traffic
from bench.catalogue import EVENTS
from bench.process import BenchError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(sys.executable).parent
"""Where the programs of the benchmark's own environment are."""
NODE_PACKAGES = PACKAGES.parent / "node" / "node_modules"


@dataclass(frozen=True, slots=True)
class Site:
    """One proxy's place: where it listens, what is behind it, where its files go."""

    port: int
    web: int
    """The upstream of everything but /live."""
    live: int
    """The upstream of /live."""
    folder: Path
    routes: int = 0
    """Further prefixes, `traffic.ROUTE`, that lead to the upstream of everything."""

    @property
    def prefixes(self) -> list[str]:
        """The further prefixes."""
        return [traffic.ROUTE.format(number) for number in range(self.routes)]

    def write(self, name: str, text: str) -> Path:
        """Put a file into the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


@dataclass(frozen=True, slots=True)
class Command:
    """How a proxy is started."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """A proxy, or the upstream itself for comparison."""

    name: str
    """On the command line and in the results."""
    title: str
    prepare: Callable[[Site], Command] | None
    """Writes its configuration and says how to start it; None for no proxy at all."""
    version: Sequence[str] = ()
    """A command that prints its version."""
    lacks: frozenset[str] = frozenset()
    """Names of cases that it is not made for."""
    only: frozenset[str] = frozenset()
    """If not empty, the only cases it is measured in."""
    note: str = ""
    """How it is set up, in words."""
    has_events: bool = False
    """Whether it takes events."""
    hello: tuple[bytes, bytes] | None = None
    """What it is sent, and how its response begins, once it works; None for HTTP."""

    def takes(self, case: str) -> bool:
        """Whether it is measured in `case`."""
        if case in EVENTS and not self.has_events:
            return False
        return case not in self.lacks and (not self.only or case in self.only)


def program(name: str) -> str:
    """The full path of a program: of the benchmark's environment, else of the system. Raises `BenchError`."""
    found = shutil.which(name, path=os.pathsep.join((str(PACKAGES), os.environ.get("PATH", ""), "/usr/sbin")))
    if found is None:
        raise BenchError(f"{name} is not installed; `make bench` installs it where it can")
    return found
