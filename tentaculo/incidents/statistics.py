"""The two calculations behind "what came before the incidents": an exact test, and its correction for many tests. Pure.

The test is Fisher's exact test, stratified by the hour of the day: the exact conditional test of independence in several
2 x 2 tables (Mehta, Patel and Gray 1985; `mantelhaen.test(exact = TRUE)` of R). With one hour it is Fisher's own. Given how
many windows of an hour had the event, any of them was equally likely to be one before an incident if the two have
nothing to do with each other. So the number among them is hypergeometric, and the sum over the hours has the
convolution of these distributions:

    P(k) = C(K, k) C(N - K, n - k) / C(N, n)      N windows, n before incidents, K with the event, k both
    p    = P(k_1 + k_2 + ... >= the number that was counted)

It needs no assumption about how often events come, or about the shape of the day, and holds for small numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, lgamma
from typing import NamedTuple


class Stratum(NamedTuple):
    """The windows of one hour of the day."""

    cases: int
    """Windows before incidents."""
    cases_with: int
    """Those of them in which the event came."""
    others: int
    """Windows of other days."""
    others_with: int


class ExactTest(NamedTuple):
    """What the exact test says about one type of event."""

    p: float
    """How probable it is by chance alone that the event came before so many incidents, or before more."""
    least_p: float
    """The smallest p that was possible, with the event in as many windows. The place of these windows does not matter."""


def exact_test(strata: Sequence[Stratum]) -> ExactTest:
    """Test whether an event comes before incidents more often than at the same hour of other days; one-sided."""
    distribution = [1.0]
    least = 0
    for one in strata:
        total, with_event = one.cases + one.others, one.cases_with + one.others_with
        lowest, probabilities = hypergeometric(total, one.cases, with_event)
        least += lowest
        if len(probabilities) > 1:
            distribution = _convolution(distribution, probabilities)
    counted = sum(one.cases_with for one in strata) - least
    return ExactTest(min(1.0, fsum(distribution[counted:])), min(1.0, distribution[-1]))


def hypergeometric(total: int, drawn: int, marked: int) -> tuple[int, list[float]]:
    """The least number of marked ones among `drawn` of `total`, and the probability of it and of each greater number."""
    low, high = max(0, drawn + marked - total), min(drawn, marked)
    all_ways = _log_choose(total, drawn)
    return low, [
        exp(_log_choose(marked, found) + _log_choose(total - marked, drawn - found) - all_ways)
        for found in range(low, high + 1)
    ]


def adjusted(p_values: Sequence[float]) -> list[float]:
    """The q of each p: at which rate of false discoveries it is still one (Benjamini and Hochberg 1995).

    Claiming what has q <= 0.05 makes at most 5 % of the claims false in the mean, however many were tested.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__, reverse=True)
    found, least = [1.0] * len(p_values), 1.0
    for rank, index in zip(range(len(order), 0, -1), order, strict=True):
        least = min(least, p_values[index] * (len(order) / rank))
        found[index] = least
    return found


def _log_choose(total: int, chosen: int) -> float:
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def _convolution(one: Sequence[float], other: Sequence[float]) -> list[float]:
    found = [0.0] * (len(one) + len(other) - 1)
    for place, probability in enumerate(one):
        for further, more in enumerate(other, place):
            found[further] += probability * more
    return found
