"""The history of a whole gateway: from a request and a probe to the answer, over a restart and without a database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from tentaculo.model.health import Endpoint, Health, ProbeResult
from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, Period, RouteKey, Tally
from tentaculo.store import tables, worker_thread
from tentaculo.store.history import RollUpRequest, add_history, history_row, merged, roll_up_history, rows_of
from tentaculo.store.migrate import upgrade
from tentaculo.telemetry import request_stats
from tentaculo.telemetry.history import HistoryCollector
from tests.conftest import TOKEN, Live, living
from tests.support.waits import eventually
from tests.support.wire import Request, Upstream, answering, ok, upstream

HEADERS = {"X-VX11-Token": TOKEN}
STATUSES = {"/madre/bad": b"500 Bad", "/madre/none": b"404 None"}


def answer(request: Request) -> bytes:
    """200, but for two paths."""
    return ok(status=STATUSES.get(request.target, b"200 OK"))


def madre(port: int) -> dict[str, Any]:
    """The one service."""
    routes = [{"prefix": "/madre"}]
    probe = {"interval": 3600}
    return {"madre": {"url": f"http://127.0.0.1:{port}", "aliases": ["mother"], "routes": routes, "probe": probe}}


async def ask(live: Live, client: ClientSession, path: str, status: int = 200, **headers: str) -> None:
    async with client.get(f"http://127.0.0.1:{live.port}{path}", headers=headers or HEADERS) as response:
        assert response.status == status


async def history(live: Live, client: ClientSession, query: str = "?hours=2") -> Any:
    """What the gateway tells of madre once the minute is over."""
    live.gateway.health_service.history.flush()
    await live.gateway._store_client.run(lambda _: None)  # what was recorded before is stored then
    async with client.get(f"http://127.0.0.1:{live.port}/vx11/history/mother{query}", headers=HEADERS) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def until(live: Live, client: ClientSession, expected: tuple[int, ...], query: str = "?hours=2") -> Any:
    """The history once it has these counts: a read does not wait for the writes before it."""
    async with asyncio.timeout(20):
        while counts(found := await history(live, client, query)) != expected:
            await asyncio.sleep(0.005)
    return found


def counts(found: Any) -> tuple[int, int, int, int]:
    """Probes, then requests: ok and failed."""
    return tuple(found[who][what] for who in ("probes", "requests") for what in ("ok", "failed"))


def routes(found: Any) -> list[tuple[str, int, int]]:
    return [(one["route"], one["ok"], one["failed"]) for one in found["routes"]]


async def test_each_route_counts_what_it_took_however_it_is_served(both_ways: None, tmp_path: Path) -> None:
    database = {"url": f"sqlite:///{tmp_path}/fleet.db"}
    upgrade(database["url"])
    async with upstream(answering(answer)) as up, ClientSession() as client:
        services = madre(up.port)
        services["madre"]["routes"] += [
            {"prefix": "/madre/none", "auth": "none"},
            {"prefix": "/", "host": "madre.test"},
            {"prefix": "/cut/", "strip": True},
        ]
        async with living(tmp_path, services, database=database) as live:
            # The second request of a connection is one that repeats the last one.
            for path in ("/madre/a", "/madre/a", "/madre/bad", "/madre/none", "/cut/a"):
                await ask(live, client, path, int(STATUSES.get(path, b"200").split()[0]))
            await ask(live, client, "/x", 200, Host="madre.test", **HEADERS)
            await ask(live, client, "/mother/health")
            # A redirection is the gateway's own, and no route took the last one.
            async with client.get(f"http://127.0.0.1:{live.port}/cut", headers=HEADERS, allow_redirects=False) as found:
                assert found.status == 308
            await ask(live, client, "/nothing", 404)
            found = await until(live, client, (0, 0, 6, 1))
    assert routes(found) == [
        ("/madre", 2, 1),
        ("/cut/", 1, 0),
        ("/madre/health", 1, 0),
        ("/madre/none", 1, 0),
        ("madre.test/", 1, 0),
    ]
    assert sum(ok + failed for _, ok, failed in routes(found)) == 7


async def test_a_stream_counts_and_has_no_latency(
    both_ways: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {"url": f"sqlite:///{tmp_path}/fleet.db"}
    upgrade(database["url"])
    may_end: dict[str, asyncio.Event] = {path: asyncio.Event() for path in ("/madre/events", "/madre/long")}

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Upstream) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1].decode()
            kind = b"text/event-stream" if path == "/madre/events" else b"text/plain"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: 2\r\n\r\na" % kind)
            if path in may_end:
                await may_end[path].wait()
            writer.write(b"b")

    async with (
        upstream(script) as up,
        ClientSession() as client,
        living(tmp_path, madre(up.port), database=database) as live,
    ):

        async def stream(path: str) -> None:
            async with client.get(f"http://127.0.0.1:{live.port}{path}", headers=HEADERS) as response:
                assert await response.content.readexactly(1) == b"a"
                may_end[path].set()
                assert await response.read() == b"b"

        await stream("/madre/events")
        await until(live, client, (0, 0, 1, 0))
        monkeypatch.setattr(request_stats, "STREAM_AFTER", 0.0)
        await stream("/madre/long")
        found = await until(live, client, (0, 0, 2, 0))
        assert found["requests"]["latency_ms"]["p50"] is None
        monkeypatch.setattr(request_stats, "STREAM_AFTER", 10.0)
        may_end["/madre/long"].clear()
        await stream("/madre/long")
        found = await until(live, client, (0, 0, 3, 0))
        assert found["requests"]["latency_ms"]["p50"] > 0, "a body of some milliseconds is no stream"
        assert found["routes"][0]["ok"] == 3


async def test_what_probes_and_requests_met_is_told_apart_and_outlives_a_restart(tmp_path: Path) -> None:
    database = {"url": f"sqlite:///{tmp_path}/fleet.db"}
    upgrade(database["url"])
    async with upstream(answering(answer)) as up, ClientSession() as client:
        async with living(tmp_path, madre(up.port), probes=True, database=database) as live:
            for path, status in (("/madre/a", 200), ("/madre/none", 404), ("/madre/bad", 500)):
                await ask(live, client, path, status)
            await ask(live, client, "/madre/a", 401, Accept="*/*")
            await eventually(lambda: live.gateway.health_service.board.service("madre").checked_at)
            first = await until(live, client, (1, 0, 2, 1))
            assert first["requests"]["latency_ms"]["p50"] > 0
            assert routes(first) == [("/madre", 2, 1)]
            assert counts(await history(live, client, "")) == counts(first)
            assert counts(await history(live, client, "?days=90")) == counts(first)
            await ask(live, client, "/madre/a")
        async with living(tmp_path, madre(up.port), database=database) as live:
            await ask(live, client, "/madre/a")
            # What had not been handed on when the first one left is there too.
            for query in ("?hours=2", "?hours=24", "?days=2"):
                found = await until(live, client, (1, 0, 4, 1), query)
                assert routes(found) == [("/madre", 4, 1)]
            async with client.get(f"http://127.0.0.1:{live.port}/status") as response:
                assert "100 %" in await response.text()


async def test_a_database_that_is_away_costs_history_and_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 0.05)
    file = tmp_path / "late" / "fleet.db"
    database = {"url": f"sqlite:///{file}"}
    async with (
        upstream(answering(answer)) as up,
        ClientSession() as client,
        living(tmp_path, madre(up.port), database=database) as live,
    ):
        await ask(live, client, "/madre/a")
        live.gateway.health_service.history.flush()
        await ask(live, client, "/vx11/history/madre", 503)
        await ask(live, client, "/status")
        await ask(live, client, "/madre/a")
        upgrade(database["url"])
        await eventually(lambda: live.gateway._store_client.problem is None)
        # What was met meanwhile has waited, within bounds.
        await until(live, client, (0, 0, 2, 0))


# -- any sequence of things ----------------------------------------------------------------------------------------

START = 20_000 * DAY
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("probe"), st.sampled_from(["madre", "mcp"]), st.booleans()),
        st.tuples(st.just("requests"), st.integers(1, 5), st.integers(0, 2)),
        st.tuples(st.just("pass"), st.sampled_from([1, 30, 60, 3600, 90_000]), st.none()),
        st.tuples(st.just("set"), st.sampled_from([-90_000, -3600, -45, 45, 3600, 90_000]), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
    ),
    max_size=40,
)


class Machine:
    """A history on a database in memory, with clocks that a test moves."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        tables.metadata.create_all(self.engine, [tables.history])
        self.now, self.clock = float(START), 0.0
        self.requests: dict[RouteKey, Tally] = {}
        self.met = [0, 0, 0, 0]
        self.restart()

    def restart(self) -> None:
        self.history = HistoryCollector(
            record=self.record,
            roll_up=self.tend,
            pace=lambda _: 0.0,
            now=lambda: self.now,
            clock=lambda: self.clock,
        )
        self.history.drain_from(self.drain)

    def drain(self) -> dict[RouteKey, Tally]:
        found, self.requests = self.requests, {}
        return found

    def record(self, periods: Sequence[Period]) -> None:
        with self.engine.begin() as connection:
            add_history(connection, [history_row(period) for period in periods])

    def tend(self, now: int, may_delete: bool) -> None:
        assert not may_delete or self.clock >= HOUR
        for _ in roll_up_history(self.engine.begin, RollUpRequest(now, None), thorough=True):
            pass

    def step(self, what: str, one: Any, other: Any) -> None:
        if what == "probe":
            health = Health.UP if other else Health.DOWN
            at = datetime.fromtimestamp(self.now, UTC)
            self.history.note_probe(ProbeResult(Endpoint(one, "a", 1), health, "", at, latency_ms=3), health)
            self.met[0 if other else 1] += 1
        elif what == "requests":
            self.requests.setdefault(RouteKey("madre", "/a"), Tally()).merge(Tally(one, other, Histogram({200: one})))
            self.met[2] += one
            self.met[3] += other
        elif what == "restart":
            self.history.flush()
            self.restart()
        else:
            self.now += one
            self.clock += one if what == "pass" else 0
            self.history.turn()

    def counts(self, span: int) -> list[int]:
        """Of everything stored, whenever it was."""
        with self.engine.begin() as connection:
            found = rows_of(connection, span, 0, 2**40)
        whole = merged("", span, 0, found)
        assert whole.requests.latency.count == whole.requests.ok
        return [whole.probes.ok, whole.probes.failed, whole.requests.ok, whole.requests.failed]


@settings(deadline=None, max_examples=40)
@given(STEPS)
def test_nothing_is_lost_or_counted_twice_whatever_the_clock_does(steps: list[tuple[str, Any, Any]]) -> None:
    machine = Machine()
    try:
        for step in steps:
            machine.step(*step)
        machine.history.flush()
        assert machine.counts(MINUTE) == machine.met
        machine.tend(START + 10_000 * DAY, may_delete=False)
        assert machine.counts(HOUR) == machine.met
        assert machine.counts(DAY) == machine.met
    finally:
        machine.engine.dispose()
