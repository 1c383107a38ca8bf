from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.health.board import Board, ProbeUpdate
from tentaculo.health.probe_scheduler import Probes, ProbeScheduler, ProbeSlots
from tentaculo.health.prober import Prober
from tentaculo.model.health import DegradedKind, Endpoint, Health, ProbeResult, Transition
from tentaculo.tasks import TaskGroup
from tests.support.health import Serve, answer, fleet, says
from tests.support.waits import eventually, free_port

AT_ONCE = {"failures": 1, "successes": 1}


def now() -> datetime:
    return datetime.now(UTC)


class Ears:
    """Remembers what a watch tells."""

    def __init__(self) -> None:
        self.results: list[ProbeResult] = []
        self.changes: list[Transition] = []

    def hear(self, update: ProbeUpdate) -> None:
        self.results.append(update.result)
        self.changes += update.transitions

    def of(self, service: str) -> list[ProbeResult]:
        return [result for result in self.results if result.upstream.service == service]

    def flips(self, service: str) -> list[Health]:
        return [change.after for change in self.changes if change.service == service]


class Still:
    """A prober without a network: answers well, or never where `hangs` says so. Counts what is under way."""

    def __init__(self, hangs: Callable[[Endpoint], bool] = lambda _: False, give_up: float = 3600) -> None:
        self.hangs = hangs
        self.give_up = give_up
        self.health = Health.UP
        self.most_in_all = 0
        self.starts: list[tuple[Endpoint, float]] = []
        self.under_way: Counter[Endpoint] = Counter()
        self.most: Counter[Endpoint] = Counter()

    async def probe(self, upstream: Endpoint) -> ProbeResult:
        self.starts.append((upstream, asyncio.get_running_loop().time()))
        self.under_way[upstream] += 1
        self.most[upstream] = max(self.most[upstream], self.under_way[upstream])
        self.most_in_all = max(self.most_in_all, self.under_way.total())
        try:
            await asyncio.sleep(self.give_up if self.hangs(upstream) else 0.002)
        finally:
            self.under_way[upstream] -= 1
        return ProbeResult(upstream, self.health, f"found {self.health}", now())


@asynccontextmanager
async def watching(config: Config, prober: Probes, ears: Ears) -> AsyncIterator[tuple[Board, ProbeScheduler]]:
    board = Board(config, now=now)
    watch = ProbeScheduler(config, prober, board, on_update=ears.hear)
    tasks = TaskGroup("test")
    tasks.start(watch.run(), "watch")
    try:
        yield board, watch
    finally:
        await tasks.close()


def quick(port: int, **keys: object) -> dict[str, object]:
    return {"url": f"http://127.0.0.1:{port}", "probe": {"interval": 0.05, "timeout": 10, **AT_ONCE}, **keys}


async def test_only_changes_are_transitions(serve: Serve) -> None:
    port = free_port()
    config, ears = fleet(madre=quick(port)), Ears()
    prober = Prober(config)
    async with watching(config, prober, ears) as (board, _):
        await eventually(lambda: len(ears.results) >= 3)
        assert ears.flips("madre") == [Health.DOWN]
        await serve(says(answer()), port=port)
        await eventually(lambda: board.service("madre").health is Health.UP)
        count = len(ears.results)
        await eventually(lambda: len(ears.results) >= count + 3)
    assert ears.flips("madre") == [Health.DOWN, Health.UP]


async def test_one_that_a_reload_removes_as_its_probe_begins_is_not_probed(serve: Serve) -> None:
    first, second = await serve(says(answer())), await serve(says(answer()))
    config, ears = fleet(madre=quick(first)), Ears()
    prober = Prober(config)
    with capture_logs() as logs:
        async with watching(config, prober, ears) as (board, watch):
            while "1 probes running" not in repr(watch):
                await asyncio.sleep(0)
            changed = fleet(madre=quick(second))
            for use in (board.prepare(changed).use, prober.prepare(changed), watch.prepare(changed)):
                use()
            await eventually(lambda: ears.results)
            assert {result.upstream.port for result in ears.results} == {second}
    assert logs == []


