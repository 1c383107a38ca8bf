"""Bodies and headers of every kind at `POST /events/ingest`: a clear response each, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tentaculo.config.schema import Config
from tentaculo.events.endpoints import routes
from tentaculo.events.hub import Hub
from tentaculo.events.tail import EventTail
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Ledger, no_offsets, no_precursors
from tests.support.server import NativeServer, serving_application

EXPECTED = {200, 201, 207, 400, 413, 415, 422}
MEDIA_TYPES = st.sampled_from(
    (
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "text/plain",
        "application/vnd.x+json; charset=utf-16",
        "",
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
TYPES = st.sampled_from(("t", "system.alert", "switch.tension.updated"))
MEMBERS = st.fixed_dictionaries(
    {"source": st.just("madre") | VALUES, "type": TYPES | VALUES, "payload": st.just({}) | VALUES},
    optional=dict.fromkeys(
        ("broadcast", "metadata", "key", "id", "specversion", "time", "data", "data_base64", "subject", "x"), VALUES
    ),
)
CLOUD_EVENTS = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.text(max_size=9), "source": st.just("/a"), "type": TYPES},
    optional={
        "time": st.text(max_size=30) | st.datetimes().map(str),
        "data": VALUES,
        "data_base64": st.text(max_size=9),
    },
)
EVENTS = MEMBERS | CLOUD_EVENTS | VALUES
BODIES = (
    st.binary(max_size=200)
    | EVENTS.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.lists(EVENTS, max_size=6).map(lambda value: json.dumps(value).encode())
    | st.lists(EVENTS, max_size=6).map(lambda value: "\n".join(map(json.dumps, value)).encode())
)
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
CE_HEADERS = st.dictionaries(
    st.sampled_from(("id", "source", "type", "specversion", "time", "subject", "data", "broadcast", "x", "a_b", "")),
    HEADER_TEXT | st.just("1.0"),
    max_size=6,
)


class Served:
    """A gateway on a loop in a thread of its own, since hypothesis calls a plain function many times."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.ledger: Ledger
        self.server: NativeServer
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    async def _start(self) -> None:
        config = Config.of({"limits": {"events_body": 4096, "events_batch": 5}})
        hub, tasks = Hub(limit=4, queue=4), TaskGroup("events")
        self.ledger = Ledger()
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
        self._stack.push_async_callback(tasks.close)
        self.server = await self._stack.enter_async_context(serving_application(app, cors=config.cors, shutdown=5))

    def stop(self) -> None:
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def send(self, body: bytes, headers: dict[str, str]) -> int:
        """The status of the response, once the connection has ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST /events/ingest HTTP/1.1\r\nHost: g\r\nConnection: close\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode("latin-1") + body)
        response = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        head_, _, content = response.partition(b"\r\n\r\n")
        json.loads(content)
        return int(head_.split()[1])


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.stop()


@settings(max_examples=300)
@given(body=BODIES, media_type=MEDIA_TYPES, attributes=CE_HEADERS)
@example(body=b"[" * 100_000, media_type="application/json", attributes={})
@example(body=b'{"a":' * 800, media_type="application/json", attributes={"id": "1"})
@example(
    body=b'{"specversion":"1.0","time":"0001-01-01T00:00:00+23:59"}',
    media_type="application/cloudevents+json",
    attributes={},
)
@example(body=b"1" * 4000, media_type="application/x-ndjson", attributes={})
def test_every_body_has_a_clear_response(
    served: Served, body: bytes, media_type: str, attributes: dict[str, str]
) -> None:
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    if media_type:
        headers["Content-Type"] = media_type
    before = len(served.ledger.events)
    status = served.run(served.send(body, headers))
    assert status in EXPECTED
    stored = served.ledger.events[before:]
    assert bool(stored) <= (status in (201, 207))
    # What was stored can be written and read by every later step.
    assert all(json.loads(json.dumps(event.payload)) == event.payload for event in stored)
    served.run(_closed(served))


async def _closed(served: Served) -> None:
    async with asyncio.timeout(5):
        while served.server.server.connections:
            await asyncio.sleep(0.001)
