"""`POST /events/ingest` with several events: arrays and lines, results in their order, limits, and fair slices."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tentaculo.events import ingest
from tentaculo.server import native_routes
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Gateway, Start
from tests.support.waits import eventually

pytestmark = pytest.mark.usefixtures("both_ways")

NDJSON = "application/x-ndjson"


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"source": "madre", "type": "spawn_created", "payload": {"n": number}, **more}


def lines(*items: Any) -> bytes:
    return b"\n".join(item if isinstance(item, bytes) else json.dumps(item).encode() for item in items)


async def test_an_array_is_stored_in_its_order_with_a_result_for_each(gateway: Gateway) -> None:
    status, answer = await gateway.ingest([event(number) for number in range(5)])
    assert (status, answer["status"]) == (201, "received")
    assert [result["status"] for result in answer["results"]] == ["received"] * 5
    ids = [result["event_id"] for result in answer["results"]]
    assert ids == sorted(set(ids))
    assert ids == [result["id"] for result in answer["results"]]
    assert [(one.id, one.payload["n"]) for one in gateway.ledger.events] == list(zip(ids, range(5), strict=True))
    assert gateway.ledger.asked == 1, "one transaction"


@pytest.mark.parametrize("media_type", [NDJSON, "application/jsonl", "application/jsonl; charset=utf-8"])
async def test_lines_are_events(gateway: Gateway, media_type: str) -> None:
    body = lines(event(0), b"", b"  \r", event(1)) + b"\r\n\n"
    status, answer = await gateway.post(body, content_type=media_type)
    assert (status, len(answer["results"])) == (201, 2)
    assert [one.payload["n"] for one in gateway.ledger.events] == [0, 1]


async def test_a_faulty_event_does_not_stop_the_others(gateway: Gateway) -> None:
    listener = await gateway.connect()
    faulty = {"source": "", "type": "system.alert", "payload": {"alert_id": 1}, "broadcast": True}
    body = lines(event(0, broadcast=True), faulty, b"{", 5, event(4, broadcast=True))
    status, answer = await gateway.post(body, content_type=NDJSON)
    assert (status, answer["status"]) == (207, "partial")
    results = answer["results"]
    assert [result["status"] for result in results] == ["received", "rejected", "rejected", "rejected", "received"]
    fields = [{error["field"] for error in result.get("errors", ())} for result in results]
    assert fields == [set(), {"source", "alert_id", "severity", "message"}, {"body"}, {"body"}, set()]
    assert "id" not in results[1]
    assert [(await listener.receive_json(timeout=5))["n"] for _ in range(2)] == [0, 4]


async def test_a_lone_surrogate_in_an_array_does_not_stop_the_others(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread looks for the others, which takes milliseconds in a large array."""
    threads, find = list[threading.Thread](), ingest.Ingest._items_with_faults

    def noted(self: ingest.Ingest, body: bytes) -> list[bytes | memoryview]:
        threads.append(threading.current_thread())
        return find(self, body)

    monkeypatch.setattr(ingest.Ingest, "_items_with_faults", noted)
    texts = (rb"\ud83d", rb"\\ud83d", rb"\\\ud83d", rb"\ud83d\ude00", rb"a\\", rb"\u00e9,]", rb"\u12", b"\xc3\xa9")
    items = [b'{"source":"madre" , "type":"t","payload":{"text":"%b"}}' % text for text in texts]
    status, answer = await gateway.post(b" [ " + b" ,\r\n".join(items) + b"\t] ", content_type="application/json")
    assert status == 207
    refused = [number for number, result in enumerate(answer["results"]) if result["status"] == "rejected"]
    assert refused == [0, 2, 6]
    assert [answer["results"][number]["errors"][0]["field"] for number in refused] == ["payload.text"] * 2 + ["body"]
    assert [one.payload["text"] for one in gateway.ledger.events] == ["\\ud83d", "\U0001f600", "a\\", "\xe9,]", "\xe9"]
    status, _ = await gateway.post(b"[" + items[0] + b",]", content_type="application/json")
    assert status == 400
    assert len(threads) == 2
    assert threading.main_thread() not in threads


