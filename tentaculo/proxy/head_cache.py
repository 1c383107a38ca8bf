"""What is remembered beside the fields it was made from: the same fields, for the same key, go on in the same bytes."""

from __future__ import annotations

from typing import NamedTuple


class CachedResponseHead(NamedTuple):
    """The head of an answer as it went to a client, and for whom it is right."""

    key: tuple[object, ...]
    """Everything it depends on but the fields themselves and `added`."""
    head: bytes
    """Without the lines that differ with each request, and without the empty line."""
    is_chunked: bool
    keep_alive: bool


class CachedRequestHead(NamedTuple):
    """That requests with certain fields may go on by a route, and how they do."""

    key: tuple[object, ...]
    """Everything it depends on but the fields themselves: route, method, version, host."""
    block: bytes
    """What the upstream gets behind the request line, without the request's id and the empty line."""
    cors_lines: bytes
    """Whole lines that every answer to this client's page carries."""