async def test_one_that_is_off_is_never_probed(serve: Serve) -> None:
    seen = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set()

    config = fleet(off=quick(await serve(note), enabled=False), madre=quick(await serve(says(answer()))))
    ears = Ears()
    prober = Prober(config)
    async with watching(config, prober, ears):
        await eventually(lambda: len(ears.of("madre")) >= 4)
    assert ears.of("off") == []
    assert not seen.is_set()


async def test_a_hung_one_costs_its_own_slot_only(serve: Serve) -> None:
    waiting = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        await reader.read()
        waiting -= 1

    hung, madre = await serve(silent), await serve(says(answer()))
    config = fleet(hung=quick(hung, probe={"interval": 0.05, "timeout": 60}), madre=quick(madre))
    ears = Ears()
    prober = Prober(config)
    async with watching(config, prober, ears) as (board, _):
        await eventually(lambda: waiting == 1)
        before = len(ears.of("madre"))
        await eventually(lambda: len(ears.of("madre")) >= before + 5)
        assert waiting == 1, "at most one probe of an upstream is under way"
        assert board.service("hung").health is Health.UNKNOWN


async def test_a_hung_one_is_down_after_its_timeout(serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    config, ears = fleet(hung=quick(await serve(silent), probe={"interval": 0.05, "timeout": 0.6})), Ears()
    prober = Prober(config)
    async with watching(config, prober, ears) as (board, _):
        await eventually(lambda: board.service("hung").health is Health.DOWN)
    assert ears.of("hung")[0].reason == "no response within 0.6 s at /health"


async def test_the_first_round_takes_a_second_and_then_each_keeps_its_cadence() -> None:
    config = fleet(
        **{f"s{n}": {"url": f"http://h{n}:80", "probe": {"interval": 30}} for n in range(20)},
        fast={"url": "http://fast:80", "probe": {"interval": 0.1}},
    )
    prober, ears = Still(), Ears()
    start = asyncio.get_running_loop().time()
    async with watching(config, prober, ears):
        await eventually(lambda: len({upstream for upstream, _ in prober.starts}) == 21)
        took = asyncio.get_running_loop().time() - start
        await eventually(lambda: len(ears.of("fast")) >= 8)
    firsts = [moment - start for upstream, moment in prober.starts if upstream.service != "fast"]
    assert took < 2
    assert len(firsts) == 20, "a slow cadence does not follow a fast one"
    assert max(firsts) - min(firsts) > 0.5, "they do not start all at once"
    moments = [moment for upstream, moment in prober.starts if upstream.service == "fast"]
    gaps = [late - early for early, late in itertools.pairwise(moments[1:])]
    assert min(gaps) > 0.08
    assert len({round(gap, 3) for gap in gaps}) > 1, "there is jitter"


async def test_never_two_at_once_where_a_probe_takes_longer_than_the_interval() -> None:
    config = fleet(madre={"url": "http://h:80", "probe": {"interval": 0.0005}})
    prober, ears = Still(), Ears()
    async with watching(config, prober, ears):
        await eventually(lambda: len(ears.results) >= 20)
    assert max(prober.most.values()) == 1


async def test_every_address_is_probed() -> None:
    config = fleet(madre={"urls": ["http://a:1", "http://b:2"], "probe": {"interval": 0.05}})
    prober, ears = Still(), Ears()
    async with watching(config, prober, ears) as (board, _):
        await eventually(lambda: board.service("madre").reason == "all 2 addresses are up")
    assert set(prober.most) == set(config.services["madre"].upstreams)


async def test_a_listener_that_fails_does_not_end_the_watch() -> None:
    config = fleet(madre={"url": "http://h:80", "probe": {"interval": 0.02}})
    prober, calls = Still(), 0

    def broken(_: ProbeUpdate) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("a listener's fault")

    board = Board(config, now=now)
    watch = ProbeScheduler(config, prober, board, on_update=broken)
    tasks = TaskGroup("test")
    with capture_logs() as logs:
        tasks.start(watch.run(), "watch")
        await eventually(lambda: calls >= 3)
        await tasks.close()
    assert {entry["event"] for entry in logs} >= {"task failed"}


async def test_stopping_leaves_nothing_under_way() -> None:
    config = fleet(**{f"s{n}": {"url": f"http://h{n}:80", "probe": {"interval": 0.02}} for n in range(10)})
    prober, ears = Still(lambda upstream: upstream.host in ("h1", "h2")), Ears()
    async with watching(config, prober, ears):
        await eventually(lambda: prober.under_way.total() >= 2 and len(ears.results) > 20)
    assert prober.under_way.total() == 0
    starts = len(prober.starts)
    await asyncio.sleep(0.1)  # nothing is left that could be awaited: that is what is shown
    assert len(prober.starts) == starts
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_an_empty_fleet() -> None:
    config, ears = fleet(), Ears()
    watch = ProbeScheduler(config, Still(), Board(config, now=now), on_update=ears.hear)
    assert repr(watch) == "<ProbeScheduler: 0 endpoints, 0 probes running>"
    tasks = TaskGroup("test")
    task = tasks.start(watch.run(), "watch")
    await asyncio.sleep(0)
    assert not task.done()
    await tasks.close()
    assert task.cancelled()


class TestSuspicion:
    """A probe now, when something else than a probe speaks against what is believed."""

    @staticmethod
    def slow_cadence(**keys: object) -> Config:
        return fleet(madre={"url": "http://h:80", "probe": {"interval": 3600, **keys}})

    async def test_it_is_asked_at_once_and_once_a_second(self) -> None:
        config, prober, ears = self.slow_cadence(), Still(), Ears()
        (upstream,) = config.services["madre"].upstreams
        async with watching(config, prober, ears) as (_, watch):
            await eventually(lambda: len(ears.results) == 1)
            asked = asyncio.get_running_loop().time()
            for _ in range(100):
                watch.probe_now(upstream)
            await eventually(lambda: len(ears.results) == 2)
            for _ in range(100):
                watch.probe_now(upstream)
            assert repr(watch) == "<ProbeScheduler: 1 endpoints, 0 probes running>", "not one turn after its result"
            # The suspicion is not forgotten, though nobody repeats it: there may be no more requests to fail.
            await eventually(lambda: len(ears.results) == 3)
        # From before the request: under load the first of the two starts late, and the second does not wait for it.
        _, third = (moment for _, moment in prober.starts[1:])
        assert third - asked > 0.99

    async def test_never_a_second_one_beside_one_under_way(self) -> None:
        config, ears = self.slow_cadence(), Ears()
        prober = Still(lambda _: True)
        (upstream,) = config.services["madre"].upstreams
        async with watching(config, prober, ears) as (_, watch):
            await eventually(lambda: len(prober.starts) == 1)
            watch.probe_now(upstream)
            await asyncio.sleep(0)
            assert repr(watch) == "<ProbeScheduler: 1 endpoints, 1 probes running>"

    async def test_one_that_is_not_watched_is_passed_over(self) -> None:
        config = fleet(off={"url": "http://h:80", "enabled": False})
        async with watching(config, Still(), Ears()) as (_, watch):
            watch.probe_now(config.services["off"].upstreams[0])
            assert repr(watch) == "<ProbeScheduler: 0 endpoints, 0 probes running>"


async def test_a_probe_that_contradicts_is_repeated_soon() -> None:
    """Of an hour's interval nobody would see the end of here: what changes, changes by the rechecks."""
    config = fleet(madre={"url": "http://h:80", "probe": {"interval": 3600, "recheck": 0.02}})
    prober, ears = Still(), Ears()
    (upstream,) = config.services["madre"].upstreams
    async with watching(config, prober, ears) as (_, watch):
        await eventually(lambda: len(ears.results) == 1)
        prober.health = Health.DOWN
        watch.probe_now(upstream)
        await eventually(lambda: ears.flips("madre") == [Health.UP, Health.DOWN])
        assert len(ears.results) == 4, "three in a row"
        prober.health = Health.UP

        def recovered() -> bool:
            watch.probe_now(upstream)
            return ears.flips("madre") == [Health.UP, Health.DOWN, Health.UP]

        await eventually(recovered)
        assert len(ears.results) == 6, "two in a row"


async def test_every_other_probe_fails(serve: Serve) -> None:
    """Such a service is degraded, since neither the failures nor the successes in a row are ever enough."""
    asked = itertools.count(1)

    async def alternate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer() if next(asked) % 2 else answer(b"", "503 Service Unavailable"))

    probe = {"interval": 0.02, "recheck": 0.01, "timeout": 10}
    config, ears = fleet(madre=quick(await serve(alternate), probe=probe)), Ears()
    prober = Prober(config)
    async with watching(config, prober, ears) as (board, _):
        await eventually(lambda: len(ears.changes) == 2)
        count = len(ears.results)
        await eventually(lambda: len(ears.results) >= count + 20)
        view = board.service("madre")
    assert ears.flips("madre") == [Health.UP, Health.DEGRADED]
    assert [change.kind for change in ears.changes] == [None, DegradedKind.FAILING]
    assert (view.kind, view.reason) == (
        DegradedKind.FAILING,
        "5 of its last 10 probes failed: answered 503 at /health",
    )