CLOUD = b'"specversion":"1.0","type":"t","source":"madre"'


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", r'"\ud800"'])
@pytest.mark.parametrize("media_type", ["application/json", NDJSON, "application/cloudevents-batch+json"])
async def test_a_value_that_json_does_not_have_is_a_fault_of_its_event(
    gateway: Gateway, media_type: str, value: str
) -> None:
    bodies = (b'{"n":1}', b'{"n":[0,{"m":%b}]}' % value.encode(), rb'{"n":"[NaN,\"Infinity"}')
    is_cloud = media_type.startswith("application/cloudevents")
    if is_cloud:
        items = [b'{%b,"id":"%d","data":%b}' % (CLOUD, number, body) for number, body in enumerate(bodies)]
    else:
        items = [b'{"source":"madre","type":"t","payload":%b}' % body for body in bodies]
    body = b"\n".join(items) if media_type == NDJSON else b"[" + b" , ".join(items) + b"]"
    status, answer = await gateway.post(body, content_type=media_type)
    assert (status, [result["status"] for result in answer["results"]]) == (207, ["received", "rejected", "received"])
    (error,) = answer["results"][1]["errors"]
    assert error["field"] == ("data.n[1].m" if is_cloud else "payload.n[1].m")
    assert [one.payload["n"] for one in gateway.ledger.events] == [1, '[NaN,"Infinity']
    # As the only event of a request.
    status, answer = await gateway.post(items[1], content_type=media_type.replace("-batch", ""))
    if media_type == NDJSON:
        error["index"] = 0
    assert (status, answer["errors"]) == (422, [error])


async def test_items_that_are_no_objects_are_faults_too(gateway: Gateway) -> None:
    body = b'[NaN,{"source":"madre","type":"t","payload":{}},-Infinity,Infinity]'
    status, answer = await gateway.post(body, content_type="application/json")
    assert (status, [result["status"] for result in answer["results"]]) == (
        207,
        ["rejected", "received", *["rejected"] * 2],
    )
    for malformed in (b"[NaNNaN]", b"[{NaN:1}]", b"[nan]", b"[+Infinity]", b"[1 NaN]"):
        assert (await gateway.post(malformed, content_type="application/json"))[0] == 400


async def test_a_batch_of_nothing_but_faults_is_422_with_the_index_of_each(gateway: Gateway) -> None:
    status, answer = await gateway.ingest([1, event(0, broadcast=5), {}])
    assert (status, answer["status"], answer["reason"]) == (422, "rejected", "schema_validation_failed")
    assert [(error["index"], error["field"]) for error in answer["errors"]] == [
        (0, "body"),
        (1, "broadcast"),
        (2, "source"),
        (2, "type"),
        (2, "payload"),
    ]
    assert gateway.ledger.asked == 0


@pytest.mark.parametrize(("body", "media_type"), [(b" [ ] ", "application/json"), (b"\n \n", NDJSON), (b"", NDJSON)])
async def test_a_batch_of_no_event_is_200(gateway: Gateway, body: bytes, media_type: str) -> None:
    assert await gateway.post(body, content_type=media_type) == (200, {"status": "received", "results": []})


@pytest.mark.parametrize("body", [b"[", b"[1,]", b"[{}", b"[{}]]", b"[01]", b"[" * 500_000, b"[{} {}]", b'["\n"]'])
async def test_an_array_that_is_not_json_is_400(gateway: Gateway, body: bytes) -> None:
    status, answer = await gateway.post(body, content_type="application/json")
    assert (status, answer["error"]) == (400, "bad_request")


