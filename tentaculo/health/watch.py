"""The watch: when each upstream is probed, and who hears of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from tentaculo.config.schema import Config
from tentaculo.health.board import Board
from tentaculo.model import ProbeResult, Transition, Upstream
from tentaculo.tasks import TaskGroup

_FIRST_ROUND = 1.0
"""Seconds in which every upstream is probed for the first time, so that the page is soon worth reading."""
_GAP = 0.001
"""Seconds between two starts: after a pause of the whole machine everything is due at once."""


class Probes(Protocol):
    """What the watch needs of a prober."""

    async def probe(self, upstream: Upstream) -> ProbeResult:
        """Ask `upstream` for its health; never raises for anything that it does."""
        ...


class Watch:
    """Probes each upstream of the enabled services at its own cadence, `probe.interval` seconds with 10 % of jitter.

    At most one probe of an upstream is under way, so one that hangs costs its own slot only. A waiting upstream is
    one timer of the event loop, not a task.

    `on_result` hears of each probe, `on_transition` of each change that it made; both are called in the event loop and
    must not wait.
    """

    def __init__(
        self,
        config: Config,
        prober: Probes,
        board: Board,
        *,
        on_result: Callable[[ProbeResult], None],
        on_transition: Callable[[Transition], None],
    ) -> None:
        self._intervals = {
            upstream: service.probe.interval
            for service in config.services.values()
            if service.enabled
            for upstream in service.upstreams
        }
        self._prober = prober
        self._board = board
        self._on_result = on_result
        self._on_transition = on_transition
        self._tasks = TaskGroup("watch")
        self._timers: dict[Upstream, asyncio.TimerHandle] = {}
        self._is_running = False
        self._next_start = 0.0

    def __repr__(self) -> str:
        return f"<Watch: {len(self._intervals)} upstreams, {len(self._tasks)} probes under way>"

    async def run(self) -> None:
        """Watch until cancelled; no probe is left under way then."""
        self._is_running = True
        forever = asyncio.get_running_loop().create_future()
        for place, (upstream, interval) in enumerate(self._intervals.items()):
            # The second probe comes after a random part of the interval: that spreads them over it from then on.
            pause = interval * random.uniform(0.2, 1)  # noqa: S311
            self._schedule(upstream, min(_FIRST_ROUND, interval) * place / len(self._intervals), pause)
        try:
            await forever
        finally:
            self._is_running = False
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            await self._tasks.close()

    def _schedule(self, upstream: Upstream, delay: float, pause: float) -> None:
        """Probe `upstream` in `delay` seconds, and again `pause` seconds after that."""
        loop = asyncio.get_running_loop()
        self._timers[upstream] = loop.call_later(max(0.0, delay), self._due, upstream, pause)

    def _due(self, upstream: Upstream, pause: float) -> None:
        """Start the probe now, or as soon as the starts before it leave room."""
        loop = asyncio.get_running_loop()
        moment = loop.time()
        start = max(moment, self._next_start)
        self._next_start = start + _GAP
        if start > moment:
            self._timers[upstream] = loop.call_at(start, self._start, upstream, pause)
        else:
            self._start(upstream, pause)

    def _start(self, upstream: Upstream, pause: float) -> None:
        del self._timers[upstream]
        self._tasks.start(self._probe(upstream, pause), str(upstream))

    async def _probe(self, upstream: Upstream, pause: float) -> None:
        loop = asyncio.get_running_loop()
        again = loop.time() + pause
        try:
            self._publish(await self._prober.probe(upstream))
        finally:
            # Also after a failure of whoever listens: that is logged, and must not end the watch of this upstream.
            if self._is_running:
                pause = self._intervals[upstream] * random.uniform(0.9, 1.1)  # noqa: S311
                self._schedule(upstream, again - loop.time(), pause)

    def _publish(self, result: ProbeResult) -> None:
        changed = self._board.record_probe(result)
        self._on_result(result)
        for transition in changed:
            self._on_transition(transition)
