from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tentaculo.health.breaker import Breaker, Breakers
from tentaculo.model import BreakerState, BreakerView, Outcome, Upstream

from .conftest import Clock, fleet

FAILURES = 3
OPEN_FOR = 10.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(FAILURES, OPEN_FOR, clock=clock, now=clock.now)


def fail(breaker: Breaker, times: int = FAILURES) -> None:
    for _ in range(times):
        breaker.record(Outcome.FAILURE, "connection refused")


def test_a_new_breaker_is_closed(breaker: Breaker) -> None:
    assert breaker.is_closed
    assert breaker.try_acquire()
    assert breaker.view() == BreakerView(BreakerState.CLOSED, 0)


def test_opens_after_so_many_failures_in_a_row(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed
    assert breaker.try_acquire()
    fail(breaker, 1)
    assert not breaker.is_closed
    assert not breaker.try_acquire()
    assert breaker.view() == BreakerView(
        BreakerState.OPEN, 3, clock.now(), "3 failures in a row: connection refused", OPEN_FOR
    )


def test_a_success_between_starts_the_count_again(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    breaker.record(Outcome.SUCCESS)
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed


def test_what_says_nothing_of_the_upstream_changes_nothing(breaker: Breaker) -> None:
    for _ in range(100):
        breaker.record(Outcome.NEUTRAL)
    assert breaker.view() == BreakerView(BreakerState.CLOSED, 0)
    fail(breaker, FAILURES - 1)
    breaker.record(Outcome.NEUTRAL)
    assert breaker.view().failure_count == FAILURES - 1
    fail(breaker, 1)
    assert breaker.view().state is BreakerState.OPEN
    breaker.record(Outcome.NEUTRAL)
    assert not breaker.try_acquire()


def test_exactly_one_trial_after_its_time(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR - 0.001
    assert not breaker.try_acquire()
    clock.seconds += 0.001
    assert breaker.view().state is BreakerState.HALF_OPEN
    assert breaker.try_acquire()
    assert not breaker.is_closed
    assert [breaker.try_acquire() for _ in range(5)] == [False] * 5
    assert breaker.view() == BreakerView(
        BreakerState.HALF_OPEN, 3, breaker.view().last_failure, "3 failures in a row: connection refused", 0.0
    )


def test_a_trial_that_succeeds_closes(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    assert breaker.try_acquire()
    breaker.record(Outcome.SUCCESS)
    assert breaker.is_closed
    assert breaker.view().failure_count == 0
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed, "it counts from nothing again"


def test_a_trial_that_fails_opens_again_for_the_whole_time(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR + 5
    assert breaker.try_acquire()
    clock.seconds += 1
    breaker.record(Outcome.FAILURE, "no answer within 30 s")
    assert breaker.view() == BreakerView(
        BreakerState.OPEN, 4, clock.now(), "the trial failed: no answer within 30 s", OPEN_FOR
    )
    clock.seconds += OPEN_FOR - 1
    assert not breaker.try_acquire()
    clock.seconds += 1
    assert breaker.try_acquire()


def test_a_trial_whose_client_left_is_released(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    assert breaker.try_acquire()
    breaker.record(Outcome.NEUTRAL)
    assert not breaker.is_closed
    assert breaker.try_acquire()
    assert not breaker.try_acquire()


def test_a_trial_that_never_reports_does_not_wedge_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    assert breaker.try_acquire()
    clock.seconds += OPEN_FOR - 0.5
    assert not breaker.try_acquire()
    clock.seconds += 0.5
    assert breaker.try_acquire()
    assert not breaker.try_acquire()


def test_requests_from_before_it_opened_change_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += 4
    breaker.record(Outcome.SUCCESS)
    breaker.record(Outcome.FAILURE)
    assert breaker.view().state is BreakerState.OPEN
    assert breaker.view().retry_after == OPEN_FOR - 4


def test_success_reads_no_clock() -> None:
    def forbidden() -> float:
        raise AssertionError("the clock was read")

    def forbidden_now() -> datetime:
        raise AssertionError("the time of day was read")

    breaker = Breaker(5, 10, clock=forbidden, now=forbidden_now)
    assert breaker.try_acquire()
    breaker.record(Outcome.SUCCESS)
    breaker.record(Outcome.NEUTRAL)
    assert breaker.is_closed


def test_repr_is_one_line(breaker: Breaker, clock: Clock) -> None:
    assert repr(breaker) == "<Breaker closed, 0 of 3 failures>"
    fail(breaker)
    clock.seconds += 2.5
    assert repr(breaker) == "<Breaker open, 3 of 3 failures, trial in 7.5 s>"
    clock.seconds += 7.5
    assert repr(breaker) == "<Breaker half_open, 3 of 3 failures>"


def test_each_address_has_its_own(clock: Clock) -> None:
    config = fleet(
        madre={"urls": ["http://a:1", "http://b:2"], "breaker": {"failures": 1, "open_for": 5}},
        switch={"url": "http://a:1"},
    )
    breakers = Breakers(config, clock, clock.now)
    first, second = config.services["madre"].upstreams
    other = config.services["switch"].upstreams[0]
    breakers.of(first).record(Outcome.FAILURE)
    assert repr(breakers) == "<Breakers: 2 of 3 closed>"
    assert {upstream: view.state for upstream, view in breakers.views().items()} == {
        first: BreakerState.OPEN,
        second: BreakerState.CLOSED,
        other: BreakerState.CLOSED,
    }
    assert breakers.view(first).retry_after == 5
    with pytest.raises(KeyError):
        breakers.of(Upstream("madre", "elsewhere", 1))


class Model(RuleBasedStateMachine):
    """The breaker against the plainest telling of the rules: a count, a moment, and whether a trial is out."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(FAILURES, OPEN_FOR, clock=self.clock, now=self.clock.now)
        self.count = 0
        self.opened: float | None = None
        self.trial: float | None = None

    @rule(seconds=st.sampled_from([0.25, 4.75, 5.0, 9.75, 10.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule()
    def ask(self) -> None:
        moment = self.clock.seconds
        if self.opened is None:
            expected = True
        elif self.trial is not None:
            expected = moment - self.trial >= OPEN_FOR
        else:
            expected = moment - self.opened >= OPEN_FOR
        if expected and self.opened is not None:
            self.trial = moment
        assert self.breaker.try_acquire() is expected

    @rule()
    def succeed(self) -> None:
        self.breaker.record(Outcome.SUCCESS)
        if self.opened is None or self.trial is not None:
            self.count, self.opened, self.trial = 0, None, None

    @rule()
    def fail(self) -> None:
        self.breaker.record(Outcome.FAILURE)
        self.count += 1
        if self.trial is not None or (self.opened is None and self.count >= FAILURES):
            self.opened, self.trial = self.clock.seconds, None

    @rule()
    def leave(self) -> None:
        self.breaker.record(Outcome.NEUTRAL)
        if self.trial is not None:
            self.trial = self.clock.seconds - OPEN_FOR

    @invariant()
    def agrees(self) -> None:
        view = self.breaker.view()
        left = 0.0 if self.opened is None or self.trial is not None else self.opened + OPEN_FOR - self.clock.seconds
        if self.opened is None:
            expected = BreakerState.CLOSED
        elif left > 0:
            expected = BreakerState.OPEN
        else:
            expected = BreakerState.HALF_OPEN
        assert (view.state, view.failure_count) == (expected, self.count)
        assert view.retry_after == max(0.0, left)
        assert self.breaker.is_closed is (expected is BreakerState.CLOSED)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
