"""Events that a producer sends again: its own key, on the gateway's own store; and a store that is locked."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tentaculo.model.event import Event, EventFilter
from tentaculo.store.client import StoreClient
from tests.events.conftest import Gateway, Start
from tests.support.databases import sqlite
from tests.support.waits import eventually

pytestmark = pytest.mark.usefixtures("both_ways")


def event(**more: Any) -> dict[str, Any]:
    return {"source": "madre", "type": "spawn_created", "payload": {"n": 1}, "key": "k-1", **more}


@pytest.fixture
async def keeping(start: Start, store: StoreClient) -> Gateway:
    """A gateway on its own store."""
    return await start(client=store)


@contextmanager
def write_locked(file: Path) -> Iterator[None]:
    """Another program's transaction that writes, as VX11's modules hold it for seconds."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def kept(store: StoreClient) -> list[Event]:
    return (await store.read_events(EventFilter(), limit=100)).events


async def test_a_repeat_gets_the_first_id(keeping: Gateway, store: StoreClient, alert: dict[str, Any]) -> None:
    del alert["timestamp"]
    body = event(type="system.alert", payload=alert, broadcast=True, metadata={"a": 1, "b": 2})
    status, first = await keeping.ingest(body)
    assert (status, "duplicate" in first) == (201, False)
    again = {**body, "payload": dict(reversed(alert.items())), "metadata": {"b": 2, "a": 1}, "unknown": 1}
    assert await keeping.ingest(again) == (200, {**first, "duplicate": True})
    (stored,) = await kept(store)
    assert (stored.id, stored.key, stored.severity, stored.stated_ms) == (first["id"], "k-1", "L3", None)


@pytest.mark.parametrize(
    "change",
    [{"payload": {"n": 2}}, {"payload": {"n": 1.0}}, {"type": "other"}, {"metadata": {"a": 1}}, {"broadcast": True}],
    ids=str,
)
async def test_the_same_key_with_other_content_is_409(keeping: Gateway, change: dict[str, Any]) -> None:
    _, first = await keeping.ingest(event())
    status, answer = await keeping.ingest(event(**change))
    assert (status, answer["error"], answer["event_id"]) == (409, "event_conflict", first["id"])
    assert (await keeping.ingest(event()))[0] == 200


async def test_a_key_belongs_to_its_source(keeping: Gateway, store: StoreClient) -> None:
    statuses = [(await keeping.ingest(event(source=source)))[0] for source in ("madre", "spawner", "madre")]
    statuses += [(await keeping.ingest(event(key=None)))[0] for _ in range(2)]
    assert statuses == [201, 201, 200, 201, 201]
    assert len(await kept(store)) == 4


async def test_two_gateways_that_get_it_at_once_store_it_once(start: Start, url: str) -> None:
    stores = [StoreClient(url, event_wait=20) for _ in range(2)]
    try:
        for store in stores:
            await store.start()
        gateways = [await start(client=store) for store in stores]
        found = await asyncio.gather(*(gateways[number % 2].ingest(event()) for number in range(20)))
        assert sorted(status for status, _ in found) == [200] * 19 + [201]
        assert len({answer["event_id"] for _, answer in found}) == 1
        assert len(await kept(stores[0])) == 1
    finally:
        for store in stores:
            await store.close()


@pytest.mark.parametrize("key", ["", "x" * 257, "a\nb", 5, ["k"]])
async def test_a_faulty_key_is_422(gateway: Gateway, key: Any) -> None:
    status, answer = await gateway.ingest(event(key=key))
    assert (status, [error["field"] for error in answer["errors"]]) == (422, ["key"])


