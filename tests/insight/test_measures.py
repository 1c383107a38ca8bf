"""What speaks for a warning: a line or a step, how soon the limit is reached, and what gaps leave of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, nan

import pytest

from tentaculo.insight.measures import KEPT, TWO_HOURS, Measures, Signal, points_of, trend_of

LIMIT = log(10.0)
"""Ten usual values, in logarithms; usual is 0."""


def measures_of(values: Sequence[float], limit: float = LIMIT, *, has_inverse: bool = True) -> Measures:
    """Of a signal of a week at 0 and then these values."""
    kept = [0.0] * (KEPT - len(values)) + list(values)
    known = sorted(value for value in kept[-6:] if value == value)
    signal = Signal(kept, known[len(known) // 2], 0.0, limit, 0.0)
    return signal.measure(lambda value: exp(-value) if has_inverse else None)


def queue(left: int, bins: int = 48) -> list[float]:
    """A queue whose load rises steadily, `left` bins before its value is ten times as high."""
    return [-log(1 - 0.9 * at / bins) for at in range(bins - left + 1)][-KEPT:]


def test_a_rise_is_nearer_to_a_line_and_a_burst_nearer_to_a_step() -> None:
    rise = [LIMIT * 0.8 * at / TWO_HOURS for at in range(1, TWO_HOURS + 1)]
    step = [0.0] * 12 + [LIMIT * 0.8] * 12
    assert measures_of(rise).line == pytest.approx(1.0)
    assert measures_of(step).line == pytest.approx(-1.0)


def test_a_step_that_is_long_ago_is_no_step() -> None:
    assert measures_of([LIMIT * 0.8] * TWO_HOURS).line == 0.0


@pytest.mark.parametrize("left", [4, 8, 16])
def test_the_inverse_of_a_queue_says_when_it_is_full(left: int) -> None:
    found = measures_of(queue(left))
    assert found.soon == pytest.approx(1 - left / TWO_HOURS, abs=0.01)
    # The line through its logarithms comes later.
    assert measures_of(queue(left), has_inverse=False).soon < found.soon - 0.05


def test_without_an_inverse_the_line_of_the_values_says_when() -> None:
    rise = [LIMIT * at / 40 for at in range(1, 31)]
    assert measures_of(rise, has_inverse=False).soon == pytest.approx(1 - 10 / TWO_HOURS, abs=0.01)


def test_what_does_not_rise_reaches_no_limit() -> None:
    falls = [LIMIT * (0.9 - 0.3 * at / TWO_HOURS) for at in range(TWO_HOURS)]
    assert measures_of(falls).soon == 0.0
    assert measures_of([LIMIT * 0.8] * TWO_HOURS).soon == 0.0


def test_two_hours_with_too_many_gaps_say_nothing_of_lines() -> None:
    rise = [LIMIT * 0.8 * at / TWO_HOURS for at in range(1, TWO_HOURS + 1)]
    few = [nan] * 8 + rise[8:]
    assert (measures_of(few).line, measures_of(few).soon) == (0.0, 0.0)
    some = [nan] * 7 + rise[7:]
    assert measures_of(some).line > 0.3


def test_the_level_is_that_of_the_end_of_the_line_and_no_more_than_the_highest_value() -> None:
    rise = [LIMIT * 0.8 * at / TWO_HOURS for at in range(1, TWO_HOURS + 1)]
    assert measures_of(rise).level == pytest.approx(0.8)
    step = [0.0] * 6 + [LIMIT * 0.5] * 6
    assert measures_of(step).level == pytest.approx(0.5)


def test_novelty_is_the_distance_from_the_highest_harmless_hour() -> None:
    values = [0.0] * (KEPT - 12) + [LIMIT * 0.7] * 12
    signal = Signal(values, LIMIT * 0.7, 0.0, LIMIT, LIMIT * 0.6)
    assert signal.measure(lambda value: exp(-value)).novelty == pytest.approx(0.1)


def test_a_window_has_the_medians_of_its_points_and_no_trend_with_too_many_gaps() -> None:
    values = [float(at) for at in range(KEPT)]
    assert points_of(values, 4)[-1] == (-1.5, 45.5)
    found = trend_of(values, 4)
    assert found is not None
    assert (found.slope.middle, found.now, found.is_steady) == (1.0, 47.0, True)
    assert trend_of([nan] * 4 + values[4:], 1) is not None
    assert trend_of([*values[:-12], *[nan] * 4, *values[-8:]], 1) is None
