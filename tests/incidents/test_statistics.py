"""The exact test and its correction, against values of other programs and by exact fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import comb, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.incidents.statistics import ExactTest, Stratum, adjusted, exact_test, hypergeometric


@pytest.mark.parametrize(
    ("strata", "p"),
    [
        # scipy 1.17.1: fisher_exact([[5, 1], [1, 79]], "greater").pvalue, and so on
        ([Stratum(6, 5, 80, 1)], 1.023066693375301e-06),
        ([Stratum(5, 2, 70, 0)], 0.0036036036036036037),
        ([Stratum(7, 3, 100, 40)], 0.5885082202371791),
        # With numpy 2: convolve(hypergeom(33, 7, 3).pmf(range(4)), hypergeom(31, 3, 4).pmf(range(4)))[5:].sum()
        ([Stratum(3, 2, 30, 5), Stratum(4, 3, 27, 0)], 0.00032595683049592417),
        # By hand: one of five before the incidents, with 5 + 70 windows, is C(74, 4) / C(75, 5) = 5 / 75.
        ([Stratum(5, 1, 70, 0)], 5 / 75),
        # By hand: two hours, each with one incident and one other day. Both had the event on the day of the incident.
        ([Stratum(1, 1, 1, 0), Stratum(1, 1, 1, 0)], 1 / 4),
        # An hour in which the event always comes says nothing, nor does one in which it never does.
        ([Stratum(4, 4, 40, 40), Stratum(3, 0, 30, 0)], 1.0),
        ([], 1.0),
    ],
)
def test_known_values(strata: list[Stratum], p: float) -> None:
    assert isclose(exact_test(strata).p, p, rel_tol=1e-9)


def test_probabilities_of_many_windows_are_those_of_another_program() -> None:
    # scipy 1.17.1: hypergeom(4560, 200, 60).pmf(range(4))
    known = [0.06660341543413037, 0.1858267810298917, 0.2535788279953462, 0.22558674263680822]
    low, found = hypergeometric(4560, 60, 200)
    assert low == 0
    assert all(isclose(one, other, rel_tol=1e-9) for one, other in zip(found, known, strict=False))
    assert isclose(sum(found), 1.0, rel_tol=1e-9)


HOURS = st.lists(
    st.builds(
        lambda cases, others, marks: Stratum(cases, sum(marks[:cases]), others, sum(marks[cases : cases + others])),
        st.integers(0, 4),
        st.integers(0, 5),
        st.lists(st.booleans(), min_size=9, max_size=9),
    ),
    max_size=3,
)


def by_counting(strata: list[Stratum]) -> ExactTest:
    """The same by counting every way in which the windows with the event can lie."""
    counts = []
    for one in strata:
        windows = range(one.cases + one.others)
        marked = one.cases_with + one.others_with
        counts.append([sum(place < one.cases for place in chosen) for chosen in combinations(windows, marked)])
    sums = [sum(one) for one in product(*counts)]
    seen = sum(one.cases_with for one in strata)
    share = Fraction(sum(total >= seen for total in sums), len(sums))
    return ExactTest(float(share), float(Fraction(sums.count(max(sums)), len(sums))))


@given(HOURS)
def test_every_result_is_that_of_counting_all_cases(strata: list[Stratum]) -> None:
    if any(comb(one.cases + one.others, one.cases_with + one.others_with) > 130 for one in strata):
        strata = strata[:1]
    found, known = exact_test(strata), by_counting(strata)
    assert isclose(found.p, known.p, rel_tol=1e-9)
    assert isclose(found.least_p, known.least_p, rel_tol=1e-9)


def test_many_incidents_and_windows_neither_overflow_nor_vanish() -> None:
    strata = [Stratum(60, 60, 840, 0) for _ in range(24)]
    assert 0.0 <= exact_test(strata).p < 1e-300
    assert isclose(exact_test([Stratum(60, 0, 840, 840) for _ in range(24)]).p, 1.0, rel_tol=1e-9)


def test_the_correction_for_many_tests() -> None:
    # scipy 1.17.1: false_discovery_control(given_p, method="bh")
    given_p = [0.205, 0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.212, 0.216]
    known = [0.216, 0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.1057142857142857, 0.216, 0.216]
    assert all(isclose(one, other, rel_tol=1e-12) for one, other in zip(adjusted(given_p), known, strict=True))
    assert adjusted([]) == []
    assert adjusted([0.03]) == [0.03]


@given(st.lists(st.floats(0, 1), max_size=50))
def test_a_correction_keeps_the_order_and_never_makes_a_p_smaller(p_values: list[float]) -> None:
    found = adjusted(p_values)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, found, strict=True))
    by_p = sorted(zip(p_values, found, strict=True))
    assert [q for _, q in by_p] == sorted(q for _, q in by_p)
