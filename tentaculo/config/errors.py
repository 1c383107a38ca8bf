"""Faults of a configuration. Each has a path and a message; neither contains the refused value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

KeyPath = tuple[str | int, ...]
"""Path of a value: ("services", "madre", "routes", 0, "prefix")."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class ConfigFault(msgspec.Struct, frozen=True):
    """One fault. `path` is dotted, `services.madre.routes[0].prefix`, or the name of a file or a variable."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ConfigError(Exception):
    """The configuration is invalid. Carries every fault."""

    def __init__(self, faults: Sequence[ConfigFault], path: Path | None = None, *, files: Sequence[Path] = ()) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
        self.path = path
        """The configuration file, None where there is none."""
        self.files = tuple(files)
        """The files that the configuration names; empty where that is not known."""


class ConfigFaults:
    """Collects faults. A fault of a value from the environment names the variable."""

    def __init__(self, variables: Mapping[KeyPath, str]) -> None:
        self._variables = variables
        self._found: dict[ConfigFault, None] = {}

    def __repr__(self) -> str:
        return f"<ConfigFaults: {len(self._found)}>"

    def __iter__(self) -> Iterator[ConfigFault]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: KeyPath, message: str) -> None:
        """Add a fault at `place`. An equal fault is added once."""
        variable = next((v for n in range(len(place), 0, -1) if (v := self._variables.get(place[:n]))), None)
        self._found[ConfigFault(dotted(place), f"{message} (set by {variable})" if variable else message)] = None


def dotted(place: KeyPath) -> str:
    """`place` as it is shown: names with dots between, quoted as TOML does where needed, list places in brackets."""
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += f"[{part}]"
            continue
        name = part if _BARE.fullmatch(part) else '"' + part.encode("unicode_escape").decode().replace('"', '\\"') + '"'
        shown += f".{name}" if shown else name
    return shown


_OTHER_WORDS = {
    "address": "url",
    "backend": "url",
    "bind": "host",
    "path": "prefix",
    "rewrite": "to",
    "servers": "urls",
    "strip_path": "strip",
    "strip_prefix": "strip",
    "target": "url",
    "targets": "urls",
    "upstream": "url",
    "upstreams": "urls",
}
"""Names of keys in the configurations of other gateways, with ours."""


def did_you_mean(word: str, known: Collection[str], cutoff: float = 0.6) -> str:
    """A hint such as `; did you mean "prefix"?` if a known word means the same or is similar, else an empty string.

    Mistyped words have their first letter right; `path` is no mistyped `auth`.
    """
    named = _OTHER_WORDS.get(word)
    if named in known:
        return f'; did you mean "{named}"?'
    import difflib  # a tenth of a megabyte, needed for a fault only

    alike = [one for one in sorted(known) if one[:1].lower() == word[:1].lower()]
    close = difflib.get_close_matches(word, alike, n=1, cutoff=cutoff)
    return f'; did you mean "{close[0]}"?' if close else ""
