"""What binds a client to an endpoint, or to one connection with it.

Sticky sessions: a cookie of the gateway leads a client to the endpoint that served it before. The cookie is a random value,
and leads to the endpoint that it ranks first (rendezvous hashing, Thaler and Ravishankar 1998). So nothing is remembered,
every worker and machine agrees, also after a restart; the value says nothing of the endpoints; and where one is added or
removed, only its own share of the clients moves.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from tentaculo.model.health import Endpoint
from tentaculo.net.inbound_request import ClientConnection
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.load_balancer import EndpointState, Lease, LoadBalancer

_SIZE = 16
"""Characters of the value."""
_MOST_TRIES = 1000
"""Values that are tried for one endpoint. Among ten endpoints each value has one chance in ten."""
_SPARE = 64
"""Values that were tried for another endpoint and are kept for one. Without them each new client would cost the square of
the number of endpoints in hashes."""


class StickySessions:
    """The cookie of one service with several endpoints."""

    def __init__(self, service: str, endpoints: Sequence[Endpoint]) -> None:
        self._name = f"tentaculo-endpoint-{service}".encode()
        self._endpoints = tuple(endpoints)
        self._cookie = re.compile(rb"(?:^|;)[ \t]*%b=([0-9a-f]{%d})[ \t]*(?=;|\Z)" % (re.escape(self._name), _SIZE))
        self._spare: dict[Endpoint, list[bytes]] = {}
        self._keys = [blake2b(f"{one.authority} {one.tls}".encode(), digest_size=32).digest() for one in endpoints]

    def __repr__(self) -> str:
        return f"<StickySessions {self._name.decode()}: {len(self._endpoints)} endpoints>"

    def endpoint_in(self, lines: Iterable[tuple[bytes, bytes, bytes]]) -> Endpoint | None:
        """The endpoint to which the cookie in a request's fields leads; None without one that the gateway may have set.

        `lines` are the fields: the name in lower case, the name, and the value.
        """
        for lower, _, value in lines:
            # There may be thousands of cookies: no step of Python for each.
            if lower == b"cookie" and (found := self._cookie.search(value)) is not None:
                return self._first(found[1])
        return None

    def line(self, endpoint: Endpoint, *, is_encrypted: bool) -> bytes:
        """The `Set-Cookie` line, with its end, that leads to `endpoint` from now on.

        `is_encrypted` says whether the client's connection is.
        """
        value = self._value_for(endpoint)
        secure = b"; Secure" if is_encrypted else b""
        return b"Set-Cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax%b\r\n" % (self._name, value, secure)

    def _value_for(self, endpoint: Endpoint) -> bytes:
        """A random value that was given to nobody, and leads to `endpoint` unless too many had to be tried."""
        if spare := self._spare.get(endpoint):
            return spare.pop()
        value = b""
        for _ in range(_MOST_TRIES):
            value = secrets.token_hex(_SIZE // 2).encode()
            first = self._first(value)
            if first == endpoint:
                break
            others = self._spare.setdefault(first, [])
            if len(others) < _SPARE:
                others.append(value)
        return value

    def _first(self, value: bytes) -> Endpoint:
        ranks = [blake2b(value, digest_size=8, key=key).digest() for key in self._keys]
        return self._endpoints[ranks.index(max(ranks))]


class BoundConnections:
    """Idle upstream connections that belong to one client connection, at most one for each service.

    NTLM and Negotiate authenticate a connection: the service takes each later request on it for the same user's
    (RFC 4559 section 6). So such a connection is never given to another client, and ends with the client's.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # By the endpoint, which a reload keeps where the connections would be the same, other than the load balancer.
        self._kept: dict[EndpointState, UpstreamConnection] = {}

    def __repr__(self) -> str:
        return f"<BoundConnections: {len(self._kept)}>"

    def acquire(self, balancer: LoadBalancer) -> Lease | None:
        """A place at the endpoint that the kept connection leads to; None where none is kept, or it can take none."""
        for endpoint in balancer.endpoints:
            kept = self._kept.get(endpoint)
            if kept is not None and kept.is_open:
                return balancer.acquire_at(endpoint)
        return None

    def take(self, lease: Lease) -> UpstreamConnection | None:
        """The kept connection if it leads to the endpoint of `lease` and is open; it is closed if not."""
        found = None
        for endpoint in lease.balancer.endpoints:
            connection = self._kept.pop(endpoint, None)
            if connection is None:
                continue
            endpoint.pool.bound.discard(connection)
            if endpoint is lease.endpoint and connection.is_open and connection.is_quiet():
                found = connection
            else:
                connection.abort()
        return found

    @classmethod
    def keep(cls, client: ClientConnection, lease: Lease, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next request of `client` if it is whole and the client is there, else close it."""
        pool = lease.endpoint.pool
        if client.transport is None or pool.is_retired or not connection.rest():
            connection.abort()
            return
        if type(client.bound) is not cls:
            client.bound = cls()
        kept = client.bound._kept
        for endpoint in [one for one in kept if one.pool.is_retired]:
            del kept[endpoint]  # its connection was closed
        kept[lease.endpoint] = connection
        pool.bound.add(connection)

    def close(self) -> None:
        """Close all of them."""
        while self._kept:
            endpoint, connection = self._kept.popitem()
            endpoint.pool.bound.discard(connection)
            connection.abort()


def acquire_known(
    bound: object,
    sticky: StickySessions | None,
    lines: Iterable[tuple[bytes, bytes, bytes]],
    balancer: LoadBalancer,
    tried: Sequence[EndpointState],
) -> tuple[Lease | None, bool]:
    """A place at the endpoint that the client has a connection in `bound` with, or a session of `sticky`.

    None where there is none; then with whether the session stays where it is, since only room is missing there. `lines` are
    the fields of the request, as in `StickySessions.endpoint_in`; `tried` are the endpoints of its earlier attempts.
    """
    lease = bound.acquire(balancer) if type(bound) is BoundConnections and not tried else None
    wanted = sticky.endpoint_in(lines) if lease is None and sticky is not None else None
    if wanted is None:
        return lease, False
    lease = balancer.acquire_sticky(wanted, tried)
    return lease, lease is None and balancer.lacks_room_at(wanted, tried)
