"""The offset of each source's clock as an interval, and the times of events that it corrects."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.clock_offsets import (
    DATE_MS,
    DRIFT,
    GENERATION,
    KNOWN_FOR,
    MOMENT,
    MOST_SOURCES,
    Bounds,
    ClockOffsets,
    OffsetEstimate,
)
from tentaculo.model.clock import CorrectedTime, DateReading
from tentaculo.model.health import Endpoint
from tests.support.calls import counting_calls

START = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
ONE, TWO = Endpoint("madre", "10.0.0.1", 8001), Endpoint("madre", "10.0.0.2", 8001)
HOUR_MS = 3_600_000
EDGE = 1.0
"""Milliseconds of rounding."""


class World:
    """A gateway, and clocks that differ from its own by `offset` seconds and by `drift`."""

    def __init__(self, *endpoints: Endpoint, offset: float = 0.0, drift: float = 0.0) -> None:
        self.seconds = 5000.0
        """Of the clock that nobody sets."""
        self.ours = START.timestamp() - self.seconds
        self.offset, self.drift = offset, drift
        self.offsets = ClockOffsets(
            {"madre": endpoints or (ONE,)},
            {"madre": "madre", "mother": "madre"},
            now=self.now,
            elapsed=lambda: self.seconds,
        )

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.ours + self.seconds, UTC)

    def now_ms(self) -> float:
        return (self.ours + self.seconds) * 1000

    def theirs(self) -> float:
        """What the clock of the source shows, seconds since 1970."""
        return START.timestamp() + self.offset + (self.seconds - 5000.0) * (1 + self.drift)

    def true_ms(self) -> float:
        return self.theirs() * 1000 - self.now_ms()

    def probe(self, endpoint: Endpoint = ONE, *, there: float = 0.01, back: float = 0.01, lag: float = 0.0) -> bool:
        sent = self.seconds
        self.seconds += there
        date = math.floor(self.theirs() - lag)
        self.seconds += back
        return self.offsets.note_date(endpoint, DateReading(date * 1000, sent, self.seconds))

    def event(self, latency: float = 0.0, source: str = "madre", *, ahead: float = 0.0) -> CorrectedTime | None:
        stated = math.floor((self.theirs() + ahead) * 1000)
        self.seconds += latency
        return self.offsets.correct(source, stated, self.now())

    def bounds(self, endpoint: Endpoint = ONE) -> Bounds:
        found = self.offsets.of_endpoint(endpoint)
        assert found is not None
        return found

    def shown(self, name: str = "madre") -> Any:
        return next((source for source, _ in self.offsets.sources() if source.name == name), None)


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 2 * KNOWN_FOR), st.none(), st.none()),
    st.tuples(st.just("wait"), st.floats(0, 10), st.none(), st.none()),
    st.tuples(st.just("date"), st.floats(0, 5), st.floats(0, 5), st.floats(0, 1.199)),
    st.tuples(st.just("event"), st.floats(0, 300), st.booleans(), st.booleans()),
    st.tuples(st.just("our clock is set"), st.floats(-1e6, 1e6), st.none(), st.none()),
)


@given(
    st.floats(-1e5, 1e5),
    st.floats(-DRIFT, DRIFT),
    st.lists(STEPS, max_size=30),
)
def test_the_true_offset_and_the_true_time_are_always_inside(
    offset: float, drift: float, steps: list[tuple[Any, ...]]
) -> None:
    world = World(offset=offset, drift=drift)
    for kind, first, second, third in steps:
        if kind == "wait":
            world.seconds += first
        elif kind == "date":
            assert not world.probe(there=first, back=second, lag=third), "the clock was not set"
        elif kind == "our clock is set":
            world.ours += first
        else:
            made, stated = world.seconds, math.floor(world.theirs() * 1000)
            if second:
                stated = (math.floor if third else round)(stated / 1000) * 1000
            world.seconds += first
            corrected = world.offsets.correct("madre", stated, world.now())
            if corrected is not None:
                true = (world.ours + made) * 1000
                assert corrected.ms - corrected.width_ms - EDGE <= true <= corrected.ms + EDGE
        bounds = world.offsets.of_endpoint(ONE)
        if bounds is not None:
            assert bounds.low - EDGE <= world.true_ms() <= bounds.high + EDGE
            source = world.shown()
            assert source.low_ms - EDGE <= world.true_ms() <= source.high_ms + EDGE


def test_one_date_bounds_from_both_sides_and_more_of_them_narrow() -> None:
    world = World(offset=3600.3)
    assert world.offsets.of_endpoint(ONE) is None
    world.probe()
    first = world.bounds()
    assert first.low <= 3_600_300 <= first.high
    assert DATE_MS <= first.high - first.low <= DATE_MS + 30
    for _ in range(40):
        world.seconds += 0.94
        world.probe()
    narrow = world.bounds()
    assert narrow.low <= 3_600_300 <= narrow.high
    assert narrow.high - narrow.low < DATE_MS - 900
    assert 3_600_300 - narrow.low < 60


def test_an_interval_widens_with_age_until_it_is_unknown() -> None:
    world = World()
    world.probe()
    before = world.bounds()
    world.seconds += 1000
    after = world.bounds()
    assert before.low - after.low == pytest.approx(100)
    assert after.high - before.high == pytest.approx(100)
    world.seconds += KNOWN_FOR
    assert world.offsets.of_endpoint(ONE) is None
    assert world.event() is None
    assert world.shown().basis == ("stated",)


@pytest.mark.parametrize("step", [-7200.0, -3.0, 3.0, 7200.0])
def test_a_clock_that_was_set_is_learned_anew(step: float) -> None:
    world = World()
    world.probe()
    since = world.shown().since
    world.event()
    world.seconds += 10
    world.offset += step
    assert world.probe()
    bounds = world.bounds()
    assert bounds.low <= step * 1000 <= bounds.high
    assert bounds.high - bounds.low < DATE_MS + 30
    assert world.shown().basis == ("date",), "what was stated before counts no more"
    assert world.shown().since > since
    assert not world.probe()


def test_a_clock_that_was_set_by_less_than_the_width_is_right_again_after_two_generations() -> None:
    world = World()
    for _ in range(30):
        world.seconds += 0.94
        world.probe()
    world.offset -= 0.7
    for _ in range(60):
        world.seconds += GENERATION / 20 + 0.37
        world.probe()
    assert world.bounds().low <= world.true_ms() <= world.bounds().high


def test_our_own_clock_that_is_set_is_no_other_clock_that_is_set() -> None:
    world = World(offset=5)
    world.probe()
    since = world.shown().since
    world.ours -= 86_400
    assert not world.probe()
    bounds = world.bounds()
    assert bounds.low <= 5000 + 86_400_000 <= bounds.high
    assert world.shown().since == pytest.approx(since - timedelta(days=1), abs=timedelta(milliseconds=1))
    corrected = world.event()
    assert corrected is not None
    assert corrected.ms == pytest.approx(world.now_ms(), abs=2)


def test_an_event_of_a_clock_that_is_wrong_gets_its_time_by_ours() -> None:
    world = World(offset=-HOUR_MS / 1000)
    for _ in range(40):
        world.seconds += 0.94
        world.probe()
    at_once = world.event()
    assert at_once is not None
    assert at_once.ms == pytest.approx(world.now_ms(), abs=2)
    made = world.now_ms()
    late = world.event(latency=120)
    assert late is not None
    assert late.ms - late.width_ms <= made <= late.ms
    assert late.ms == pytest.approx(made, abs=80)
    assert late.width_ms < DATE_MS - 800


def test_the_clock_has_drifted_since_a_late_event_was_made() -> None:
    world = World(drift=DRIFT)
    made, stated = world.now_ms(), math.floor(world.theirs() * 1000)
    world.seconds += 3000
    for _ in range(40):
        world.seconds += 0.94
        world.probe()
    corrected = world.offsets.correct("madre", stated, world.now())
    assert corrected is not None
    assert corrected.ms - corrected.width_ms <= made <= corrected.ms + EDGE


def test_whole_seconds_may_have_been_rounded() -> None:
    world = World(offset=0.7)
    world.probe()
    stated = math.ceil(world.theirs()) * 1000
    corrected = world.offsets.correct("madre", stated, world.now())
    assert corrected is not None
    assert corrected.ms - corrected.width_ms <= world.now_ms() <= corrected.ms + EDGE


@pytest.mark.parametrize("source", ["madre", "mother", "/madre"])
def test_a_service_is_found_by_its_names(source: str) -> None:
    world = World()
    world.probe()
    assert world.event(source=source) is not None


def test_a_source_that_is_no_service_has_one_bound_and_is_not_corrected() -> None:
    world = World(offset=60)
    assert world.event(source="robot", latency=0.5) is None
    source = world.shown("robot")
    assert source.low_ms == pytest.approx(59_500, abs=5)
    assert source.high_ms == math.inf
    assert source.basis == ("stated",)


def test_stated_times_narrow_the_interval_of_one_clock() -> None:
    world = World()
    world.probe()
    before = world.shown()
    world.event(latency=0.001)
    after = world.shown()
    assert before.low_ms < after.low_ms <= 0 <= after.high_ms
    assert after.basis == ("date", "stated")


def test_what_others_state_in_its_name_cannot_move_a_source_out_of_its_dates() -> None:
    world = World()
    world.probe()
    dates = world.bounds()
    for ahead in (10.0, 3600.0, 86_000.0, 1e7):
        assert world.event(ahead=ahead) is None, "the dates do not allow it"
    for ahead in (-1e7, -3600.0, -10.0):
        world.event(ahead=ahead)
    source = world.shown()
    assert (source.low_ms, source.high_ms) == (pytest.approx(dates.low), pytest.approx(dates.high))
    # One that the dates allow narrows what is shown, and no time of another event, until the next dates do not allow it.
    world.event(ahead=(dates.high - 100) / 1000)
    assert dates.low < world.shown().low_ms < dates.high
    made = world.now_ms()
    honest = world.event(latency=5)
    assert honest is not None
    assert honest.ms - honest.width_ms <= made <= honest.ms
    for _ in range(40):
        world.seconds += 0.94
        world.probe()
    assert world.shown().basis == ("date",)


def test_a_plan_for_next_month_is_no_clock() -> None:
    world = World()
    assert world.event(source="robot", ahead=30 * 86_400.0) is None
    assert world.shown("robot") is None


def test_a_source_without_dates_whose_clock_was_set_back_is_forgotten() -> None:
    world = World(offset=600)
    world.event(source="robot")
    world.offset = 0
    for _ in range(50):
        world.seconds += GENERATION / 20
        world.event(source="robot")
    assert world.shown("robot").low_ms == pytest.approx(0, abs=200)


def test_the_sources_that_are_kept_are_the_last_ones() -> None:
    world = World()
    for number in range(MOST_SOURCES):
        world.event(source=f"s-{number}")
    world.seconds += MOMENT
    world.event(source="s-0")
    world.event(source="one more")
    names = {source.name for source, _ in world.offsets.sources()}
    assert len(names) == MOST_SOURCES
    assert "s-0" in names
    assert "s-1" not in names


@pytest.mark.parametrize("source", ["madre", "robot"])
def test_what_an_event_costs_is_bounded(source: str) -> None:
    world = World()
    world.probe()
    world.event(source=source)
    stated, now = math.floor(world.theirs() * 1000), world.now()
    with counting_calls() as calls:
        for _ in range(100):
            world.offsets.correct(source, stated, now)
    assert calls.total / 100 < 20


def test_a_source_with_several_endpoints_spans_their_clocks() -> None:
    world = World(ONE, TWO)
    world.probe(ONE)
    world.offset = 30
    world.probe(TWO)
    source, endpoints = next(iter(world.offsets.sources()))
    assert source.low_ms == pytest.approx(world.bounds(ONE).low)
    assert source.high_ms == pytest.approx(world.bounds(TWO).high)
    assert [one.name for one in endpoints] == ["10.0.0.1:8001", "10.0.0.2:8001"]
    world.offset = 0
    made = world.now_ms()
    corrected = world.event()
    assert corrected is not None
    assert corrected.ms - corrected.width_ms <= made <= corrected.ms + EDGE
    assert corrected.width_ms > 30_000
    assert world.shown().basis == ("date",)
    world.offset = 3600
    world.probe(TWO)
    assert world.event() is None, "a width of an hour says less than the receipt"


def test_an_event_from_before_its_clock_was_set_is_not_corrected() -> None:
    world = World()
    world.probe()
    made = math.floor(world.theirs() * 1000)
    world.seconds += 60
    assert world.offsets.correct("madre", made, world.now()) is not None
    world.offset = 300
    world.probe()
    assert world.offsets.correct("madre", made, world.now()) is None


def test_an_event_from_before_the_first_reading_is_corrected_for_an_hour() -> None:
    world = World()
    early, earlier = (math.floor((world.theirs() - ago) * 1000) for ago in (KNOWN_FOR - 60, KNOWN_FOR + 60))
    world.probe()
    assert world.offsets.correct("madre", early, world.now()) is not None
    assert world.offsets.correct("madre", earlier, world.now()) is None


def test_a_reading_that_is_older_than_the_last_one_takes_nothing_back() -> None:
    estimate = OffsetEstimate()
    estimate.add(Bounds(0, 1000), 1000.0)
    assert not estimate.add(Bounds(500, 2000), 900.0)
    bounds = estimate.bounds(1000.0)
    assert bounds is not None
    assert bounds.low == pytest.approx(490)
    assert bounds.high == 1000
    assert repr(estimate) == "<OffsetEstimate: 490 to 1000 ms>"


def test_a_reload_between_two_sources_leaves_out_what_it_removed() -> None:
    other = msgspec.structs.replace(ONE, service="hermes")
    now = START.timestamp()
    offsets = ClockOffsets({"madre": (ONE,), "hermes": (other,)}, {}, now=lambda: START, elapsed=lambda: now)
    for endpoint in (ONE, other):
        offsets.note_date(endpoint, DateReading(math.floor(now) * 1000, now, now))
    found = offsets.sources()
    assert next(found)[0].name == "madre"
    offsets.prepare({"madre": (ONE,)}, {})()
    assert list(found) == []
