"""`POST /events/ingest` on a real socket: one event in the gateway's own form."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest

from tentaculo.server import request_body
from tests.events.conftest import Gateway, Start, silent_for
from tests.support.waits import eventually

pytestmark = pytest.mark.usefixtures("both_ways")


def envelope(type_: str, payload: Any, **more: Any) -> dict[str, Any]:
    return {"source": "madre", "type": type_, "payload": payload, **more}


def fields_of(answer: dict[str, Any]) -> set[str]:
    return {error["field"] for error in answer["errors"]}


def assert_rejected(status: int, answer: dict[str, Any], fields: set[str]) -> None:
    assert status == 422
    assert (answer["status"], answer["reason"]) == ("rejected", "schema_validation_failed")
    assert (answer["status_code"], answer["error"]) == (422, "schema_validation_failed")
    assert fields_of(answer) == fields
    assert all(error["message"] for error in answer["errors"])


@pytest.mark.parametrize("type_", ["spawn_success", "spawn_failure", "system_state_update", "spawn_created"])
async def test_real_producers_are_stored_and_broadcast(gateway: Gateway, type_: str) -> None:
    listener = await gateway.connect()
    payload = {"spawn_id": "s1", "ttl": 60, "nested": {"a": [1, None]}}
    status, answer = await gateway.ingest(envelope(type_, payload, broadcast=True, metadata={"trace": "t"}))
    assert status == 201
    assert answer == {
        "status": "received",
        "source": "madre",
        "type": type_,
        "id": answer["id"],
        "event_id": answer["id"],
    }
    got = await listener.receive_json(timeout=5)
    stored = gateway.ledger.events[0]
    assert got == {
        "type": type_,
        "source": "madre",
        "event_id": answer["id"],
        "timestamp": int(stored.received_at.timestamp() * 1000),
        **payload,
    }
    assert (stored.id, stored.payload, stored.metadata) == (answer["id"], payload, {"trace": "t"})
    assert (stored.canonical, stored.broadcast) == (False, True)


async def test_defect_1_a_canonical_event_is_ingested_and_broadcast(gateway: Gateway, alert: dict[str, Any]) -> None:
    listeners = [await gateway.connect("?client_id=a"), await gateway.connect("?client_id=b")]
    status, answer = await gateway.ingest(envelope("system.alert", alert, broadcast=True))
    assert (status, answer["status"]) == (201, "received")
    expected = {"type": "system.alert", "source": "madre", "event_id": answer["id"], **alert}
    assert [await listener.receive_json(timeout=5) for listener in listeners] == [expected, expected]
    assert gateway.ledger.events[0].canonical


async def test_without_broadcast_it_is_stored_only(gateway: Gateway, alert: dict[str, Any]) -> None:
    listener = await gateway.connect()
    assert (await gateway.ingest(envelope("system.alert", alert)))[0] == 201
    assert (await gateway.ingest(envelope("anything", {}, broadcast=False, metadata=None, unknown=1)))[0] == 201
    await silent_for(listener)
    assert [event.broadcast for event in gateway.ledger.events] == [False, False]


async def test_a_missing_timestamp_is_filled_in(gateway: Gateway, alert: dict[str, Any]) -> None:
    listener = await gateway.connect()
    del alert["timestamp"]
    assert (await gateway.ingest(envelope("system.alert", alert, broadcast=True)))[0] == 201
    stored = gateway.ledger.events[0]
    assert stored.payload["timestamp"] == pytest.approx(stored.received_at.timestamp() * 1000, abs=2000)
    assert (await listener.receive_json(timeout=5))["timestamp"] == stored.payload["timestamp"]


async def test_defect_2_a_rejected_event_is_422_and_lists_every_faulty_field(gateway: Gateway) -> None:
    listener = await gateway.connect()
    payload = {"alert_id": 5, "message": "x" * 3000, "timestamp": 1.5}
    async with gateway.session.post(
        f"{gateway.url}/events/ingest", json=envelope("system.alert", payload, broadcast=True)
    ) as answer:
        assert answer.content_type == "application/problem+json"
        body = await answer.json(content_type=None)
    assert_rejected(answer.status, body, {"alert_id", "severity", "timestamp", "payload"})
    assert "ok" not in body
    assert gateway.ledger.events == []
    await silent_for(listener)


async def test_defect_6_booleans_are_not_integers(gateway: Gateway) -> None:
    status, answer = await gateway.ingest(
        envelope("switch.tension.updated", {"value": True, "components": {}, "timestamp": False})
    )
    assert_rejected(status, answer, {"value", "timestamp"})
    status, answer = await gateway.ingest(
        envelope("madre.decision.explained", {"decision_id": "d", "summary": "s", "confidence": True})
    )
    assert_rejected(status, answer, {"confidence"})


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"source": None}, {"source"}),
        ({"source": ""}, {"source"}),
        ({"source": "  "}, {"source"}),
        ({"source": "x" * 129}, {"source"}),
        ({"source": "a\nb"}, {"source"}),
        ({"source": "tentaculo_link"}, {"source"}),
        ({"type": 5}, {"type"}),
        ({"type": "a\u0000"}, {"type"}),
        ({"payload": []}, {"payload"}),
        ({"payload": None}, {"payload"}),
        ({"payload": "{}"}, {"payload"}),
        ({"broadcast": "true"}, {"broadcast"}),
        ({"broadcast": 1}, {"broadcast"}),
        ({"broadcast": None}, {"broadcast"}),
        ({"metadata": []}, {"metadata"}),
        (
            {"type": "system.alert", "source": 1, "broadcast": 0},
            {"source", "broadcast", "alert_id", "severity", "message"},
        ),
    ],
)
async def test_a_faulty_envelope_is_422_the_same_way(
    gateway: Gateway, change: dict[str, Any], fields: set[str]
) -> None:
    assert_rejected(*await gateway.ingest({**envelope("spawn_created", {}), **change}), fields)
    assert gateway.ledger.events == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [({}, {"source", "type", "payload"}), ("x", {"body"}), (None, {"body"}), (True, {"body"})],
)
async def test_json_that_is_no_envelope_is_422(gateway: Gateway, body: Any, fields: set[str]) -> None:
    async with gateway.session.post(
        f"{gateway.url}/events/ingest", data=json.dumps(body), headers={"Content-Type": "application/json"}
    ) as answer:
        assert_rejected(answer.status, await answer.json(content_type=None), fields)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"alert", b'{"a":nan}', b'{"a":"\xff"}', b"[" * 60_000, b'{"a":' * 10_000],
)
async def test_what_is_not_json_is_400(gateway: Gateway, text: bytes) -> None:
    async with gateway.session.post(
        f"{gateway.url}/events/ingest", data=text, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        assert (await answer.json(content_type=None))["error"] == "bad_request"
    assert (await gateway.ingest(envelope("t", {})))[0] == 201


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 201),
        ("Application/JSON; charset=utf-8", 201),
        ("application/vnd.vx11+json", 201),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("application/jsonp", 415),
        ("garbage", 415),
        ("", 415),
    ],
)
async def test_media_type(gateway: Gateway, media_type: str, status: int) -> None:
    async with gateway.session.post(
        f"{gateway.url}/events/ingest",
        data=json.dumps(envelope("t", {})).encode(),
        headers={"Content-Type": media_type},
    ) as answer:
        assert answer.status == status
        if status == 415:
            accepted = answer.headers["Accept-Post"].split(", ")
            assert {"application/json", "application/x-ndjson", "application/cloudevents+json"} < set(accepted)
            assert answer.headers["Accept"] == answer.headers["Accept-Post"]


async def test_no_media_type_and_compressed_bodies_are_415(gateway: Gateway) -> None:
    url, body = f"{gateway.url}/events/ingest", json.dumps(envelope("t", {})).encode()
    async with gateway.session.post(url, data=body, skip_auto_headers=["Content-Type"]) as answer:
        assert answer.status == 415
        assert "Content-Type" in (await answer.json(content_type=None))["detail"]
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with gateway.session.post(url, data=gzip.compress(body), headers=headers) as answer:
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "identity"


async def raw(gateway: Gateway, head: str, *bodies: bytes) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request by hand; gives the answer's status line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    request = f"POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n{head}\r\n"
    writer.write(request.encode())
    for body in bodies:
        writer.write(body)
    return await asyncio.wait_for(reader.readline(), 5), reader, writer


async def test_too_large_by_content_length_is_413_before_a_byte_is_read(gateway: Gateway) -> None:
    line, _, writer = await raw(gateway, f"Content-Length: {1024 * 1024 + 1}\r\n")
    assert line.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_too_large_in_chunks_is_413_while_it_comes(start: Start) -> None:
    gateway = await start(events_body=1024)
    line, _, writer = await raw(gateway, "Transfer-Encoding: chunked\r\n", b"800\r\n" + b"x" * 2048 + b"\r\n")
    assert line.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_the_general_limit_is_exact(start: Start) -> None:
    gateway = await start(events_body=1024)
    body = envelope("t", {"pad": ""})
    room = 1024 - len(json.dumps(body))
    body["payload"]["pad"] = "x" * room
    assert (await gateway.ingest(body))[0] == 201
    body["payload"]["pad"] += "x"
    assert (await gateway.ingest(body))[0] == 413


async def test_expect_100_continue_is_answered_by_the_decision(gateway: Gateway) -> None:
    line, _, writer = await raw(gateway, f"Expect: 100-continue\r\nContent-Length: {2**21}\r\n")
    assert line.startswith(b"HTTP/1.1 413 ")
    writer.close()
    body = json.dumps(envelope("t", {})).encode()
    line, reader, writer = await raw(gateway, f"Expect: 100-continue\r\nContent-Length: {len(body)}\r\n")
    assert line.startswith(b"HTTP/1.1 100 ")
    assert await reader.readline() == b"\r\n"
    writer.write(body)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 201 ")
    writer.close()


async def test_a_body_that_does_not_come_is_408(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "READ_SECONDS", 0.05)
    line, _, writer = await raw(gateway, "Content-Length: 10\r\n", b"{")
    assert line.startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_broken_chunks_are_400(gateway: Gateway) -> None:
    line, _, writer = await raw(gateway, "Transfer-Encoding: chunked\r\n", b"zz\r\n")
    assert line.split()[1] == b"400"
    writer.close()


async def test_a_lost_database_is_503_and_nothing_is_broadcast(gateway: Gateway, alert: dict[str, Any]) -> None:
    listener = await gateway.connect()
    gateway.ledger.is_lost = True
    status, answer = await gateway.ingest(envelope("system.alert", alert, broadcast=True))
    assert (status, answer["error"]) == (503, "store_unavailable")
    await silent_for(listener)
    gateway.ledger.is_lost = False
    assert (await gateway.ingest(envelope("system.alert", alert, broadcast=True)))[0] == 201
    assert (await listener.receive_json(timeout=5))["type"] == "system.alert"


async def test_a_producer_that_does_not_wait_for_the_answer_is_heard(gateway: Gateway) -> None:
    listener = await gateway.connect()
    gateway.ledger.open.clear()
    body = json.dumps(envelope("spawn_created", {"a": 1}, broadcast=True)).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await eventually(lambda: gateway.ledger.asked == 1, "the event at the store")
    writer.transport.abort()
    gateway.ledger.open.set()
    assert (await listener.receive_json(timeout=5))["type"] == "spawn_created"
    assert len(gateway.ledger.events) == 1


async def test_ids_grow_and_broadcasts_come_in_their_order(gateway: Gateway) -> None:
    listener = await gateway.connect()
    answers = await asyncio.gather(
        *(gateway.ingest(envelope("t", {"n": number}, broadcast=True)) for number in range(50))
    )
    ids = {answer["id"] for _, answer in answers}
    got = [(await listener.receive_json(timeout=5))["event_id"] for _ in range(50)]
    assert got == sorted(ids)
    assert len(ids) == 50
    assert max(ids) < 2**53


async def test_a_client_that_breaks_off_leaves_nothing_behind(gateway: Gateway) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    await writer.drain()
    writer.transport.abort()
    assert (await gateway.ingest(envelope("t", {})))[0] == 201
    assert gateway.ledger.asked == 1
