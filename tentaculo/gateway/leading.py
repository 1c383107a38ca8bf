"""What one process does for all workers and machines: it probes, sends alerts, and keeps what the database holds of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.slow_watch import SlowWatch
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.health import GATEWAY_NAME, Health, ServiceView
from tentaculo.store.client import StoreClient
from tentaculo.store.early_warnings import read_open
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.event_blocks import BlockBuilder, store_block
from tentaculo.store.events import EventRetention
from tentaculo.tasks import TaskGroup
from tentaculo.web import vx11

if TYPE_CHECKING:
    from tentaculo.gateway.early_warnings import EarlyWarnings

OWN_ROW_EVERY = 15.0
"""Seconds between two writes of the gateway's own row."""
WARNINGS_RETRY = 5.0
"""Seconds until open early warnings are looked for again, where the database did not respond."""
TRIM_EVERY = 60.0
"""Seconds between two deletions of old events."""
INDEX_EVERY = 10.0
"""Seconds between two looks whether there are events for another block of the skip index."""
INDEX_REST, MOST_INDEX_REST = 4.0, 0.05
"""The pause between two steps of that, as a multiple of the step, and at most in seconds: ingest comes first."""


class OwnRow(NamedTuple):
    """What the gateway's own row in the table of services says, which VX11's modules read."""

    url: str
    """Where it listens."""
    port: int
    started_at: datetime


class Leading:
    """What the leader does while its context is open. It follows the configuration by `prepare`."""

    def __init__(
        self,
        config: Config,
        store_client: StoreClient,
        health_service: HealthService,
        incident_service: IncidentService,
        *,
        slow_watch: SlowWatch,
        now: Callable[[], datetime],
        record: RecordOwnEvent,
        probes: bool,
    ) -> None:
        """`probes` is whether to probe and alert. `record` takes what belongs in the log of events."""
        self._config = config
        self._warned_of = _warned_of(config)
        self._store_client = store_client
        self._health_service = health_service
        self._incident_service = incident_service
        self._slow_watch = slow_watch
        self._now = now
        self._record = record
        self._probes = probes
        self._tasks: TaskGroup | None = None
        """Those of the present context."""
        self._warnings: EarlyWarnings | None = None
        self._warning_task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Leading: {'yes' if self._tasks is not None else 'no'}>"

    @asynccontextmanager
    async def leading(self, own_row: OwnRow) -> AsyncIterator[None]:
        """Lead while the context is open. `own_row` is what the gateway's own row says."""
        health_service, store_client, now = self._health_service, self._store_client, self._now
        tasks = TaskGroup("leader")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(health_service.keeping_states())
            stack.callback(self._stop_warnings)
            stack.push_async_callback(tasks.close)
            tasks.start(keep_own_row(store_client, own_row, now, lambda: health_service.is_following), "own row")
            trimming = trim_events(lambda: self._config, store_client, health_service.history.is_steady, now)
            tasks.start(trimming, "event retention")
            tasks.start(index_events(store_client), "event blocks")
            tasks.start(self._slow_watch.run(), "slow requests")
            if self._probes:
                await stack.enter_async_context(self._incident_service.running())
                await stack.enter_async_context(health_service.probing())
                self._tasks = tasks
                self._start_warnings()
            yield

    def prepare(self, config: Config) -> Callable[[], None]:
        """Find what early warnings need of another configuration; the result follows it. May run in a thread."""
        warned_of = _warned_of(config)

        def use() -> None:
            self._config = config
            before, self._warned_of = self._warned_of, warned_of
            if self._tasks is not None and warned_of != before:
                self._stop_warnings(is_leading=True)
                self._start_warnings()

        return use

    def _start_warnings(self) -> None:
        if self._tasks is None:
            return
        if not any(service.has_limits for service in self._config.services.values()):
            self._warning_task = self._tasks.start(self._end_warnings(), "early warnings")
            return
        warnings = self._warnings = self._early_warnings()
        self._health_service.on_probe.append(warnings.note_probe)
        self._warning_task = self._tasks.start(warnings.run(), "early warnings")

    async def _end_warnings(self) -> None:
        """End what is open of an earlier configuration, where this one has no limit."""
        while True:
            with suppress(StoreUnavailable):
                if await self._store_client.read(partial(read_open, limit=1)):
                    await self._early_warnings().run()
                return
            await asyncio.sleep(WARNINGS_RETRY)

    def _early_warnings(self) -> EarlyWarnings:
        # Loaded only where there is something to warn of.
        from tentaculo.gateway.early_warnings import EarlyWarnings

        return EarlyWarnings(
            self._config,
            self._store_client,
            self._record,
            self._now,
            is_watched=self._health_service.is_watched,
            notify=self._incident_service.warn,
            counts=self._incident_service.warning_counts,
        )

    def _stop_warnings(self, *, is_leading: bool = False) -> None:
        # The next ones begin with what the database holds, open warnings included.
        if self._warnings is not None:
            self._health_service.on_probe.remove(self._warnings.note_probe)
        if self._warning_task is not None:
            self._warning_task.cancel()
        self._warnings = self._warning_task = None
        if not is_leading:
            self._tasks = None
            # Another process counts those that are open from now on.
            self._incident_service.warning_counts.open = 0


