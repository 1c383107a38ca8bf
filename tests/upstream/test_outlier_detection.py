from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.health import Endpoint, Health, Outcome
from tentaculo.upstream.outlier_detection import OutlierDetector, OutlierDetectors

SUCCESS, FAILURE, NEUTRAL = Outcome.SUCCESS, Outcome.FAILURE, Outcome.NEUTRAL


class Clock:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.moment = 1000.0
        self.read = 0

    def __call__(self) -> float:
        self.read += 1
        return self.moment


class Two:
    """An address and another one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.one, self.other = OutlierDetector(self.clock), OutlierDetector(self.clock)

    def note(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.one.note_outcome(outcome, (self.other,))

    def fail(self) -> int:
        """Let it fail until it rests; how many failures that took."""
        count = 0
        while self.one.is_preferred:
            self.note(FAILURE)
            count += 1
        return count

    def rest(self) -> float:
        """Wait until its rest is over; how long that took."""
        begun = self.clock.moment
        while not self.one.refresh():
            self.clock.moment += 0.5
        return self.clock.moment - begun


def mixed(share: float, count: int) -> list[Outcome]:
    chance = random.Random(1)
    return [FAILURE if chance.random() < share else SUCCESS for _ in range(count)]


class TestFailing:
    @pytest.mark.parametrize("outcome", [Outcome.SERVER_ERROR, Outcome.TIMEOUT, Outcome.FAILURE])
    def test_every_failed_request_counts_among_several_endpoints(self, outcome: Outcome) -> None:
        two = Two()
        two.note(*[outcome] * 6)
        assert not two.one.is_preferred

    def test_a_few_failures_in_a_row_are_left_to_the_breaker(self) -> None:
        two = Two()
        two.note(*[FAILURE] * 5)
        assert two.one.is_preferred
        two.note(FAILURE)
        assert not two.one.is_preferred

    @pytest.mark.parametrize(("share", "rests"), [(0.02, False), (0.05, False), (0.3, True), (0.6, True)])
    def test_it_rests_if_it_fails_often(self, share: float, rests: bool) -> None:
        two = Two()
        two.note(*mixed(share, 1000))
        assert two.one.is_preferred is not rests

    @pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
    def test_one_that_fails_no_more_than_the_others_does_not(self, share: float) -> None:
        two = Two()
        for outcome in mixed(share, 1000):
            two.other.note_outcome(outcome, (two.one,))
            two.note(outcome)
        assert two.other.failing == two.one.failing > 0.15
        assert two.other.is_preferred
        assert two.one.is_preferred

    def test_what_judges_nobody_changes_nothing(self) -> None:
        two = Two()
        two.note(*[NEUTRAL] * 50)
        assert two.one.failing == 0
        assert two.one.is_preferred

    def test_no_clock_is_read_while_all_is_well(self) -> None:
        two = Two()
        two.note(*[SUCCESS] * 50, FAILURE, *[SUCCESS] * 50)
        two.one.note_probe(is_healthy=True)
        assert two.clock.read == 0


class TestRest:
    def test_it_is_as_long_as_an_eighth_of_the_time_since_the_first(self) -> None:
        two = Two()
        two.fail()
        first = two.clock.moment
        assert two.rest() == 1
        for bad_for, rest in [(4, 1), (16, 2), (80, 10), (240, 30), (10_000, 30)]:
            two.clock.moment = first + bad_for
            assert two.fail() == 1, "after a rest one more failure is enough"
            assert two.rest() == rest

    def test_who_does_well_after_it_is_forgiven(self) -> None:
        two = Two()
        two.fail()
        two.rest()
        two.note(*[SUCCESS] * 60)
        assert two.one.failing == 0
        two.clock.moment += 100
        assert two.fail() == 6
        assert two.rest() == 1

    def test_what_fails_late_makes_it_no_longer(self) -> None:
        two = Two()
        two.fail()
        two.note(*[FAILURE] * 20)
        assert two.rest() == 1
        assert two.one.failing == 0.25


class TestProbes:
    def test_a_failing_one_counts_only_if_no_request_has_gone_well_since_the_one_before(self) -> None:
        two = Two()
        two.note(SUCCESS)
        two.one.note_probe(is_healthy=False)
        assert two.one.is_preferred
        two.one.note_probe(is_healthy=False)
        assert two.one.probe_failing
        assert not two.one.is_preferred

    @pytest.mark.parametrize("how", ["a probe", "a request"])
    def test_what_shows_that_it_works_ends_it(self, how: str) -> None:
        two = Two()
        two.one.note_probe(is_healthy=False)
        if how == "a probe":
            two.one.note_probe(is_healthy=True)
        else:
            two.note(SUCCESS)
        assert two.one.is_preferred
        assert not two.one.probe_failing

    def test_a_health_path_that_lies_costs_nothing_while_requests_pass(self) -> None:
        two = Two()
        for _ in range(10):
            two.note(SUCCESS)
            two.one.note_probe(is_healthy=False)
            assert two.one.is_preferred

    def test_being_well_by_its_probes_ends_no_rest(self) -> None:
        two = Two()
        two.fail()
        two.one.note_probe(is_healthy=True)
        assert not two.one.is_preferred
        assert two.rest() == 1


@given(st.lists(st.one_of(st.sampled_from(list(Outcome)), st.booleans(), st.floats(0, 30)), max_size=200))
def test_whatever_happens_it_comes_back(steps: list[Outcome | bool | float]) -> None:
    two = Two()
    for step in steps:
        if isinstance(step, Outcome):
            two.note(step)
        elif isinstance(step, bool):
            two.one.note_probe(is_healthy=step)
        else:
            two.clock.moment += step
            two.one.refresh()
        assert 0 <= two.one.failing < 1
        assert two.one.is_preferred or two.one.probe_failing or "ejected" in repr(two.one)
    two.one.note_probe(is_healthy=True)
    two.clock.moment += 30
    assert two.one.refresh()


def test_a_probe_informs_the_record_of_its_endpoint() -> None:
    here, there, gone = [Endpoint("s", "127.0.0.1", port) for port in (1, 2, 3)]
    detectors, all_of_them = {one: OutlierDetector(Clock()) for one in (here, there)}, OutlierDetectors()
    all_of_them.use(detectors)
    all_of_them.note_probe(here, Health.DOWN)
    all_of_them.note_probe(there, Health.UNKNOWN)
    all_of_them.note_probe(gone, Health.DOWN)
    assert [one.is_preferred for one in detectors.values()] == [False, True]
    assert repr(all_of_them) == "<OutlierDetectors: 1 of 2 endpoints preferred>"
    all_of_them.use({there: detectors[there]})
    all_of_them.note_probe(here, Health.UP)
    assert detectors[here].probe_failing, "it is served no more"
