"""The clocks of services by a whole gateway, which probes real servers whose clocks are wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import structlog.testing
from aiohttp import ClientSession

from tentaculo.events.clock_offsets import ClockOffsets
from tests.conftest import TOKEN, Live, living
from tests.gateway.test_own_events import payloads
from tests.support.databases import sqlite
from tests.support.waits import eventually
from tests.support.wire import Reader, Upstream, Writer, read_request, upstream

HOUR = 3600.0


class WrongClock:
    """A service whose clock differs by `ahead` seconds."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def now_ms(self) -> int:
        return int((time.time() + self.ahead) * 1000)

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        date = formatdate(time.time() + self.ahead, usegmt=True)
        writer.write(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()


def service(*ports: int, **keys: Any) -> dict[str, Any]:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    return {"urls": urls, "probe": {"interval": 0.05, "recheck": 0.05}, **keys}


@asynccontextmanager
async def caller(live: Live) -> AsyncIterator[ClientSession]:
    async with ClientSession(f"http://127.0.0.1:{live.port}", headers={"X-VX11-Token": TOKEN}) as session:
        yield session


async def get(client: ClientSession, path: str) -> Any:
    async with client.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def known(client: ClientSession, source: str, *, endpoints: int = 1) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            for one in (await get(client, "/tentaculo/clocks"))["clocks"]:
                if one["source"] == source and len(one["endpoints"]) >= endpoints:
                    return dict(one)
            await asyncio.sleep(0.01)


async def send(client: ClientSession, source: str, stated_ms: int | None, **payload: Any) -> dict[str, Any]:
    """Send an event, and read it from the log."""
    fields = payload if stated_ms is None else {"timestamp": stated_ms, **payload}
    body = {"source": source, "type": "t", "payload": fields}
    async with client.post("/events/ingest", json=body) as response:
        assert response.status == 201
        id_ = (await response.json())["event_id"]
    (event,) = (await get(client, f"/events?after={id_ - 1}&before={id_ + 1}"))["events"]
    return dict(event)


async def test_the_time_of_an_event_is_corrected_by_the_clock_of_its_service(url: str, tmp_path: Path) -> None:
    clock = WrongClock(HOUR)
    async with (
        upstream(clock.script) as up,
        living(tmp_path, {"madre": service(up.port, aliases=["mother"])}, probes=True, database={"url": url}) as live,
        caller(live) as client,
    ):
        found = await known(client, "madre")
        assert found["low_ms"] <= HOUR * 1000 <= found["high_ms"]
        assert found["width_ms"] == found["high_ms"] - found["low_ms"] < 3000
        assert found["basis"] == ["date"]
        own = found["endpoints"][0]
        assert (own["endpoint"], own["low_ms"], own["since"]) == (
            f"127.0.0.1:{up.port}",
            found["low_ms"],
            found["since"],
        )

        before = int(time.time() * 1000)
        event = await send(client, "mother", clock.now_ms())
        assert event["timestamp"] >= before + HOUR * 1000
        corrected = event["corrected"]
        assert corrected["ms"] - corrected["width_ms"] - 1 <= before <= corrected["ms"] + 1
        await send(client, "madre", clock.now_ms() + 300)
        assert (await known(client, "madre"))["basis"] == ["date", "stated"]

        late = await send(client, "madre", clock.now_ms() - 60_000)
        assert late["corrected"]["ms"] - late["corrected"]["width_ms"] <= time.time() * 1000 - 60_000
        assert late["corrected"]["ms"] < time.time() * 1000 - 57_000
        # What was not stated, or was stated by a clock that nobody knows, is the time of receipt.
        assert "corrected" not in await send(client, "madre", None)
        assert "corrected" not in await send(client, "robot", clock.now_ms())
        # The log keeps the order of the ids, and the correlations are in that of time.
        first = await send(client, "madre", clock.now_ms(), task_id="task-1")
        second = await send(client, "madre", clock.now_ms() - 60_000, task_id="task-1")
        graph = (await get(client, "/debug/events/correlations"))["graph"]
        assert [(edge["source"], edge["target"]) for edge in graph["edges"]] == [
            (second["event_id"], first["event_id"])
        ]
        clocks = {node["id"]: node["clock"] for node in graph["nodes"]}
        assert (clocks[first["event_id"]], set(clocks.values())) == ("corrected", {"corrected", "received"})


async def test_a_clock_that_is_set_is_learned_again(file: Path, tmp_path: Path) -> None:
    clock = WrongClock(0)
    async with upstream(clock.script) as up:
        services = {"madre": service(up.port)}
        async with (
            living(tmp_path, services, probes=True, database={"url": sqlite(file)}) as live,
            caller(live) as client,
        ):
            since = (await known(client, "madre"))["since"]
            clock.ahead = -HOUR
            offsets = live.gateway.clocks.offsets
            await eventually(lambda: low_of(offsets) < -3_000_000)
            found = await known(client, "madre")
            assert found["low_ms"] <= -HOUR * 1000 <= found["high_ms"]
            assert found["since"] > since


def low_of(offsets: ClockOffsets) -> float:
    return next(source.low_ms for source, _ in offsets.sources())


async def test_a_clock_that_is_wrong_is_reported_once_and_again_when_it_is_right(file: Path, tmp_path: Path) -> None:
    wrong, right = WrongClock(60), WrongClock(0)
    async with upstream(wrong.script) as first, upstream(right.script) as second:
        services = {"madre": service(first.port, second.port)}
        with structlog.testing.capture_logs() as logs:
            async with living(tmp_path, services, probes=True, database={"url": sqlite(file)}) as live:
                async with caller(live) as client:
                    found = await known(client, "madre", endpoints=2)
                    assert found["low_ms"] <= 0
                    assert found["high_ms"] >= 60_000
                await eventually(lambda: len(first.requests) > 4 and payloads(sqlite(file), "gateway.clock.wrong"))
                wrong.ahead = 0
                await eventually(lambda: payloads(sqlite(file), "gateway.clock.right"))
        (event,) = payloads(sqlite(file), "gateway.clock.wrong")
        assert (event["service"], event["endpoint"]) == ("madre", f"127.0.0.1:{first.port}")
        assert event["low_ms"] <= 60_000 <= event["high_ms"]
        names = [entry["event"] for entry in logs if entry["event"].startswith("service clock")]
        assert names == ["service clock wrong", "service clock right"]


async def test_only_who_has_the_token_sees_them(tmp_path: Path) -> None:
    async with living(tmp_path, {}) as live, ClientSession(f"http://127.0.0.1:{live.port}") as client:
        response = await client.get("/tentaculo/clocks")
        assert response.status == 401
