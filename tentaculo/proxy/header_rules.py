"""What a route's configuration does to headers, either way. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tentaculo.net.http1 import field_name


class HeaderRules:
    """What a route's configuration sets and removes, compiled once.

    Names match whatever their case, and `_` matches `-`: a client must not get `X_User` past a rule for `X-User`.
    """

    __slots__ = ("_gone", "block")

    def __init__(self, setting: Mapping[str, str], removing: Iterable[str]) -> None:
        self._gone = frozenset(name.lower().replace("_", "-").encode() for name in (*setting, *removing))
        self.block = b"".join(f"{name}: {value}\r\n".encode() for name, value in setting.items())

    def removes(self, lower: bytes) -> bool:
        """Whether a field of this name (lower case) does not pass."""
        return lower.replace(b"_", b"-") in self._gone

    def filter(self, lines: bytes) -> bytes:
        """`lines`, whole ones that the gateway adds, without those that the route sets itself or removes."""
        if not self._gone:
            return lines
        return b"".join([line for line in lines.splitlines(keepends=True) if not self.removes(field_name(line))])

    def __bool__(self) -> bool:
        return bool(self._gone)
