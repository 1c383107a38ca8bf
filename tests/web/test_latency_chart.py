"""The chart of one service."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from tentaculo.model.history import HOUR, MINUTE, Histogram, Period, Tally, bucket
from tentaculo.web.latency_chart import COUNTS, HEIGHT, LatencyChart, latency_chart
from tentaculo.web.timeline import WIDTH, Axis
from tentaculo.web.wording import ENGLISH

UNTIL = 1_773_500_940
AXIS = Axis(UNTIL - 3 * HOUR, UNTIL)


def minute(ago: int, ok: int, failed: int = 0, seconds: float = 0.01) -> Period:
    probes = Tally(6, 0, Histogram({bucket(0.002): 6}))
    latency = Histogram({bucket(seconds): ok}) if ok else Histogram()
    return Period("madre", MINUTE, UNTIL - ago * MINUTE, probes, Tally(ok, failed, latency))


def heights(path: str) -> list[float]:
    return [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_the_lines_are_of_requests_and_else_of_probes() -> None:
    chart = latency_chart(AXIS, MINUTE, [minute(3, 60), minute(2, 60, seconds=0.04), minute(1, 0)], ENGLISH)
    slow, slower, probes = heights(chart.lines["p95"])
    assert slower < slow < probes, "longer is higher"
    assert list(chart.lines) == ["p50", "p99", "p95"]
    assert chart.text == "95 % within 39 ms at worst. 120 requests, 0 failed."


def test_the_scale_has_round_marks_and_a_ripple_is_no_wave() -> None:
    chart = latency_chart(AXIS, MINUTE, [minute(2, 60, seconds=0.010), minute(1, 60, seconds=0.0105)], ENGLISH)
    first, second = heights(chart.lines["p95"])
    assert abs(first - second) < HEIGHT / 10
    assert len(chart.grid) >= 2
    assert all(re.fullmatch(r"[125]0*(\.0)? m?s", line.text) for line in chart.grid)


def test_requests_are_columns_and_the_failed_a_part_of_them() -> None:
    chart = latency_chart(AXIS, MINUTE, [minute(2, 90, 10), minute(1, 25, 25)], ENGLISH)
    drawn = [float(height) for height in re.findall(r"v-([\d.]+)h", chart.requests)]
    failed = [float(height) for height in re.findall(r"v-([\d.]+)h", chart.failed)]
    assert (drawn, failed) == ([COUNTS, COUNTS / 2], [COUNTS / 10, COUNTS / 4])


def test_nothing_known_draws_nothing() -> None:
    empty = LatencyChart({"p50": "", "p99": "", "p95": ""}, [], "", "", "No latency is known. 0 requests, 0 failed.")
    assert latency_chart(AXIS, MINUTE, [], ENGLISH) == empty


@example([(0, 11.0), (1, 1083.0)])  # 10 s lay on the edge
@given(st.lists(st.tuples(st.integers(-5, 200), st.floats(1e-7, 1e4)), max_size=40))
def test_nothing_is_drawn_outside_the_canvas(found: list[tuple[int, float]]) -> None:
    chart = latency_chart(AXIS, MINUTE, [minute(ago, 5, 1, seconds) for ago, seconds in dict(found).items()], ENGLISH)
    for path in chart.lines.values():
        for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path):
            assert 0 <= float(x) <= WIDTH
            assert 0 <= float(y) <= HEIGHT
    assert all(0 < float(line.y) < HEIGHT for line in chart.grid)
