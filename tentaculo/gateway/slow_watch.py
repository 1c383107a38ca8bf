"""Looks at the latencies of requests twice a minute, and makes a service degraded whose requests have become slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.usual_cache import AT_ONCE
from tentaculo.health.state_rules import SlowRequests
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.store.errors import StoreUnavailable

LOOK_EVERY = 30.0
"""Seconds between two looks."""
SHARE = 10
"""Services that are judged in one turn of the event loop."""


class ReadsRecent(Protocol):
    """Who knows the rates of the last minutes."""

    async def recent(self, now: int, services: Sequence[str]) -> dict[str, RecentRates]:
        """Those of each service. Raises `StoreUnavailable`."""
        ...


class SlowWatch:
    """The rule of each service with routes, and the task that applies them."""

    def __init__(
        self,
        config: Config,
        health_service: HealthService,
        store: ReadsRecent,
        usual: Callable[[int], Awaitable[Mapping[str, UsualRates]]],
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`usual` is that of `UsualCache`; `clock` is monotonic, in seconds."""
        self._limits: dict[str, float | None] = {}
        self._rules: dict[str, SlowRequests] = {}
        self._health_service = health_service
        self._store = store
        self._usual = usual
        self._now = now
        self._clock = clock
        self.prepare(config)()

    def prepare(self, config: Config) -> Callable[[], None]:
        """What follows a configuration. A service with the same limit keeps what is known of it; others are not slow.

        May run in a thread.
        """
        before, known = self._limits, self._rules
        limits = {one.name: one.slow for one in config.services.values() if one.routes}
        rules = {
            name: known[name] if name in known and before[name] == slow else SlowRequests(slow)
            for name, slow in limits.items()
        }

        def use() -> None:
            self._limits, self._rules = limits, rules
            for name in self._health_service.board.slow:
                if name not in rules:
                    self._health_service.set_slow(name, None)

        return use

    def __repr__(self) -> str:
        return f"<SlowWatch of {len(self._rules)} services>"

    async def run(self) -> None:
        """Look until cancelled. While the database cannot be read, every service keeps its state."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """One look."""
        names, now = tuple(self._rules), int(self._now().timestamp())
        try:
            usual = await self._usual(now)
            for start in range(0, len(names), AT_ONCE):
                found = await self._store.recent(now, names[start : start + AT_ONCE])
                for number, (name, recent) in enumerate(found.items(), 1):
                    self._judge(name, recent, usual.get(name))
                    if number % SHARE == 0:
                        await asyncio.sleep(0)
        except StoreUnavailable:
            return

    def _judge(self, name: str, recent: RecentRates, usual: UsualRates | None) -> None:
        if name not in self._rules:
            return  # it was removed during the look
        was = self._health_service.board.slow.get(name)
        expected = None if usual is None else usual.requests_p95
        reason = self._rules[name].judge(self._clock(), recent, expected, is_slow=was is not None)
        if reason != was:
            self._health_service.set_slow(name, reason)
