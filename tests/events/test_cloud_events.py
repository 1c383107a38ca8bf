"""CloudEvents 1.0 by HTTP: structured, binary and batch."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tentaculo.events.cloud_events import decode_header
from tests.events.conftest import DEADLINE, Gateway

pytestmark = pytest.mark.usefixtures("both_ways")

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
TIME = "2026-01-02T03:04:05.678901+01:00"
TIME_MS = 1767319445678


def cloud_event(**attributes: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "A-1", "source": "/madre", "type": "spawn.created", **attributes}


async def structured(gateway: Gateway, **attributes: Any) -> tuple[int, dict[str, Any]]:
    return await gateway.post(json.dumps(cloud_event(**attributes)).encode(), content_type=STRUCTURED)


async def binary(gateway: Gateway, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    named = {"ce_specversion": "1.0", "ce_id": "A-1", "ce_source": "/madre", "ce_type": "spawn.created", **headers}
    return await gateway.post(body, **{name: value for name, value in named.items() if value is not None})


def faulty(answer: dict[str, Any]) -> set[str]:
    return {error["field"] for error in answer["errors"]}


EXTENSIONS = {
    "subject": "child-1",
    "dataschema": "https://example.org/schema",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tenant": "blue",
}


async def test_a_structured_event_is_kept_with_all_it_says(gateway: Gateway) -> None:
    listener = await gateway.connect()
    data = {"severity": "L2", "n": [1, {"a": None}]}
    status, answer = await structured(
        gateway, time=TIME, datacontenttype="application/json", data=data, broadcast=True, number=7, **EXTENSIONS
    )
    assert status == 201
    assert answer["source"] == "/madre"
    (event,) = gateway.ledger.events
    assert (event.source, event.type, event.key) == ("/madre", "spawn.created", "A-1")
    assert (event.payload, event.stated_ms, event.severity) == (data, TIME_MS, "L2")
    assert event.metadata == {**EXTENSIONS, "number": 7}
    assert (await listener.receive_json(timeout=5))["n"] == data["n"]


async def test_both_modes_make_the_same_event(gateway: Gateway) -> None:
    await structured(gateway, time=TIME, data={"n": 1}, broadcast="true", **EXTENSIONS)
    headers = {f"ce_{name}": value for name, value in EXTENSIONS.items()}
    status, _ = await binary(
        gateway,
        b'{"n": 1}',
        content_type="application/json; charset=utf-8",
        ce_time=TIME,
        ce_broadcast="true",
        **headers,
    )
    assert status == 201
    one, other = gateway.ledger.events
    assert (one.payload, one.metadata, one.stated_ms) == (other.payload, other.metadata, other.stated_ms)
    assert one.digest is not None
    assert one.digest == other.digest


@pytest.mark.parametrize(
    ("attributes", "payload"),
    [
        ({}, {}),
        ({"data": None}, {"data": None}),
        ({"data": [1, 2]}, {"data": [1, 2]}),
        ({"data": "text", "datacontenttype": "text/plain"}, {"data": "text"}),
        ({"data": 5}, {"data": 5}),
        ({"data_base64": "AAEC"}, {"data_base64": "AAEC"}),
        ({"data": {"a": 1}, "data_base64": None, "subject": None}, {"a": 1}),
    ],
)
async def test_data_of_every_kind(gateway: Gateway, attributes: dict[str, Any], payload: dict[str, Any]) -> None:
    assert (await structured(gateway, **attributes))[0] == 201
    assert gateway.ledger.events[0].payload == payload


@pytest.mark.parametrize(
    ("body", "media_type", "payload"),
    [
        (b"", "application/json", {}),
        (b'{"a":1}', "application/vnd.x+json", {"a": 1}),
        (b"[1]", "application/json", {"data": [1]}),
        (b'{"a":1}', None, {"a": 1}),
        ("¡hola!".encode(), "text/plain", {"data": "¡hola!"}),
        (b"<a/>", "text/xml; charset=UTF-8", {"data": "<a/>"}),
        (b"\xa1hola!", "text/plain; charset=latin-1", {"data_base64": base64.b64encode(b"\xa1hola!").decode()}),
        (b"\xff\x00", "text/plain", {"data_base64": "/wA="}),
        (b"\x00\x01\x02", "application/octet-stream", {"data_base64": "AAEC"}),
    ],
)
async def test_content_of_every_kind(
    gateway: Gateway, body: bytes, media_type: str | None, payload: dict[str, Any]
) -> None:
    headers = {} if media_type is None else {"content_type": media_type}
    assert (await binary(gateway, body, **headers))[0] == 201
    assert gateway.ledger.events[0].payload == payload


async def test_header_fields_that_are_not_utf_8_are_faults(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        fields = [b"ce-specversion: 1.0", b"ce-id: A-1", b"ce-source: /madre", b"ce-type: t", b"ce-subject: \xff"]
        fields += [b"Content-Type: text/plain; name=\xff", b"Host: gateway", b"Content-Length: 1", b"Connection: close"]
        writer.write(b"\r\n".join((b"POST /events/ingest HTTP/1.1", *fields, b"", b"x")))
        head, _, body = (await asyncio.wait_for(reader.read(), DEADLINE)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    assert head.startswith(b"HTTP/1.1 422 ")
    assert faulty(json.loads(body)) == {"subject", "datacontenttype"}
    assert gateway.ledger.events == []


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        ({"specversion": "0.3"}, {"specversion"}),
        ({"specversion": 1.0}, {"specversion"}),
        ({"specversion": None, "id": None, "source": None, "type": None}, {"specversion", "id", "source", "type"}),
        ({"id": "", "source": "", "type": ""}, {"id", "source", "type"}),
        ({"id": "x" * 257, "source": "tentaculo_link"}, {"id", "source"}),
        ({"time": "yesterday", "subject": "", "dataschema": 5}, {"time", "subject", "dataschema"}),
        ({"time": "2026-01-02T03:04:05"}, {"time"}),
        ({"time": 1767319445678}, {"time"}),
        ({"time": "2026-12-31T23:59:60"}, {"time"}),
        ({"time": "2026-12-31T23:58:60Z"}, {"time"}),
        ({"time": "2026-12-31T23:59:60+01:00"}, {"time"}),
        ({"time": "2026-12-30T23:59:60Z"}, {"time"}),
        ({"time": "9999-12-31T23:59:60Z"}, {"time"}),
        ({"data": 1, "data_base64": "!"}, {"data_base64"}),
        ({"data_base64": 5}, {"data_base64"}),
        (
            {"Tenant": "x", "a-b": "x", "nested": {}, "fraction": 1.5, "large": 2**31},
            {"Tenant", "a-b", "nested", "fraction", "large"},
        ),
        ({"broadcast": "yes"}, {"broadcast"}),
        ({"broadcast": 1}, {"broadcast"}),
        ({f"x{number}": "" for number in range(61)}, {"body"}),
        ({"type": "system.alert", "data": {"alert_id": True}, "id": 5}, {"id", "alert_id", "severity", "message"}),
    ],
)
async def test_every_faulty_attribute_is_listed(gateway: Gateway, attributes: dict[str, Any], fields: set[str]) -> None:
    status, answer = await structured(gateway, **attributes)
    assert (status, answer["status"]) == (422, "rejected")
    assert faulty(answer) == fields
    assert gateway.ledger.events == []


async def test_faulty_headers_are_listed(gateway: Gateway) -> None:
    status, answer = await binary(
        gateway, ce_id="%ff", ce_specversion="2.0", ce_time="now", ce_data="x", ce_datacontenttype="text/plain"
    )
    assert (status, faulty(answer)) == (422, {"id", "specversion", "time", "data", "datacontenttype"})
    assert (await gateway.post(b"{", ce_id="1", content_type="application/json"))[0] == 400


async def test_headers_are_percent_decoded_once(gateway: Gateway) -> None:
    status, _ = await binary(gateway, ce_subject="Euro%20%E2%82%AC%20%F0%9F%98%80", ce_note='"a \\"b\\" 100%2525"')
    assert status == 201
    assert gateway.ledger.events[0].metadata == {"subject": "Euro € 😀", "note": 'a "b" 100%25'}


@pytest.mark.parametrize(
    ("value", "decoded"), [("a%zzb%", "a%zzb%"), ('"', '"'), ('""', ""), ("%22x%22", '"x"'), ("a%2", "a%2")]
)
def test_odd_header_values(value: str, decoded: str) -> None:
    assert decode_header(value) == decoded


async def test_a_batch_has_a_result_for_each(gateway: Gateway) -> None:
    items = [cloud_event(id="1", data={}), cloud_event(id="2", specversion="0.3"), cloud_event(id="3")]
    status, answer = await gateway.post(json.dumps(items).encode(), content_type=BATCH)
    assert status == 207
    assert [result["status"] for result in answer["results"]] == ["received", "rejected", "received"]
    status, answer = await gateway.post(json.dumps(items[0]).encode(), content_type=BATCH)
    assert (status, faulty(answer)) == (422, {"body"})


async def test_one_event_is_no_array_and_other_formats_are_415(gateway: Gateway) -> None:
    body = json.dumps([cloud_event()]).encode()
    assert (await gateway.post(body, content_type=STRUCTURED))[0] == 422
    for media_type in ("application/cloudevents", "application/cloudevents+avro", "application/cloudevents-batch"):
        assert (await gateway.post(body, content_type=media_type))[0] == 415
        assert (await gateway.post(body, content_type=media_type, ce_id="1"))[0] == 415


@pytest.mark.parametrize(
    "time",
    [
        "2016-12-31T23:59:60.5Z",
        "2016-12-31t23:59:60.500z",
        "2016-12-31T15:59:60.5-08:00",
        "2017-01-01T05:29:60.5+05:30",
        "2016-12-31 23:59:60.5-00:00",
    ],
)
async def test_a_leap_second_is_the_second_behind_it(gateway: Gateway, time: str) -> None:
    behind = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp() * 1000) + 500
    assert (await structured(gateway, time=time))[0] == 201
    headers = {
        "ce-time": time.replace(" ", "%20"),
        "ce-id": "2",
        "ce-source": "s",
        "ce-type": "t",
        "ce-specversion": "1.0",
    }
    async with gateway.session.post(f"{gateway.url}/events/ingest", headers=headers) as response:
        assert response.status == 201
    assert [event.stated_ms for event in gateway.ledger.events] == [behind] * 2


async def test_a_canonical_cloud_event_takes_its_own_time(gateway: Gateway, alert: dict[str, Any]) -> None:
    del alert["timestamp"]
    assert (await structured(gateway, type="system.alert", time=TIME, data=alert))[0] == 201
    (event,) = gateway.ledger.events
    assert (event.canonical, event.payload["timestamp"], event.stated_ms) == (True, TIME_MS, TIME_MS)
