from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
import websockets
from aiohttp import WSMsgType

from tentaculo.events import websocket
from tests.events.conftest import DEADLINE, Gateway, Start, silent_for
from tests.support.event_clients import alert_text, error_of, raw_socket, text_frame
from tests.support.waits import eventually

# 1. On connecting


@pytest.mark.parametrize(
    ("query", "client_id"),
    [
        ("", "anonymous"),
        ("?channel=event&client_id=anonymous", "anonymous"),
        ("?client_id=operator-1&channel=other", "operator-1"),
        ("?client_id=", "anonymous"),
        ("?client_id=%0d%0a%1b%00", "anonymous"),
        ("?client_id=a%0d%0ab%1b[31m", "ab[31m"),
        ("?client_id=" + quote("ñandú"), "ñandú"),
        ("?client_id=" + "x" * 500, "x" * 128),
        ("?client_id=one&client_id=two", "one"),
    ],
)
async def test_1_the_first_message_says_connected(gateway: Gateway, query: str, client_id: str) -> None:
    async with websockets.connect(gateway.ws_url + query, proxy=None) as socket:
        assert json.loads(await socket.recv()) == {"channel": "control", "type": "connected", "client_id": client_id}


@pytest.mark.parametrize("path", ["/ws?client_id=%ED%A0%80", "/ws?client_id=%FF%FE", "/ws?%%%"])
async def test_1_a_client_id_of_any_bytes_is_harmless(gateway: Gateway, path: str) -> None:
    client = await raw_socket(gateway, path)
    client.close()
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")


# 2. Echo and errors


@pytest.mark.parametrize(
    "text",
    [
        '{"hello":"world"}',
        '{ "b" : 1,\n\t"a":1.50, "a":2 }',
        '{"n":123456789012345678901234567890,"e":1E2}',
        '{"u":"\\u00e9 é 🦑"}',
        "{}",
        '{"type":"spawn_created","payload":{"a":1}}',
        '{"type":5}',
        '{"channel":"control","type":"connected"}',
    ],
)
async def test_2_an_object_is_echoed_verbatim_to_its_sender_only(gateway: Gateway, text: str) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    await sender.send_str(text)
    assert (await sender.receive(timeout=DEADLINE)).data == text
    await silent_for(other)
    await silent_for(sender)
    assert gateway.ledger.events == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "not_json"),
        ("hello", "not_json"),
        ('{"a":', "not_json"),
        ('{"a":NaN}', "not_json"),
        ('{"a":"\\ud800"}', "not_json"),
        ("[" * 30_000, "not_json"),
        ('{"a":' * 100 + "1" + "}" * 100, "not_json"),
        ("[]", "not_an_object"),
        ('[{"type":"system.alert"}]', "not_an_object"),
        ('"text"', "not_an_object"),
        ("null", "not_an_object"),
        ("true", "not_an_object"),
        ("1", "not_an_object"),
    ],
)
async def test_2_anything_else_gets_an_error_and_the_socket_stays_open(gateway: Gateway, text: str, error: str) -> None:
    socket = await gateway.connect()
    await socket.send_str(text)
    assert (await error_of(socket))["error"] == error
    await silent_for(socket)


async def test_2_defect_4_a_list_or_a_binary_frame_does_not_kill_the_socket(gateway: Gateway) -> None:
    async with websockets.connect(gateway.ws_url, proxy=None) as socket:
        await socket.recv()
        for message in ("[1,2]", b"\x00\xff", b'{"a":1}', b""):
            await socket.send(message)
            assert json.loads(await socket.recv())["type"] == "error"
        await socket.send('{"a":1}')
        assert await socket.recv() == '{"a":1}'
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")


async def test_2_too_large_a_message_gets_an_error_and_far_too_large_a_one_closes(start: Start) -> None:
    gateway = await start(events_body=1024)
    socket = await gateway.connect()
    fits = json.dumps({"pad": "x" * (1024 - len('{"pad": ""}'))})
    assert len(fits) == 1024
    await socket.send_str(fits)
    assert (await socket.receive(timeout=DEADLINE)).data == fits
    await socket.send_str(fits + " ")
    assert (await error_of(socket))["error"] == "message_too_large"
    await silent_for(socket)
    await socket.send_str("x" * 1024 * websocket.REFUSABLE)
    await socket.receive(timeout=DEADLINE)
    assert socket.close_code == 1009


async def test_2_text_that_is_not_utf8_closes_as_rfc_6455_says(gateway: Gateway) -> None:
    socket = await gateway.connect()
    await socket.send_frame(b'{"a":"\xff"}', WSMsgType.TEXT)
    await socket.receive(timeout=DEADLINE)
    assert socket.close_code == 1007
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")


# 3. Broadcast


async def test_3_a_canonical_event_reaches_every_other_client_flat(gateway: Gateway, alert: dict[str, Any]) -> None:
    sender = await gateway.connect("?client_id=switch")
    others = [await gateway.connect() for _ in range(3)]
    text = alert_text(alert, extra={"k": [1]})
    await sender.send_str(text)
    assert (await sender.receive(timeout=DEADLINE)).data == text
    got = [await other.receive_json(timeout=DEADLINE) for other in others]
    stored = gateway.ledger.events[0]
    assert (
        got == [{"type": "system.alert", "source": "switch", "event_id": stored.id, **alert, "extra": {"k": [1]}}] * 3
    )
    assert (stored.type, stored.source, stored.canonical) == ("system.alert", "switch", True)
    assert stored.payload == {**alert, "extra": {"k": [1]}}
    await silent_for(sender)
    assert (await gateway.cardinality())["events"]["system.alert"]["count"] == 1


