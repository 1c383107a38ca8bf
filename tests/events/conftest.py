"""A gateway of the events room alone, on a real socket, with production settings of the runner."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, DummyCookieJar, WSMsgType, web

from tentaculo.config.schema import Config
from tentaculo.events.clock_offsets import ClockOffsets
from tentaculo.events.endpoints import routes
from tentaculo.events.hub import Hub, Subscriber
from tentaculo.events.tail import EventTail
from tentaculo.model.event import Event, EventFilter, FoundEvents, StoredEvent, StoreOutcome
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.precursor import PrecursorReport
from tentaculo.model.text import utc_now
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tests.conftest import is_fast_path
from tests.support.server import NativeServer, serving_application
from tests.support.waits import eventually


async def no_precursors(days: int, opened: datetime) -> PrecursorReport:
    """The report of a gateway without incidents."""
    return PrecursorReport(utc_now(), utc_now())


DEADLINE = 5.0
NAME = "0123456789ab"
"""The name of the log."""


def no_offsets() -> ClockOffsets:
    """The clocks of sources of which none is a service."""
    return ClockOffsets({}, {}, now=utc_now, elapsed=time.monotonic)


class Ledger:
    """A store for tests: keeps events in a list, and can be told to hang or to fail."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.open = asyncio.Event()
        self.open.set()
        self.is_lost = False
        self.refuses = False
        self.asked = 0
        self.received = 0
        """Events that it was asked to store."""
        self.reads = 0
        self.name = NAME
        self._tasks = TaskGroup("ledger")

    def __call__(self, new: Sequence[Event]) -> asyncio.Future[list[StoredEvent]]:
        return self._tasks.start(self._store(new), "store")

    async def _store(self, new: Sequence[Event]) -> list[StoredEvent]:
        self.asked += 1
        self.received += len(new)
        await self.open.wait()
        self._check()
        if self.refuses:
            return [StoredEvent(0, StoreOutcome.REFUSED) for _ in new]
        for event in new:
            self.events.append(msgspec.structs.replace(event, id=max(event.id, await self.last_event_id() + 1)))
        return [StoredEvent(event.id, StoreOutcome.STORED) for event in self.events[-len(new) :]]

    async def last_event_id(self) -> int:
        self._check()
        return self.events[-1].id if self.events else 0

    async def read_events(
        self,
        wanted: EventFilter,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> FoundEvents:
        self._check()
        self.reads += 1
        found = [
            event
            for event in self.events
            if (after is None or event.id > after) and (before is None or event.id < before) and wanted.matches(event)
        ]
        return FoundEvents((found[::-1] if newest_first else found)[:limit])

    def _check(self) -> None:
        if self.is_lost:
            raise Problem(Failure.STORE_UNAVAILABLE, headers={"Retry-After": "5"})

    async def next_events(self, after: int, limit: int) -> list[Event]:
        return [event for event in self.events if event.id > after][:limit]


class Gateway:
    """What a test needs of the running room."""

    def __init__(self, session: ClientSession, hub: Hub, tail: EventTail, ledger: Ledger, served: NativeServer) -> None:
        self.tail = tail
        self.server = served.server
        self.stop = served.stop
        self.session = session
        self.raw: list[socket.socket] = []
        """Plain sockets of the test, closed when it ends."""
        self.hub = hub
        self.ledger = ledger
        self.port = served.port
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}/ws"

    @property
    def connections(self) -> int:
        """Connections that the server holds."""
        return len(self.server.connections)

    async def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
        """Send a body as it is; `content_type` and other headers with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(
            f"{self.url}/events/ingest", data=body, headers=named, skip_auto_headers=["Content-Type"]
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def ingest(self, body: Any) -> tuple[int, dict[str, Any]]:
        async with self.session.post(f"{self.url}/events/ingest", json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def connect(self, query: str = "", **options: Any) -> ClientWebSocketResponse:
        """A WebSocket that has taken its first message and is subscribed."""
        client: ClientWebSocketResponse = await self.session.ws_connect(self.ws_url + query, **options)
        hello = await client.receive_json(timeout=DEADLINE)
        assert hello["type"] == "connected"
        return client

    async def cardinality(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/debug/events/cardinality") as answer:
            assert answer.status == 200
            report: dict[str, Any] = await answer.json()
            return report


Start = Callable[..., Awaitable[Gateway]]


class Sink:
    """A client that takes everything until it is paused."""

    def __init__(self) -> None:
        self.is_paused = False
        self.written = list[bytes]()

    def send(self, frames: bytes) -> None:
        self.written.append(frames)

    @property
    def ids(self) -> list[int]:
        return [json.loads(one)["event_id"] for one in b"".join(self.written).replace(b"}{", b"}\n{").split()]


async def next_frame(subscriber: Subscriber) -> bytes:
    """The next event that waits for it, encoded."""
    await eventually(lambda: subscriber.waiting)
    return subscriber.take(0)


async def silent_for(client: ClientWebSocketResponse, marker: str = '{"marker":1}') -> None:
    """Assert that nothing was on its way to `client`: its own echo is the next thing it gets."""
    await client.send_str(marker)
    message = await client.receive(timeout=DEADLINE)
    assert (message.type, message.data) == (WSMsgType.TEXT, marker)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts a gateway; keyword arguments are limits of the configuration. `client` is a store to use for events."""
    running: list[Gateway] = []
    stack = AsyncExitStack()

    async def _start(
        *, origins: tuple[str, ...] | None = None, client: StoreClient | None = None, **limits: int
    ) -> Gateway:
        settings: dict[str, Any] = {"limits": limits}
        if origins is not None:
            settings["cors"] = {"origins": origins}
        config = Config.of(settings)
        hub = Hub(limit=config.limits.subscribers, queue=config.limits.subscriber_queue)
        ledger, tasks = Ledger(), TaskGroup("events")
        app = web.Application()
        tail = EventTail(hub, client or ledger)
        tasks.start(tail.run(), "tail")
        put = client.store_events if client else ledger
        app.add_routes(
            routes(
                config,
                hub,
                put,
                tail,
                tasks,
                log_name=lambda: ledger.name,
                precursors=no_precursors,
                offsets=no_offsets(),
            )
        )

        async def part(_: web.Application) -> None:
            await hub.close()

        app.on_shutdown.append(part)
        stack.push_async_callback(tasks.close)
        served = await stack.enter_async_context(
            serving_application(app, cors=config.cors, shutdown=5, fast_path=is_fast_path())
        )
        session = await stack.enter_async_context(ClientSession(cookie_jar=DummyCookieJar()))
        gateway = Gateway(session, hub, tail, ledger, served)
        running.append(gateway)
        return gateway

    yield _start
    for gateway in running:
        for client in gateway.raw:
            client.close()
    await stack.aclose()


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    """A gateway with the default limits."""
    return await start()


@pytest.fixture
async def store(url: str) -> AsyncIterator[StoreClient]:
    """The gateway's own store, on SQLite and on PostgreSQL."""
    client = StoreClient(url, event_wait=20)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def alert() -> dict[str, Any]:
    """The fields of a valid system.alert, without type."""
    return {"alert_id": "a1", "severity": "L3", "message": "disk full", "timestamp": 1_700_000_000_000}
