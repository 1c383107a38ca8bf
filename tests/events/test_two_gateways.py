"""Two gateways on one database: a listener that loses its connection resumes at the other one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from tentaculo.events import tail
from tentaculo.gateway import leading
from tentaculo.store import migrate
from tests.conftest import TOKEN, Live, living
from tests.events.test_history import available
from tests.support.event_clients import event_stream
from tests.support.postgresql import Server

PRODUCERS, EACH = 3, 700
SHARES = (1, 40, 3, 200, 90, 400, 11, 600)
"""Events after which the listener loses its connection, one after the other."""


@pytest.fixture
async def gateways(url: str, tmp_path: Path) -> AsyncIterator[list[Live]]:
    async with two_gateways(url, tmp_path) as both:
        yield both


@asynccontextmanager
async def two_gateways(url: str, tmp_path: Path, **sections: Any) -> AsyncIterator[list[Live]]:
    async with AsyncExitStack() as stack:
        both = [
            await stack.enter_async_context(
                living(tmp_path, {}, database={"url": url}, limits={"subscriber_queue": 2000}, **sections)
            )
            for _ in range(2)
        ]
        for live in both:
            await available(live)
        yield both


def url_of(live: Live) -> str:
    return f"http://127.0.0.1:{live.port}"


@asynccontextmanager
async def caller() -> AsyncIterator[ClientSession]:
    async with ClientSession(headers={"X-VX11-Token": TOKEN}, connector=TCPConnector(limit=0)) as session:
        yield session


async def produce(session: ClientSession, live: Live, number: int, *, broadcast: bool) -> list[int]:
    stored = list[int]()
    for _ in range(number):
        body = {"source": "producer", "type": "t", "payload": {}, "broadcast": broadcast}
        async with session.post(f"{url_of(live)}/events/ingest", json=body) as response:
            assert response.status == 201
            stored.append((await response.json())["id"])
    return stored


async def producing(session: ClientSession, gateways: list[Live], *, broadcast: bool = False) -> list[int]:
    """Every id that was stored, in order."""
    made = await asyncio.gather(
        *(produce(session, gateways[number % 2], EACH, broadcast=broadcast) for number in range(PRODUCERS))
    )
    return sorted(id_ for ids in made for id_ in ids)


async def test_a_stream_that_moves_gets_every_id_once_and_in_order(gateways: list[Live]) -> None:
    async with caller() as session, asyncio.TaskGroup() as group, asyncio.timeout(60):
        stored = group.create_task(producing(session, gateways))
        seen, position = list[int](), "0"
        for number, share in enumerate((*SHARES, PRODUCERS * EACH - sum(SHARES))):
            url = url_of(gateways[number % 2])
            async with event_stream(session, url, "?source=producer", Last_Event_ID=position) as listener:
                while share:
                    frame = await listener.frame()
                    assert frame is not None
                    if frame.data is not None and "event_id" in frame.data:
                        seen.append(frame.event_id)
                        share -= 1
                position = listener.last_id
                # The connection is lost: what was on its way is gone.
                listener.response.close()
        assert seen == await stored


async def test_a_websocket_that_moves_gets_every_id_once_and_in_order(gateways: list[Live]) -> None:
    async with caller() as session, asyncio.TaskGroup() as group, asyncio.timeout(60):
        stored = group.create_task(producing(session, gateways, broadcast=True))
        seen = [0]
        for number, share in enumerate((*SHARES, PRODUCERS * EACH - sum(SHARES))):
            url = f"{url_of(gateways[number % 2])}/ws?sources=producer&since={seen[-1]}"
            async with session.ws_connect(url) as socket:
                assert (await socket.receive_json())["type"] == "connected"
                seen += [(await socket.receive_json())["event_id"] for _ in range(share)]
        assert seen[1:] == await stored


async def test_a_cursor_of_one_gateway_is_one_of_the_other(gateways: list[Live]) -> None:
    async with caller() as session:
        ids = await produce(session, gateways[0], 5, broadcast=False)
        pages = list[dict[str, Any]]()
        for live, query in zip(gateways, ("", "&before={}"), strict=True):
            cursor = pages[-1]["next"] if pages else ""
            target = f"{url_of(live)}/events?limit=2&source=producer{query.format(cursor)}"
            async with session.get(target) as response:
                pages.append(await response.json())
        assert [one["event_id"] for page in pages for one in page["events"]] == ids[:0:-1]


async def test_the_other_gateway_s_events_come_by_the_bell(
    postgresql: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not at the next look, which is never. The bench `delivery` measures how soon."""
    monkeypatch.setattr(tail, "LOOK_EVERY", 3600)
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        async with two_gateways(url, tmp_path) as gateways, caller() as session:
            for live, other in (gateways, gateways[::-1]):
                # Its first look was not by the bell either.
                async with event_stream(session, url_of(other), "?source=producer") as listener:
                    ids = await produce(session, live, 5, broadcast=False)
                    assert [frame.event_id for frame in await listener.events(5)] == ids


async def test_what_one_gateway_deletes_is_gone_at_the_other_and_old_positions_stay_good(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "TRIM_EVERY", 0.1)
    large = [{"source": "producer", "type": "t", "payload": {"filling": "x" * 30_000}} for _ in range(30)]
    async with two_gateways(url, tmp_path, events={"keep_bytes": 2**20}) as both, caller() as session:
        ids = list[int]()
        for live in both:
            async with session.post(f"{url_of(live)}/events/ingest", json=large) as response:
                assert response.status == 201
                ids += [result["event_id"] for result in (await response.json())["results"]]
        for live in both:
            async with asyncio.timeout(20):
                while await oldest(session, live) < ids[20]:
                    await asyncio.sleep(0.02)
        left = ids[ids.index(await oldest(session, both[0])) :]
        assert 30_000 * len(left) < 2**20 < 30_200 * (len(left) + 2)
        # The event of this position is gone: what is left behind it follows, and it is no position of another log.
        for live in both:
            async with event_stream(session, url_of(live), f"?source=producer&since={ids[0]}") as listener:
                assert listener.first is not None
                assert listener.first.name == "start"
                assert [frame.event_id for frame in await listener.events(len(left))] == left


async def oldest(session: ClientSession, live: Live) -> int:
    async with session.get(f"{url_of(live)}/events?source=producer&order=oldest&limit=1") as response:
        (found,) = (await response.json())["events"]
        return int(found["event_id"])
