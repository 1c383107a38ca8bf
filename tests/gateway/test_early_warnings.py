"""Early warnings over the stored history, with a real database: they open, end, and survive a restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.loader import load_tables
from tentaculo.gateway.early_warnings import LATE, EarlyWarnings
from tentaculo.gateway.warnings_reader import warnings_reader
from tentaculo.insight.detector import BIN
from tentaculo.insight.watches import LatencyWatch
from tentaculo.model.early_warning import EarlyWarning, WarningCounts
from tentaculo.model.health import Endpoint, Health, ProbeResult
from tentaculo.model.history import HOUR, MINUTE, Histogram, Period, Tally, Uptime, bucket
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.early_warnings import read_gauges, save
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.history import add_history, history_row
from tentaculo.tasks import TaskGroup
from tests.support.reloading import serving
from tests.support.waits import eventually

USUAL, LIMIT = 0.1, 0.5
QUEUE = Endpoint("queue", "127.0.0.1", 9)
START = 20_000 * 86400 + 12 * HOUR
"""The last bin that the first look sees ends here."""


class Bench:
    """A database with a week of history, and the warnings of a gateway on it whose clock stands where it is set."""

    def __init__(self, url: str, store: StoreClient) -> None:
        self.store = store
        self.now = START
        self.is_watched = True
        self.notified: list[EarlyWarning] = []
        self.counts = WarningCounts()
        self.recorded: list[dict[str, Any]] = []
        self.warnings = self.start()

    def start(self, *, warn: bool = False) -> EarlyWarnings:
        """As after a restart, or at the machine that takes over."""
        tables = {
            "services": {
                "madre": {"url": "http://127.0.0.1:9", "warn": warn, "probe": {"slow": LIMIT}},
                "queue": {"url": "http://127.0.0.1:9", "probe": {"prefer": ["queue.depth < 100"]}},
                "without": {"url": "http://127.0.0.1:9"},
            }
        }
        config = load_tables(tables, {}, folder=Path("/")).config
        self.warnings = EarlyWarnings(
            config,
            self.store,
            self._record,
            self.time,
            is_watched=lambda _: self.is_watched,
            notify=self.notified.append,
            counts=self.counts,
        )
        return self.warnings

    async def probe(self, depths: Iterable[float]) -> None:
        """Let five minutes pass with each depth of the queue in the responses to three probes, and look."""
        for depth in depths:
            for _ in range(3):
                at = datetime.fromtimestamp(self.now + 5, UTC)
                gauges = (("gauge:queue.depth", depth),)
                self.warnings.note_probe(ProbeResult(QUEUE, Health.UP, "", at, gauges=gauges))
            self.now += BIN
            await self.warnings.look()

    def _record(self, type_: str, **payload: Any) -> None:
        self.recorded.append({"type": type_, **payload})

    def time(self) -> datetime:
        return datetime.fromtimestamp(self.now + LATE, UTC)

    async def write(self, periods: Iterable[Period]) -> None:
        rows = [history_row(one) for one in periods]
        await self.store.run(lambda connection: add_history(connection, rows))

    async def pass_bins(self, latencies: Iterable[float | None], *, watched: float = 1.0) -> None:
        """Let five minutes pass with each latency of 60 requests a minute, and look."""
        for latency in latencies:
            await self.write(minutes(self.now, latency, watched=watched) if latency is not None else ())
            self.now += BIN
            await self.warnings.look()

    async def read(self) -> list[tuple[str, str]]:
        found = await warnings_reader(self.store, self.time)(None)
        return [(one.signal, one.outcome) for one in found]


def minutes(start: int, latency: float, service: str = "madre", *, watched: float = 1.0) -> list[Period]:
    return [period(service, MINUTE, start + at * MINUTE, latency, 60, watched) for at in range(5)]


def period(service: str, span: int, start: int, latency: float, count: int, watched: float = 1.0) -> Period:
    requests = Tally(count, 0, Histogram({bucket(latency): count}))
    return Period(service, span, start, requests=requests, uptime=Uptime(round(span * 1000 * watched)))


def ramp(bins: int) -> list[float]:
    return [exp(log(USUAL) + (log(LIMIT) - log(USUAL)) * at / bins) for at in range(bins)]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    migrate.upgrade(url)
    store = StoreClient(url)
    await store.start()
    await eventually(lambda: store.shown_problem is None)
    bench = Bench(url, store)
    await bench.write(period("madre", HOUR, START - hour * HOUR, USUAL, 3600) for hour in range(1, 169))
    for at in range(48):
        await bench.write(minutes(START - (at + 1) * BIN, USUAL))
    yield bench
    await store.close()


@pytest.mark.thorough
async def test_a_ramp_is_warned_of_recorded_and_its_outcome_is_kept(bench: Bench) -> None:
    await bench.warnings.look()
    assert bench.recorded == []
    await bench.pass_bins([*ramp(36), *[LIMIT * 1.2] * 7])
    opened, ended = bench.recorded
    assert (opened["type"], opened["service"], opened["signal"]) == ("health.warning", "madre", "requests_p95")
    assert "The p95 of requests has grown by" in opened["reason"]
    assert (ended["type"], ended["outcome"]) == ("health.warning_ended", "reached")
    (warning,) = await warnings_reader(bench.store, bench.time)(["madre"])
    assert warning.ended_at is not None
    assert warning.opened_at < datetime.fromtimestamp(START + 36 * BIN, UTC) <= warning.ended_at
    assert warning.outcome == "reached"
    assert await warnings_reader(bench.store, bench.time)(["without"]) == []


async def test_an_open_warning_survives_a_restart_in_which_the_limit_was_reached(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36)[:32])
    assert await bench.read() == [("requests_p95", "open")]
    # Meanwhile other machines store what they see.
    for _ in range(8):
        await bench.write(minutes(bench.now, LIMIT * 1.3))
        bench.now += BIN
    await bench.start().look()
    assert await bench.read() == [("requests_p95", "reached")]
    assert [one["type"] for one in bench.recorded] == ["health.warning", "health.warning_ended"]


async def test_an_open_warning_ends_after_a_restart_with_a_clock_that_was_set_back(bench: Bench) -> None:
    await bench.pass_bins(ramp(24)[:18])
    assert await bench.read() == [("requests_p95", "open")]
    bench.now -= 10 * 86400
    bench.start()
    await bench.pass_bins([USUAL] * 14)
    (warning,) = await warnings_reader(bench.store, bench.time)(None)
    assert warning.outcome in ("ended", "unknown")
    assert warning.ended_at is not None
    assert warning.ended_at >= warning.opened_at


@pytest.mark.thorough
async def test_a_restart_opens_nothing_twice(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36)[:32])
    await bench.start().look()
    assert await bench.read() == [("requests_p95", "open")]
    assert len(bench.recorded) == 1
    assert len({one["key"] for one in bench.recorded}) == 1


@pytest.mark.thorough
async def test_an_open_warning_of_a_service_without_a_limit_is_unknown(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36)[:32])
    config = load_tables({"services": {"madre": {"url": "http://127.0.0.1:9"}}}, {}, folder=Path("/")).config
    other = EarlyWarnings(config, bench.store, bench._record, bench.time)
    await other.look()
    assert await bench.read() == [("requests_p95", "unknown")]


@pytest.mark.parametrize("limit", [LIMIT / 2, LIMIT * 10])
async def test_a_warning_whose_limit_is_another_now_is_neither_right_nor_wrong(bench: Bench, limit: float) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36)[:30])
    tables = {"services": {"madre": {"url": "http://127.0.0.1:9", "slow": limit}}}
    config = load_tables(tables, {}, folder=Path("/")).config
    bench.warnings = EarlyWarnings(config, bench.store, bench._record, bench.time)
    await bench.pass_bins([0.36] * 3)
    oldest = (await warnings_reader(bench.store, bench.time)(["madre"]))[-1]
    assert oldest.limit == pytest.approx(LIMIT)
    assert oldest.outcome == "unknown"
    assert oldest.ended_at == datetime.fromtimestamp(START + 31 * BIN, UTC)
    assert bench.recorded[1]["reason"] == (
        "What became of it is not known: at 14:35 UTC it was not measured any more, or had another limit."
    )


async def test_time_in_maintenance_is_a_gap(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36), watched=0.3)
    assert bench.recorded == []


@pytest.mark.thorough
async def test_a_clock_that_is_set_back_or_far_ahead_opens_nothing(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins([USUAL] * 3)
    bench.now -= HOUR
    await bench.pass_bins([USUAL] * 3)
    bench.now += 400 * 86400
    await bench.pass_bins([USUAL] * 3)
    assert bench.recorded == []


@pytest.mark.thorough
async def test_a_database_that_is_away_is_asked_again(bench: Bench) -> None:
    closed = StoreClient("sqlite:////nowhere/at/all.db")
    await closed.start()
    tables = {"services": {"madre": {"url": "http://127.0.0.1:9", "probe": {"slow": LIMIT}}}}
    config = load_tables(tables, {}, folder=Path("/")).config
    away = EarlyWarnings(config, closed, bench._record, bench.time)
    with pytest.raises(StoreUnavailable):
        await away.look()
    await closed.close()
    await bench.warnings.look()
    missed = ramp(36)
    for latency in missed[:30]:
        await bench.write(minutes(bench.now, latency))
        bench.now += BIN
    await bench.warnings.look()
    assert [one["type"] for one in bench.recorded] == ["health.warning"]


async def test_a_look_at_many_services_leaves_each_turn_of_the_loop_to_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {f"s{number}": {"url": "http://127.0.0.1:9", "probe": {"slow": LIMIT}} for number in range(40)}
    config = load_tables({"services": services}, {}, folder=Path("/")).config
    warnings = EarlyWarnings(config, bench.store, bench._record, bench.time)
    await warnings.look()
    turn, looks = 0, Counter[int]()
    evaluate = LatencyWatch.evaluate

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def counted(watch: LatencyWatch) -> Any:
        looks[turn] += 1
        return evaluate(watch)

    monkeypatch.setattr(LatencyWatch, "evaluate", counted)
    bench.now += BIN
    tasks = TaskGroup("test")
    tasks.start(turns(), "turns")
    try:
        await warnings.look()
    finally:
        await tasks.close()
    assert looks.total() >= len(services)
    assert max(looks.values()) == 1


async def test_old_warnings_are_forgotten(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins([*ramp(36), *[LIMIT * 1.2] * 7])
    bench.now += int(timedelta(days=91).total_seconds())
    assert await bench.read() == []


@pytest.mark.thorough
async def test_a_queue_is_warned_of_before_its_bound_and_a_new_leader_knows_its_past(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.probe([10.0] * 60)
    await bench.start().look()
    await bench.probe(10 + 90 * at / 36 for at in range(33))
    (opened,) = bench.recorded
    assert (opened["type"], opened["service"], opened["signal"]) == ("health.warning", "queue", "gauge:queue.depth")
    assert opened["reason"].startswith("queue.depth has grown by 0.5 a minute since ")
    assert " passes 100 at about " in opened["reason"]
    await bench.start().look()
    await bench.probe([110.0] * 6)
    assert await bench.read() == [("gauge:queue.depth", "reached")]


async def test_numbers_wait_for_a_database_that_is_away_and_those_of_a_maintenance_are_none(bench: Bench) -> None:
    await bench.warnings.look()
    bench.is_watched = False
    await bench.probe([500.0] * 3)
    bench.is_watched = True
    store, closed = bench.store, StoreClient("sqlite:////nowhere/at/all.db")
    await closed.start()
    bench.warnings._store = closed
    with pytest.raises(StoreUnavailable):
        await bench.probe([7.0])
    await closed.close()
    bench.warnings._store = store
    await bench.warnings.look()
    read = partial(read_gauges, services=["queue"], since=START, until=bench.now)
    assert await store.read(read) == {"queue": {"gauge:queue.depth": {START + 3 * BIN: 7.0}}}


async def test_the_requests_have_a_limit_of_their_own() -> None:
    services = {
        "both": {"url": "http://127.0.0.1:9", "slow": 2, "probe": {"slow": 1}},
        "requests": {"url": "http://127.0.0.1:9", "slow": 2},
        "off": {"url": "http://127.0.0.1:9", "slow": 2, "enabled": False},
        "routes": {
            "url": "http://127.0.0.1:9",
            "routes": [{"prefix": "/a", "slow": 3}, {"prefix": "/b", "slow": 1}],
            "probe": {"slow": 0.5},
        },
        "one_route": {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/c", "slow": 3}, {"prefix": "/d"}]},
        "service": {"url": "http://127.0.0.1:9", "slow": 2, "routes": [{"prefix": "/e", "slow": 3}]},
    }
    config = load_tables({"services": services}, {}, folder=Path("/")).config
    assert {name: one.latency_limits for name, one in config.services.items()} == {
        "both": {"requests": 2, "probes": 1},
        "requests": {"requests": 2},
        "off": {},
        "routes": {"requests": 3, "probes": 0.5},
        "one_route": {},
        "service": {"requests": 2},
    }


@pytest.mark.thorough
async def test_a_warning_is_sent_only_where_the_service_asks_for_it_and_only_once(bench: Bench) -> None:
    await bench.warnings.look()
    await bench.pass_bins(ramp(36)[:32])
    assert (bench.notified, bench.counts.opened, bench.counts.open) == ([], 1, 1)
    bench.start(warn=True)
    await bench.warnings.look()
    await bench.pass_bins([LIMIT * 1.2] * 7)
    assert (bench.notified, bench.counts.open) == ([], 0)
    assert bench.counts.ended == {"reached": 1, "ended": 0, "unknown": 0}
    await bench.pass_bins([USUAL] * 60 + ramp(36)[:34])
    (sent,) = bench.notified
    assert (sent.service, sent.is_open, bench.counts.opened) == ("madre", True, 2)


class Loop:
    """`run` of the warnings of a bench. The clock stands shortly before the next bin is complete, until the test moves it."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.looks = 0
        self.tasks = TaskGroup("test")
        monkeypatch.setattr("tentaculo.gateway.early_warnings.RETRY", 0.01)

    def start(self, store: StoreClient) -> EarlyWarnings:
        warnings = self.bench.start()
        warnings._store, warnings._now = store, self.time
        self.tasks.start(warnings.run(), "early warnings")
        return warnings

    def time(self) -> datetime:
        self.looks += 1
        return datetime.fromtimestamp(self.bench.now + BIN - 0.02 + LATE, UTC)

    async def pass_bins(self, latencies: Iterable[float]) -> None:
        """As that of the bench, and wait until the loop has looked."""
        for latency in latencies:
            await self.bench.write(minutes(self.bench.now, latency))
            self.bench.now += BIN
            await self.has_looked()

    async def has_looked(self) -> None:
        await eventually(lambda: self.bench.warnings._last == self.bench.now // BIN - 1, "a look")


@pytest.mark.thorough
async def test_the_loop_waits_for_a_database_that_is_away_at_the_start_and_begins_with_its_past(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, folder = Loop(bench, monkeypatch), tmp_path / "later"
    url = f"sqlite:///{folder / 'fleet.db'}"
    store = StoreClient(url)
    await store.start()
    try:
        loop.start(store)
        await eventually(lambda: loop.looks > 10, "further attempts")
        folder.mkdir()
        migrate.upgrade(url)
        bench.store = store
        await eventually(lambda: store.shown_problem is None)
        await loop.has_looked()
        # Its detectors began without a past: one that comes now is learned by the hour, and nothing is known to warn of.
        assert (bench.recorded, bench.counts.open) == ([], 0)
        await loop.pass_bins([*[USUAL] * 48, *ramp(36)[:33]])
        assert [one["type"] for one in bench.recorded] == ["health.warning"]
        assert await bench.read() == [("requests_p95", "open")]
    finally:
        await loop.tasks.close()
        await store.close()


async def test_what_ends_while_the_first_read_waits_for_the_database_is_new(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, away = Loop(bench, monkeypatch), StoreClient("sqlite:////nowhere/at/all.db")
    await away.start()
    try:
        warnings = loop.start(away)
        await eventually(lambda: loop.looks > 2, "further attempts")
        for latency in (*ramp(36), *[LIMIT * 1.2] * 7):
            await bench.write(minutes(bench.now, latency))
            bench.now += BIN
        warnings._store = bench.store
        await loop.has_looked()
        assert [one["type"] for one in bench.recorded] == ["health.warning", "health.warning_ended"]
        await eventually(lambda: not warnings._changed, "the warning is stored")
        assert await bench.read() == [("requests_p95", "reached")]
    finally:
        await loop.tasks.close()
        await away.close()


async def test_a_bin_that_is_complete_while_the_loop_looks_is_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may be a millisecond early, and the look takes longer than that."""
    loop, complete = Loop(bench, monkeypatch), START + BIN + LATE
    began_and_looked = 2

    def time() -> datetime:
        loop.looks += 1
        return datetime.fromtimestamp(complete - 0.001 if loop.looks <= began_and_looked else complete + 0.01, UTC)

    monkeypatch.setattr(loop, "time", time)
    try:
        warnings = loop.start(bench.store)
        await eventually(lambda: warnings._last == START // BIN, "the bin that is complete")
    finally:
        await loop.tasks.close()


async def test_the_loop_looks_at_each_bin_and_goes_over_no_warning_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop(bench, monkeypatch)
    try:
        loop.start(bench.store)
        await loop.has_looked()
        await loop.pass_bins(ramp(36)[:32])
        await eventually(lambda: bench.counts.open == 1)
        looks = loop.looks
        await eventually(lambda: loop.looks > looks + 10, "further looks at the same bin")
        await loop.pass_bins([LIMIT * 1.2] * 7)
        await eventually(lambda: bench.counts.open == 0)
        assert [one["type"] for one in bench.recorded] == ["health.warning", "health.warning_ended"]
        assert await bench.read() == [("requests_p95", "reached")]
    finally:
        await loop.tasks.close()


async def test_a_reload_or_a_start_without_any_limit_ends_the_open_warnings(bench: Bench, tmp_path: Path) -> None:
    def services(name: str, **settings: Any) -> dict[str, Any]:
        return {name: {"url": "http://127.0.0.1:9", "probe": {"kind": "none"}, **settings}}

    async def has(outcomes: list[str]) -> None:
        await eventually(lambda: bench.store.shown_problem is None)
        for _ in range(500):
            if [outcome for _, outcome in await bench.read()] == outcomes:
                return
            await asyncio.sleep(0.01)
        assert [outcome for _, outcome in await bench.read()] == outcomes

    at = datetime.now(UTC) - timedelta(minutes=10)
    bench.now = int(at.timestamp()) + 600
    first, second = (
        EarlyWarning("madre", signal, at, "level", 0.4, USUAL, LIMIT, at) for signal in ("requests_p95", "probes_p95")
    )
    await bench.store.run(lambda connection: save(connection, [first]))
    async with serving(
        tmp_path,
        services("madre", slow=LIMIT),
        probes=True,
        database={"url": f"sqlite:///{tmp_path / 'fleet.db'}"},
    ) as served:
        await eventually(lambda: served.gateway.incident_service.warning_counts.open == 1)
        await served.reload(services=services("renamed"))
        await has(["unknown"])
        assert served.gateway.incident_service.warning_counts.open == 0
    await bench.store.run(lambda connection: save(connection, [second]))
    async with serving(
        tmp_path, services("madre"), probes=True, database={"url": f"sqlite:///{tmp_path / 'fleet.db'}"}
    ):
        await has(["unknown", "unknown"])
