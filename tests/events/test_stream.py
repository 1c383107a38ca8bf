"""`GET /events/stream` on real sockets: history then live, each event once; who is cut off, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentaculo.events import replay, stream
from tentaculo.model.event import MAX_EVENT_ID, Event, FoundEvents
from tests.events.conftest import DEADLINE, NAME, Gateway, Start
from tests.support.event_clients import EventStream, Frame, event_stream
from tests.support.waits import eventually

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stored(gateway: Gateway, *ids: int, **members: Any) -> None:
    """Events that another process has stored."""
    values: dict[str, Any] = {"source": "s", "type": "t", "payload": {}, "received_at": NOW, **members}
    gateway.ledger.events += [Event(id_, **values) for id_ in ids]


async def ingest(gateway: Gateway, **members: Any) -> int:
    status, body = await gateway.ingest({"source": "s", "type": "t", "payload": {}, **members})
    assert status == 201
    id_: int = body["id"]
    return id_


def ids(frames: list[Frame]) -> list[int]:
    return [frame.event_id for frame in frames]


async def test_an_event_arrives_with_its_id_its_type_and_its_form(gateway: Gateway) -> None:
    async with event_stream(gateway.session, gateway.url) as listener:
        headers = listener.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store, no-transform", "no")
        id_ = await ingest(gateway, type="größe", payload={"a": "1\r\n\u2028"}, metadata={"b": 2})
        (frame,) = await listener.events(1)
    assert (frame.id, frame.name) == (f"{NAME}-{id_}", "größe")
    received = frame.data.pop("received_at")
    assert datetime.fromisoformat(received).tzinfo is not None
    assert frame.data == {
        "event_id": id_,
        "source": "s",
        "type": "größe",
        "severity": None,
        "payload": {"a": "1\r\n\u2028"},
        "metadata": {"b": 2},
        "broadcast": False,
        "canonical": False,
    }


async def test_it_begins_now_and_says_where(gateway: Gateway) -> None:
    stored(gateway, 5, 6)
    async with event_stream(gateway.session, gateway.url) as listener:
        assert listener.first is not None
        position = f"{NAME}-6"
        assert (listener.first.id, listener.first.name) == (position, "start")
        assert listener.first.data == {"name": NAME, "position": position}
        id_ = await ingest(gateway)
        assert ids(await listener.events(1)) == [id_]
    assert listener.last_id == f"{NAME}-{id_}"


async def test_an_event_that_comes_after_the_head_belongs_to_the_stream(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page takes an open stream for one that listens, while the gateway asks its database where the log ends."""
    stored(gateway, 5, 6)
    last_event_id, may_read = gateway.ledger.last_event_id, asyncio.Event()

    async def last_event_id_later() -> int:
        await may_read.wait()
        return await last_event_id()

    monkeypatch.setattr(gateway.ledger, "last_event_id", last_event_id_later)
    async with gateway.session.get(f"{gateway.url}/events/stream") as response:
        assert response.status == 200
        id_ = time.time_ns() // 1000
        stored(gateway, id_)
        may_read.set()
        listener = EventStream(response)
        _, first = await listener.frame(), await listener.frame()
        assert first is not None
        assert first.name == "start"
        assert ids(await listener.events(1)) == [id_]
        assert [await ingest(gateway)] == ids(await listener.events(1))


@pytest.mark.thorough
@pytest.mark.parametrize("since", [f"{NAME}-6", "6"])
@pytest.mark.parametrize("by_header", [True, False])
async def test_a_client_that_resumes_gets_what_it_missed_then_live(
    gateway: Gateway, since: str, *, by_header: bool
) -> None:
    stored(gateway, *range(5, 1000))
    # A client that reconnects by itself sends the query that it began with too.
    query, headers = ("?since=700", {"Last_Event_ID": since}) if by_header else (f"?since={since}", {})
    async with event_stream(gateway.session, gateway.url, query, **headers) as listener:
        assert ids(await listener.events(993)) == list(range(7, 1000))
        assert [await ingest(gateway), await ingest(gateway)] == ids(await listener.events(2))


async def test_filters_select_history_and_live_alike(gateway: Gateway) -> None:
    wanted = {"type": "a", "source": "x", "severity": "L1"}
    others = [{**wanted, name: "other"} for name in wanted]
    for number, members in enumerate([wanted, *others, wanted], 1):
        stored(gateway, number, **members)
    query = "?type=a,b&source=x&source=y&severity=L1&since=0"
    async with event_stream(gateway.session, gateway.url, query) as listener:
        assert ids(await listener.events(2)) == [1, 5]
        for number, members in enumerate([*others, wanted], 6):
            stored(gateway, number, **members)
        assert ids(await listener.events(1)) == [9]