async def test_many_that_hang_leave_the_others_their_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.health.probe_scheduler._SLOW", 0.2)
    hung = {f"hung{n}": {"url": f"http://hung{n}:80", "probe": {"interval": 0.05}} for n in range(40)}
    well = {f"well{n}": {"url": f"http://well{n}:80", "probe": {"interval": 0.05}} for n in range(10)}
    config = Config.of({"limits": {"probes": 32}, "services": {**hung, **well}})
    prober, ears = Still(lambda upstream: upstream.host.startswith("hung"), give_up=0.3), Ears()
    async with watching(config, prober, ears):
        await eventually(lambda: all(len(ears.of(name)) >= 1 for name in hung))
        counts = {name: len(ears.of(name)) for name in well}
        await eventually(lambda: all(len(ears.of(name)) >= counts[name] + 5 for name in well))
        under_way = Counter(upstream.host[:4] for upstream in prober.under_way.elements())
        assert under_way["hung"] <= 8, "a quarter of the slots"
        assert prober.most_in_all <= 32


class Starts:
    def __init__(self, slots: ProbeSlots) -> None:
        self.slots = slots
        self.names: list[str] = []

    def ask(self, name: str, *, is_slow: bool = False) -> None:
        self.slots.acquire(lambda: self.names.append(name), is_slow=is_slow)


