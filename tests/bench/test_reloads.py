"""How long a reload holds the event loop, as `python -m bench.reloads` measures it."""

from __future__ import annotations

import pytest

from bench.reloads import KINDS, Kind, measure


@pytest.mark.parametrize("kind", KINDS, ids=[kind.label for kind in KINDS])
async def test_the_swap_and_the_timers_are_measured(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.reloads.REST", 0.01)
    swap, late = await measure(5, 1, kind)
    assert swap.count == late.count == 2
    assert 0 < swap.low <= swap.high
    assert 0 < late.low <= late.high