async def test_the_number_of_events_is_limited_exactly(start: Start) -> None:
    gateway = await start(events_batch=3)
    most = [event(number) for number in range(3)]
    for media_type, body in (("application/json", json.dumps(most).encode()), (NDJSON, lines(*most) + b"\n")):
        assert (await gateway.post(body, content_type=media_type))[0] == 201
    more = [*most, event(3)]
    for media_type, body in (("application/json", json.dumps(more).encode()), (NDJSON, lines(*more))):
        status, answer = await gateway.post(body, content_type=media_type)
        assert (status, answer["error"]) == (413, "body_too_large")
    assert len(gateway.ledger.events) == 6


async def test_the_bytes_of_a_batch_and_of_each_event_are_limited(start: Start) -> None:
    gateway = await start(events_body=1024, events_batch_body=4096)
    large = event(1, payload={"pad": "x" * 1024})
    status, answer = await gateway.ingest([event(0), large])
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["received", "rejected"]
    assert "1024" in answer["results"][1]["errors"][0]["message"]
    assert (await gateway.ingest(large))[0] == 413
    too_many = [event(number, payload={"pad": "x" * 900}) for number in range(5)]
    assert (await gateway.ingest(too_many))[0] == 413
    assert (await gateway.post(lines(*too_many), content_type=NDJSON))[0] == 413
    assert len(gateway.ledger.events) == 1


async def test_one_event_in_chunks_gets_no_more_room_than_one_event(start: Start) -> None:
    gateway = await start(events_body=1024)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = b"POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
    writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n1\r\n{\r\n400\r\n" + b"[" * 1024 + b"\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_lost_database_stores_no_part_of_a_batch(gateway: Gateway) -> None:
    gateway.ledger.is_lost = True
    async with gateway.session.post(f"{gateway.url}/events/ingest", json=[event(0), event(1)]) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert gateway.ledger.events == []


async def test_what_the_database_does_not_accept_is_422(gateway: Gateway) -> None:
    gateway.ledger.refuses = True
    status, answer = await gateway.ingest(event(0))
    assert (status, answer["status"], answer["errors"][0]["field"]) == (422, "rejected", "body")
    status, answer = await gateway.ingest([event(0), event(1)])
    assert (status, [error["index"] for error in answer["errors"]]) == (422, [0, 1])


@pytest.mark.thorough
async def test_the_bytes_that_wait_for_the_database_are_limited(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(event(0, metadata={"pad": "x" * 900})).encode()
    monkeypatch.setattr(ingest, "MOST_HELD", 2 * len(body))
    gateway.ledger.open.clear()
    waiting = asyncio.gather(*(gateway.post(body, content_type="application/json") for _ in range(2)))
    await eventually(lambda: gateway.ledger.received == 2, "two events at the store")
    status, answer = await gateway.post(body, content_type="application/json")
    assert (status, answer["error"]) == (503, "overloaded")
    gateway.ledger.open.set()
    assert [status for status, _ in await waiting] == [201, 201]
    assert (await gateway.post(body, content_type="application/json"))[0] == 201
    assert len(gateway.ledger.events) == 3


async def test_a_million_numbers_are_413(gateway: Gateway) -> None:
    body = b"[" + b"1," * 500_000 + b"1]"
    assert (await gateway.post(body, content_type="application/json"))[0] == 413


@pytest.mark.parametrize("faulty", [False, True])
async def test_others_get_turns_while_a_batch_is_read(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, *, faulty: bool
) -> None:
    """Faulty events take a turn to be read and one more for their results."""
    monkeypatch.setattr(native_routes, "SLICE_SECONDS", 0)
    turns, is_done = 0, False

    async def other() -> None:
        nonlocal turns
        while not is_done:
            await asyncio.sleep(0)
            turns += 1

    async with owned_tasks() as tasks:
        tasks.start(other(), "other")
        status, _ = await gateway.ingest([{} if faulty else event(number) for number in range(500)])
        is_done = True
    assert status == (422 if faulty else 201)
    assert turns > (1000 if faulty else 500)


@asynccontextmanager
async def owned_tasks() -> AsyncIterator[TaskGroup]:
    tasks = TaskGroup("test")
    try:
        yield tasks
    finally:
        await tasks.close()
