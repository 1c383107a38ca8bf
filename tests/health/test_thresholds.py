from __future__ import annotations

import pytest

from tentaculo.health.thresholds import ConsecutiveThreshold
from tentaculo.model.endpoint import Counts, Endpoint
from tentaculo.model.health import Health, ProbeResult
from tests.support.health import Clock

LETTERS = {"u": Health.UP, "w": Health.DEGRADED, "d": Health.DOWN, "?": Health.UNKNOWN}
UPSTREAM = Endpoint("madre", "a", 1)


def take(streak: ConsecutiveThreshold, letters: str) -> str:
    """What was believed after each probe."""
    told = ""
    for letter in letters:
        health = LETTERS[letter]
        streak.add(ProbeResult(UPSTREAM, health, f"found {health}", Clock().now()))
        told += next(one for one, known in LETTERS.items() if known is streak.health)
    return told


@pytest.mark.parametrize(
    ("found", "believed"),
    [
        ("u", "u"),
        ("d", "d"),
        ("w", "w"),
        ("uddd", "uuud"),
        ("uddudd", "uuuuuu"),
        ("dud", "ddd"),
        ("duu", "ddu"),
        ("dudu", "dddd"),
        ("uwww", "uuuw"),
        ("uwdd", "uuud"),
        ("uddw", "uuuw"),
        ("wuu", "wwu"),
        ("dwu", "ddu"),
        ("wddd", "wwwd"),
        ("udddu", "uuudd"),
        ("udwu", "uuuu"),
    ],
)
def test_it_takes_so_many_in_a_row(found: str, believed: str) -> None:
    assert take(ConsecutiveThreshold(3, 2), found) == believed


@pytest.mark.parametrize("found", ["uduwd", "d?ud"])
def test_one_is_enough_where_one_is_asked(found: str) -> None:
    assert take(ConsecutiveThreshold(1, 1), found) == found


def test_what_the_gateway_could_not_ask_is_forgotten_after_a_while() -> None:
    assert take(ConsecutiveThreshold(3, 2), "u??u???d") == "uuuuuu?d", "and the next that it could ask counts at once"


def test_what_could_not_be_asked_is_not_counted() -> None:
    streak = ConsecutiveThreshold(3, 2)
    take(streak, "?ud?w?")
    assert streak.counts == Counts(2, 1)


def test_the_reason_says_how_far_it_is() -> None:
    streak = ConsecutiveThreshold(3, 2)
    assert streak.reason == "not probed yet"
    take(streak, "u")
    assert (streak.reason, streak.is_settled) == ("found up", True)
    take(streak, "d")
    assert streak.reason == "found down (1 of 3 in a row before it counts as down)"
    assert not streak.is_settled
    take(streak, "dd")
    assert (streak.reason, streak.is_settled) == ("found down", True)
    take(streak, "u")
    assert streak.reason == "found up (1 of 2 in a row before it counts as up)"
    assert streak.counts == Counts(2, 3)
    assert repr(streak) == "<ConsecutiveThreshold down, 0 worse, 1 better>"
