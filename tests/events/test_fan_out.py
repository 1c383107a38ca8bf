"""One event to many clients: who gets it, and what each delivery costs, counted instead of timed."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

import pytest

from tentaculo.events.hub import QUEUE_BYTES
from tentaculo.model.event import Event
from tentaculo.net.turns import MOST_WRITTEN
from tests.events.conftest import Gateway, Start
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MARK = b"^"
EVENTS = 20
# Bounds for each client, and what was counted when they were set.
MOST_CALLS_EACH_WRITE = 8  # 6.7
MOST_CALLS_EACH_EVENT = 8.5  # 7.3
_WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_STREAM = b"GET /events/stream HTTP/1.1\r\nHost: h\r\n\r\n"


class Client(asyncio.Protocol):
    """Counts the events that it gets."""

    def __init__(self, request: bytes, beginning: bytes) -> None:
        self._request, self._beginning = request, beginning
        self.transport: Any = None
        self.head = b""
        self.events = 0
        self.reads = 0
        self.is_lost = False

    @property
    def has_begun(self) -> bool:
        return self._beginning in self.head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.has_begun:
            self.head += data
            return
        self.reads += 1
        self.events += data.count(MARK)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


async def connect(gateway: Gateway, number: int) -> list[Client]:
    """Half event streams and half WebSockets, each of which is live."""
    loop, made = asyncio.get_running_loop(), list[Client]()
    for index in range(number):
        kind = (_STREAM, b"event: start") if index % 2 else (_WEBSOCKET, b'"type":"connected"')
        _, client = await loop.create_connection(partial(Client, *kind), "127.0.0.1", gateway.port)
        made.append(client)
    await eventually(lambda: all(client.has_begun for client in made), "the beginning of all")
    await eventually(lambda: all(one.is_live for one in gateway.hub._subscribers))
    return made


def stored(gateway: Gateway, number: int, size: int = 100) -> None:
    """Events that another process has stored, and that the tail publishes."""
    first = max(gateway.ledger.events[-1].id + 1 if gateway.ledger.events else 0, 10**16)
    payload = {"mark": MARK.decode(), "pad": "x" * size}
    gateway.ledger.events += [Event(first + n, "s", "t", payload, NOW, broadcast=True) for n in range(number)]
    gateway.tail.ring()


async def all_have(clients: list[Client], events: int) -> None:
    await eventually(lambda: all(client.events == events for client in clients), "every event at those that read")


@pytest.mark.thorough
async def test_all_that_read_get_every_event_while_some_never_read(start: Start) -> None:
    gateway = await start(subscribers=200, subscriber_queue=100_000)
    clients = await connect(gateway, 100)
    stalled, reading = clients[:20], clients[20:]
    for client in stalled:
        client.transport.pause_reading()
    sent = 0
    async with asyncio.timeout(60):
        while gateway.hub.cut_off < len(stalled):
            stored(gateway, EVENTS, size=5000)
            sent += EVENTS
            await all_have(reading, sent)
            for subscriber in gateway.hub._subscribers:
                assert subscriber._bytes <= QUEUE_BYTES
            for connection in gateway.server.connections:
                if connection.transport is not None:
                    assert connection.transport.get_write_buffer_size() <= 3 * MOST_WRITTEN
    assert gateway.hub.cut_off == len(stalled)
    assert not any(client.is_lost for client in reading)
    for client in clients:
        client.transport.abort()


async def calls(gateway: Gateway, clients: list[Client], number: int) -> int:
    """Functions that are called in our code, Python's and those in C, until `number` events have arrived everywhere."""
    counted: Counter[str] = Counter()
    due = clients[0].events + number

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call") and "/tentaculo/" in frame.f_code.co_filename:
            counted[frame.f_code.co_qualname] += 1

    gc.collect()
    sys.setprofile(count)
    try:
        stored(gateway, number)
        await all_have(clients, due)
    finally:
        sys.setprofile(None)
    return counted.total()


@pytest.mark.thorough
async def test_what_a_delivery_costs(start: Start) -> None:
    gateway = await start(subscribers=200)
    clients = await connect(gateway, 100)
    await calls(gateway, clients, 1)
    for client in clients:
        client.reads = 0
    one = await calls(gateway, clients, 1) / len(clients)
    many = await calls(gateway, clients, EVENTS) / len(clients)
    assert [client.reads for client in clients] == [2] * len(clients), "events that come together are one write"
    each_event = (many - one) / (EVENTS - 1)
    assert each_event <= MOST_CALLS_EACH_EVENT, f"{each_event:.1f} calls for each client and event"
    assert one - each_event <= MOST_CALLS_EACH_WRITE, f"{one - each_event:.1f} calls for each client and write"
    for client in clients:
        client.transport.abort()
