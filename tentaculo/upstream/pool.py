"""The connections to one endpoint: opened, kept while idle, and used again."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable

from tentaculo.config.limits import LimitSettings
from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.model.health import Endpoint
from tentaculo.net.connecting import Addresses, LookUp, NoPortError, is_shortage
from tentaculo.net.resolving import look_up
from tentaculo.net.tcp import time_limit
from tentaculo.net.tls import open_tls
from tentaculo.net.turns import TurnScheduler
from tentaculo.upstream.connection import MAX_IDLE, UpstreamConnection
from tentaculo.upstream.response_reader import ResponseHeadCache

CLOSING_TURNS = 3
"""Turns of the event loop after which a connection that was aborted has given its descriptor back."""


class Pool:
    """Keep-alive connections to one endpoint.

    The connection used last is used next, so that the others become too old and are closed. A close by the service is
    noticed at once. The name is looked up again while connections are used, and those to an address that it has no more
    are closed when they are idle.
    """

    def __init__(
        self,
        upstream: Endpoint,
        limits: LimitSettings,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        look_up: LookUp = look_up,
        turns: TurnScheduler | None = None,
        make_room: Callable[[], bool] | None = None,
    ) -> None:
        """`tls` is for an endpoint with https, by default the trust store of the system.

        `server_name` is the name for TLS, by default the endpoint's host. `turns` is shared by all connections of the
        gateway, by default by those of this pool. `make_room` closes idle connections of the gateway when descriptors
        run out, and returns whether there were any.
        """
        self.upstream = upstream
        self.limits = limits
        self._most_idle = limits.pool
        self._idle: deque[UpstreamConnection] = deque()
        self.bound: set[UpstreamConnection] = set()
        """Idle connections that each belong to one client connection, which holds them."""
        self.is_retired = False
        """Whether the endpoint is no longer configured as it was."""
        self._heads = ResponseHeadCache()
        self._tls = (tls or ssl.create_default_context()) if upstream.tls else None
        self.server_name = server_name or upstream.host.partition("%")[0]
        self._addresses = Addresses(
            upstream.host, upstream.port, limits.resolve, look_up=look_up, on_change=_closing_others(weakref.ref(self))
        )
        self._turns = turns or TurnScheduler()
        self._make_room = make_room
        # The loop's clock once a connection is open: `get_running_loop` is a system call each time (CPython 3.11).
        self._clock: Callable[[], float] = time.monotonic
        self.opened = 0
        """Connections opened so far."""

    def __repr__(self) -> str:
        return f"<Pool {self.upstream}: {len(self._idle)} idle, {self.opened} opened>"

    def take_idle(self, *, repeatable: bool) -> UpstreamConnection | None:
        """An idle connection that is probably open, or None. `repeatable` is whether a stale one does no harm."""
        idle = self._idle
        if not idle:
            return None
        now = self._clock()
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if (
                transport is not None
                and now - connection.idle_since <= connection.idle_for
                and not transport.is_closing()
                and not connection.held
            ):
                if repeatable:
                    return connection
                if not connection.is_fresh(now):
                    # The others are idle for even longer; requests that can be repeated may use them.
                    idle.append(connection)
                    return None
                if connection.is_quiet():
                    return connection
            connection.abort()
        return None

    async def connect(self, seconds: float) -> UpstreamConnection:
        """Open a connection within `seconds`. Raises `UpstreamError`; nothing of a request has been sent then."""
        try:
            async with time_limit(seconds):
                try:
                    return await self._addresses.connect(self._open, UpstreamConnection.abort, seconds)
                except OSError as error:
                    # A closed connection keeps its port for a minute (TIME_WAIT).
                    if not is_shortage(error) or isinstance(error, NoPortError) or not self._has_made_room():
                        raise
                for _ in range(CLOSING_TURNS):
                    await asyncio.sleep(0)
                return await self._addresses.connect(self._open, UpstreamConnection.abort, seconds)
        except OSError as error:
            raise _connect_error(error, seconds, is_unresolved=self._addresses.is_unresolved) from None

    async def _open(self, address: str) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(loop, self._turns, self.limits.headers, self._heads, address, self._forget)
        try:
            if self._tls is None:
                await loop.create_connection(lambda: connection, address, self.upstream.port)
            else:
                await open_tls(connection, self._turns, self._tls, self.server_name, address, self.upstream.port)
        except BaseException:
            connection.abort()
            raise
        self.opened += 1
        self._clock = loop.time
        return connection

    def _close_others(self, addresses: list[str]) -> None:
        """Close idle connections to addresses that the name no longer has."""
        for connection in [item for item in self._idle if item.address not in addresses]:
            self._idle.remove(connection)
            connection.abort()

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next exchange if it is whole, else close it."""
        addresses = self._addresses
        if not connection.rest() or connection.address not in addresses.known:
            connection.abort()
            return
        if connection.idle_since >= addresses.due:
            addresses.renew_soon()
        idle = self._idle
        idle.append(connection)
        if len(idle) > self._most_idle or idle[0].idle_since < connection.idle_since - MAX_IDLE:
            idle.popleft().abort()

    def shrink(self) -> int:
        """Close the older half of the idle connections, since descriptors or memory ran out. Returns how many."""
        count = (len(self._idle) + 1) // 2
        for _ in range(count):
            self._idle.popleft().abort()
        return count

    def _has_made_room(self) -> bool:
        return self._make_room() if self._make_room is not None else self.shrink() > 0

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
        self.bound.discard(connection)

    def retire(self) -> None:
        """Close the idle connections, and each other one when its exchange ends: the endpoint is no longer configured."""
        self._most_idle = 0
        self.is_retired = True
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()
        while self.bound:
            self.bound.pop().abort()


def _closing_others(pool: weakref.ref[Pool]) -> Callable[[list[str]], None]:
    """`_close_others` of `pool`, which has what calls it: neither may keep the other in memory."""

    def close_others(addresses: list[str]) -> None:
        if (found := pool()) is not None:
            found._close_others(addresses)

    return close_others


def _connect_error(error: OSError, seconds: float, *, is_unresolved: bool) -> UpstreamError:
    """Why there is no connection. Nothing of a request has been sent."""
    code = ""
    if isinstance(error, socket.gaierror):
        failure, words = Failure.DNS_FAILED, "the service's name was not found"
    elif isinstance(error, TimeoutError) and is_unresolved:
        failure, words = Failure.CONNECT_TIMEOUT, f"the service's name was not looked up within {seconds:g} s"
    elif isinstance(error, TimeoutError):
        failure, words = Failure.CONNECT_TIMEOUT, f"the service did not accept a connection within {seconds:g} s"
    elif isinstance(error, ssl.SSLError):
        failure, words = Failure.TLS_FAILED, "the secure connection could not be made"
    elif isinstance(error, ConnectionRefusedError):
        failure, words, code = Failure.CONNECT_REFUSED, "the connection was refused", "connection_refused"
    elif isinstance(error, NoPortError):
        failure, words = Failure.EXHAUSTED, "the gateway's machine has no port left for a connection"
    elif is_shortage(error):
        failure, words = Failure.EXHAUSTED, "the gateway has no file descriptor or no memory for a connection"
    else:
        failure, words = Failure.CONNECT_REFUSED, "the service is not reachable"
    return UpstreamError(failure, words, untouched=True, code=code)
