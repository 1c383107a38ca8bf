from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.history import HOUR, Histogram, Period, Tally, bucket
from tentaculo.web import charts
from tentaculo.web.charts import HEIGHT, WIDTH, Chart

LAST = 20_000 * 86400 + 15 * HOUR
_BAR = re.compile(r"M(\d+) (\d+)v(-?\d+)h(\d+)v(-?\d+)z")


def hour(ago: int, *, seconds: float | None = 0.01, failed: int = 0) -> Period:
    ok = 0 if seconds is None else 10
    latency = Histogram() if seconds is None else Histogram({bucket(seconds): ok})
    return Period("madre", HOUR, LAST - ago * HOUR, Tally(ok, failed, latency))


def drawn(*hours: Period) -> Chart:
    return charts.day({one.start: one for one in hours}, LAST, lambda period: period.probes)


def bars(path: str) -> list[tuple[int, int, int]]:
    """Left, base and height of each bar; the whole path is made of them."""
    found = [tuple(map(int, groups)) for groups in _BAR.findall(path)]
    assert "".join(f"M{x} {y}v{up}h{width}v{down}z" for x, y, up, width, down in found) == path
    assert all(up == -down and width > 0 for _, _, up, width, down in found)
    return [(x, y, up) for x, y, up, _, _ in found]


def test_an_hour_has_its_place_and_its_height() -> None:
    chart = drawn(hour(0, seconds=0.01), hour(23, seconds=0.04))
    first, last = bars(chart.bars)
    assert first == (0, HEIGHT, -HEIGHT)
    assert last == (WIDTH - WIDTH // 24, HEIGHT, -round(HEIGHT / 4))
    assert chart.faults == ""
    assert chart.text == "Slowest at 16:00 UTC: 95 % within 39 ms. No failures."


def test_what_failed_hangs_from_above() -> None:
    chart = drawn(hour(1, failed=10), hour(2, seconds=None, failed=3), hour(3))
    assert [(y, up) for _, y, up in bars(chart.faults)] == [(0, HEIGHT), (0, HEIGHT // 2)]
    assert len(bars(chart.bars)) == 2
    assert chart.text.endswith("Failures in 2 hours, last in that from 14:00 UTC.")
    assert drawn(hour(2, seconds=None, failed=3)).text == "Failures in the hour from 13:00 UTC."


def test_the_worse_of_probes_and_requests_is_what_failed() -> None:
    one = hour(0)
    one.requests = Tally(1, 3)
    assert bars(drawn(one).faults) == [(WIDTH - WIDTH // 24, 0, round(HEIGHT * 0.75))]


def test_a_single_failure_of_many_is_seen() -> None:
    one = hour(0)
    one.probes.ok, one.probes.failed = 1_000_000, 1
    ((_, _, height),) = bars(drawn(one).faults)
    assert height >= 3


def test_a_day_without_anything_is_an_empty_canvas() -> None:
    assert drawn() == Chart("", "", "")
    assert drawn(hour(24), hour(-1)) == Chart("", "", ""), "hours outside the day are not drawn"


@given(
    st.dictionaries(
        st.integers(0, 23), st.tuples(st.none() | st.floats(1e-7, 1e5), st.integers(0, 1_000_000)), max_size=24
    )
)
def test_nothing_is_drawn_outside_the_canvas(day: dict[int, tuple[float | None, int]]) -> None:
    chart = drawn(*(hour(ago, seconds=seconds, failed=failed) for ago, (seconds, failed) in day.items()))
    for x, y, up in bars(chart.bars) + bars(chart.faults):
        assert 0 <= x < WIDTH
        assert 0 <= y + up <= HEIGHT
        assert abs(up) >= 3
    assert len(bars(chart.bars)) == sum(seconds is not None for seconds, _ in day.values())
    assert len(bars(chart.faults)) == sum(failed > 0 for _, failed in day.values())


@pytest.mark.parametrize("path", ["bars", "faults"])
def test_what_is_drawn_stays_small(path: str) -> None:
    chart = drawn(*(hour(ago, failed=1) for ago in range(24)))
    assert len(getattr(chart, path)) < 600