@pytest.mark.parametrize("text", ["NEEDLE", "needle", '"k":"needle', "x%C3%A4%25_", "X%C3%84%25_"])
async def test_text_is_found_in_live_events(gateway: Gateway, text: str) -> None:
    async with event_stream(gateway.session, gateway.url, f"?text={text}") as listener:
        await ingest(gateway, payload={"k": "hay"})
        id_ = await ingest(gateway, payload={"k": "needle xä%_"})
        assert ids(await listener.events(1)) == [id_]


async def test_from_without_a_position_begins_there(gateway: Gateway) -> None:
    moment = NOW - timedelta(hours=1)
    at = int(moment.timestamp() * 1_000_000)
    stored(gateway, at - 10**9, received_at=moment - timedelta(seconds=1000))
    stored(gateway, at, at + 5, received_at=moment)
    async with event_stream(gateway.session, gateway.url, "?from=2026-01-02T02:04:05Z") as listener:
        assert ids(await listener.events(2)) == [at, at + 5]


async def test_a_position_of_another_log_or_from_the_future_is_reset(gateway: Gateway) -> None:
    stored(gateway, 5)
    for position in ("ba9876543210-3", f"{NAME}-6", str(MAX_EVENT_ID)):
        async with event_stream(gateway.session, gateway.url, f"?since={position}") as listener:
            assert listener.first is not None
            assert (listener.first.name, listener.first.id) == ("reset", f"{NAME}-5")
            assert listener.first.data.pop("reason")
            assert listener.first.data == {"name": NAME, "position": f"{NAME}-5"}
    async with event_stream(gateway.session, gateway.url, "?since=5") as listener:
        assert listener.first is not None
        assert listener.first.name == "start"


@pytest.mark.parametrize(
    "query",
    ["?since=x", "?since=1-2", "?since=-1", f"?since={MAX_EVENT_ID + 1}", "?from=yesterday", "?to=0001-01-01T00%2B9"],
)
async def test_a_faulty_query_is_refused(gateway: Gateway, query: str) -> None:
    async with gateway.session.get(f"{gateway.url}/events/stream{query}") as response:
        assert (response.status, (await response.json(content_type=None))["error"]) == (400, "bad_request")
    async with gateway.session.get(f"{gateway.url}/events/stream", headers={"Last-Event-ID": "né"}) as response:
        assert response.status == 400
    assert len(gateway.hub) == 0


@pytest.mark.parametrize("path", ["/events", "/events/stream", "/debug/events/correlations"])
async def test_a_misspelt_parameter_is_named_and_not_ignored(gateway: Gateway, path: str) -> None:
    for query, name in (("tpye=a", "tpye"), ("%CE%A9=", "Ω"), ("from=1&from=2", "from")):
        async with gateway.session.get(f"{gateway.url}{path}?{query}") as response:
            problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["error"]) == (400, "bad_request")
            assert name in problem["detail"]
    assert len(gateway.hub) == 0


