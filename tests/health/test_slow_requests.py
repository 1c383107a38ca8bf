"""When requests count as slow."""

from __future__ import annotations

import pytest

from tentaculo.health.state_rules import SLOW_FOR, SlowRequests
from tentaculo.model.history import Tally
from tentaculo.model.service_rates import RecentRates


def rates(milliseconds: float, count: int = 20) -> RecentRates:
    """Five minutes in which all requests took as long."""
    tally = Tally(ok=count)
    for _ in range(count):
        tally.latency.add(milliseconds / 1000)
    return RecentRates(0, 5, requests=tally)


class Watched:
    """A rule, asked once a minute about a service that usually takes as long."""

    def __init__(self, usual: float | None = 0.1, limit: float | None = None) -> None:
        self.rule, self.usual = SlowRequests(limit), usual
        self.moment = 1000.0
        self.reason: str | None = None

    def sees(self, milliseconds: float, count: int = 20) -> str | None:
        self.reason = self.rule.judge(
            self.moment, rates(milliseconds, count), self.usual, is_slow=self.reason is not None
        )
        self.moment += SLOW_FOR / 2
        return self.reason


def test_after_two_minutes_and_until_it_has_recovered() -> None:
    watched = Watched()
    assert [watched.sees(500) for _ in range(2)] == [None, None]
    reason = watched.sees(500)
    assert reason is not None
    assert reason.startswith("95 % of its requests take up to 5")
    assert reason.endswith(" ms, usually 100 ms")
    assert watched.sees(250), "it is still more than twice what is usual"
    assert watched.sees(150) is None
    assert [watched.sees(250) for _ in range(9)] == [None] * 9, "that alone is not slow"


def test_what_does_not_last_is_not_slow() -> None:
    watched = Watched()
    assert [watched.sees(ms) for ms in (500, 500, 300, 500, 500, 300)] == [None] * 6


@pytest.mark.parametrize(
    ("usual", "milliseconds", "is_slow"),
    [(0.1, 380, False), (0.1, 430, True), (0.002, 40, False), (0.002, 60, True), (None, 60_000, False)],
    ids=["not four times", "four times", "not 50 ms more", "50 ms more", "nothing is usual"],
)
def test_four_times_what_is_usual_and_50_ms_more(usual: float | None, milliseconds: float, is_slow: bool) -> None:
    watched = Watched(usual)
    for _ in range(3):
        watched.sees(milliseconds)
    assert (watched.reason is not None) is is_slow


def test_a_limit_counts_whatever_is_usual() -> None:
    watched = Watched(None, limit=1.0)
    for _ in range(3):
        watched.sees(1200)
    assert watched.reason is not None
    assert watched.reason.endswith(" ms, and 1000 ms is its limit")
    assert watched.sees(900) is None


def test_few_requests_show_nothing() -> None:
    watched = Watched()
    assert [watched.sees(500, 19) for _ in range(9)] == [None] * 9
    for _ in range(3):
        watched.sees(500)
    assert watched.reason is not None
    assert watched.sees(500, 19) is None, "nothing shows any more that it is slow"
