"""How slow a core is."""

from __future__ import annotations

import os

from bench import machine


def test_the_slow_share_is_a_part_and_leaves_the_process_where_it_was() -> None:
    allowed = os.sched_getaffinity(0)
    assert 0 <= machine.slow_share(min(allowed), seconds=0.1) < 1
    assert os.sched_getaffinity(0) == allowed
