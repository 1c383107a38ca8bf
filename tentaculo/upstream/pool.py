"""The connections to one upstream address: looked up, opened, kept while idle, and handed out."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable

from tentaculo.config.schema import LimitSettings
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.failure import Failure
from tentaculo.net.target import is_address
from tentaculo.net.turns import TurnScheduler
from tentaculo.upstream.connection import MAX_IDLE, UpstreamConnection
from tentaculo.upstream.errors import UpstreamError
from tentaculo.upstream.response_reader import ResponseHeadCache

LookUp = Callable[[str, int], Awaitable[list[str]]]
"""From a name and a port to addresses, the best first. Raises OSError."""


async def look_up(name: str, port: int) -> list[str]:
    """Ask the system's resolver, off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Pool:
    """Keep-alive connections to one upstream.

    The connection used last is used next, so that the others grow old and go. One that has been closed by its upstream
    is noticed at once. The upstream's name is looked up again when its time is up, off the event loop, and idle
    connections to an address that is gone are closed.
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
    ) -> None:
        """`tls` is for an endpoint with https, by default the trust store of the system.

        `server_name` is the name for TLS, by default the endpoint's host. `turns` is shared by all connections of the
        gateway, by default by those of this pool.
        """
        self.upstream = upstream
        self._limits = limits
        self._idle: deque[UpstreamConnection] = deque()
        self._heads = ResponseHeadCache()
        self._tls = (tls or ssl.create_default_context()) if upstream.tls else None
        self._server_name = server_name or upstream.host
        self._look_up = look_up
        self._turns = turns or TurnScheduler()
        self._addresses: list[str] = []
        self._resolved_at = float("-inf")
        self._is_literal = is_address(upstream.host)
        # Of the loop, once a connection is open: asking for the running loop is a system call each time (CPython 3.11).
        self._clock: Callable[[], float] = time.monotonic
        self.opened = 0
        """Connections opened so far."""

    def __repr__(self) -> str:
        return f"<Pool {self.upstream}: {len(self._idle)} idle, {self.opened} opened>"

    def take_idle(self, *, repeatable: bool) -> UpstreamConnection | None:
        """An idle connection that is likely alive, or None. `repeatable`: whether a stale one would do no harm."""
        idle = self._idle
        if not idle:
            return None
        now = self._clock()
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                if repeatable:
                    return connection
                if not connection.is_fresh(now):
                    # The others have idled for longer still; they are good for repeatable requests.
                    idle.append(connection)
                    return None
                if connection.is_quiet():
                    return connection
            connection.abort()
        return None

    async def connect(self, seconds: float) -> UpstreamConnection:
        """Open a connection within `seconds`. Raises `UpstreamError`; nothing of a request has been sent then."""
        try:
            async with asyncio.timeout(seconds):
                return await self._connect(asyncio.get_running_loop().time() + seconds)
        except TimeoutError:
            raise UpstreamError(
                Failure.CONNECT_TIMEOUT, f"the service did not accept a connection within {seconds:g} s", untouched=True
            ) from None

    async def _connect(self, deadline: float) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        error: type[OSError] = OSError
        addresses = await self._resolve(deadline)
        for position, address in enumerate(addresses):
            # One that swallows packets must leave the others their share of the time.
            share = (deadline - loop.time()) / (len(addresses) - position)
            try:
                async with asyncio.timeout(share):
                    return await self._open(address)
            except OSError as failed:
                error = type(failed)
        if issubclass(error, TimeoutError):
            raise TimeoutError
        if issubclass(error, ssl.SSLError):
            raise UpstreamError(Failure.TLS_FAILED, "the secure connection could not be made", untouched=True)
        words = (
            "the connection was refused"
            if issubclass(error, ConnectionRefusedError)
            else "the service is not reachable"
        )
        raise UpstreamError(Failure.CONNECT_REFUSED, words, untouched=True)

    async def _open(self, address: str) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        connection = UpstreamConnection(loop, self._turns, self._limits.headers, self._heads, address, self._forget)
        try:
            await loop.create_connection(
                lambda: connection,
                address,
                self.upstream.port,
                ssl=self._tls,
                server_hostname=self._server_name if self._tls is not None else None,
            )
        except BaseException:
            connection.abort()
            raise
        self.opened += 1
        self._clock = loop.time
        return connection

    async def _resolve(self, deadline: float) -> list[str]:
        if self._is_literal:
            return [self.upstream.host]
        known, now = self._addresses, asyncio.get_running_loop().time()
        if known and now - self._resolved_at < self._limits.resolve:
            return known
        # Whoever connects meanwhile goes on with what is known.
        self._resolved_at = now
        try:
            async with asyncio.timeout((deadline - now) / 2 if known else None):
                self._addresses = await self._look_up(self.upstream.host, self.upstream.port)
        except OSError:
            if known:
                # A name server that is away or silent for a while takes nothing away that worked.
                return known
            raise UpstreamError(Failure.DNS_FAILED, "the service's name was not found", untouched=True) from None
        for connection in [item for item in self._idle if item.address not in self._addresses]:
            self._idle.remove(connection)
            connection.abort()
        return self._addresses

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep `connection` for the next exchange if it is whole, else close it."""
        if not connection.is_reusable:
            connection.abort()
            return
        connection.rest()
        self._idle.append(connection)
        if len(self._idle) > self._limits.pool or self._idle[0].idle_since < connection.idle_since - MAX_IDLE:
            self._idle.popleft().abort()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()
