"""`/ws?since=…&types=…&sources=…`: the broadcasts that a client missed, then live ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError

from tentaculo.events import replay
from tentaculo.events.hub import encode_broadcast
from tentaculo.model.event import MAX_EVENT_ID, Event
from tentaculo.model.failure import Failure, Problem
from tests.events.conftest import DEADLINE, NAME, Gateway, Start, silent_for
from tests.support.event_clients import alert_text, raw_socket
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def stored(gateway: Gateway, *ids: int, **members: Any) -> None:
    """Events that another process has stored, and that are published here."""
    values: dict[str, Any] = {"source": "s", "type": "t", "payload": {}, "received_at": NOW, "broadcast": True}
    gateway.ledger.events += [Event(id_, **{**values, **members}) for id_ in ids]
    gateway.tail.ring()
    await eventually(lambda: gateway.tail.mark == ids[-1])


async def ingest(gateway: Gateway, **members: Any) -> int:
    status, body = await gateway.ingest({"source": "s", "type": "t", "payload": {}, "broadcast": True, **members})
    assert status == 201
    id_: int = body["id"]
    return id_


async def received(client: Any, number: int) -> list[int]:
    return [(await client.receive_json(timeout=DEADLINE))["event_id"] for _ in range(number)]


@pytest.mark.parametrize("since", ["3", f"{NAME}-3"])
async def test_it_gets_what_it_missed_then_live(gateway: Gateway, since: str) -> None:
    await stored(gateway, *range(1, 800))
    await stored(gateway, 800, broadcast=False)
    client = await gateway.connect(f"?since={since}&client_id=a")
    assert await received(client, 796) == list(range(4, 800))
    await ingest(gateway, broadcast=False)
    id_ = await ingest(gateway)
    assert await received(client, 1) == [id_]
    await silent_for(client)


async def test_without_since_it_is_as_before(gateway: Gateway) -> None:
    await stored(gateway, 1, 2)
    client = await gateway.connect("?since=")
    id_ = await ingest(gateway)
    assert await received(client, 1) == [id_]
    await silent_for(client)


async def test_types_and_sources_select_history_and_live_alike(gateway: Gateway) -> None:
    wanted = {"type": "a", "source": "x"}
    others = [{**wanted, name: "other"} for name in wanted]
    for number, members in enumerate([wanted, *others, wanted], 1):
        await stored(gateway, number, **members)
    resumed = await gateway.connect("?since=0&types=a,b&sources=x")
    live = await gateway.connect("?types=b&types=a&sources=y,x")
    assert await received(resumed, 2) == [1, 4]
    for members in others:
        await ingest(gateway, **members)
    id_ = await ingest(gateway, **wanted)
    for client in (resumed, live):
        assert await received(client, 1) == [id_]
        await silent_for(client)


async def test_a_position_of_another_log_or_from_the_future_is_reset(gateway: Gateway) -> None:
    await stored(gateway, 5)
    for position in ("ba9876543210-3", f"{NAME}-6", str(MAX_EVENT_ID)):
        client = await gateway.connect(f"?since={position}")
        message = await client.receive_json(timeout=DEADLINE)
        assert message.pop("detail")
        assert message == {"channel": "control", "type": "reset", "name": NAME, "position": f"{NAME}-5"}
        await silent_for(client)
        await client.close()


@pytest.mark.parametrize(
    "query", ["?since=x", "?since=-1", f"?types={'x' * 300}", f"?sources={','.join(map(str, range(51)))}"]
)
async def test_a_faulty_query_is_refused_before_the_upgrade(gateway: Gateway, query: str) -> None:
    with pytest.raises(WSServerHandshakeError) as refused:
        await gateway.connect(query)
    assert refused.value.status == 400
    assert len(gateway.hub) == 0


async def test_its_own_events_are_not_sent_back_while_it_reads_history(
    gateway: Gateway, alert: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "RETRY_SECONDS", 0.05)
    await stored(gateway, 1, 2)
    read, failures = gateway.ledger.read_events, 0

    async def fail(*_: Any, **__: Any) -> list[Event]:
        nonlocal failures
        failures += 1
        raise Problem(Failure.STORE_UNAVAILABLE)

    monkeypatch.setattr(gateway.ledger, "read_events", fail)
    client = await gateway.connect("?since=1")
    await client.send_str(alert_text(alert))
    assert (await client.receive_json(timeout=DEADLINE))["alert_id"] == "a1", "the echo"
    own = gateway.ledger.events
    await eventually(lambda: len(own) == 3 and gateway.tail.mark == own[-1].id and failures)
    last = await ingest(gateway)
    monkeypatch.setattr(gateway.ledger, "read_events", read)
    assert await received(client, 2) == [2, last]
    await silent_for(client)


async def test_a_client_that_stalls_in_history_holds_neither_pages_nor_a_queue(start: Start) -> None:
    gateway = await start(subscriber_queue=8)
    gateway.ledger.events += [
        Event(number, "s", "t", {"pad": "x" * 50_000}, NOW, broadcast=True) for number in range(1, 400)
    ]
    await eventually(lambda: gateway.tail.mark == 399)
    stalled = await raw_socket(gateway, "/ws?since=0", buffer=4096)
    healthy = await gateway.connect("?since=0")
    assert await received(healthy, 399) == list(range(1, 400))
    (subscriber, _) = gateway.hub._subscribers
    assert (subscriber.is_live, subscriber.waiting, subscriber.end) == (False, 0, None)
    for connection in gateway.server.connections:
        assert connection.transport is None or connection.transport.get_write_buffer_size() <= 64 * 1024
    stalled.close()
    await eventually(lambda: len(gateway.hub) == 1)


async def test_the_form_of_what_was_missed_is_that_of_a_broadcast(gateway: Gateway) -> None:
    await stored(gateway, 7, payload={"id": 3, "channel": "control", "timestamp": 5})
    client = await gateway.connect("?since=6")
    message = await client.receive(timeout=DEADLINE)
    assert json.loads(message.data) == {"type": "t", "source": "s", "event_id": 7, "timestamp": 5, "id": 3}


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536])
async def test_an_event_of_any_size_is_one_frame_in_history_and_live(start: Start, size: int) -> None:
    gateway = await start(subscriber_queue=8)
    event = Event(1, "s", "t", {}, NOW, broadcast=True)
    pad = "x" * (size - len(encode_broadcast(msgspec.structs.replace(event, payload={"pad": ""}))))
    await stored(gateway, 1, payload={"pad": pad})
    client = await gateway.connect("?since=0")
    first = await client.receive(timeout=DEADLINE)
    await stored(gateway, 2, payload={"pad": pad})
    second = await client.receive(timeout=DEADLINE)
    assert [(one.type, len(one.data), one.json()["pad"]) for one in (first, second)] == [
        (WSMsgType.TEXT, size, pad)
    ] * 2
