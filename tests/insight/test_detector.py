"""The detector: what opens a warning, what does not, and what becomes of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import exp, log

import pytest

from tentaculo.insight.detector import HOURS, Detector, Outcome, Rule
from tentaculo.insight.measures import KEPT

LIMIT, USUAL = 500.0, 100.0
FIRST = 12 * 1000


def latency_detector(*, usual: float = USUAL, limit: float = LIMIT) -> Detector:
    """A detector that knows a week of a usual value."""
    detector = Detector(limit, is_logarithmic=True)
    for hour in range(FIRST // 12 - HOURS, FIRST // 12):
        detector.warm_up(hour, usual)
    return detector


def feed(detector: Detector, values: Sequence[float | None], start: int = FIRST) -> list[tuple[int, Outcome]]:
    """What became of warnings, with the place of the value at which it did."""
    found = []
    for place, value in enumerate(values):
        detector.add(start + place, value)
        if (outcome := detector.evaluate()) is not None:
            found.append((place, outcome))
    return found


def noisy(values: list[float], spread: float = 0.1, seed: int = 3) -> list[float | None]:
    chance = random.Random(seed)
    return [value * exp(chance.gauss(0, spread)) for value in values]


def ramp(bins: int, start: float = USUAL, end: float = LIMIT) -> list[float]:
    """An exponential rise."""
    return [exp(log(start) + (log(end) - log(start)) * at / bins) for at in range(bins)]


def test_a_ramp_is_warned_of_before_the_limit_and_then_reaches_it() -> None:
    detector = latency_detector()
    values = noisy([USUAL] * 48 + ramp(24) + [LIMIT * 1.05] * 8)
    outcomes = feed(detector, values)
    assert [outcome for _, outcome in outcomes] == [Outcome.OPEN, Outcome.REACHED]
    # The limit is reached at 72; two bins are ten minutes.
    assert 48 < outcomes[0][0] <= 70 <= outcomes[1][0] <= 77
    assert detector.open is None


def test_the_forecast_of_a_trend_says_since_when_and_until_when() -> None:
    detector = latency_detector()
    found = None
    for place, value in enumerate([USUAL] * 48 + ramp(60)):
        detector.add(FIRST + place, value)
        if detector.evaluate() is Outcome.OPEN:
            found = detector.open
            break
    assert found is not None
    assert found.rule is Rule.TREND
    assert found.limit == pytest.approx(LIMIT)
    assert found.usual == pytest.approx(USUAL)
    assert found.level == pytest.approx(exp(log(USUAL) + (place - 48) / 60 * log(5)), rel=0.05)
    assert found.expected is not None
    assert found.earliest is not None
    assert found.latest is not None
    left = 48 + 60 - place
    assert found.expected == pytest.approx(left, abs=3)
    assert found.earliest < left < found.latest
    assert found.since < found.number
    assert found.per_bin > 0


def test_noise_seasons_and_deploys_open_nothing() -> None:
    detector = latency_detector()
    day = [USUAL * (1 + 0.5 * (at % 288 < 144)) for at in range(2016)]
    for deploy in range(100, 2016, 400):
        day[deploy : deploy + 2] = [LIMIT * 2] * 2
    assert feed(detector, noisy(day)) == []


def test_a_burst_on_a_high_level_opens_nothing_and_a_rise_to_the_same_height_does() -> None:
    """An hour that begins at once at 85 % of the way, where a rise of two hours comes to as much."""
    level, high = (exp(log(USUAL) + way * log(LIMIT / USUAL)) for way in (0.45, 0.85))
    start = [USUAL] * 24 + [level] * 60
    burst = [*start, *[high] * 12, *[level] * 24]
    assert feed(latency_detector(), noisy(burst, 0.03)) == []
    assert [outcome for _, outcome in feed(latency_detector(), noisy(start + ramp(24, level, high), 0.03))] == [
        Outcome.OPEN
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_queue_is_warned_of_long_before_it_is_full(seed: int) -> None:
    """Its load rises steadily within eight hours, and its value in proportion to 1 / (1 - load): half of the way is late."""
    limit, full = 40 * USUAL, 48 + 96
    values = [USUAL] * 48 + [USUAL / (1 - (1 - 1 / 40) * at / 96) for at in range(96)]
    found = feed(latency_detector(limit=limit), noisy(values, 0.1, seed))
    assert [outcome for _, outcome in found] == [Outcome.OPEN]
    # 17 bins are 85 minutes. The logarithms alone open it later.
    assert found[0][0] <= full - 17


def test_a_level_that_was_harmless_before_is_no_news_and_a_higher_one_is() -> None:
    detector = Detector(LIMIT, is_logarithmic=True)
    # Each night 350 of 500 ms, which is three quarters of the way.
    for hour in range(FIRST // 12 - HOURS, FIRST // 12):
        detector.warm_up(hour, 350.0 if hour % 24 < 3 else USUAL)
    harmless, higher = [350.0] * 30, ramp(16, 350.0, 470.0)
    assert feed(detector, [*[USUAL] * 48, *harmless]) == []
    assert [outcome for _, outcome in feed(detector, [*higher], FIRST + 78)] == [Outcome.OPEN]


def test_what_is_not_measured_for_an_hour_ends_no_warning() -> None:
    detector = latency_detector()
    values: list[float | None] = [*[USUAL] * 48, *ramp(24)[:20], *[None] * 8, *[LIMIT * 1.1] * 6]
    assert [outcome for _, outcome in feed(detector, values)] == [Outcome.OPEN, Outcome.REACHED]


def test_a_step_below_forty_percent_seldom_opens_a_warning() -> None:
    step = exp(log(USUAL) + 0.4 * (log(LIMIT) - log(USUAL)))
    series = [noisy([USUAL] * 48 + [step] * 60, 0.05, seed) for seed in range(30)]
    assert sum(feed(latency_detector(), one) != [] for one in series) <= 6


def test_a_higher_step_than_harmless_hours_must_be_higher_still() -> None:
    """A service that was at 35 % of the way each day is warned of at 60 % no more, where one that never was is."""
    step, day = (exp(log(USUAL) + way * (log(LIMIT) - log(USUAL))) for way in (0.6, 0.35))
    seasonal = Detector(LIMIT, is_logarithmic=True)
    for hour in range(FIRST // 12 - HOURS, FIRST // 12):
        seasonal.warm_up(hour, day if hour % 24 < 3 else USUAL)
    series = noisy([USUAL] * 48 + [step] * 60, 0.02)
    assert feed(seasonal, series) == []
    assert [outcome for _, outcome in feed(latency_detector(), series)] == [Outcome.OPEN]


def test_a_step_to_eighty_percent_opens_one_warning_by_its_level() -> None:
    detector = latency_detector()
    step = exp(log(USUAL) + 0.8 * (log(LIMIT) - log(USUAL)))
    found = feed(detector, noisy([USUAL] * 48 + [step] * 24 + [USUAL] * 40 + [step] * 24, 0.05))
    # The second time it is known to be harmless.
    assert [outcome for _, outcome in found] == [Outcome.OPEN, Outcome.ENDED]


def test_a_warning_ends_when_the_service_recovers_and_the_next_ramp_must_come_further() -> None:
    detector = latency_detector()
    half = ramp(40)[:32]
    found = feed(detector, noisy([USUAL] * 48 + half + [USUAL] * 60, 0.05))
    assert [outcome for _, outcome in found] == [Outcome.OPEN, Outcome.ENDED]


def test_a_bin_that_is_looked_at_again_brings_no_end_nearer() -> None:
    values = noisy([USUAL] * 48 + ramp(40)[:32] + [USUAL] * 60, 0.05)
    once = feed(latency_detector(), values)
    detector, often = latency_detector(), list[tuple[int, Outcome]]()
    for place, value in enumerate(values):
        # As after each of seven attempts to store what was found.
        for _ in range(7):
            often += [(place, outcome) for _, outcome in feed(detector, [value], FIRST + place)]
    assert [outcome for _, outcome in once] == [Outcome.OPEN, Outcome.ENDED]
    assert often == once


def test_after_the_limit_a_new_ramp_is_warned_of_again() -> None:
    detector = latency_detector()
    once = [USUAL] * 48 + ramp(24) + [LIMIT * 1.2] * 10
    assert [outcome for _, outcome in feed(detector, once + [USUAL] * 60 + once)] == [
        *(Outcome.OPEN, Outcome.REACHED),
        *(Outcome.OPEN, Outcome.REACHED),
    ]


def test_a_signal_that_is_usually_above_its_limit_opens_nothing() -> None:
    assert feed(latency_detector(usual=600.0), noisy([600.0] * 20 + ramp(24, 400.0, 700.0))) == []


def test_gaps_are_no_values_and_a_signal_that_is_gone_ends_as_unknown() -> None:
    detector = latency_detector()
    values: list[float | None] = [*[USUAL] * 48, *ramp(24)[:22]]
    values[50] = values[57] = values[61] = None
    found = feed(detector, [*values, *[None] * 120])
    assert [outcome for _, outcome in found] == [Outcome.OPEN, Outcome.UNKNOWN]
    assert feed(latency_detector(), [None] * 100) == []


def test_bins_that_are_left_out_are_gaps() -> None:
    detector = latency_detector()
    feed(detector, [USUAL] * 48)
    detector.add(FIRST + 5000, USUAL)
    assert detector.number == FIRST + 5000
    assert detector.level is None
    assert detector.evaluate() is None


def test_a_clock_that_is_set_back_repeats_bins_without_a_warning() -> None:
    detector = latency_detector()
    feed(detector, noisy([USUAL] * 60))
    assert feed(detector, noisy([USUAL] * 60), FIRST + 24) == []
    assert detector.number == FIRST + 83
    assert feed(detector, noisy([USUAL] * 60), FIRST - 10 * KEPT) == []


@pytest.mark.parametrize("back", [5, 24, 10 * KEPT])
def test_a_warning_ends_also_after_the_clock_was_set_back(back: int) -> None:
    detector = latency_detector()
    feed(detector, [USUAL] * 48 + ramp(24)[:18])
    assert detector.open is not None
    found = feed(detector, [USUAL] * 60, FIRST + 66 - back)
    assert [outcome for _, outcome in found] in ([Outcome.ENDED], [Outcome.UNKNOWN])


def test_a_warning_continues_after_a_restart() -> None:
    before = latency_detector()
    feed(before, [USUAL] * 48 + ramp(24)[:18])
    opened = before.open
    assert opened is not None
    after = latency_detector()
    for place, value in enumerate([USUAL] * 48 + ramp(24)[:18]):
        after.add(FIRST + place, value)
    after.resume(opened)
    assert feed(after, [*ramp(24)[18:], *[LIMIT * 1.1] * 6], FIRST + 66)[0][1] is Outcome.REACHED


def test_a_gauge_may_fall_to_its_limit() -> None:
    """Free space: plain numbers, and a lower limit."""
    detector = Detector(10.0, is_logarithmic=False, rises=False)
    for hour in range(FIRST // 12 - HOURS, FIRST // 12):
        detector.warm_up(hour, 100.0)
    falling = [100.0] * 48 + [100.0 - 90 * at / 48 for at in range(54)]
    found = feed(detector, list(falling))
    assert [outcome for _, outcome in found] == [Outcome.OPEN, Outcome.REACHED]
    detector = Detector(10.0, is_logarithmic=False, rises=False)
    assert feed(detector, [100.0 + at for at in range(200)]) == []


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_no_latency_has_are_gaps(value: float) -> None:
    detector = latency_detector()
    assert feed(detector, [value] * 30) == []
    assert detector.level is None
