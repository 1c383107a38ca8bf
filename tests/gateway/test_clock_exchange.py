"""A machine that does not probe takes the offsets of clocks from the one that does, by the clock of their database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.events.clock_offsets import Bounds, ClockOffsets
from tentaculo.gateway import service_clocks
from tentaculo.gateway.service_clocks import ClockExchange
from tentaculo.model.clock import DateReading
from tentaculo.model.health import Endpoint
from tentaculo.model.text import utc_now
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tests.gateway.test_service_clocks import HOUR, WrongClock
from tests.support.deployments import calling
from tests.support.machines import Clock, running_machines
from tests.support.postgresql import Server, running_server
from tests.support.wire import upstream

MADRE = Endpoint("madre", "h", 1)


class Machine:
    """The offsets of one machine, whose clock that nobody sets began at another moment."""

    def __init__(self, client: StoreClient, began: float, *endpoints: Endpoint) -> None:
        self.began = began
        known = {"madre": endpoints or (MADRE,)}
        self.offsets = ClockOffsets(known, {"madre": "madre"}, now=utc_now, elapsed=self.elapsed)
        self.exchange = ClockExchange(client, self.offsets, self.elapsed)

    def elapsed(self) -> float:
        return time.monotonic() + self.began


@pytest.fixture
async def client(postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StoreClient]:
    monkeypatch.setattr(service_clocks, "EXCHANGE_EVERY", 0.0)
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        client = StoreClient(url)
        await client.start()
        while client.shown_problem:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            while not client.log_name():
                await asyncio.sleep(0.01)
        monkeypatch.setattr(client, "run_as_holder", client.run)
        yield client
        await client.close()


async def test_the_interval_of_a_follower_holds_the_truth_and_is_little_wider(client: StoreClient) -> None:
    leader, follower = Machine(client, 5000.0), Machine(client, -300.0)
    stranger = Machine(client, 0.0, Endpoint("madre", "h", 2))
    at = leader.elapsed()
    # Its clock is an hour ahead of ours.
    date = int(time.time() + HOUR) * 1000
    leader.offsets.note_date(MADRE, DateReading(date, at - 0.01, at))
    began = time.monotonic()
    await leader.exchange.store()
    await follower.exchange.read()
    await stranger.exchange.read()
    spent = (time.monotonic() - began) * 1000
    known, found = leader.offsets.of_endpoint(MADRE), follower.offsets.of_endpoint(MADRE)
    assert known is not None
    assert found is not None
    assert found.low <= HOUR * 1000 <= found.high
    assert known.high - known.low <= found.high - found.low <= known.high - known.low + spent + 10
    assert follower.offsets.take_received().keys() == {MADRE}
    assert follower.offsets.take_received() == {}
    assert stranger.offsets.endpoint_bounds() == {}


async def test_a_worker_takes_what_another_one_of_its_machine_got(client: StoreClient) -> None:
    one, other = Machine(client, 0.0), Machine(client, 0.0)
    at = one.elapsed()
    one.offsets.note_bounds(MADRE, Bounds(1000.0, 2000.0), at)
    other.offsets.accept_bounds({**one.offsets.take_received(), Endpoint("gone", "h", 1): (Bounds(0, 1), at)})
    assert other.offsets.endpoint_bounds().keys() == {MADRE}
    assert other.offsets.take_received() == {}, "it does not hand it on"


async def test_what_is_older_than_an_hour_is_not_taken(client: StoreClient) -> None:
    leader, follower = Machine(client, 0.0), Machine(client, 0.0)
    leader.offsets.note_bounds(MADRE, Bounds(1000.0, 2000.0), leader.elapsed())
    await leader.exchange.store()
    await client.run(
        lambda connection: connection.exec_driver_sql("UPDATE tentaculo_clocks SET at_ms = at_ms - 3700000")
    )
    await follower.exchange.read()
    assert follower.offsets.endpoint_bounds() == {}


@pytest.mark.thorough
async def test_both_of_two_machines_correct_the_times_of_events(tmp_path: Path) -> None:
    clock = WrongClock(HOUR)
    with running_server({"fsync": "off"}) as server, server.database() as url:
        migrate.upgrade(url)
        async with upstream(clock.script) as up, calling() as session:
            madre: dict[str, Any] = {"url": f"http://127.0.0.1:{up.port}", "probe": {"interval": 1}}
            async with running_machines(2, 2, tmp_path, url, Clock(tmp_path), services={"madre": madre}) as machines:
                for machine in machines:
                    await corrected(session, str(machine.url), clock)


async def corrected(session: ClientSession, url: str, clock: WrongClock) -> None:
    """Send events until one of each worker has a corrected time, which is right."""
    right = 0
    async with asyncio.timeout(60):
        while right < 8:
            now = int(time.time() * 1000)
            body = {"source": "madre", "type": "t", "payload": {"timestamp": clock.now_ms()}}
            headers = {"Connection": "close"}
            async with session.post(f"{url}/events/ingest", json=body, headers=headers) as response:
                assert response.status == 201
                id_ = (await response.json())["event_id"]
            async with session.get(f"{url}/events?after={id_ - 1}&before={id_ + 1}") as response:
                # On a busy machine a read may take longer than it may.
                assert response.status in (200, 503)
                events = (await response.json()).get("events", [])
            found = events[0].get("corrected") if events else None
            if found is None:
                await asyncio.sleep(0.1)
                continue
            assert found["ms"] - found["width_ms"] - 10 <= now <= found["ms"] + 10
            right += 1
