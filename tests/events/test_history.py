"""`GET /events` on real sockets, over the test's own log and over both databases."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentaculo.events import history
from tentaculo.model.event import MAX_EVENT_ID, Event
from tentaculo.server import native_routes
from tests.conftest import TOKEN, Live, living
from tests.events.conftest import NAME, Gateway
from tests.server.test_native_response import Turns
from tests.support.waits import eventually
from tests.support.wire import answering, dial, ok, upstream

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(number: int, **members: Any) -> Event:
    return Event(number, **{"source": "s", "type": "t", "payload": {}, "received_at": NOW, **members})


async def page(gateway: Gateway, query: str = "") -> dict[str, Any]:
    async with gateway.session.get(f"{gateway.url}/events{query}") as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        links = dict(re.findall(r"<\?([^>]*)>; rel=\"(\w+)\"", ", ".join(response.headers.getall("Link", []))))
        body["links"] = {relation: query for query, relation in links.items()}
        return body


def ids(body: dict[str, Any]) -> list[int]:
    return [one["event_id"] for one in body["events"]]


@pytest.mark.parametrize("parameter", ["after", "before"])
@pytest.mark.parametrize("position", [0, MAX_EVENT_ID])
async def test_every_cursor_that_is_given_is_taken(gateway: Gateway, parameter: str, position: int) -> None:
    gateway.ledger.events.append(event(7))
    found = await page(gateway, f"?{parameter}={position}")
    assert found["links"]
    for query in found["links"].values():
        await page(gateway, f"?{query}")


async def test_an_event_has_all_its_members(gateway: Gateway) -> None:
    gateway.ledger.events += [
        event(1, key="k", stated_ms=5, severity="L1", payload={"id": 3}, metadata={"m": 1}, broadcast=True),
        event(2, canonical=True),
    ]
    first, second = (await page(gateway, "?order=oldest"))["events"]
    assert first == {
        "event_id": 1,
        "source": "s",
        "type": "t",
        "severity": "L1",
        "payload": {"id": 3},
        "metadata": {"m": 1},
        "broadcast": True,
        "canonical": False,
        "received_at": "2026-01-02T03:04:05Z",
        "timestamp": 5,
        "key": "k",
    }
    assert {"timestamp", "key"} & set(second) == set()
    assert second["canonical"] is True


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_lead_through_the_whole_log_and_back(gateway: Gateway, order: str) -> None:
    gateway.ledger.events += [event(number) for number in range(1, 24)]
    expected = list(range(1, 24)) if order == "oldest" else list(range(23, 0, -1))
    down, up = ("after", "before") if order == "oldest" else ("before", "after")
    found, body = list[int](), await page(gateway, f"?limit=5&order={order}")
    assert body["previous"] is None
    pages = [ids(body)]
    while body["next"] is not None:
        assert body["links"]["next"] == f"limit=5&order={order}&{down}={body['next']}"
        body = await page(gateway, f"?{body['links']['next']}")
        pages.append(ids(body))
    found = [id_ for some in pages for id_ in some]
    assert (found, [len(some) for some in pages]) == (expected, [5, 5, 5, 5, 3])
    assert "next" not in body["links"]
    for some in pages[-2::-1]:
        assert body["links"]["prev"] == f"limit=5&order={order}&{up}={body['previous']}"
        body = await page(gateway, f"?{body['links']['prev']}")
        assert ids(body) == some
    assert body["previous"] is None


async def test_a_cursor_is_only_a_position(gateway: Gateway) -> None:
    gateway.ledger.events += [event(number) for number in (10, 20, 30)]
    assert ids(await page(gateway, f"?before={NAME}-25")) == [20, 10]
    assert ids(await page(gateway, "?after=15")) == [30, 20]
    assert ids(await page(gateway, "?since=15&order=oldest")) == [20, 30]
    assert ids(await page(gateway, f"?after=10&before={NAME}-30")) == [20]
    beyond = await page(gateway, f"?after={2**53 - 1}")
    assert (ids(beyond), beyond["previous"]) == ([], None)
    # An empty page leads back to what stands at its position.
    ends = await page(gateway, "?before=10")
    assert ids(ends) == []
    assert ids(await page(gateway, f"?{ends['links']['prev']}")) == [30, 20, 10]
    ends = await page(gateway, "?after=30")
    assert ids(await page(gateway, f"?{ends['links']['next']}")) == [30, 20, 10]


async def test_the_links_of_a_range_stay_in_it(gateway: Gateway) -> None:
    gateway.ledger.events += [event(number) for number in range(1, 20)]
    for order, first, second in (("newest", [14, 13], [12, 11]), ("oldest", [11, 12], [13, 14])):
        body = await page(gateway, f"?since=10&before=15&limit=2&order={order}")
        assert ids(body) == first
        body = await page(gateway, f"?{body['links']['next']}")
        assert (ids(body), body["next"]) == (second, None)


async def test_ndjson_is_one_event_a_line(gateway: Gateway) -> None:
    gateway.ledger.events += [event(number, payload={"a": "\n"}) for number in (1, 2, 3)]
    accept = {"Accept": "text/plain, application/x-ndjson;q=0.5, application/json;q=0.4"}
    async with gateway.session.get(f"{gateway.url}/events?limit=2", headers=accept) as response:
        assert (response.content_type, response.headers["Vary"]) == ("application/x-ndjson", "Accept, Origin")
        lines = (await response.read()).split(b"\n")
        assert [json.loads(line)["event_id"] for line in lines[:-1]] == [3, 2]
        assert lines[-1] == b""
        assert response.headers["Link"] == f'<?limit=2&before={NAME}-2>; rel="next"'


@pytest.mark.parametrize(
    ("accept", "is_ndjson"),
    [
        ("application/json;q=0.5, application/x-ndjson", True),
        ("application/json;q=0.5, application/jsonl;q=0.6", True),
        ("application/x-ndjson, application/json", True),
        ("application/ndjson, */*", True),
        ("*/*;q=0.8, Application/X-NDJSON ; Q=0.9", True),
        ("application/json;q=0, */*", True),
        ("application/json;q=0, application/x-ndjson;q=0.001", True),
        ("application/json, application/x-ndjson", False),
        ("application/json, application/x-ndjson;q=0.5", False),
        ("application/x-ndjson;q=0.5, application/json", False),
        ("application/x-ndjson;q=0.5, */*", False),
        ("application/x-ndjson;q=0", False),
        ("application/x-ndjson;q=0, */*", False),
        ("application/x-ndjson;q=0, application/json;q=0", False),
        ("application/x-ndjson;q=2, application/json;q=0.1", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
    ],
)
async def test_the_weights_of_accept_choose_the_form(gateway: Gateway, accept: str, is_ndjson: bool) -> None:
    async with gateway.session.get(f"{gateway.url}/events", headers={"Accept": accept}) as response:
        assert response.content_type == ("application/x-ndjson" if is_ndjson else "application/json")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?before=x", "before must be a cursor"),
        ("?after=1-2", "after must be a cursor"),
        ("?since=%00", "since must be a cursor"),
        ("?before=ba9876543210-2", "another log"),
        ("?limit=0", "limit must be"),
        ("?limit=1001", "limit must be"),
        ("?limit=%D9%A1", "limit must be"),
        ("?order=up", "order must be"),
        ("?from=x", "from must be"),
        ("?to=1e3", "to must be"),
        (f"?text={'x' * 257}", "text may have"),
    ],
)
async def test_a_faulty_query_is_refused_in_words(gateway: Gateway, query: str, words: str) -> None:
    async with gateway.session.get(f"{gateway.url}/events{query}") as response:
        body = await response.json(content_type=None)
        assert (response.status, body["error"]) == (400, "bad_request")
        assert words in body["detail"]


async def test_while_the_database_is_away_it_says_so(gateway: Gateway) -> None:
    gateway.ledger.is_lost = True
    async with gateway.session.get(f"{gateway.url}/events") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
    gateway.ledger.is_lost, gateway.ledger.name = False, ""
    async with gateway.session.get(f"{gateway.url}/events") as response:
        assert response.status == 503


async def test_a_page_is_bounded_in_bytes_and_no_turn_encodes_it_all(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.ledger.events += [event(number, payload={"pad": "x" * 50_000}) for number in range(1, 101)]
    monkeypatch.setattr(native_routes, "SLICE_SECONDS", 0.0)
    with Turns() as turns:
        body = await page(gateway, "?limit=1000")
        assert turns.count >= 20
    assert ids(body) == list(range(100, 80, -1))
    assert body["next"] == f"{NAME}-81"
    gateway.ledger.events = [event(1), event(2, payload={"pad": "x" * 2 * history.PAGE_BYTES})]
    assert ids(await page(gateway)) == [2]


# Over a whole gateway and both databases


@pytest.fixture
async def live(url: str, tmp_path: Any) -> AsyncIterator[Live]:
    async with living(tmp_path, {}, database={"url": url}) as live:
        await available(live)
        yield live


async def available(live: Live) -> None:
    """Wait until the database has responded."""
    async with client(live) as session, asyncio.timeout(20):
        while True:
            async with session.get("/events") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.01)


def client(live: Live) -> ClientSession:
    return ClientSession(f"http://127.0.0.1:{live.port}", headers={"X-VX11-Token": TOKEN})


async def test_every_filter_selects_in_the_database(live: Live) -> None:
    async with client(live) as session:
        for number, (source, type_, text) in enumerate(
            [("a", "x", "Größe 100%"), ("b", "x", "größe 100_"), ("a", "y", "other"), ("a", "z", "\U0001f419")]
        ):
            body = {"source": source, "type": type_, "payload": {"text": text, "number": number, "severity": "L1"}}
            async with session.post("/events/ingest", json=body) as response:
                assert response.status == 201

        async def numbers(**query: str) -> list[int]:
            async with session.get("/events", params=query) as response:
                assert response.status == 200, await response.text()
                payloads = [one["payload"] for one in (await response.json())["events"]]
                # The gateway's own events have none.
                return [payload["number"] for payload in payloads if "number" in payload]

        assert await numbers() == [3, 2, 1, 0]
        assert await numbers(source="a") == [3, 2, 0]
        assert await numbers(type="x,y", source="a") == [2, 0]
        assert await numbers(text="100%") == [0]
        assert await numbers(text="100_") == [1]
        assert await numbers(text="GRÖß") == [1, 0]
        assert await numbers(text="RÖSSE") == []
        assert await numbers(text="OTHER") == [2]
        assert await numbers(text="\U0001f419") == [3]
        assert await numbers(not_source="a") == [1]
        assert await numbers(about="b,c") == [1]
        assert await numbers(correlation="GRÖß") == [1, 0]
        now = datetime.now(UTC)
        assert await numbers(**{"from": (now - timedelta(minutes=1)).isoformat()}) == [3, 2, 1, 0]
        assert await numbers(**{"from": (now + timedelta(hours=1)).isoformat()}) == []
        assert await numbers(to=(now - timedelta(minutes=1)).isoformat()) == []
        async with session.get("/api/events?type=y") as response:
            assert [one["type"] for one in (await response.json())["events"]] == ["y"]
        for path in ("/events", "/events/stream", "/api/events"):
            async with session.get(path, headers={"X-VX11-Token": ""}) as response:
                assert response.status == 401


async def test_a_route_that_takes_api_events_keeps_it(tmp_path: Any) -> None:
    async with upstream(answering(ok(b"of the service"))) as up:
        for route, is_own in (
            ({"prefix": "/api"}, False),
            ({"prefix": "/"}, False),
            ({"prefix": "/api/events", "exact": True}, False),
            ({"prefix": "/api", "host": "madre.example"}, True),
            ({"prefix": "/api/eventsx"}, True),
        ):
            service = {"url": f"http://127.0.0.1:{up.port}", "routes": [route]}
            async with (
                living(tmp_path, {"madre": service}) as live,
                client(live) as session,
                session.get("/api/events") as response,
            ):
                # The database of this gateway is away.
                assert response.status == (503 if is_own else 200)
                assert (await response.read() == b"of the service") is not is_own


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
PARAMETERS = (
    b"type",
    b"source",
    b"severity",
    b"from",
    b"to",
    b"text",
    b"limit",
    b"order",
    b"after",
    b"before",
    b"since",
    b"types",
    b"sources",
    b"client_id",
)
VALUES = st.one_of(
    st.binary(max_size=40).map(quote_from_bytes).map(str.encode),
    st.from_regex(rb"[0-9a-f%+,:TZ-]{0,40}", fullmatch=True),
    st.text(max_size=20).map(lambda text: quote_from_bytes(text.encode("utf-8", "surrogatepass")).encode()),
)
QUERIES = st.lists(st.tuples(st.sampled_from(PARAMETERS), VALUES), max_size=6).map(
    lambda pairs: b"&".join(name + b"=" + value for name, value in pairs)
)
HEADER = st.binary(max_size=40).map(lambda text: re.sub(rb"[\0-\x1f\x7f]", b"", text))


@pytest.mark.thorough
@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_query_and_no_last_event_id_fails(live: Live, data: st.DataObject) -> None:
    query, header = data.draw(QUERIES), data.draw(HEADER)
    path = data.draw(st.sampled_from([b"/events", b"/events/stream", b"/ws"]))
    head = b"GET %b?%b HTTP/1.1\r\nHost: localhost\r\n%bLast-Event-ID: %b\r\n%b\r\n"
    async with dial(live.port) as wire:
        rest = UPGRADE if path == b"/ws" else b"Connection: close\r\n"
        await wire.send(head % (path, query, live.auth, header, rest))
        async with asyncio.timeout(20):
            status = (await wire.head()).status
    assert status == (101 if path == b"/ws" else 200) or 400 <= status < 500


TICKETS = st.one_of(
    st.from_regex(rb"[0-9a-f]{8}\.[A-Za-z0-9_-]{32}", fullmatch=True),
    st.binary(max_size=60).map(quote_from_bytes).map(str.encode),
)


@given(st.lists(TICKETS, min_size=1, max_size=3), st.sampled_from([b"/events", b"/events/stream", b"/ws"]))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_invented_ticket_is_a_credential(live: Live, tickets: list[bytes], path: bytes) -> None:
    query = b"&".join(b"ticket=" + ticket for ticket in tickets)
    async with dial(live.port) as wire:
        rest = UPGRADE if path == b"/ws" else b"Connection: close\r\n"
        await wire.send(b"GET %b?%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path, query, rest))
        async with asyncio.timeout(20):
            response = await wire.head()
    assert response.status == 401
    assert len(live.gateway.hub) == 0


async def test_nothing_is_left_of_those_readers(live: Live) -> None:
    async with client(live) as session, session.get("/events/stream?since=0"):
        await eventually(lambda: len(live.gateway.hub) == 1)
    await eventually(lambda: len(live.gateway.hub) == 0)
