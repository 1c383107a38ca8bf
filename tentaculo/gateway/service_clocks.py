"""The clocks of the services: read from the responses to probes, reported where they are wrong, shared among machines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from tentaculo.config.schema import Config
from tentaculo.events.clock_offsets import KNOWN_FOR, Bounds, ClockOffsets
from tentaculo.gateway.coordination import Coordination
from tentaculo.health.steady_clock import SteadyClock, time_since_boot
from tentaculo.model.clock import DateReading
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.health import Endpoint
from tentaculo.store.client import StoreClient
from tentaculo.store.clocks import StoredOffset, read_clock, read_offsets, store_offsets
from tentaculo.store.events import Query

log = structlog.get_logger(__name__)

WRONG_MS = 5000.0
"""A clock is wrong from this difference on, and right again below the half of it."""
EXCHANGE_EVERY = 5.0
"""Seconds between two exchanges with the other machines."""


class ClockWatch:
    """The clocks of the services. The leader of the workers reports a wrong one, once, in its log and by `record`."""

    def __init__(
        self, config: Config, clock: SteadyClock, record: RecordOwnEvent, coordination: Coordination | None
    ) -> None:
        services = {name: service.upstreams for name, service in config.services.items()}
        self.offsets = ClockOffsets(services, config.names, now=clock.now, elapsed=time_since_boot)
        self._record = record
        self._reports = coordination is None or coordination.is_leader
        if coordination is not None:
            coordination.share_clocks(self.offsets)
        self._wrong: set[Endpoint] = set()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Find the clocks of a configuration; the result follows it. May run in a thread."""
        services = {name: service.upstreams for name, service in config.services.items()}
        offsets = self.offsets.prepare(services, config.names)
        endpoints = {endpoint for upstreams in services.values() for endpoint in upstreams}

        def use() -> None:
            offsets()
            self._wrong &= endpoints

        return use

    def __repr__(self) -> str:
        return f"<ClockWatch: {len(self._wrong)} clocks are wrong>"

    def note_date(self, upstream: Endpoint, reading: DateReading) -> None:
        """Add what the response to a probe says."""
        self.offsets.note_date(upstream, reading)
        bounds = self.offsets.of_endpoint(upstream)
        if self._reports and bounds is not None:
            self._report(upstream, bounds)

    def _report(self, upstream: Endpoint, bounds: Bounds) -> None:
        difference = max(bounds.low, -bounds.high, 0.0)
        is_wrong = upstream in self._wrong
        if is_wrong == (difference > (WRONG_MS / 2 if is_wrong else WRONG_MS)):
            return
        (self._wrong.discard if is_wrong else self._wrong.add)(upstream)
        endpoint = f"{upstream.host}:{upstream.port}"
        offset: dict[str, Any] = {"low_ms": round(bounds.low), "high_ms": round(bounds.high)}
        if is_wrong:
            log.info("service clock right", service=upstream.service, endpoint=endpoint, **offset)
        else:
            log.warning("service clock wrong", service=upstream.service, endpoint=endpoint, **offset)
        self._record(
            "clock.right" if is_wrong else "clock.wrong",
            severity="info" if is_wrong else "warning",
            service=upstream.service,
            endpoint=endpoint,
            **offset,
        )


class ClockExchange:
    """Stores the offsets of this machine, or takes those of another one, at most every `EXCHANGE_EVERY` seconds.

    The leader's probes read the clocks; the machines that follow do not probe. Both methods raise `StoreUnavailable`.
    Each side knows the clock of the database to the time of one query, so that the interval of a follower is wider than
    the leader's by the time of two.
    """

    def __init__(
        self, store: StoreClient, offsets: ClockOffsets, elapsed: Callable[[], float] = time_since_boot
    ) -> None:
        self._store = store
        self._offsets = offsets
        self._elapsed = elapsed
        self._due = 0.0

    def __repr__(self) -> str:
        return f"<ClockExchange of {self._offsets!r}>"

    async def store(self) -> None:
        """Store what this machine knows, as the leader."""
        if not self._is_due():
            return
        moment, database, _ = await self._ask(read_clock)
        known = self._offsets.endpoint_bounds()
        rows = [
            StoredOffset(one.service, one.authority, bounds.low - database.high, bounds.high - database.low, moment)
            for one, bounds in known.items()
        ]
        await self._store.run_as_holder(partial(store_offsets, offsets=rows))

    async def read(self) -> None:
        """Take what the leader has stored."""
        if not self._is_due():
            return
        (moment, rows), database, received = await self._ask(read_offsets)
        endpoints = {(one.service, one.authority): one for one in self._offsets.endpoints}
        for row in rows:
            endpoint, age = endpoints.get((row.service, row.endpoint)), max(0.0, (moment - row.at_ms) / 1000)
            if endpoint is not None and age <= KNOWN_FOR:
                bounds = Bounds(row.low_ms + database.low, row.high_ms + database.high).widened(age)
                self._offsets.note_bounds(endpoint, bounds, received)

    def _is_due(self) -> bool:
        now = self._elapsed()
        if now < self._due:
            return False
        self._due = now + EXCHANGE_EVERY
        return True

    async def _ask(self, query: Query) -> tuple[Any, Bounds, float]:
        """The result, the database's clock less the one that nobody sets, and when the result came by that one."""
        sent = self._elapsed()
        result = await self._store.run(query)
        received = self._elapsed()
        moment = result if isinstance(result, int) else result[0]
        # The clock was read between the two, and is rounded down.
        return result, Bounds(moment - received * 1000, moment + 1 - sent * 1000), received