async def test_a_batch_says_what_became_of_each(keeping: Gateway, store: StoreClient) -> None:
    _, first = await keeping.ingest(event())
    batch = [event(), event(payload={}), event(key="k-2"), event(key="k-2"), event(key="k-2", type="x"), {}]
    status, answer = await keeping.ingest(batch)
    assert status == 207
    results = answer["results"]
    states = ["duplicate", "conflict", "received", "duplicate", "conflict", "rejected"]
    assert [result["status"] for result in results] == states
    assert results[0]["event_id"] == results[1]["event_id"] == first["id"]
    assert len({result["event_id"] for result in results[2:5]}) == 1
    assert (await keeping.ingest([event(), event(key="k-2")]))[0] == 200
    assert len(await kept(store)) == 2


async def test_a_repeated_cloud_event_is_a_duplicate_in_either_mode(keeping: Gateway) -> None:
    attributes = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
    body = json.dumps({**attributes, "data": {"n": 1}}).encode()
    status, first = await keeping.post(body, content_type="application/cloudevents+json")
    assert status == 201
    headers = {f"ce_{name}": value for name, value in attributes.items()}
    status, again = await keeping.post(b'{"n": 1}', content_type="application/json", **headers)
    assert (status, again) == (200, {**first, "duplicate": True})
    assert (await keeping.post(b'{"n": 2}', content_type="application/json", **headers))[0] == 409


@pytest.mark.parametrize(
    ("payload", "metadata", "severity", "stated"),
    [
        ({"severity": "L3", "timestamp": 1_700_000_000_000}, {"severity": "L1"}, "L3", 1_700_000_000_000),
        ({"severity": 3, "timestamp": 1_700_000_000}, {"severity": "warning"}, "warning", None),
        ({"severity": "x" * 129, "timestamp": True}, {}, None, None),
        ({"severity": "a\u0000", "timestamp": 10**30}, {}, None, None),
        ({"timestamp": "2026-01-01"}, {}, None, None),
    ],
)
async def test_what_an_event_states(
    keeping: Gateway,
    store: StoreClient,
    payload: dict[str, Any],
    metadata: dict[str, Any],
    severity: str | None,
    stated: int | None,
) -> None:
    assert (await keeping.ingest(event(payload=payload, metadata=metadata)))[0] == 201
    (stored,) = await kept(store)
    assert (stored.severity, stored.stated_ms, stored.payload) == (severity, stated, payload)


@pytest.mark.thorough
async def test_while_the_file_is_locked_producers_wait_and_those_that_left_are_not_forgotten(
    start: Start, file: Path
) -> None:
    store = StoreClient(sqlite(file), event_wait=60)
    await store.start()
    try:
        gateway = await start(client=store)
        assert (await gateway.ingest(event(key="before")))[0] == 201
        with write_locked(file):
            waiting = asyncio.gather(*(gateway.ingest(event(key=f"w{number}")) for number in range(5)))
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            body = json.dumps(event(key="gone")).encode()
            head = "POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await eventually(lambda: store.problem is not None, "the lock noticed")
            await eventually(lambda: "6 events" in repr(store), "six events waiting")
            writer.transport.abort()
            assert not waiting.done()
        assert [status for status, _ in await waiting] == [201] * 5
        await eventually(lambda: store.problem is None, "the database back")
        found = {one.key for one in await kept(store)}
        assert found == {"before", "gone", *(f"w{number}" for number in range(5))}
    finally:
        await store.close()


async def test_a_lock_that_stays_is_503_and_a_repeat_is_stored_once(start: Start, file: Path) -> None:
    store = StoreClient(sqlite(file), event_wait=0.2)
    await store.start()
    try:
        gateway = await start(client=store)
        with write_locked(file):
            async with gateway.session.post(f"{gateway.url}/events/ingest", json=event()) as answer:
                assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        await eventually(lambda: store.problem is None, "the database back")
        # A busy machine may take longer than `event_wait` for a commit too; its producer repeats.
        async with asyncio.timeout(20):
            while (status := (await gateway.ingest(event()))[0]) == 503:
                pass
        assert status in (200, 201)
        assert len(await kept(store)) == 1
    finally:
        await store.close()
