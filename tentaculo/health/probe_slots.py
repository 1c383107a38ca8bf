"""Limits concurrent probes, so that probes that hang never delay the others. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_SLOW_SHARE = 4
"""One slot of this many is for slow endpoints."""

Start = Callable[[], None]


@dataclass(slots=True)
class _Lane:
    free: int
    waiting: deque[Start] = field(default_factory=deque)


class ProbeSlots:
    """`limit` slots: a quarter for endpoints whose last probe was slow, the others for all other endpoints.

    An endpoint that hangs takes a normal slot once and a slow slot from then on. Two hundred of them share a quarter of
    the slots and are probed less often, while all other endpoints are probed on time. Each part is first in, first out.
    """

    def __init__(self, limit: int) -> None:
        slow = max(1, limit // _SLOW_SHARE)
        self._lanes = {True: _Lane(slow), False: _Lane(max(1, limit - slow))}

    def __repr__(self) -> str:
        parts = (f"{lane.free} free, {len(lane.waiting)} wait" for lane in (self._lanes[False], self._lanes[True]))
        return f"<ProbeSlots: {'; slow: '.join(parts)}>"

    def acquire(self, start: Start, *, is_slow: bool) -> None:
        """Call `start` now, or as soon as a slot is free. Call `release` when the probe has ended."""
        lane = self._lanes[is_slow]
        if lane.free:
            lane.free -= 1
            start()
        else:
            lane.waiting.append(start)

    def release(self, *, is_slow: bool) -> None:
        """Free a slot of the same part. The probe that has waited longest gets it."""
        lane = self._lanes[is_slow]
        if lane.waiting:
            lane.waiting.popleft()()
        else:
            lane.free += 1

    def clear(self) -> None:
        """Discard every waiting probe."""
        for lane in self._lanes.values():
            lane.waiting.clear()