def _warned_of(config: Config) -> list[tuple[object, ...]]:
    """What early warnings need of a configuration."""
    return [
        (one.name, one.warn, one.latency_limits, one.probe.gauges) for one in config.services.values() if one.has_limits
    ]


async def keep_own_row(
    store_client: StoreClient, row: OwnRow, now: Callable[[], datetime], is_replaced: Callable[[], bool]
) -> None:
    """Keep the gateway's own row current until cancelled. Its status is then unknown, unless another machine writes it now."""
    own = ServiceView(
        name=GATEWAY_NAME,
        port=row.port,
        health=Health.UP,
        reason="it responds",
        since=row.started_at,
        upstreams=(),
        host=urlsplit(row.url).hostname or "localhost",
        health_url=f"{row.url}/health",
        code=200,
        latency_ms=0,
        endpoint="/health",
        snippet=msgspec.json.encode(vx11.health_shape()).decode(),
    )
    try:
        while True:
            store_client.record_services([replace(own, checked_at=now())])
            await asyncio.sleep(OWN_ROW_EVERY)
    finally:
        if not is_replaced():
            stopped = replace(
                own, health=Health.UNKNOWN, code=None, latency_ms=None, snippet="The gateway has stopped."
            )
            store_client.record_services([replace(stopped, checked_at=now())])


async def trim_events(
    config: Callable[[], Config], store: StoreClient, is_steady: Callable[[], bool], now: Callable[[], datetime]
) -> None:
    """Delete what `[events]` of the present `config` does not keep, every minute until cancelled.

    `is_steady` says whether the clock has not been set lately. On a wrong clock every event would seem too old.
    """
    while True:
        await asyncio.sleep(TRIM_EVERY)
        keep, most_bytes = timedelta(days=config().events.keep), config().events.keep_bytes
        keep_own = max(keep, timedelta(days=config().incidents.keep))
        if is_steady():
            moment = now()
            store.trim_events(EventRetention(moment - keep, most_bytes, moment - keep_own, moment))
        else:
            store.trim_events(EventRetention(None, most_bytes))


async def index_events(store: StoreClient) -> None:
    """Make the skip index of the log behind it, until cancelled, so that a search need not read all events."""
    builder = BlockBuilder()
    while True:
        await asyncio.sleep(INDEX_EVERY)
        # While the database is away or cannot be written, searches read more rows.
        with suppress(StoreUnavailable):
            while await store.read(builder.begin):
                await _make_block(store, builder)
                if builder.block is None:
                    break
                await store.run(partial(store_block, block=builder.block))


async def _make_block(store: StoreClient, builder: BlockBuilder) -> None:
    is_open = True
    while is_open:
        started = monotonic()
        # On the thread of searches, which has a lower priority than all others.
        is_open = await store.search(builder.step)
        await asyncio.sleep(min(INDEX_REST * (monotonic() - started), MOST_INDEX_REST))


class Leadership:
    """Whether this process does what only one process at its addresses may do, as `Leading` does it."""

    def __init__(self, wait: Callable[[], Awaitable[None]] | None) -> None:
        """`wait` is awaited before the lead is taken: until a predecessor has released it. None means at once."""
        self._wait = wait
        self._stack = AsyncExitStack()
        self._taking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Leadership: {'waiting' if self._taking and not self._taking.done() else 'taken'}>"

    async def take(
        self, context: AbstractAsyncContextManager[None], health_service: HealthService, tasks: TaskGroup
    ) -> None:
        """Enter `context`, in which this process leads or competes with other machines for the lead.

        Returns at once where the lead must be waited for. Requests are served meanwhile.
        """
        if self._wait is None:
            await self._stack.enter_async_context(context)
            return
        health_service.set_in_charge(False)

        async def later(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            health_service.set_in_charge(True)
            await self._stack.enter_async_context(context)

        self._taking = tasks.start(later(self._wait), "lead")

    async def release(self) -> None:
        """Lead no more. A second call does nothing."""
        if self._taking is not None and not self._taking.done():
            self._taking.cancel()
            await asyncio.wait([self._taking])
        await self._stack.aclose()
