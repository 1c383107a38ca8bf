"""The events' paths of one process, of two workers and of two machines: sending, reading and listening are the same.

Each test uses two places, which are two machines where there are two; of workers any one takes a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from tests.support.deployments import Deployment, calling, ingest, read
from tests.support.event_clients import event_stream

WAIT = 20.0
ALERT = {"alert_id": "a1", "severity": "L3", "message": "disk full", "timestamp": 1_700_000_000_000}
CLOUD = {"specversion": "1.0", "id": "A-1", "type": "spawn.created"}


@pytest.fixture
def source(request: pytest.FixtureRequest) -> str:
    """A source of its own for each test, since the log is that of all tests."""
    return str(request.node.originalname).removeprefix("test_")


def event(source: str, number: int = 0, **members: Any) -> dict[str, Any]:
    return {"source": source, "type": "t", "payload": {"number": number}, **members}


async def stored(session: ClientSession, deployment: Deployment, source: str, number: int) -> list[int]:
    """So many events, sent to both places at the same time; the ids in their order."""
    urls = deployment.urls
    sent = (ingest(session, urls[index % 2], event(source, index, broadcast=True)) for index in range(number))
    responses = await asyncio.gather(*sent)
    assert {status for status, _ in responses} == {201}
    return sorted(body["event_id"] for _, body in responses)


@asynccontextmanager
async def sockets(
    session: ClientSession, deployment: Deployment, query: str
) -> AsyncIterator[list[ClientWebSocketResponse]]:
    """A subscriber of /ws at each place."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(session.ws_connect(f"{url}/ws?{query}")) for url in deployment.urls]
        for socket in made:
            assert (await socket.receive_json(timeout=WAIT))["type"] == "connected"
        yield made


async def test_every_listener_gets_every_event_once_and_in_the_order_of_ids(
    deployment: Deployment, source: str
) -> None:
    async with calling() as session, AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(event_stream(session, url, f"?source={source}")) for url in deployment.urls
        ]
        listening = await stack.enter_async_context(sockets(session, deployment, f"sources={source}"))
        ids = await stored(session, deployment, source, 60)
        for stream in streams:
            assert [frame.event_id for frame in await stream.events(60)] == ids
        for socket in listening:
            assert [(await socket.receive_json(timeout=WAIT))["event_id"] for _ in ids] == ids


async def test_an_event_with_a_key_is_stored_once_wherever_it_is_sent(deployment: Deployment, source: str) -> None:
    one, other = deployment.urls
    async with calling() as session:
        responses = await asyncio.gather(
            *(ingest(session, url, event(source, key="k")) for url in (one, other) for _ in range(10))
        )
        assert sorted(status for status, _ in responses) == [200] * 19 + [201]
        (id_,) = {body["event_id"] for _, body in responses}
        for url in (one, other):
            status, body = await ingest(session, url, event(source, 1, key="k"))
            assert (status, body["error"], body["event_id"]) == (409, "event_conflict", id_)
            assert [found["event_id"] for found in (await read(session, url, f"source={source}"))["events"]] == [id_]


async def test_a_batch_has_a_result_for_each_event(deployment: Deployment, source: str) -> None:
    one, other = deployment.urls
    async with calling() as session:
        status, body = await ingest(session, one, [event(source, number, key=f"k{number}") for number in range(3)])
        assert (status, body["status"]) == (201, "received")
        again = [event(source, 0, key="k0"), event(source, 9, key="k1"), event(source, key=""), event(source, 4)]
        status, repeated = await ingest(session, other, again)
        assert (status, repeated["status"]) == (207, "partial")
        results = repeated["results"]
        assert [result["status"] for result in results] == ["duplicate", "conflict", "rejected", "received"]
        assert [result["event_id"] for result in results[:2]] == [result["event_id"] for result in body["results"][:2]]
        page = await read(session, one, f"source={source}&order=oldest")
        assert [found["payload"]["number"] for found in page["events"]] == [0, 1, 2, 4]


