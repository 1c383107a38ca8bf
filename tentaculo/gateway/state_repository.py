"""The state of every service and its last heartbeat in the database, so that they survive a restart; and the services' rows.

What happens while the database is unavailable waits in memory. The time in which the gateway did not run counts for
nobody: a service is as silent after a restart as it was before.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import structlog

from tentaculo.config.services import ServiceSettings
from tentaculo.health.board import Board
from tentaculo.health.heartbeat_monitor import HeartbeatMonitor
from tentaculo.health.steady_clock import Correct, SteadyClock
from tentaculo.model.health import GATEWAY_NAME, Health, LastHeartbeat, ServiceView, StateChange, words_of
from tentaculo.model.reason import because
from tentaculo.store import runtime_table, states
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

log = structlog.get_logger(__name__)

OPEN_WAIT = 0.5
"""Seconds that the start waits for the states that an earlier process left."""
ALIVE_EVERY = 10.0
"""Seconds between two writes of the time at which the gateway last ran."""
PAUSE = 0.5
"""Least seconds between two writes, so that a storm of changes is not a storm of writes."""
FORGET_EVERY = 3600.0
"""Seconds between removals of changes that are too old to be kept."""
_MOST_WAITING = 4096
"""Changes that wait for the database; beyond that the oldest are lost."""
_BATCH = 200
"""Changes that are written in one transaction."""


class StateRepository:
    """Restores states and heartbeats at the start, and stores each change."""

    def __init__(
        self,
        store: StoreClient,
        board: Board,
        heartbeats: HeartbeatMonitor,
        *,
        keep: timedelta,
        clock: SteadyClock,
    ) -> None:
        """`keep` is how long a change is kept."""
        self._store = store
        self._board = board
        self._heartbeats = heartbeats
        self._keep = keep
        self._now = clock.now
        self._may_delete = clock.is_steady
        self._known: dict[tuple[str, str], Health] = {}
        self._changes: deque[StateChange] = deque(maxlen=_MOST_WAITING)
        self._storing = 0
        """Of `_changes`, how many of the first ones are in the transaction under way."""
        self._beats: dict[str, LastHeartbeat] = {}
        self._seen: dict[str, LastHeartbeat] | None = None
        """The heartbeats in the database as they were last read or written; None before the first read."""
        self._has_changed = asyncio.Event()
        self._gone: list[StateChange] = []
        """The last changes of services that were there before a restart, and may not be configured any more."""
        self._is_restored = False
        self._is_unsure = False
        """Whether an attempt to store changes failed: the database may have stored them after all."""
        self._next_forget = 0.0

    def __repr__(self) -> str:
        return f"<StateRepository: {len(self._changes)} changes waiting>"

    async def open(self) -> None:
        """Restore what an earlier process stored, if the database responds within `OPEN_WAIT`; else it is read later."""
        try:
            async with asyncio.timeout(OPEN_WAIT):
                await self._restore()
        except (TimeoutError, StoreUnavailable):
            log.warning("states not read yet", waited=OPEN_WAIT)

    def note(self, view: ServiceView, at: datetime) -> None:
        """Record the state of a service and of its endpoints, where it is a new one."""
        for endpoint in view.upstreams:
            self._note(view.name, endpoint.upstream.authority, endpoint.health, view, at)
        # After a restart in maintenance the calendar is read later than the states. Where the maintenance is over by then,
        # the first probe says what is noted.
        if not (view.is_restored and self._known.get((view.name, "")) is Health.MAINTENANCE):
            self._note(view.name, "", view.health, view, at)

    def note_heartbeat(self, service: str, body: bytes) -> None:
        """Record a heartbeat that has just been received."""
        self._beats[service] = LastHeartbeat(service, self._now(), body)
        self._has_changed.set()

    def correct(self, moment: Correct) -> None:
        """Correct every moment after the system clock was set, also those that are stored."""
        for _ in range(len(self._changes)):
            change = self._changes.popleft()
            self._changes.append(replace(change, at=moment(change.at)))
        for view in self._board.snapshot():
            # What was stored of it has the moment by the clock that was wrong.
            if view.health is self._known.get((view.name, "")):
                why = because("clock_set", what=view.why)
                change = StateChange(view.name, "", view.health, view.health, str(why), view.since, view.kind, why)
                self._append(change)
        for service in self._heartbeats.services:
            silent, body = self._heartbeats.silence(service)
            self._beats[service] = LastHeartbeat(service, self._now() - timedelta(seconds=silent), body)
        self._has_changed.set()

    def keep_for(self, keep: timedelta) -> None:
        """Keep each change for so long."""
        self._keep = keep

    def forget_services(self, names: Collection[str]) -> None:
        """Forget what is known of services that were removed. What is stored of them stays."""
        self._known = {key: health for key, health in self._known.items() if key[0] not in names}
        for name in names:
            self._beats.pop(name, None)

    def reset(self) -> None:
        """Forget what was not stored, and restore again before the next change is: another gateway leads meanwhile."""
        self._changes.clear()
        self._storing = 0
        self._known.clear()
        self._gone.clear()
        self._is_restored = False

    async def exchange_heartbeats(self) -> None:
        """Store the heartbeats that this machine received, and read the others'. Raises `StoreUnavailable`."""
        beats, self._beats = self._beats, {}
        if beats:
            try:
                await self._store.run(partial(states.save_heartbeats, beats=list(beats.values())))
            except BaseException:
                self._beats = beats | self._beats
                raise
        await self.read_heartbeats(own=beats)

    async def read_heartbeats(self, own: Mapping[str, LastHeartbeat] | None = None) -> None:
        """Record the heartbeats that another machine received. Raises `StoreUnavailable`.

        `own` are those that this one has just stored.
        """
        if not self._heartbeats.services:
            return
        found: dict[str, LastHeartbeat] = await self._store.run(states.read_heartbeats)
        seen, self._seen = self._seen, found
        for service in self._heartbeats.services:
            beat = found.get(service)
            if beat is None or beat.body is None:
                continue
            if seen is None:
                self._heartbeats.restore(service, max(0.0, (self._now() - beat.at).total_seconds()), beat.body)
            elif beat not in (seen.get(service), (own or {}).get(service)) and service not in self._beats:
                # It counts from now on: the clock of the other machine may differ.
                self._heartbeats.beat(service, beat.body)

    async def run(self) -> None:
        """Store what changes until cancelled."""
        while True:
            try:
                await self._restore()
                await self.save()
                await self._forget()
                await self._end_gone()
            except StoreUnavailable:
                # The store client logs the reason, and the page shows it.
                pass
            except Exception:  # one failed write must not end the next ones
                log.exception("state storage failed")
            await asyncio.sleep(PAUSE)
            try:
                async with asyncio.timeout(ALIVE_EVERY - PAUSE):
                    await self._has_changed.wait()
            except TimeoutError:
                pass
            self._has_changed.clear()

    async def save(self) -> None:
        """Store what has changed, and that the gateway runs. Raises `StoreUnavailable`; what is not stored then waits."""
        while self._changes:
            batch = list(islice(self._changes, _BATCH))
            is_repeat, self._is_unsure = self._is_unsure, True
            self._storing = len(batch)
            try:
                await self._store.run_as_holder(partial(states.add_changes, changes=batch, is_repeat=is_repeat))
            except BaseException:
                self._storing = 0
                raise
            self._is_unsure = False
            # Meanwhile some may have been dropped.
            for _ in range(self._storing):
                self._changes.popleft()
            self._storing = 0
        if not self._is_restored:
            # The time at which the earlier process last ran is still needed.
            return
        beats, self._beats = self._beats, {}
        alive = LastHeartbeat(GATEWAY_NAME, self._now(), None)
        try:
            await self._store.run_as_holder(partial(states.save_heartbeats, beats=[*beats.values(), alive]))
            if self._seen is not None:
                self._seen |= beats
        except BaseException:
            self._beats = beats | self._beats
            raise

    def _note(self, service: str, endpoint: str, health: Health, view: ServiceView, at: datetime) -> None:
        before = self._known.get((service, endpoint), Health.UNKNOWN)
        if health is before:
            return
        self._known[service, endpoint] = health
        kind = view.kind if health is Health.DEGRADED else None
        self._append(StateChange(service, endpoint, before, health, view.reason, at, kind, view.cause))
        self._has_changed.set()

    def _append(self, change: StateChange) -> None:
        if self._storing and len(self._changes) == self._changes.maxlen:
            # The oldest one is dropped, and with it one that is being stored.
            self._storing -= 1
        self._changes.append(change)

    async def _restore(self) -> None:
        if self._is_restored:
            return
        changes: Sequence[StateChange] = await self._store.run(states.latest_changes)
        beats: dict[str, LastHeartbeat] = await self._store.run(states.read_heartbeats)
        self._is_restored = True
        self._gone = [change for change in changes if not change.endpoint and not _is_removal(change)]
        stored = {(change.service, change.endpoint): change.after for change in changes}
        self._known = stored | self._known
        # What is new since the start is compared with what was there before it.
        for change in [self._changes.popleft() for _ in range(len(self._changes))]:
            before = stored.pop((change.service, change.endpoint), change.before)
            if before is not change.after:
                self._changes.append(replace(change, before=before))
        now = self._now()
        self._board.restore(changes, now)
        self._restore_heartbeats(beats, now)
        for view in self._board.snapshot():
            if view.health is not Health.UNKNOWN:
                self.note(view, now)

    def _restore_heartbeats(self, beats: dict[str, LastHeartbeat], now: datetime) -> None:
        alive = beats.get(GATEWAY_NAME)
        for service in self._heartbeats.services:
            beat = beats.get(service)
            if beat is None or alive is None:
                beat = LastHeartbeat(service, now, None)
            # The clock may have been set back between the two.
            silent = max(0.0, (alive.at - beat.at).total_seconds()) if alive is not None else 0.0
            if self._heartbeats.restore(service, silent, beat.body):
                # The time in which the gateway did not run is taken out for good.
                at = now - timedelta(seconds=silent)
                self._beats.setdefault(service, LastHeartbeat(service, at, beat.body))

    async def _end_gone(self) -> None:
        """Write that services which an earlier process had are no longer configured: nothing else changes their rows."""
        views = self._board.snapshot()
        known = {GATEWAY_NAME, *(view.name for view in views), *(alias for view in views for alias in view.aliases)}
        gone, self._gone = [change for change in self._gone if change.service not in known], []
        if not gone:
            return
        why, words = because("removed"), {change.service: words_of(change.after).truth for change in gone}
        try:
            await self._store.run_as_holder(partial(runtime_table.end_rows, words=words, snippet=str(why)))
        except StoreUnavailable:
            self._gone = gone
            raise
        # So that the next start leaves the rows alone: another producer may write them from now on.
        for change in gone:
            self._append(StateChange(change.service, "", change.after, Health.OFF, str(why), self._now(), None, why))
        self._has_changed.set()

    async def _forget(self) -> None:
        moment = time.monotonic()
        if moment < self._next_forget or not self._may_delete():
            return
        removed = await self._store.run_as_holder(partial(states.forget_changes, before=self._now() - self._keep))
        # The rest is removed with the next writes, a batch each.
        if not removed:
            self._next_forget = moment + FORGET_EVERY


