"""A gateway of the events' package on a loop in a thread of its own, since hypothesis calls a plain function many times."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from aiohttp import web

from tentaculo.config.schema import Config
from tentaculo.events.endpoints import routes
from tentaculo.events.hub import Hub
from tentaculo.events.tail import EventTail
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Ledger, no_offsets, no_precursors
from tests.support.server import NativeServer, serving_application

BODY_LIMIT = 4096
T = TypeVar("T")


class ThreadedGateway:
    """The gateway; `stop` it at the end."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ledger = Ledger()
        self.hub = Hub(limit=8, queue=64)
        self.server: NativeServer
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work` on the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _start(self) -> None:
        config = Config.of({"limits": {"events_body": BODY_LIMIT, "events_batch": 5}})
        hub, tasks = self.hub, TaskGroup("events")
        tail = EventTail(hub, self.ledger)
        tasks.start(tail.run(), "tail")
        app = web.Application()
        app.add_routes(
            routes(
                config,
                hub,
                self.ledger,
                tail,
                tasks,
                log_name=lambda: self.ledger.name,
                precursors=no_precursors,
                offsets=no_offsets(),
            )
        )

        async def part(_: web.Application) -> None:
            await hub.close()

        app.on_shutdown.append(part)
        self._stack.push_async_callback(tasks.close)
        self.server = await self._stack.enter_async_context(serving_application(app, cors=config.cors, shutdown=5))

    def stop(self) -> None:
        """End the gateway and its thread."""
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def connections(self) -> int:
        """Connections that it holds."""
        return len(self.server.server.connections)

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection, which is aborted at the end. Afterwards the gateway holds none more than before."""
        before = self.connections, len(self.hub)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
        await self.wait_until(*before)

    async def wait_until(self, connections: int, subscribers: int) -> None:
        """Wait until it holds these numbers of connections and subscribers."""
        async with asyncio.timeout(5):
            while (self.connections, len(self.hub)) != (connections, subscribers):
                await asyncio.sleep(0.001)

    async def exchange(self, head: bytes, body: bytes = b"") -> tuple[int, bytes, bytes]:
        """Status, head and body of the response to a request, whose `head` ends after its last field."""
        async with self.dial() as (reader, writer):
            writer.write(head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            response = await asyncio.wait_for(reader.read(), 10)
        lines, _, content = response.partition(b"\r\n\r\n")
        return int(lines.split()[1]), lines, content
