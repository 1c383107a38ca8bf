"""From moments to numbers."""

from __future__ import annotations

from math import inf

import pytest

from bench.faults.catalogue import BY_NAME
from bench.faults.measures import measure
from bench.faults.trace import Request, Trace


def every(seconds: float, begin: float, end: float) -> list[float]:
    return [begin + number * seconds for number in range(round((end - begin) / seconds))]


def trace(broken: list[float], *, replicas: int = 2, requests: list[Request] | None = None) -> Trace:
    """100 requests a second; the fault lasts ten seconds, the load ten more."""
    well = every(0.02, -4, 20) if replicas > 1 else []
    return Trace(100.0, replicas, 10.0, 20.0, requests or [], broken, well)


USED = every(0.02, -4, 20)
BEFORE, AFTER = every(0.02, -4, 0), every(0.02, 10, 20)


class TestDetected:
    @pytest.mark.parametrize(
        ("broken", "detected"),
        [
            (USED, inf),
            (BEFORE + AFTER, 0.0),
            (every(0.02, -4, 3) + AFTER, 2.9),
            # A trial or a refused probe now and then is no use of it.
            (every(0.02, -4, 3) + every(1.0, 3.5, 10) + AFTER, 2.9),
            # Too late for two seconds without traffic to have been seen.
            (every(0.02, -4, 8.5) + AFTER, inf),
            # Used again in the middle: what that did shows in the failures.
            (every(0.02, -4, 1) + every(0.02, 5, 10) + AFTER, 0.9),
        ],
    )
    def test_the_moment_from_which_it_gets_nearly_nothing(self, broken: list[float], detected: float) -> None:
        found = measure(trace(broken), BY_NAME["crash"])["detected"]
        assert found == pytest.approx(detected, abs=0.15)

    @pytest.mark.parametrize("row", ["lies-ill", "flapping"])
    def test_not_where_there_is_nothing_to_detect_or_too_much(self, row: str) -> None:
        assert "detected" not in measure(trace(BEFORE), BY_NAME[row])


class TestRecovered:
    @pytest.mark.parametrize(
        ("again", "recovered"),
        [(every(0.02, 10, 20), 0.0), (every(0.02, 14, 20), 4.0), ([14.0, *every(0.02, 16, 20)], 6.0), ([], inf)],
    )
    def test_the_moment_from_which_it_gets_most_of_its_share(self, again: list[float], recovered: float) -> None:
        found = measure(trace(BEFORE + again), BY_NAME["crash"])["recovered"]
        assert found == pytest.approx(recovered, abs=0.02)

    def test_who_never_took_it_out_cannot_take_it_back(self) -> None:
        assert "recovered" not in measure(trace(USED), BY_NAME["crash"])

    @pytest.mark.parametrize("bad_until", [10.0, 13.0, inf])
    def test_of_the_only_one_it_is_when_callers_are_served_again(self, bad_until: float) -> None:
        requests = [Request(due, 0.01, 503 if due < bad_until else 200) for due in every(0.01, 0, 20)]
        found = measure(trace(USED, replicas=1, requests=requests), BY_NAME["crash-alone"])
        assert found["recovered"] == pytest.approx(bad_until - 10.0, abs=0.02)


class TestCallers:
    def test_what_failed_and_what_came_late(self) -> None:
        requests = [
            Request(-1.0, 0.01, 500),  # before the fault
            Request(1.0, 0.01, 200),
            Request(2.0, 0.01, 404),
            Request(3.0, 0.01, 503),
            Request(4.0, 0.01, 0),
            Request(5.0, 2.0, 200),
            Request(6.0, 10.0, 504),
        ]
        found = measure(trace(USED, requests=requests), BY_NAME["crash"])
        assert (found["asked"], found["failed"], found["hurt"]) == (6, 3, 4)


class TestEjected:
    def test_seconds_in_which_a_well_one_is_not_used(self) -> None:
        seen = trace(BEFORE)
        assert measure(seen, BY_NAME["crash"])["ejected"] == 0
        seen.well = every(0.02, -4, 3) + every(0.02, 7, 20)
        assert measure(seen, BY_NAME["crash"])["ejected"] == 4

    def test_one_that_works_but_calls_itself_ill_is_a_well_one(self) -> None:
        out = trace(every(0.02, -4, 4) + every(0.02, 12, 20))
        assert measure(out, BY_NAME["lies-ill"])["ejected"] == 8
        assert measure(out, BY_NAME["crash"])["ejected"] == 0
        out.replicas, out.broken = 1, every(0.01, -4, 18)
        assert measure(out, BY_NAME["lies-ill-alone"])["ejected"] == 2


def test_what_is_shown() -> None:
    seen = trace(USED)
    assert measure(seen, BY_NAME["crash"])["shown"] == inf
    seen.shown = 1.5
    assert measure(seen, BY_NAME["crash"])["shown"] == 1.5
    seen.shows = False
    assert "shown" not in measure(seen, BY_NAME["crash"])


def test_a_trace_comes_back_as_it_was_printed() -> None:
    seen = trace(USED, requests=[Request(1.0, 0.5, 200)])
    assert Trace.from_json(seen.to_json()) == seen


def test_the_p99_counts_a_failure_as_the_callers_patience() -> None:
    requests = [Request(moment / 100, 0.02, 200) for moment in range(98)]

    def found(*others: Request) -> dict[str, float]:
        return measure(trace(USED, requests=[*requests, *others]), BY_NAME["unequal"])

    slow, failed = Request(1.0, 0.5, 200), Request(1.0, 0.5, 503)
    assert found(slow, requests[0])["p99"] == 20, "99 of a hundred"
    assert found(slow, slow)["p99"] == 500
    assert found(failed, failed)["p99"] == 30_000
    assert (found(failed)["failed"], "ejected" in found(failed)) == (1, False)
