"""What is remembered beside the fields it was made from: the same fields, for the same key, go on in the same bytes."""

from __future__ import annotations

from typing import NamedTuple


class Relayed(NamedTuple):
    """The head of an answer as it went to a client, and for whom it is right."""

    key: tuple[object, ...]
    """Everything it depends on but the fields themselves and `added`."""
    head: bytes
    """Without the lines that differ with each request, and without the empty line."""
    is_chunked: bool
    keep_alive: bool


class Forwarded(NamedTuple):
    """The head of a request as it went to an upstream, without its request line and request id."""

    key: tuple[object, ...]
    """Everything it depends on but the fields themselves."""
    block: bytes
