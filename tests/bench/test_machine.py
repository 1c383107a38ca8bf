"""How slow a core is."""

from __future__ import annotations

import os

import pytest

from bench import machine


def test_pieces_of_less_than_half_the_speed_are_slow() -> None:
    assert machine.slow_part([0.1] * 16 + [0.19] * 2) == 0
    assert machine.slow_part([0.1] * 16 + [0.4, 2.0]) == pytest.approx(2.4 / 4)


def test_the_slow_share_is_a_part_and_leaves_the_process_where_it_was() -> None:
    allowed = os.sched_getaffinity(0)
    assert 0 <= machine.slow_share(min(allowed), seconds=0.1) < 1
    assert os.sched_getaffinity(0) == allowed
