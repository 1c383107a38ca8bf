"""The end of a gateway: it accepts no new connection, and finishes the requests that have begun."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Container, Sequence

from aiohttp import web

from tentaculo.config.listening import ServerSettings
from tentaculo.events.hub import Hub
from tentaculo.proxy.handler import Proxy
from tentaculo.server.connection import ClientConnection
from tentaculo.server.dispatcher import Dispatcher
from tentaculo.server.listeners import ConnectionLimits, Listeners
from tentaculo.tasks import TaskGroup

_QUIET = 0.1
"""Seconds that a gateway that stops gives its open connections to send a request that is on its way."""
_LONG_QUIET = 1.0
"""The same where another process accepts the new connections, now or soon, so that no client waits for the end."""
CLOSE_WAIT = 0.5
"""Seconds that handlers get to end by themselves once the grace is over, and again once they are cancelled."""


class Shutdown:
    """Stops a gateway at once, or after it has been replaced."""

    def __init__(
        self,
        settings: Callable[[], ServerSettings],
        listeners: Listeners,
        admission: ConnectionLimits,
        hub: Hub,
        *,
        stop_now: asyncio.Event,
        on_stop: Callable[[], None],
        end_pages: Callable[[], None],
        shared: Sequence[socket.socket] = (),
        keeps_sockets: bool = False,
    ) -> None:
        """`stop_now`, when set, ends the wait for requests in flight. `on_stop` is called when the end begins,
        `end_pages` when the streams of the gateway's own pages are to end.

        `shared` are the sockets that this process has of other workers, which it closes. `keeps_sockets` is whether a
        service manager has the listening sockets.
        """
        self._settings = settings
        self._listeners = listeners
        self._admission = admission
        self._hub = hub
        self._stop_now = stop_now
        self._on_stop = on_stop
        self._end_pages = end_pages
        self._shared = shared
        self._quiet = _LONG_QUIET if keeps_sockets else _QUIET
        self._server: web.Server | None = None
        self._dispatcher: Dispatcher | None = None
        self._proxy: Proxy | None = None
        self._has_begun = False

    def __repr__(self) -> str:
        return f"<Shutdown: {'begun' if self._has_begun else 'not begun'}>"

    def serves(self, server: web.Server, dispatcher: Dispatcher, proxy: Proxy) -> None:
        """What serves the requests from now on."""
        self._server, self._dispatcher, self._proxy = server, dispatcher, proxy

    async def retire(self, kept: Container[tuple[str, int]], until: asyncio.Event) -> None:
        """Leave new connections to a successor that listens at the addresses `kept`, and finish what has begun.

        Tunnels and event streams of services stay open. Returns when nothing is left, when `until` is set, or after
        `server.handover_grace` seconds.
        """
        await self._stop_accepting(kept)
        waits = TaskGroup("retirement")
        waiting = [waits.start(self._finish_requests(_LONG_QUIET), "idle"), waits.start(until.wait(), "until")]
        await asyncio.wait(waiting, timeout=self._settings().handover_grace, return_when=asyncio.FIRST_COMPLETED)
        await waits.close()

    async def drain(self) -> None:
        """Accept no new connection, close event streams and tunnels, and wait for the requests in flight."""
        await self._stop_accepting(())
        if self._proxy is not None:
            self._proxy.end_streams()
        waits = TaskGroup("drain")
        waiting = [
            waits.start(self._finish_requests(self._quiet), "idle"),
            waits.start(self._stop_now.wait(), "stop_now"),
        ]
        await asyncio.wait(waiting, timeout=self._settings().grace, return_when=asyncio.FIRST_COMPLETED)
        if self._proxy is not None:
            self._proxy.end_exchanges()
        await asyncio.wait(waiting[:1], timeout=CLOSE_WAIT)
        await waits.close()

    async def _stop_accepting(self, kept: Container[tuple[str, int]]) -> None:
        """Accept no new connection, and end the gateway's own event streams. A second call does nothing."""
        if self._has_begun:
            return
        self._has_begun = True
        self._on_stop()
        await self._listeners.stop(kept)
        for sock in self._shared:
            sock.close()
        if self._dispatcher is not None:
            self._dispatcher.stop_accepting()
        if self._proxy is not None:
            self._proxy.stop_accepting()
        self._end_pages()
        await self._hub.close()

    async def _finish_requests(self, quiet: float) -> None:
        """Until no request is in flight or arriving and no client has sent one for `quiet` seconds; then close the connections."""
        if self._proxy is None or self._server is None:
            return
        traffic, dispatcher, loop = self._proxy.traffic, self._dispatcher, asyncio.get_running_loop()
        last = loop.time()
        while traffic.in_flight or (self._admission.open and (loop.time() - last < quiet or self._has_unfinished())):
            if traffic.in_flight:
                await traffic.idle()
                last = loop.time()
            # Behind a request that arrived for longer than that, too, the connections get the time for another one.
            if (dispatcher is not None and dispatcher.in_flight) or loop.time() - last >= quiet:
                last = loop.time()
            await asyncio.sleep(_QUIET / 10)
        for connection in self._server.connections:
            connection.close()

    def _has_unfinished(self) -> bool:
        connections = self._server.connections if self._server is not None else ()
        return any(connection.has_unfinished for connection in connections if isinstance(connection, ClientConnection))
