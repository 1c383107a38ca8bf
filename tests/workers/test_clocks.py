"""The clocks of sources with several workers: each knows what the leader's probes read and what the others received."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.gateway.gateway import Gateway
from tentaculo.model.text import utc_now
from tentaculo.store.migrate import upgrade
from tentaculo.workers import coordination as module
from tests.conftest import TOKEN
from tests.gateway.test_service_clocks import HOUR, WrongClock, send
from tests.support.gateway_process import Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import upstream
from tests.workers.test_coordination import at, crew
from tests.workers.test_events import caller
from tests.workers.test_workers import WAIT, config, ready


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY", 0.02)


def clocks(gateway: Gateway) -> dict[str, tuple[float, float, tuple[str, ...]]]:
    found = (source for source, _ in gateway.clocks.offsets.sources())
    return {one.name: (one.low_ms, one.high_ms, one.basis) for one in found}


def client_of(gateway: Gateway) -> ClientSession:
    return ClientSession(f"http://127.0.0.1:{gateway.running.addresses[0][1]}", headers={"X-VX11-Token": TOKEN})


async def test_every_worker_knows_what_one_probe_read_and_what_events_stated_to_another(tmp_path: Path) -> None:
    clock, url = WrongClock(-HOUR), f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    async with upstream(clock.script) as up, crew(tmp_path, at(up.port), url) as here:
        early, leader = await here.start(2), await here.start(1)
        await eventually(lambda: "madre" in clocks(early))
        late = await here.start(3)
        await eventually(lambda: "madre" in clocks(late))
        assert len(up.requests) == 1
        for gateway in (leader, early, late):
            low, high, basis = clocks(gateway)["madre"]
            assert (low <= -HOUR * 1000 <= high, high - low < 3000, basis) == (True, True, ("date",))
        async with client_of(late) as client:
            now = int(time.time() * 1000)
            event = await send(client, "madre", clock.now_ms())
            assert event["corrected"]["ms"] - event["corrected"]["width_ms"] - 1 <= now <= event["corrected"]["ms"] + 1
            await send(client, "madre", clock.now_ms() + 300)  # More than any Date can have said.
            await send(client, "robot", now + 60_000)
        for gateway in (leader, early):
            await eventually(lambda gateway=gateway: {"madre", "robot"} <= set(clocks(gateway)))  # type: ignore[misc]
            await eventually(lambda gateway=gateway: clocks(gateway)["madre"][2] == ("date", "stated"))  # type: ignore[misc]
            assert 55_000 < clocks(gateway)["robot"][0] <= 60_000


async def test_many_sources_fit_into_messages(tmp_path: Path) -> None:
    async with crew(tmp_path, at(9)) as here:
        leader, follower = await here.start(1), await here.start(2)
        for number in range(500):
            leader.clocks.offsets.correct("\U0001f4a5" * 120 + str(number), int(time.time() * 1000), utc_now())
        await eventually(lambda: len(clocks(follower)) == 500)


async def answers(gateway: Running, client: ClientSession) -> dict[str, Any]:
    async with client.get(f"{gateway.url}/tentaculo/clocks") as response:
        assert response.status == 200
        return {one["source"]: one for one in (await response.json())["clocks"]}


async def events(gateway: Running, client: ClientSession, query: str) -> list[dict[str, Any]]:
    """From a worker whose database has responded."""
    while True:
        async with client.get(f"{gateway.url}/events?{query}") as response:
            if response.status == 200:
                return list((await response.json())["events"])
            assert response.status == 503
        await asyncio.sleep(0.05)


async def corrects(gateway: Running, client: ClientSession, clock: WrongClock) -> None:
    before = int(time.time() * 1000)
    body = {"source": "madre", "type": "t", "payload": {"timestamp": clock.now_ms()}}
    async with client.post(f"{gateway.url}/events/ingest", json=body) as response:
        assert response.status == 201
        id_ = (await response.json())["id"]
    (event,) = await events(gateway, client, f"after={id_ - 1}&before={id_ + 1}")
    corrected = event["corrected"]
    assert corrected["ms"] - corrected["width_ms"] - 1 <= before <= corrected["ms"] + 1


def asked(gateway: Running, path: str) -> set[int]:
    """The workers that were asked."""
    return {entry["worker"] for entry in gateway.logged() if entry.get("path") == path}


async def test_two_processes_give_the_same_offsets_and_correct_alike(url: str) -> None:
    clock = WrongClock(HOUR)
    async with upstream(clock.script) as up:
        tables = config(up.port, 2)
        tables["database"]["url"] = url
        async with running_gateway(tables) as gateway, caller(gateway) as client:
            await ready(gateway, 2)
            async with asyncio.timeout(WAIT):
                while "madre" not in await answers(gateway, client):
                    await asyncio.sleep(0.05)
                seen: list[dict[str, Any]] = []
                while len(asked(gateway, "/tentaculo/clocks")) < 2 or not seen:
                    seen += await asyncio.gather(*(answers(gateway, client) for _ in range(20)))
                assert all(one["madre"]["low_ms"] <= HOUR * 1000 <= one["madre"]["high_ms"] for one in seen)
                while len(asked(gateway, "/events/ingest")) < 2:
                    await asyncio.gather(*(corrects(gateway, client, clock) for _ in range(20)))