def _is_removal(change: StateChange) -> bool:
    return change.after is Health.OFF and change.cause is not None and change.cause.code == "removed"


WRITING_GAP = 0.5
"""Seconds during which changed rows are collected before one write. One write per probe would cost as much as the probe."""
ROWS_AT_ONCE = 32
"""Rows made in one turn of the event loop. Each takes 0.06 ms."""


class ServiceRows:
    """The services whose rows are to be written. `record` stores rows; it never waits and never raises."""

    def __init__(self, board: Board, record: Callable[[Sequence[ServiceView]], None]) -> None:
        self._board = board
        self._record = record
        self._unwritten: dict[str, None] = {}
        """Those that have waited longest first."""
        self._writing: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ServiceRows: {len(self._unwritten)} unwritten>"

    def write_soon(self, service: str) -> None:
        """Write the row of a service with those that change in the next moment."""
        self._unwritten[service] = None
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(WRITING_GAP, self.write)

    def write(self, services: Iterable[str] = ()) -> None:
        """Write the rows of these services now, with all that wait; of many, the rest in the next turns of the loop."""
        self._unwritten.update(dict.fromkeys(services))
        self._write(ROWS_AT_ONCE)
        if self._unwritten:
            self._writing = asyncio.get_running_loop().call_later(0, self.write)

    def finish(self) -> None:
        """Write all that wait now, whatever it takes: nobody is served any more."""
        self._write(len(self._unwritten))

    def _write(self, most: int) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        names = list(islice(self._unwritten, most))
        for name in names:
            del self._unwritten[name]
        if names:
            self._record([self._board.service(name) for name in names])

    def end(self, service: ServiceSettings, at: datetime) -> None:
        """Write that a service is no longer configured since `at`: nothing else would ever change its row."""
        first = service.upstreams[0]
        if self._board.has(first):
            return  # a later reload has added it again
        self._record([ServiceView(service.name, first.port, Health.OFF, because("removed"), at, (), host=first.host)])

    def forget(self, services: Iterable[str] | None = None) -> None:
        """Do not write these, or none at all."""
        if services is None:
            self._unwritten.clear()
        else:
            for name in services:
                self._unwritten.pop(name, None)
