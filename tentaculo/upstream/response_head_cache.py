"""Heads of answers that were read before: servers send the same ones again and again within a second."""

from __future__ import annotations

from typing import NamedTuple

from tentaculo.net.http1 import HEAD_END, Framing, Head
from tentaculo.net.response_headers import ResponseHeaders

MOST, LONGEST = 64, 2048
"""Heads that are remembered, and bytes of each; when there are more, all are forgotten."""


class CachedHead(NamedTuple):
    """A final head as it was read: the same bytes in answer to the same method mean the same again."""

    method: str
    raw: bytes
    head: Head
    fields: ResponseHeaders
    framing: Framing
    length: int
    size: int
    """Bytes of the whole answer where its body has a length, else -1."""


class ResponseHeadCache:
    """The memory that all connections to one upstream share."""

    __slots__ = ("_known", "_last")

    def __init__(self) -> None:
        self._known: dict[bytes, CachedHead] = {}
        self._last: CachedHead | None = None

    def __repr__(self) -> str:
        return f"<Heads: {len(self._known)}>"

    def find(self, method: str, data: bytes) -> CachedHead | None:
        """The head at the start of `data`, if it was remembered for `method`."""
        last = self._last
        if last is not None and data.startswith(last.raw) and last.method == method:
            return last
        found = self._known.get(data[: data.find(HEAD_END) + len(HEAD_END)])
        if found is None or found.method != method:
            return None
        self._last = found
        return found

    def remember(self, known: CachedHead) -> None:
        """Keep a head that has been read."""
        if len(known.raw) > LONGEST:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[known.raw] = self._last = known