async def test_a_cloud_event_is_the_same_in_each_mode_at_each_place(deployment: Deployment, source: str) -> None:
    one, other = deployment.urls
    async with calling() as session:
        structured = json.dumps({**CLOUD, "source": source, "data": {"n": 1}})
        headers = {"Content-Type": "application/cloudevents+json"}
        async with session.post(f"{one}/events/ingest", data=structured, headers=headers) as response:
            assert response.status == 201
            first = (await response.json())["event_id"]
        binary = {f"ce-{name}": value for name, value in {**CLOUD, "source": source}.items()}
        async with session.post(f"{other}/events/ingest", json={"n": 1}, headers=binary) as response:
            body = await response.json()
        assert (response.status, body["event_id"], body["duplicate"]) == (200, first, True)


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{", {}, 400, "bad_request"),
        (b'{"source": ""}', {}, 422, "schema_validation_failed"),
        (b'{"source": "s", "type": "system.alert", "payload": {}}', {}, 422, "schema_validation_failed"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"[" + b"1," * 1000 + b"1]", {}, 413, "body_too_large"),
        (b"{}", {"X-VX11-Token": "wrong"}, 403, "forbidden"),
    ],
)
async def test_what_is_refused_at_one_place_is_refused_at_each(
    deployment: Deployment, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    async with calling() as session:
        for url in deployment.urls:
            sent = {"Content-Type": "application/json", **headers}
            async with session.post(f"{url}/events/ingest", data=body, headers=sent) as response:
                assert (response.status, (await response.json())["error"]) == (status, error)


async def test_pages_and_their_cursors_go_on_at_the_other_place(deployment: Deployment, source: str) -> None:
    async with calling() as session:
        ids = await stored(session, deployment, source, 25)
        for order, position, expected in (("oldest", "after", ids), ("newest", "before", ids[::-1])):
            found, query = list[int](), f"source={source}&order={order}&limit=4"
            for turn in range(7):
                page = await read(session, deployment.urls[turn % 2], query)
                found += [one["event_id"] for one in page["events"]]
                query = f"source={source}&order={order}&limit=4&{position}={page['next']}"
            assert page["next"] is None
            assert found == expected


async def test_filters_select_the_same_everywhere(deployment: Deployment, source: str) -> None:
    one, other = deployment.urls
    async with calling() as session:
        for number, severity in enumerate(("L1", "L2", "L2")):
            payload = {"severity": severity, "words": f"ñandú number {number}"}
            assert (await ingest(session, one, event(source, type=f"t{number}", payload=payload)))[0] == 201
        for query, count in (("severity=L2", 2), ("type=t0,t2", 2), ("text=%C3%B1and%C3%BA+number+1", 1), ("to=0", 0)):
            pages = [await read(session, url, f"source={source}&{query}") for url in (one, other)]
            assert [len(page["events"]) for page in pages] == [count, count]
            assert pages[0]["events"] == pages[1]["events"]


@pytest.mark.parametrize("way", ["stream", "socket"])
async def test_a_listener_that_moves_resumes(deployment: Deployment, source: str, way: str) -> None:
    source = f"{source}_{way}"
    async with calling() as session, asyncio.TaskGroup() as group:
        sending = group.create_task(stored(session, deployment, source, 120))
        seen = [0]
        for turn in range(6):
            url = deployment.urls[turn % 2]
            if way == "socket":
                async with session.ws_connect(f"{url}/ws?sources={source}&since={seen[-1]}") as socket:
                    assert (await socket.receive_json(timeout=WAIT))["type"] == "connected"
                    seen += [(await socket.receive_json(timeout=WAIT))["event_id"] for _ in range(20)]
            else:
                async with event_stream(session, url, f"?source={source}", Last_Event_ID=str(seen[-1])) as stream:
                    seen += [frame.event_id for frame in await stream.events(20)]
        assert seen[1:] == await sending


async def test_a_position_that_is_none_has_a_clear_response_everywhere(deployment: Deployment, source: str) -> None:
    async with calling() as session:
        (last,) = await stored(session, deployment, source, 1)
        for url in deployment.urls:
            for position in (f"ba9876543210-{last}", str(2**53 - 1)):
                async with event_stream(session, url, f"?source={source}&since={position}") as stream:
                    assert stream.first is not None
                    assert (stream.first.name, bool(stream.first.data["reason"])) == ("reset", True)
                async with session.ws_connect(f"{url}/ws?sources={source}&since={position}") as socket:
                    messages = [await socket.receive_json(timeout=WAIT) for _ in range(2)]
                    assert [message["type"] for message in messages] == ["connected", "reset"]
            for path in ("/events?after=x", "/events/stream?since=x", "/ws?since=x"):
                async with session.get(f"{url}{path}", headers=UPGRADE if path.startswith("/ws") else {}) as response:
                    assert response.status == 400, path


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


async def test_an_event_of_a_socket_reaches_all_others_but_its_sender(deployment: Deployment, source: str) -> None:
    async with calling() as session, sockets(session, deployment, f"sources={source}") as (sender, other):
        await sender.send_json({"type": "system.alert", "source": source, **ALERT})
        assert (await sender.receive_json(timeout=WAIT))["alert_id"] == "a1", "the echo"
        received = await other.receive_json(timeout=WAIT)
        assert (received["source"], received["message"]) == (source, "disk full")
        (found,) = (await read(session, deployment.urls[1], f"source={source}"))["events"]
        assert (found["event_id"], found["canonical"]) == (received["event_id"], True)
        await sender.send_json({"marker": 1})
        assert await sender.receive_json(timeout=WAIT) == {"marker": 1}, "nothing of its own in between"


async def test_a_ticket_works_once_wherever_it_is_used(deployment: Deployment, source: str) -> None:
    one, other = deployment.urls
    async with calling() as session, calling(**{"X-VX11-Token": ""}) as page:

        async def ticket() -> str:
            async with session.post(f"{one}/auth/ticket") as response:
                assert response.status == 201
                return str((await response.json())["ticket"])

        async def status(path: str, given: str, url: str = other) -> int:
            async with page.get(f"{url}{path}ticket={given}", headers=UPGRADE if path == "/ws?" else {}) as response:
                return response.status

        for path, accepted in (("/ws?", 101), ("/events/stream?", 200)):
            given = await ticket()
            statuses = await asyncio.gather(*(status(path, given, url) for url in (one, other) for _ in range(10)))
            assert sorted(statuses) == sorted([accepted, *[401] * 19])
        (last,) = await stored(session, deployment, source, 1)
        query = f"?source={source}&since={last - 1}&ticket={await ticket()}"
        async with event_stream(page, other, query) as stream:
            assert [frame.event_id for frame in await stream.events(1)] == [last]


async def test_each_process_says_in_the_log_that_it_has_started(deployment: Deployment) -> None:
    processes = sum(machine.workers for machine in deployment.machines)
    async with calling() as session, asyncio.timeout(WAIT):
        for url in deployment.urls:
            started = list[dict[str, Any]]()
            while len(started) < processes:
                started = (await read(session, url, "source=tentaculo_link&type=gateway.started"))["events"]
            names = {(found["payload"]["instance"], found["payload"].get("worker")) for found in started}
            assert len(names) == len(started) == processes


async def test_what_belongs_together_is_shown_by_each(deployment: Deployment, source: str) -> None:
    async with calling() as session:
        for number, url in enumerate(deployment.urls):
            body = event(source, type=f"t{number}", payload={"correlation_id": f"same-{source}"})
            assert (await ingest(session, url, body))[0] == 201
        for url in deployment.urls:
            async with session.get(f"{url}/debug/events/correlations?limit=2000") as response:
                edges = (await response.json())["graph"]["edges"]
            assert len([edge for edge in edges if edge["by"] == "correlation_id"]) == 1