async def test_paths_of_vx11_ignore_parameters_of_its_other_versions(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/api/events?follow=false&limit=5") as response:
        assert response.status == 200
    await (await gateway.connect("?channel=event&follow=false")).close()


@pytest.mark.parametrize("type_", sorted(stream.RESERVED))
async def test_no_event_can_pretend_to_be_the_streams_own(gateway: Gateway, type_: str) -> None:
    async with event_stream(gateway.session, gateway.url) as listener:
        await ingest(gateway, type=type_)
        (frame,) = await listener.events(1)
        assert (frame.name, frame.data["type"]) == (None, type_)


async def test_a_type_of_another_programs_row_breaks_no_line(gateway: Gateway) -> None:
    stored(gateway, 5, type="a\nid: 9\r\ndata: x\0", payload={"\ud800": 2**70, "at": 1})
    async with event_stream(gateway.session, gateway.url, "?since=0") as listener:
        (frame,) = await listener.events(1)
    assert (frame.id, frame.name) == (f"{NAME}-5", "a id: 9  data: x ")
    assert frame.data["payload"] == {"\ud800": 2**70, "at": 1}
    assert frame.data["received_at"] == "2026-01-02T03:04:05Z"


async def test_silence_is_filled_with_comments_that_carry_the_position(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    async with event_stream(gateway.session, gateway.url, "?type=never") as listener:
        frame = await listener.frame()
        assert frame is not None
        assert (frame.comment, frame.data) == ("heartbeat", None)
        id_ = await ingest(gateway)
        async with asyncio.timeout(DEADLINE):
            while listener.last_id != f"{NAME}-{id_}":
                frame = await listener.frame()
                assert frame is not None
                assert frame.comment == "heartbeat"


async def test_heartbeats_go_on_while_the_database_is_away_and_history_follows(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(replay, "RETRY_SECONDS", 0.05)
    stored(gateway, 5, 6, 7)
    await eventually(lambda: gateway.tail.mark == 7)
    gateway.ledger.is_lost = True
    async with gateway.session.get(f"{gateway.url}/events/stream?since=5") as response:
        listener = EventStream(response)
        heartbeats = 0
        while heartbeats < 3:
            frame = await listener.frame()
            assert frame is not None
            heartbeats += frame.comment == "heartbeat"
        gateway.ledger.is_lost = False
        start, *found = await listener.events(3)
        assert (start.name, ids(found)) == ("start", [6, 7])


async def test_heartbeats_go_on_while_history_is_searched(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    stored(gateway, 5, 6, 7)
    await eventually(lambda: gateway.tail.mark == 7)
    read, is_found = gateway.ledger.read_events, asyncio.Event()

    async def search(*args: Any, after: int, **bounds: Any) -> FoundEvents:
        """Says after each part of a second that it has found nothing up to now."""
        if is_found.is_set():
            return await read(*args, after=after, **bounds)
        await asyncio.sleep(0.02)
        return FoundEvents([], after)

    monkeypatch.setattr(gateway.ledger, "read_events", search)
    async with event_stream(gateway.session, gateway.url, "?since=5") as listener:
        for _ in range(3):
            frame = await listener.frame()
            assert frame is not None
            assert (frame.comment, frame.id) == ("heartbeat", None)
        is_found.set()
        assert ids(await listener.events(2)) == [6, 7]


async def test_the_end_says_why(gateway: Gateway) -> None:
    async with event_stream(gateway.session, gateway.url) as listener:
        await gateway.stop()
        (frame,) = await listener.rest()
        assert (frame.name, frame.data) == ("end", {"reason": "the gateway is stopping"})


async def test_places_are_those_of_all_subscribers(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.1)  # the next write finds out that a client has gone
    gateway = await start(subscribers=1)
    async with event_stream(gateway.session, gateway.url):
        for path in ("/ws", "/events/stream"):
            async with gateway.session.get(gateway.url + path, headers=UPGRADE) as response:
                assert response.status == 503
                assert response.headers["Retry-After"]
    await eventually(lambda: len(gateway.hub) == 0)
    await gateway.connect()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_head_has_the_headers_and_takes_no_place(gateway: Gateway) -> None:
    async with gateway.session.head(f"{gateway.url}/events/stream") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
    assert len(gateway.hub) == 0


async def silent(gateway: Gateway, query: str = "") -> socket.socket:
    """A client that never reads, except the beginning."""
    loop, client = asyncio.get_running_loop(), socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    gateway.raw.append(client)
    await loop.sock_connect(client, ("127.0.0.1", gateway.port))
    await loop.sock_sendall(client, f"GET /events/stream{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert await asyncio.wait_for(loop.sock_recv(client, 100), DEADLINE)
    return client


async def test_a_reader_that_stalls_is_cut_off_alone_and_reads_why(gateway: Gateway) -> None:
    stalled = await silent(gateway)
    async with event_stream(gateway.session, gateway.url) as listener:
        sent = 0
        async with asyncio.timeout(30):
            while not gateway.hub.cut_off:
                sent += 1
                await ingest(gateway, payload={"pad": "x" * 30_000})
                await listener.events(1)
        assert gateway.hub.cut_off == 1
        tail = b""
        loop = asyncio.get_running_loop()
        while chunk := await asyncio.wait_for(loop.sock_recv(stalled, 1 << 20), DEADLINE):
            tail = (tail + chunk)[-200:]
        assert b'event: end\ndata: {"reason":"too slow"}\n\n' in tail
        assert tail.endswith(b"0\r\n\r\n")
        await eventually(lambda: len(gateway.hub) == 1, "its place given back")
        id_ = await ingest(gateway)
        assert ids(await listener.events(1)) == [id_]


async def test_a_live_reader_that_stalls_costs_64_kib_at_most(start: Start) -> None:
    gateway = await start(subscriber_queue=100_000)
    await silent(gateway)
    await eventually(lambda: len(gateway.hub) == 1)
    (subscriber,) = gateway.hub._subscribers
    await eventually(lambda: subscriber.is_live)
    most, first = 0, 10**16
    async with asyncio.timeout(30):
        while not gateway.hub.cut_off:
            event = Event(first, "s", "t", {"pad": "x" * 1000}, NOW)
            first += 1
            gateway.hub.publish(event)
            await asyncio.sleep(0)
            (connection,) = gateway.server.connections
            assert connection.transport is not None
            buffered: int = connection.transport.get_write_buffer_size()
            most = max(most, buffered + subscriber.waiting * len(stream.encode_frame(NAME, event)))
    assert 40_000 < most <= 64 * 1024


async def test_a_burst_cuts_off_nobody_who_reads(start: Start) -> None:
    gateway = await start(subscriber_queue=64)
    async with event_stream(gateway.session, gateway.url) as listener:
        socket_ = await gateway.connect()
        first = 10**16
        gateway.ledger.events += [
            Event(first + number, "s", "t", {"pad": "x" * 200}, NOW, broadcast=True) for number in range(3000)
        ]
        expected = list(range(first, first + 3000))
        assert ids(await listener.events(3000)) == expected
        assert [(await socket_.receive_json(timeout=DEADLINE))["event_id"] for _ in expected] == expected
    assert gateway.hub.cut_off == 0


async def test_a_reader_of_history_that_stalls_holds_neither_pages_nor_a_queue(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.ledger.events += [Event(number, "s", "t", {"pad": "x" * 50_000}, NOW) for number in range(1, 400)]
    await eventually(lambda: gateway.tail.mark == 399)
    await silent(gateway, "?since=0")
    await eventually(lambda: gateway.ledger.reads > 0)
    before = -1
    while before != gateway.ledger.reads:
        before = gateway.ledger.reads
        await asyncio.sleep(0.2)
    (subscriber,) = gateway.hub._subscribers
    assert (subscriber.is_live, subscriber.waiting, subscriber.end) == (False, 0, None)
    (connection,) = gateway.server.connections
    assert connection.transport is not None
    held: int = connection.transport.get_write_buffer_size()
    assert held <= 64 * 1024
    async with event_stream(gateway.session, gateway.url, "?since=0") as listener:
        assert ids(await listener.events(399)) == list(range(1, 400))


async def test_nothing_is_left_of_clients_that_come_and_go(gateway: Gateway) -> None:
    for _ in range(20):
        async with event_stream(gateway.session, gateway.url) as listener:
            listener.response.close()
        (await silent(gateway)).close()
    await eventually(lambda: len(gateway.hub) == 0, "all places given back")
    await eventually(lambda: gateway.connections == 0, "all connections gone")


async def test_a_client_that_closes_its_side_after_the_beginning_has_left(gateway: Gateway) -> None:
    """No heartbeat comes within this test: the end of what the client sends is the only sign."""
    for number in range(3):
        client = await silent(gateway)
        await eventually(lambda: len(gateway.hub) == 1)
        if number == 1:
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        await eventually(lambda: len(gateway.hub) == 0, "its place given back")
        await eventually(lambda: gateway.connections == 0, "its connection gone")


async def test_a_client_that_closes_its_side_with_its_request_has_left_too(gateway: Gateway) -> None:
    """As with a service's event stream: nothing else limits it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /events/stream HTTP/1.1\r\nHost: h\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(DEADLINE):
        assert b"event: start" not in await reader.read()
    writer.close()
    await eventually(lambda: (len(gateway.hub), gateway.connections) == (0, 0), "its place given back")


async def test_a_client_of_http_1_0_gets_the_frames_without_chunks(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET /events/stream HTTP/1.0\r\nHost: h\r\n\r\n")
    async with asyncio.timeout(DEADLINE):
        assert b"chunked" not in await reader.readuntil(b"\r\n\r\n")
        assert (await reader.readuntil(b"\n\n")).startswith(b"retry: ")
        await reader.readuntil(b"\n\n")
        id_ = await ingest(gateway)
        frame = await reader.readuntil(b"\n\n")
    assert frame.startswith(f"id: {NAME}-{id_}\nevent: t\ndata: {{".encode())
    writer.close()
    await eventually(lambda: len(gateway.hub) == 0, "its place given back")


@pytest.mark.thorough
async def test_events_that_are_published_meanwhile_are_neither_lost_nor_repeated(gateway: Gateway) -> None:
    """Producers continue while a client reads history, loses its connection and comes back."""
    total, seen = 3000, list[int]()
    producing = asyncio.gather(*(produce(gateway, total // 3) for _ in range(3)))
    position = f"{NAME}-0"
    stored_first = gateway.ledger.events
    for share in (7, 100, 1, 400, 900):
        async with event_stream(gateway.session, gateway.url, f"?since={position}") as listener:
            seen += ids(await listener.events(share))
            position = listener.last_id
    await producing
    async with event_stream(gateway.session, gateway.url, f"?since={position}") as listener:
        seen += ids(await listener.events(total - len(seen)))
    assert seen == [event.id for event in stored_first]
    assert len(set(seen)) == total
    assert gateway.hub.cut_off == 0


async def produce(gateway: Gateway, number: int) -> None:
    for _ in range(number):
        await ingest(gateway)