def test_one_that_waits_gets_the_slot_that_becomes_free() -> None:
    starts = Starts(ProbeSlots(4))
    for name in "abcde":
        starts.ask(name)
    assert starts.names == ["a", "b", "c"]
    starts.slots.release(is_slow=False)
    assert starts.names == ["a", "b", "c", "d"]
    for _ in range(4):
        starts.slots.release(is_slow=False)
    assert repr(starts.slots) == "<ProbeSlots: 3 free, 0 wait; slow: 1 free, 0 wait>"


def test_two_hundred_that_hang_leave_the_others_their_slots() -> None:
    starts = Starts(ProbeSlots(64))
    for number in range(200):
        starts.ask(f"hung{number}", is_slow=True)
    assert len(starts.names) == 16
    for number in range(48):
        starts.ask(f"well{number}")
    assert len(starts.names) == 64, "every one of these has started at once"


def test_what_waits_can_be_dropped() -> None:
    starts = Starts(ProbeSlots(4))
    for name in "abcde":
        starts.ask(name)
    starts.slots.clear()
    starts.slots.release(is_slow=False)
    assert starts.names == ["a", "b", "c"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200), st.integers(4, 12))
def test_never_more_than_the_limit_and_none_is_forgotten(steps: list[tuple[bool, bool]], limit: int) -> None:
    slots = ProbeSlots(limit)
    under_way = {True: 0, False: 0}
    asked = {True: 0, False: 0}

    def start(is_slow: bool) -> None:
        under_way[is_slow] += 1

    for is_release, is_slow in steps:
        if is_release and under_way[is_slow]:
            under_way[is_slow] -= 1
            asked[is_slow] -= 1
            slots.release(is_slow=is_slow)
        elif not is_release:
            asked[is_slow] += 1
            slots.acquire(lambda is_slow=is_slow: start(is_slow), is_slow=is_slow)  # type: ignore[misc]
        assert sum(under_way.values()) <= limit
        quarter = max(1, limit // 4)
        assert under_way[True] == min(asked[True], quarter)
        assert under_way[False] == min(asked[False], limit - quarter)
