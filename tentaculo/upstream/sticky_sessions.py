"""Sticky sessions: a cookie of the gateway leads a client to the endpoint that served it before. Pure.

The cookie is a random value, and leads to the endpoint that it ranks first (rendezvous hashing, Thaler and Ravishankar
1998). So nothing is remembered, every worker and machine agrees, also after a restart; the value says nothing of the
endpoints; and where one is added or removed, only its own share of the clients moves.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from tentaculo.model.health import Endpoint

_SIZE = 16
"""Characters of the value."""
_DIGITS = frozenset(b"0123456789abcdef")
_MOST_TRIES = 1000
"""Values that are tried for one endpoint. Among ten endpoints each value has one chance in ten."""


class StickySessions:
    """The cookie of one service with several endpoints."""

    def __init__(self, service: str, endpoints: Sequence[Endpoint]) -> None:
        self._name = f"tentaculo-endpoint-{service}".encode()
        self._endpoints = tuple(endpoints)
        self._keys = [blake2b(f"{one.authority} {one.tls}".encode(), digest_size=32).digest() for one in endpoints]

    def __repr__(self) -> str:
        return f"<StickySessions {self._name.decode()}: {len(self._endpoints)} endpoints>"

    def endpoint_in(self, lines: Iterable[tuple[bytes, bytes, bytes]]) -> Endpoint | None:
        """The endpoint to which the cookie in a request's fields leads; None without one that the gateway may have set.

        `lines` are the fields: the name in lower case, the name, and the value.
        """
        for lower, _, value in lines:
            if lower == b"cookie" and self._name in value:
                for part in value.split(b";"):
                    name, _, found = part.strip().partition(b"=")
                    if name == self._name and len(found) == _SIZE and _DIGITS.issuperset(found):
                        return self._first(found)
        return None

    def line(self, endpoint: Endpoint, *, is_encrypted: bool) -> bytes:
        """The `Set-Cookie` line, with its end, that leads to `endpoint` from now on.

        `is_encrypted` says whether the client's connection is.
        """
        value = b""
        for _ in range(_MOST_TRIES):
            value = secrets.token_hex(_SIZE // 2).encode()
            if self._first(value) == endpoint:
                break
        secure = b"; Secure" if is_encrypted else b""
        return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (self._name, value, secure)

    def _first(self, value: bytes) -> Endpoint:
        ranks = [blake2b(value, digest_size=8, key=key).digest() for key in self._keys]
        return self._endpoints[ranks.index(max(ranks))]
