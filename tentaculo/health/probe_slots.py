"""How many probes are under way at once, so that those which hang never keep others waiting. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

_SLOW_SHARE = 4
"""One slot in so many is for the slow."""

Start = Callable[[], None]


@dataclass(slots=True)
class _Lane:
    free: int
    waiting: deque[Start] = field(default_factory=deque)


class ProbeSlots:
    """`limit` slots, a quarter of them for what was slow the last time, the others for everything else.

    Whatever hangs is found out in one of the many and is from then on among its like: two hundred hung services share
    a quarter of the slots and are asked a little less often, while every other service is asked on time. Within each
    part, who comes first is served first.
    """

    def __init__(self, limit: int) -> None:
        slow = max(1, limit // _SLOW_SHARE)
        self._lanes = {True: _Lane(slow), False: _Lane(max(1, limit - slow))}

    def __repr__(self) -> str:
        parts = (f"{lane.free} free, {len(lane.waiting)} wait" for lane in (self._lanes[False], self._lanes[True]))
        return f"<Slots: {'; slow: '.join(parts)}>"

    def take(self, start: Start, *, is_slow: bool) -> None:
        """Call `start` now, or as soon as there is a slot. Whoever was started gives it back with `release`."""
        lane = self._lanes[is_slow]
        if lane.free:
            lane.free -= 1
            start()
        else:
            lane.waiting.append(start)

    def release(self, *, is_slow: bool) -> None:
        """Give a slot back, of the part that it was taken from; who waits longest gets it."""
        lane = self._lanes[is_slow]
        if lane.waiting:
            lane.waiting.popleft()()
        else:
            lane.free += 1

    def clear(self) -> None:
        """Start nothing more of what waits."""
        for lane in self._lanes.values():
            lane.waiting.clear()
