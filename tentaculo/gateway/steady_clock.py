"""The time of day for everything that measures durations between moments, steady while the system clock is set.

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

from tentaculo.health.pause_detector import time_since_boot

log = structlog.get_logger(__name__)

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
        self._since = self.now()
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
        step, since, until = timedelta(seconds=difference), self._since, self.now()
        self._offset += difference
        self._since += step
        self._steady_since = self._elapsed()
        log.warning("system clock set", seconds=round(difference, 1))

        def correct(moment: datetime) -> datetime:
            return moment + step if since <= moment <= until else moment

        for listener in self.on_step:
            listener(correct)

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            try:
                self.check()
            except Exception:  # one failed correction must not end the next checks
                log.exception("clock correction failed")
            await asyncio.sleep(CHECK_EVERY)
