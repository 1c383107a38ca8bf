"""When the next worker comes: at once after one failure, later and later after several, and never for ever in vain."""

from __future__ import annotations

import pytest

from tentaculo.workers.restart_policy import ATTEMPTS, LAST_PAUSE, LASTING, RestartPolicy


def test_those_that_end_at_once_come_back_later_and_later() -> None:
    revival = RestartPolicy()
    pauses = [revival.pause(0.5, was_ready=True, was_told=False) for _ in range(9)]
    assert pauses == [0, 1, 2, 4, 8, 16, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE]
    assert not revival.is_hopeless


def test_one_that_has_lasted_is_replaced_at_once_whatever_was_before() -> None:
    revival = RestartPolicy()
    for _ in range(4):
        revival.pause(0.5, was_ready=True, was_told=False)
    assert revival.pause(LASTING, was_ready=True, was_told=False) == 0
    assert revival.pause(LASTING - 1, was_ready=True, was_told=False) == 1


def test_one_that_was_told_to_end_is_no_failure() -> None:
    revival = RestartPolicy()
    assert [revival.pause(0.1, was_ready=True, was_told=True) for _ in range(5)] == [0] * 5
    assert revival.pause(0.1, was_ready=True, was_told=False) == 0, "the first failure of all"


@pytest.mark.parametrize("was_told", [False, True])
def test_a_place_whose_workers_never_take_requests_is_hopeless(was_told: bool) -> None:
    revival = RestartPolicy()
    for number in range(ATTEMPTS):
        assert not revival.is_hopeless
        assert revival.false_starts == number
        revival.pause(0.0, was_ready=False, was_told=was_told)
    assert revival.is_hopeless
    revival.pause(0.0, was_ready=True, was_told=False)
    assert not revival.is_hopeless
