from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, rule

from tentaculo.config import services
from tentaculo.model.health import BreakerState, BreakerView, Counts, Endpoint, Outcome, TrafficView
from tentaculo.upstream.circuit_breaker import CircuitBreaker, CircuitBreakers, SlidingWindow
from tests.support.health import Clock, fleet

FAILURES = 3
OPEN_FOR = 10.0
WINDOW = 10.0
RULES = services.BreakerSettings(failures=FAILURES, open_for=OPEN_FOR, rate=0.5, requests=8, window=WINDOW)
UPSTREAM = Endpoint("madre", "a", 1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(UPSTREAM, RULES, clock=clock, now=clock.now)


def fail(breaker: CircuitBreaker, times: int = FAILURES) -> None:
    for _ in range(times):
        breaker.record(breaker.try_acquire(), Outcome.FAILURE, "connection refused")


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.record(breaker.try_acquire(), Outcome.SUCCESS)


def test_a_new_breaker_is_closed(breaker: CircuitBreaker) -> None:
    assert breaker.is_closed
    assert breaker.try_acquire()
    assert breaker.view() == BreakerView(BreakerState.CLOSED, 0)


def test_opens_after_so_many_failures_in_a_row(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed
    assert breaker.try_acquire()
    fail(breaker, 1)
    assert not breaker.is_closed
    assert not breaker.try_acquire()
    opened = clock.now()
    clock.seconds += 1
    assert breaker.view() == BreakerView(
        BreakerState.OPEN, 3, opened, "3 failures in a row: connection refused", OPEN_FOR - 1, opened
    )


def test_a_success_between_starts_the_count_again(breaker: CircuitBreaker) -> None:
    fail(breaker, FAILURES - 1)
    succeed(breaker)
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed


@pytest.mark.parametrize("successes", [1, 7])
def test_a_row_among_few_successes_opens_it_at_once(breaker: CircuitBreaker, successes: int) -> None:
    fail(breaker, FAILURES - 1)
    succeed(breaker, successes)
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed
    fail(breaker, 1)
    assert breaker.view().reason == "3 failures in a row: connection refused"


def test_a_row_among_many_successes_must_last_a_little(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 1)
    succeed(breaker, 50)
    fail(breaker, FAILURES)
    assert breaker.is_closed, "that may be chance"
    clock.seconds += 0.4
    fail(breaker, 1)
    assert breaker.is_closed
    clock.seconds += 0.1
    fail(breaker, 1)
    assert breaker.view().reason == "5 failures in a row: connection refused"
    assert not breaker.is_closed


def test_successes_before_the_first_failure_say_nothing_of_what_comes_now(breaker: CircuitBreaker) -> None:
    succeed(breaker, 50)
    fail(breaker, FAILURES)
    assert not breaker.is_closed


def test_a_fifth_that_fails_at_random_never_opens_it(breaker: CircuitBreaker, clock: Clock) -> None:
    chance = random.Random(3)
    rows = 0
    fail(breaker, 1)
    succeed(breaker, RULES.requests)
    for _ in range(10_000):
        (fail if chance.random() < 0.2 else succeed)(breaker, 1)
        rows += breaker.view().failure_count == FAILURES
        clock.seconds += 0.01
        assert breaker.is_closed
    assert rows > 10, "rows that are long enough do occur"


def test_what_says_nothing_of_the_upstream_changes_nothing(breaker: CircuitBreaker) -> None:
    ticket = breaker.try_acquire()
    for _ in range(100):
        breaker.record(ticket, Outcome.NEUTRAL)
    assert breaker.view() == BreakerView(BreakerState.CLOSED, 0)
    fail(breaker, FAILURES - 1)
    breaker.record(ticket, Outcome.NEUTRAL)
    assert breaker.view().failure_count == FAILURES - 1
    fail(breaker, 1)
    assert breaker.view().state is BreakerState.OPEN
    breaker.record(ticket, Outcome.NEUTRAL)
    assert not breaker.try_acquire()


def test_exactly_one_trial_after_its_time(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR - 0.001
    assert not breaker.try_acquire()
    clock.seconds += 0.001
    assert breaker.view().state is BreakerState.HALF_OPEN
    assert breaker.try_acquire()
    assert not breaker.is_closed
    assert [breaker.try_acquire() for _ in range(5)] == [0] * 5
    view = breaker.view()
    assert (view.state, view.failure_count, view.retry_after) == (BreakerState.HALF_OPEN, 3, 0.0)
    assert view.reason == "3 failures in a row: connection refused"


def test_a_trial_that_succeeds_closes(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    succeed(breaker)
    assert breaker.is_closed
    assert (breaker.view().failure_count, breaker.view().opened_at) == (0, None)
    fail(breaker, FAILURES - 1)
    assert breaker.is_closed, "it counts from nothing again"


def test_what_listens_hears_once_that_it_opened_and_that_it_closed(clock: Clock) -> None:
    breakers = CircuitBreakers(
        fleet(madre={"url": "http://a:1", "breaker": {"failures": 3, "open_for": OPEN_FOR}}), clock, clock.now
    )
    heard: list[tuple[str, BreakerState, str]] = []
    breakers.on_change.append(lambda upstream, state, reason: heard.append((upstream.host, state, reason)))
    (upstream,) = fleet(madre={"url": "http://a:1"}).services["madre"].upstreams
    breaker = breakers.of(upstream)
    fail(breaker)
    clock.seconds += OPEN_FOR
    fail(breaker, 1)
    assert heard == [("a", BreakerState.OPEN, "3 failures in a row: connection refused")], "a failed trial is no change"
    clock.seconds += OPEN_FOR
    succeed(breaker)
    succeed(breaker)
    assert heard[1:] == [("a", BreakerState.CLOSED, "it responds again")]


def test_a_trial_that_fails_opens_again_for_the_whole_time(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    opened = clock.now()
    clock.seconds += OPEN_FOR + 5
    trial = breaker.try_acquire()
    clock.seconds += 1
    breaker.record(trial, Outcome.FAILURE, "no response within 30 s")
    assert breaker.view() == BreakerView(
        BreakerState.OPEN, 4, clock.now(), "the trial failed: no response within 30 s", OPEN_FOR, opened
    )
    clock.seconds += OPEN_FOR - 1
    assert not breaker.try_acquire()
    clock.seconds += 1
    assert breaker.try_acquire()


def test_a_trial_whose_client_left_is_released(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    breaker.record(breaker.try_acquire(), Outcome.NEUTRAL)
    assert not breaker.is_closed
    assert breaker.try_acquire()
    assert not breaker.try_acquire()


def test_a_trial_that_never_reports_does_not_wedge_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.seconds += OPEN_FOR
    first = breaker.try_acquire()
    clock.seconds += OPEN_FOR - 0.5
    assert not breaker.try_acquire()
    clock.seconds += 0.5
    second = breaker.try_acquire()
    assert second
    assert not breaker.try_acquire()
    breaker.record(first, Outcome.SUCCESS)
    assert not breaker.is_closed, "the first trial has been given up"
    breaker.record(second, Outcome.SUCCESS)
    assert breaker.is_closed


def test_requests_from_before_it_opened_change_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    before = breaker.try_acquire()
    fail(breaker)
    clock.seconds += 4
    breaker.record(before, Outcome.SUCCESS)
    breaker.record(before, Outcome.FAILURE, "no response within 30 s")
    view = breaker.view()
    assert (view.state, view.failure_count, view.retry_after) == (BreakerState.OPEN, 3, OPEN_FOR - 4)
    assert view.last_failure == clock.now(), "but a failure it was"


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL])
def test_a_straggler_is_never_taken_for_the_trial(breaker: CircuitBreaker, clock: Clock, outcome: Outcome) -> None:
    straggler = breaker.try_acquire()
    fail(breaker)
    clock.seconds += OPEN_FOR
    trial = breaker.try_acquire()
    breaker.record(straggler, outcome, "no response within 30 s")
    assert breaker.view().state is BreakerState.HALF_OPEN
    assert not breaker.try_acquire(), "the trial is still out"
    breaker.record(trial, Outcome.SUCCESS)
    assert breaker.is_closed
    for _ in range(FAILURES):
        breaker.record(straggler, Outcome.FAILURE)
    assert breaker.is_closed, "what failed before it opened says nothing of now"


def test_opens_at_a_share_of_failures(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(4):
        fail(breaker, 1)
        assert breaker.is_closed
        succeed(breaker)
        clock.seconds += 0.5
    fail(breaker, 1)
    assert breaker.view().state is BreakerState.OPEN
    assert breaker.view().reason == "5 of 9 requests within 10 s failed: connection refused"


def test_a_share_of_few_requests_opens_nothing(breaker: CircuitBreaker) -> None:
    for _ in range(3):
        succeed(breaker)
        fail(breaker, 1)
    assert breaker.is_closed


def test_a_smaller_share_opens_nothing(breaker: CircuitBreaker) -> None:
    for _ in range(100):
        succeed(breaker, 2)
        fail(breaker, 1)
    assert breaker.is_closed


def test_no_share_opens_it_sooner_than_its_failures(clock: Clock) -> None:
    """Who sets `failures` high wants no breaker, and need not know of the share."""
    rules = services.BreakerSettings(failures=1000, rate=0.5, requests=8, window=WINDOW)
    breaker = CircuitBreaker(UPSTREAM, rules, clock=clock, now=clock.now)
    fail(breaker, 900)
    assert breaker.is_closed
    succeed(breaker)
    fail(breaker, 100)
    assert breaker.view().reason == "1000 of 1001 requests within 10 s failed: connection refused"


def test_many_successes_before_the_first_failure_do_not_hide_what_follows(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    succeed(breaker, 100_000)
    clock.seconds += 3600
    for _ in range(5):
        fail(breaker, 1)
        succeed(breaker)
    assert not breaker.is_closed


def test_the_share_is_of_the_window_only(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(3):
        fail(breaker, 1)
        succeed(breaker)
    clock.seconds += WINDOW
    fail(breaker, 1)
    succeed(breaker, 4)
    fail(breaker, 1)
    assert breaker.is_closed, "two of six, and those of before are forgotten"


def test_success_reads_no_clock() -> None:
    def forbidden() -> float:
        raise AssertionError("the clock was read")

    def forbidden_now() -> datetime:
        raise AssertionError("the time of day was read")

    def unheard(_: Endpoint, __: bool) -> None:
        raise AssertionError("a success is no news")

    breaker = CircuitBreaker(UPSTREAM, services.BreakerSettings(), clock=forbidden, now=forbidden_now, signal=unheard)
    ticket = breaker.try_acquire()
    breaker.record(ticket, Outcome.SUCCESS)
    breaker.record(ticket, Outcome.NEUTRAL)
    breaker.note_probe(is_failing=False, is_healthy=True)
    breaker.record(ticket, Outcome.SUCCESS)
    assert breaker.is_closed


class TestSignals:
    @pytest.fixture
    def heard(self) -> list[bool]:
        return []

    @pytest.fixture
    def breaker(self, clock: Clock, heard: list[bool]) -> CircuitBreaker:
        return CircuitBreaker(
            UPSTREAM, RULES, clock=clock, now=clock.now, signal=lambda upstream, is_healthy: heard.append(is_healthy)
        )

    def test_failures_and_the_success_after_them(self, breaker: CircuitBreaker, heard: list[bool]) -> None:
        succeed(breaker, 3)
        fail(breaker, 2)
        succeed(breaker, 3)
        assert heard == [False, False, True]

    def test_every_success_while_probes_doubt(self, breaker: CircuitBreaker, heard: list[bool]) -> None:
        breaker.note_probe(is_failing=True, is_healthy=False)
        succeed(breaker, 2)
        breaker.note_probe(is_failing=False, is_healthy=True)
        succeed(breaker, 2)
        assert heard == [True, True]

    def test_it_hears_of_it_when_the_breaker_has_judged(self, clock: Clock) -> None:
        states: list[bool] = []
        own = CircuitBreaker(
            UPSTREAM,
            RULES,
            clock=clock,
            now=clock.now,
            signal=lambda upstream, is_healthy: states.append(own.is_closed),
        )
        fail(own)
        clock.seconds += OPEN_FOR
        succeed(own)
        assert states == [True, True, False, True]


def end_with(breaker: CircuitBreaker, outcome: Outcome, times: int = FAILURES) -> None:
    for _ in range(times):
        breaker.record(breaker.try_acquire(), outcome, outcome.value)


class TestServerErrors:
    """A response shows that the endpoint is alive, whatever its status."""

    def test_they_open_nothing_and_are_counted(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.SERVER_ERROR, 50)
        view = breaker.view()
        assert (view.state, view.failure_count, view.last_failure is None) == (BreakerState.CLOSED, 0, False)
        assert breaker.traffic() == TrafficView(Counts(0, 50), Counts(0, 50))

    def test_they_end_failures_in_a_row(self, breaker: CircuitBreaker) -> None:
        fail(breaker, FAILURES - 1)
        end_with(breaker, Outcome.SERVER_ERROR, 1)
        fail(breaker, FAILURES - 1)
        assert breaker.is_closed

    def test_they_are_no_part_of_the_share_that_opens_it(self, breaker: CircuitBreaker) -> None:
        for _ in range(20):
            fail(breaker, 1)
            end_with(breaker, Outcome.SERVER_ERROR, 2)
        assert breaker.is_closed

    def test_as_the_trial_they_close_it(self, breaker: CircuitBreaker, clock: Clock) -> None:
        fail(breaker)
        clock.seconds += OPEN_FOR
        end_with(breaker, Outcome.SERVER_ERROR, 1)
        assert breaker.is_closed
        assert breaker.view().failure_count == 0

    def test_each_is_signalled(self, clock: Clock) -> None:
        signals: list[bool] = []
        breaker = CircuitBreaker(
            UPSTREAM, RULES, clock=clock, now=clock.now, signal=lambda _, is_success: signals.append(is_success)
        )
        end_with(breaker, Outcome.SERVER_ERROR, 2)
        assert signals == [False, False]


class TestTimeouts:
    """They count only while nothing else of the endpoint has succeeded since the first of them."""

    def test_in_a_row_they_open_it(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.TIMEOUT)
        assert breaker.view().state is BreakerState.OPEN
        assert breaker.view().reason == f"{FAILURES} failures in a row: timeout"

    @pytest.mark.parametrize("other", [Outcome.SUCCESS, Outcome.SERVER_ERROR, None])
    def test_not_beside_something_that_succeeds(self, breaker: CircuitBreaker, other: Outcome | None) -> None:
        for _ in range(20):
            end_with(breaker, Outcome.TIMEOUT, FAILURES - 1)
            if other is None:
                breaker.note_probe(is_failing=False, is_healthy=True)
            else:
                end_with(breaker, other, 1)
        assert breaker.is_closed

    def test_a_failing_probe_changes_nothing(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.TIMEOUT, FAILURES - 1)
        breaker.note_probe(is_failing=True, is_healthy=False)
        end_with(breaker, Outcome.TIMEOUT, 1)
        assert not breaker.is_closed

    def test_a_healthy_probe_leaves_other_failures(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.TIMEOUT, 1)
        fail(breaker, FAILURES - 2)
        breaker.note_probe(is_failing=False, is_healthy=True)
        assert breaker.view().failure_count == FAILURES - 2
        fail(breaker, 2)
        assert not breaker.is_closed

    def test_a_healthy_probe_lets_the_trial_pass_at_once(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.TIMEOUT)
        breaker.note_probe(is_failing=False, is_healthy=True)
        succeed(breaker)
        assert breaker.is_closed

    def test_as_the_trial_one_closes_it_where_a_probe_has_succeeded(self, breaker: CircuitBreaker) -> None:
        end_with(breaker, Outcome.TIMEOUT)
        breaker.note_probe(is_failing=False, is_healthy=True)
        end_with(breaker, Outcome.TIMEOUT, 1)
        assert breaker.is_closed
        assert breaker.view().failure_count == 1

    def test_as_the_trial_one_opens_it_again_where_none_has(self, breaker: CircuitBreaker, clock: Clock) -> None:
        end_with(breaker, Outcome.TIMEOUT)
        clock.seconds += OPEN_FOR
        end_with(breaker, Outcome.TIMEOUT, 1)
        assert breaker.view().state is BreakerState.OPEN


class TestDoubt:
    def test_probes_that_find_it_well_again_let_the_trial_go_at_once(self, breaker: CircuitBreaker) -> None:
        fail(breaker)
        breaker.note_probe(is_failing=True, is_healthy=False)
        assert not breaker.try_acquire()
        breaker.note_probe(is_failing=False, is_healthy=True)
        assert breaker.view().state is BreakerState.HALF_OPEN
        assert breaker.try_acquire()
        assert not breaker.try_acquire()

    def test_the_first_that_finds_it_well_is_enough(self, breaker: CircuitBreaker) -> None:
        fail(breaker)
        breaker.note_probe(is_failing=True, is_healthy=False)
        assert not breaker.try_acquire()
        breaker.note_probe(is_failing=True, is_healthy=True)
        assert breaker.try_acquire()
        assert not breaker.try_acquire()

    def test_nor_need_it_wait_for_a_trial_that_was_swallowed(self, breaker: CircuitBreaker, clock: Clock) -> None:
        fail(breaker)
        clock.seconds += OPEN_FOR
        assert breaker.try_acquire()
        breaker.note_probe(is_failing=True, is_healthy=False)
        assert not breaker.try_acquire()
        breaker.note_probe(is_failing=False, is_healthy=True)
        assert breaker.try_acquire()

    def test_probes_that_found_nothing_wrong_let_nothing_go(self, breaker: CircuitBreaker) -> None:
        fail(breaker)
        for _ in range(5):
            breaker.note_probe(is_failing=False, is_healthy=True)
        assert not breaker.try_acquire()

    def test_it_opens_nothing(self, breaker: CircuitBreaker) -> None:
        for _ in range(50):
            breaker.note_probe(is_failing=True, is_healthy=False)
        assert breaker.is_closed

    def test_what_passes_meanwhile_is_counted(self, breaker: CircuitBreaker, clock: Clock) -> None:
        succeed(breaker, 100)
        assert breaker.traffic() == TrafficView(Counts(100, 0), Counts())
        breaker.note_probe(is_failing=True, is_healthy=False)
        for _ in range(4):
            succeed(breaker, 3)
            clock.seconds += 1
        fail(breaker, 1)
        assert breaker.traffic() == TrafficView(Counts(112, 1), Counts(12, 1))
        clock.seconds += WINDOW
        assert breaker.traffic() == TrafficView(Counts(112, 1), Counts())


def test_repr_is_one_line(breaker: CircuitBreaker, clock: Clock) -> None:
    assert repr(breaker) == "<CircuitBreaker closed, 0 of 3 failures>"
    fail(breaker)
    clock.seconds += 2.5
    assert repr(breaker) == "<CircuitBreaker open, 3 of 3 failures, trial in 7.5 s>"
    clock.seconds += 7.5
    assert repr(breaker) == "<CircuitBreaker half_open, 3 of 3 failures>"


def test_each_address_has_its_own(clock: Clock) -> None:
    config = fleet(
        madre={"urls": ["http://a:1", "http://b:2"], "breaker": {"failures": 1, "open_for": 5}},
        switch={"url": "http://a:1"},
    )
    breakers = CircuitBreakers(config, clock, clock.now)
    first, second = config.services["madre"].upstreams
    other = config.services["switch"].upstreams[0]
    breakers.of(first).record(breakers.of(first).try_acquire(), Outcome.FAILURE)
    assert breakers.traffic(first).total == Counts(0, 1)
    assert repr(breakers) == "<CircuitBreakers: 2 of 3 closed>"
    assert {upstream: breakers.view(upstream).state for upstream in (first, second, other)} == {
        first: BreakerState.OPEN,
        second: BreakerState.CLOSED,
        other: BreakerState.CLOSED,
    }
    assert breakers.view(first).retry_after == 5
    with pytest.raises(KeyError):
        breakers.of(Endpoint("madre", "elsewhere", 1))


SPAN = 10.0
STEP = SPAN / 10
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.9, 1.0, 3.0, 9.9, 11.0]), st.integers(0, 5), st.booleans()), max_size=60
)


class TestSlidingWindow:
    def test_nothing_is_counted_before_the_first_failure(self) -> None:
        window = SlidingWindow(SPAN)
        assert window.counts(5.0, 1000) == Counts()
        window.note_failure(6.0, 1000)
        assert window.counts(6.0, 1000) == Counts(0, 1)
        assert window.counts(7.0, 1003) == Counts(3, 1)

    def test_it_forgets(self) -> None:
        window = SlidingWindow(SPAN)
        window.note_failure(0.0, 0)
        window.note_failure(6.0, 30)
        assert window.counts(9.9, 40) == Counts(40, 2)
        assert window.counts(10.0, 40) == Counts(10, 1)
        assert window.counts(16.0, 90) == Counts()

    def test_a_mark_counts_from_there_on(self) -> None:
        window = SlidingWindow(SPAN)
        window.mark(0.0, 7)
        assert window.counts(1.0, 9) == Counts(2, 0)
        window.clear()
        assert window.counts(1.0, 9) == Counts()

    def test_it_remembers_a_bounded_number_of_moments(self) -> None:
        window = SlidingWindow(SPAN)
        for number in range(100_000):
            window.note_failure(number * 0.001, number)
        assert repr(window) in ("<SlidingWindow of 10 s, 10 marks>", "<SlidingWindow of 10 s, 11 marks>")

    @given(STEPS)
    def test_it_is_right_to_a_step(self, steps: list[tuple[float, int, bool]]) -> None:
        """Failures younger than the span less a step are all there, and none that is older than the span."""
        window, moment, ok = SlidingWindow(SPAN), 0.0, 0
        failures: list[float] = []
        for wait, succeeded, fails in steps:
            moment += wait
            ok += succeeded
            if fails:
                window.note_failure(moment, ok)
                failures.append(moment)
            told = window.counts(moment, ok)
            assert told.failed <= sum(moment - at < SPAN for at in failures)
            assert told.failed >= sum(moment - at < SPAN - STEP for at in failures)
            assert 0 <= told.ok <= ok

    @pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
    def test_the_share_is_that_of_the_traffic(self, rate: float) -> None:
        window, ok, debt = SlidingWindow(SPAN), 0, 0.0
        for number in range(2000):
            debt += rate
            if debt >= 1:
                debt -= 1
                window.note_failure(number * 0.01, ok)
            else:
                ok += 1
        told = window.counts(20.0, ok)
        assert told.failed / (told.ok + told.failed) == pytest.approx(rate, abs=0.01)
        assert told.ok + told.failed == pytest.approx(1000, abs=110), "a hundred each second, for ten seconds"

    def test_marks_are_in_order(self) -> None:
        window = SlidingWindow(SPAN)
        for number in range(50):
            window.mark(number * 0.5, number)
        moments = [at for at, _, _ in window._marks]
        assert all(late - early >= STEP for early, late in itertools.pairwise(moments))


class Model(RuleBasedStateMachine):
    """The breaker against the plainest telling of the rules: a count, a moment, the trial, and who was let through when."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        # The share of failures, and how long a row lasts, have tests of their own, and never decide here: the window
        # has forgotten a success when the next failure comes.
        rules = services.BreakerSettings(failures=FAILURES, open_for=OPEN_FOR, requests=1000, window=0.001)
        self.breaker = CircuitBreaker(UPSTREAM, rules, clock=self.clock, now=self.clock.now)
        self.count = 0
        self.opened: float | None = None
        self.trial: float | None = None
        # How often it has opened or let a trial through: who is from before that is a straggler.
        self.epoch = 0

    @rule(seconds=st.sampled_from([0.25, 4.75, 5.0, 9.75, 10.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.seconds += seconds

    @rule(target=tickets)
    def ask(self) -> MultipleResults[tuple[int, int]]:
        moment = self.clock.seconds
        since = self.opened if self.trial is None else self.trial
        expected = self.opened is None or (since is not None and moment - since >= OPEN_FOR)
        if expected and self.opened is not None:
            self.trial = moment
            self.epoch += 1
        ticket = self.breaker.try_acquire()
        assert bool(ticket) is expected
        return multiple((ticket, self.epoch)) if ticket else multiple()

    @rule(asked=tickets, outcome=st.sampled_from([Outcome.SUCCESS, Outcome.SERVER_ERROR]))
    def respond(self, asked: tuple[int, int], outcome: Outcome) -> None:
        self.breaker.record(asked[0], outcome)
        self.clock.seconds += 0.0625
        if asked[1] == self.epoch:
            self.count, self.opened, self.trial = 0, None, None

    @rule(asked=tickets, outcome=st.sampled_from([Outcome.FAILURE, Outcome.TIMEOUT]))
    def fail(self, asked: tuple[int, int], outcome: Outcome) -> None:
        self.breaker.record(asked[0], outcome)
        if asked[1] == self.epoch:
            self.count += 1
            if self.trial is not None or self.count >= FAILURES:
                self.opened, self.trial = self.clock.seconds, None
                self.epoch += 1

    @rule(asked=tickets)
    def leave(self, asked: tuple[int, int]) -> None:
        self.breaker.record(asked[0], Outcome.NEUTRAL)
        if asked[1] == self.epoch and self.trial is not None:
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


def test_its_moments_are_corrected_after_the_system_clock_was_set(breaker: CircuitBreaker) -> None:
    fail(breaker)
    before = breaker.view()
    assert before.opened_at is not None
    assert before.last_failure is not None
    breaker.correct(lambda moment: moment - timedelta(hours=1))
    after = breaker.view()
    assert after.opened_at == before.opened_at - timedelta(hours=1)
    assert after.last_failure == before.last_failure - timedelta(hours=1)