@pytest.mark.parametrize(("channel", "shown"), [("control", {}), ("other", {"channel": "other"}), (7, {"channel": 7})])
async def test_3_an_event_cannot_imitate_a_control_message(
    gateway: Gateway, alert: dict[str, Any], channel: Any, shown: dict[str, Any]
) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    await sender.send_str(alert_text(alert, channel=channel))
    payload = {"channel": channel, "error": "x", "type": "error"}
    assert (await gateway.ingest({"source": "s", "type": "connected", "payload": payload, "broadcast": True}))[0] == 201
    got = [await other.receive_json(timeout=DEADLINE) for _ in range(2)]
    assert [{key: one[key] for key in one if key == "channel"} for one in got] == [shown, shown]
    assert [(one["type"], "error" in one) for one in got] == [("system.alert", False), ("connected", True)]
    assert [one.payload["channel"] for one in gateway.ledger.events] == [channel, channel], "it is stored as it came"


async def test_3_source_may_be_named_and_the_id_is_the_gateways(gateway: Gateway, alert: dict[str, Any]) -> None:
    sender, other = await gateway.connect("?client_id=me"), await gateway.connect()
    for source, expected in (("madre", "madre"), ("", "me"), (5, "me"), ("x" * 200, "me"), ("a\nb", "me")):
        await sender.send_str(alert_text(alert, source=source, id="child-1", event_id="forged"))
        got = await other.receive_json(timeout=DEADLINE)
        assert got["source"] == expected
        assert got["event_id"] == gateway.ledger.events[-1].id
        assert got["id"] == "child-1", "it joins the events of one producer"


async def test_3_a_missing_timestamp_is_filled_in(gateway: Gateway, alert: dict[str, Any]) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    del alert["timestamp"]
    await sender.send_str(alert_text(alert))
    got = await other.receive_json(timeout=DEADLINE)
    assert type(got["timestamp"]) is int
    assert got["timestamp"] == pytest.approx(time.time() * 1000, abs=5000)
    assert json.loads((await sender.receive(timeout=DEADLINE)).data) == {"type": "system.alert", **alert}


async def test_3_an_invalid_canonical_event_is_echoed_and_named_faulty_and_goes_no_further(
    gateway: Gateway, alert: dict[str, Any]
) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    text = alert_text({**alert, "alert_id": True, "timestamp": 1.5, "message": "x" * 3000})
    await sender.send_str(text)
    assert (await sender.receive(timeout=DEADLINE)).data == text
    error = await error_of(sender)
    assert error["error"] == "schema_validation_failed"
    assert [item["field"] for item in error["errors"]] == ["alert_id", "timestamp", "event"]
    await silent_for(other)
    assert gateway.ledger.events == []
    await silent_for(sender)


async def test_3_a_lost_database_is_said_and_the_socket_stays_open(gateway: Gateway, alert: dict[str, Any]) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    gateway.ledger.is_lost = True
    await sender.send_str(alert_text(alert))
    assert json.loads((await sender.receive(timeout=DEADLINE)).data)["type"] == "system.alert"
    assert (await error_of(sender))["error"] == "store_unavailable"
    await silent_for(other)
    await silent_for(sender)


async def test_3_a_store_that_hangs_holds_up_only_who_sends(gateway: Gateway, alert: dict[str, Any]) -> None:
    sender, other = await gateway.connect(), await gateway.connect()
    gateway.ledger.open.clear()
    await sender.send_str(alert_text(alert))
    await sender.receive(timeout=DEADLINE)
    await silent_for(other)
    gateway.ledger.open.set()
    assert (await other.receive_json(timeout=DEADLINE))["type"] == "system.alert"


async def test_3_an_event_accepted_from_a_client_that_leaves_at_once_is_kept(
    gateway: Gateway, alert: dict[str, Any]
) -> None:
    other = await gateway.connect()
    gateway.ledger.open.clear()
    client = await raw_socket(gateway)
    await asyncio.get_running_loop().sock_sendall(client, text_frame(alert_text(alert).encode()))
    await eventually(lambda: gateway.ledger.asked == 1, "the event at the store")
    client.close()
    await eventually(lambda: len(gateway.hub) == 1, "the client gone")
    gateway.ledger.open.set()
    assert (await other.receive_json(timeout=DEADLINE))["type"] == "system.alert"


@pytest.mark.parametrize(
    ("client_id", "source", "expected"),
    [("me", "tentaculo_link", "me"), ("tentaculo_link", "madre", "madre"), ("tentaculo_link", None, "anonymous")],
)
async def test_no_client_speaks_as_the_gateway(
    gateway: Gateway, alert: dict[str, Any], client_id: str, source: str | None, expected: str
) -> None:
    sender = await gateway.connect(f"?client_id={client_id}")
    await sender.send_str(alert_text(alert, source=source))
    await eventually(lambda: gateway.ledger.events, "the event stored")
    (stored,) = gateway.ledger.events
    assert (stored.source, stored.severity, stored.stated_ms) == (expected, alert["severity"], alert["timestamp"])
