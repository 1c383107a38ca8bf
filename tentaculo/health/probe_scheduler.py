"""Decides when each endpoint is probed, limits concurrent probes, and passes on each result."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tentaculo.config.probes import ProbeSettings
from tentaculo.config.schema import Config
from tentaculo.health.board import Board, ProbeUpdate
from tentaculo.model.health import Endpoint, ProbeResult
from tentaculo.tasks import TaskGroup

_SLOW_SHARE = 4
"""One slot of this many is for slow endpoints."""

Start = Callable[[], None]


@dataclass(slots=True)
class _Lane:
    size: int
    free: int
    """Below zero where the lane has been made smaller than what is in use."""
    waiting: deque[Start] = field(default_factory=deque)


class ProbeSlots:
    """`limit` slots: a quarter for endpoints whose last probe was slow, the others for all other endpoints.

    An endpoint that hangs takes a normal slot once and a slow slot from then on. Two hundred of them share a quarter of
    the slots and are probed less often, while all other endpoints are probed on time. Each part is first in, first out.
    """

    def __init__(self, limit: int) -> None:
        slow = max(1, limit // _SLOW_SHARE)
        normal = max(1, limit - slow)
        self._lanes = {True: _Lane(slow, slow), False: _Lane(normal, normal)}

    def __repr__(self) -> str:
        parts = (f"{lane.free} free, {len(lane.waiting)} wait" for lane in (self._lanes[False], self._lanes[True]))
        return f"<ProbeSlots: {'; slow: '.join(parts)}>"

    def acquire(self, start: Start, *, is_slow: bool) -> None:
        """Call `start` now, or as soon as a slot is free. Call `release` when the probe has ended."""
        lane = self._lanes[is_slow]
        if lane.free > 0:
            lane.free -= 1
            start()
        else:
            lane.waiting.append(start)

    def release(self, *, is_slow: bool) -> None:
        """Free a slot of the same part. The probe that has waited longest gets it."""
        lane = self._lanes[is_slow]
        if lane.waiting and lane.free >= 0:
            lane.waiting.popleft()()
        else:
            lane.free += 1

    def resize(self, limit: int) -> None:
        """Have `limit` slots from now on. Probes that run keep theirs."""
        slow = max(1, limit // _SLOW_SHARE)
        for is_slow, size in ((True, slow), (False, max(1, limit - slow))):
            lane = self._lanes[is_slow]
            lane.free, lane.size = lane.free + size - lane.size, size
            while lane.free > 0 and lane.waiting:
                lane.free -= 1
                lane.waiting.popleft()()

    def clear(self) -> None:
        """Discard every waiting probe."""
        for lane in self._lanes.values():
            lane.waiting.clear()


_FIRST_ROUND = 1.0
"""Seconds within which every endpoint is probed for the first time, so that the status page is soon useful."""
_GAP = 0.001
"""Seconds between two starts: after a pause of the whole machine every probe is due at once."""
_REQUEST_GAP = 1.0
"""Least seconds between two probes of one endpoint that `probe_now` asks for."""
_SLOW = 1.0
"""Seconds after which a probe was slow: the next probe of that endpoint takes a slot for slow endpoints."""


class Probes(Protocol):
    """What the scheduler needs from a prober."""

    async def probe(self, upstream: Endpoint) -> ProbeResult:
        """Probe `upstream`. Raises nothing for anything that the endpoint does."""
        ...


class ProbeScheduler:
    """Probes each upstream of the enabled services at its own cadence: `probe.interval` seconds, give or take `jitter`.

    A probe that contradicts the current health is repeated after `probe.recheck` seconds until the health is confirmed
    or changes. The same holds for the first minute after the endpoint's breaker has opened: requests wait for recovery.
    `probe_now` asks for a probe before the next one is due.

    At most one probe of an endpoint runs at a time, and at most `limits.probes` in all; `ProbeSlots` explains why a
    probe that hangs blocks its own slot only. A waiting endpoint is one timer of the event loop, not a task.

    `on_update` is called with the result of each probe and what follows from it. It runs in the event loop and must not
    block.
    """

    def __init__(
        self,
        config: Config,
        prober: Probes,
        board: Board,
        *,
        on_update: Callable[[ProbeUpdate], None],
    ) -> None:
        self._cadences = _cadences(config)
        self._prober = prober
        self._board = board
        self._on_update = on_update
        self._tasks = TaskGroup("watch")
        self._slots = ProbeSlots(config.limits.probes)
        self._slow: set[Endpoint] = set()
        # Endpoints whose next probe is not due yet. Any other endpoint has a probe that is due or running.
        self._timers: dict[Endpoint, asyncio.TimerHandle] = {}
        # When they are due: a uvloop timer that is due at once does not say.
        self._dues: dict[Endpoint, float] = {}
        self._starts: dict[Endpoint, asyncio.TimerHandle] = {}
        self._requested: dict[Endpoint, float] = {}
        self._running: set[Endpoint] = set()
        # Those with a probe that is due: it waits for a slot, or runs.
        self._due_now: set[Endpoint] = set()
        self._is_running = False
        self._next_start = 0.0

    def __repr__(self) -> str:
        return f"<ProbeScheduler: {len(self._cadences)} endpoints, {len(self._running)} probes running>"

    async def run(self) -> None:
        """Schedule probes until cancelled. No probe is running afterwards."""
        self._is_running = True
        forever = asyncio.get_running_loop().create_future()
        self._begin(tuple(self._cadences))
        try:
            await forever
        finally:
            self._is_running = False
            for timer in (*self._timers.values(), *self._starts.values()):
                timer.cancel()
            self._timers.clear()
            self._starts.clear()
            self._slots.clear()
            await self._tasks.close()
            self._running.clear()
            self._due_now.clear()

    def _begin(self, upstreams: Sequence[Endpoint]) -> None:
        """Probe these for the first time."""
        for place, upstream in enumerate(upstreams):
            interval = self._cadences[upstream].interval
            # The second probe comes after a random part of the interval: that spreads them over it from then on.
            pause = interval * random.uniform(0.2, 1)  # noqa: S311
            self._schedule(upstream, min(_FIRST_ROUND, interval) * place / len(upstreams), pause)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Find what a configuration changes; the result applies it. Changes nothing, and may run in a thread.

        New endpoints and those whose probes are others are probed within a second.
        """
        before, cadences, limit = self._cadences, _cadences(config), config.limits.probes
        gone = before.keys() - cadences.keys()
        changed = [one for one, cadence in cadences.items() if before.get(one) != cadence]

        def use() -> None:
            self._cadences = cadences
            self._slots.resize(limit)
            for upstream in gone:
                self._forget(upstream)
            if self._is_running:
                # One whose probe is due or runs begins its new cadence behind it.
                begun = [one for one in changed if one not in self._due_now]
                for upstream in begun:
                    self._forget(upstream)
                self._begin(begun)

        return use

    def _forget(self, upstream: Endpoint) -> None:
        if (timer := self._timers.pop(upstream, None)) is not None:
            timer.cancel()
        self._dues.pop(upstream, None)
        self._requested.pop(upstream, None)
        self._slow.discard(upstream)

    def probe_now(self, upstream: Endpoint) -> None:
        """Probe `upstream` now, but no sooner than one second after the last probe that was asked for in this way.

        Does nothing where a probe is due sooner or is running.
        """
        timer = self._timers.get(upstream)
        if timer is None:
            return
        moment = asyncio.get_running_loop().time()
        due = max(moment, self._requested.get(upstream, float("-inf")) + _REQUEST_GAP)
        if self._dues[upstream] <= due:
            return
        self._requested[upstream] = due
        timer.cancel()
        self._schedule(upstream, due - moment, self._pause(upstream))

    def _pause(self, upstream: Endpoint) -> float:
        cadence = self._cadences[upstream]
        return cadence.interval * random.uniform(1 - cadence.jitter, 1 + cadence.jitter)  # noqa: S311

    def _schedule(self, upstream: Endpoint, delay: float, pause: float) -> None:
        """Probe `upstream` in `delay` seconds, and again `pause` seconds after that."""
        loop = asyncio.get_running_loop()
        self._dues[upstream] = loop.time() + delay
        self._timers[upstream] = loop.call_later(max(0.0, delay), self._due, upstream, pause)

    def _due(self, upstream: Endpoint, pause: float) -> None:
        """Start the probe as soon as there is a slot, and the starts before it leave room."""
        del self._timers[upstream]
        self._due_now.add(upstream)
        is_slow = upstream in self._slow
        self._slots.acquire(partial(self._space_out, upstream, pause, is_slow), is_slow=is_slow)

    def _space_out(self, upstream: Endpoint, pause: float, is_slow: bool) -> None:
        loop = asyncio.get_running_loop()
        moment = loop.time()
        start = max(moment, self._next_start)
        self._next_start = start + _GAP
        if start > moment:
            self._starts[upstream] = loop.call_at(start, self._start, upstream, pause, is_slow)
        else:
            self._start(upstream, pause, is_slow)

    def _start(self, upstream: Endpoint, pause: float, is_slow: bool) -> None:
        self._starts.pop(upstream, None)
        if upstream not in self._cadences:
            # It was removed from the configuration meanwhile.
            self._due_now.discard(upstream)
            self._slots.release(is_slow=is_slow)
            return
        self._running.add(upstream)
        self._tasks.start(self._probe(upstream, pause, is_slow), str(upstream))

    async def _probe(self, upstream: Endpoint, pause: float, is_slow: bool) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            if upstream not in self._cadences:
                return  # a reload has removed it between the start of this task and its first step
            result = await self._prober.probe(upstream)
            if upstream not in self._cadences:
                return
            (self._slow.add if loop.time() - start >= _SLOW else self._slow.discard)(upstream)
            update = self._board.accept_result(result)
            if update.probe_soon:
                pause = min(pause, self._cadences[upstream].recheck)
            self._on_update(update)
        finally:
            # Also after an error in `on_update`: it is logged, and the endpoint is still probed again.
            self._running.discard(upstream)
            self._due_now.discard(upstream)
            self._slots.release(is_slow=is_slow)
            if self._is_running and upstream in self._cadences:
                self._schedule(upstream, start + pause - loop.time(), self._pause(upstream))


def _cadences(config: Config) -> dict[Endpoint, ProbeSettings]:
    return {
        upstream: service.probe
        for service in config.services.values()
        if service.enabled and service.probe.kind != "none"
        for upstream in service.upstreams
    }
