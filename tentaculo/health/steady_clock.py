"""The time for everything that measures durations: it survives pauses of this process, and a change of the system clock.

A pause is a SIGSTOP, a suspended machine or an event loop that does not run. When the process continues, every time limit
is over at once and every heartbeat seems late. That says nothing about the services.

A moment that was recorded before the system clock was set is wrong afterwards: an outage would have lasted for years, or
an alert would wait until a moment in the future. So this clock advances as one that nobody sets. When the system
clock is set, this clock is set too, and every part corrects the moments that it recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

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


CHECK_EVERY = 1.0
"""Seconds between two comparisons with the system clock."""
STEP = 0.5
"""Seconds of difference from which on the system clock counts as set. A smaller difference is followed."""

STEADY = 3600.0
"""Seconds after the start, or after the system clock was set, before which nothing may be deleted for its age."""

Correct = Callable[[datetime], datetime]
"""Returns a moment as it is by the system clock now. Moments that this process did not record stay as they are."""


class SteadyClock:
    """The time in UTC. `on_step` is called with the correction when the system clock was set."""

    def __init__(
        self, *, system: Callable[[], float] = time.time, elapsed: Callable[[], float] = time_since_boot
    ) -> None:
        """`system` returns the seconds since 1970 by the system clock, `elapsed` those of a clock that nobody sets."""
        self._system = system
        self._elapsed = elapsed
        self._offset = system() - elapsed()
        self.started_at = self.now()
        """When it began, by the system clock as it is now."""
        self._steady_since = elapsed()
        self.on_step: list[Callable[[Correct], None]] = []

    def __repr__(self) -> str:
        return f"<SteadyClock: {self.now():%Y-%m-%d %H:%M:%S} UTC>"

    def now(self) -> datetime:
        """The current time. It never goes back between two calls of `check`."""
        return datetime.fromtimestamp(self._offset + self._elapsed(), UTC)

    def is_steady(self) -> bool:
        """Whether the system clock has not been set for `STEADY` seconds: by a wrong one everything may seem too old."""
        return self._elapsed() - self._steady_since >= STEADY

    def check(self) -> None:
        """Compare with the system clock, and follow it."""
        difference = self._system() - self._elapsed() - self._offset
        if abs(difference) < STEP:
            self._offset += difference
            return
        step, since, until = timedelta(seconds=difference), self.started_at, self.now()
        self._offset += difference
        self.started_at += step
        self._steady_since = self._elapsed()
        log.warning("system clock set", seconds=round(difference, 1))

        def correct(moment: datetime) -> datetime:
            return moment + step if since <= moment <= until else moment

        for listener in self.on_step:
            try:
                listener(correct)
            except Exception:  # the others must still be called: the step is not noticed again
                log.exception("clock correction failed")

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            self.check()
            await asyncio.sleep(CHECK_EVERY)
