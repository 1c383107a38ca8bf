"""Notices pauses of the gateway itself: SIGSTOP, a suspended machine, an event loop that does not run.

When it continues, every time limit is over at once and every heartbeat seems late. That says nothing about the services.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_PULSE = 0.25
"""Seconds between two signs of life."""
_LONG = 1.0
"""Seconds from which on a delay is a pause. Shorter ones are within the tolerance of every time limit here."""


def time_since_boot() -> float:
    """Seconds that also pass while the machine is suspended; `time.monotonic` stands still then."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PauseDetector:
    """Counts the pauses of this process.

    Between `start` and `stop` a timer shows that the event loop runs. `check` notices a pause before that timer fires:
    call it first wherever a time limit is evaluated.
    """

    def __init__(self, clock: Callable[[], float] = time_since_boot) -> None:
        self._clock = clock
        self._last: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.count = 0
        self.on_pause: list[Callable[[float], None]] = []
        """Called with the length of each pause in seconds, in the event loop."""

    def __repr__(self) -> str:
        return f"<PauseDetector: {self.count} pauses>"

    def start(self) -> None:
        """Start the timer. Needs a running event loop."""
        self._last = self._clock()
        self._pulse()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = None

    def check(self) -> int:
        """The number of pauses until now. Does nothing while it is stopped."""
        if self._last is not None:
            now = self._clock()
            gap, self._last = now - self._last - _PULSE, now
            if gap >= _LONG:
                self.count += 1
                log.warning("process paused", seconds=round(gap, 1))
                for listener in self.on_pause:
                    listener(gap)
        return self.count

    def _pulse(self) -> None:
        self.check()
        self._timer = asyncio.get_running_loop().call_later(_PULSE, self._pulse)
