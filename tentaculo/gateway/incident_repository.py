"""Incidents, notes and maintenance windows: those in the database together with those in memory.

While the database is unavailable, open incidents stay in memory and are stored when it is back. Nothing waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import msgspec
import structlog

from tentaculo.config.schema import Config
from tentaculo.gateway.alert_channels import AlertChannels
from tentaculo.gateway.failed_requests import FailedRequests
from tentaculo.gateway.mute_repository import MuteRepository
from tentaculo.health.steady_clock import Correct, SteadyClock
from tentaculo.incidents.alerts import STALE
from tentaculo.incidents.availability import MaintenanceCalendar
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.event import RecordOwnEvent, ignore_own_event
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.incident import Acknowledgement, Incident, MaintenanceWindow, Note
from tentaculo.model.mute import Mute
from tentaculo.store import incidents as store
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

log = structlog.get_logger(__name__)

VISIT_EVERY = 5.0
"""Seconds between two reads of the database: notes and windows that another process wrote are seen then."""
PAUSE = 1.0
"""Least seconds between two visits, so that a storm of changes is not a storm of writes."""
OPEN_WAIT = 0.5
"""Seconds that the start waits for the incidents that an earlier process stored."""
FORGET_EVERY = 3600.0
"""Seconds between removals of incidents that are too old to be kept."""
SHOWN_ENDED = 5
"""Ended incidents on the page."""
_BATCH = 100
"""Incidents that are stored in one transaction."""
_MOST_RESTORED = 1000
_MOST_WINDOWS = 500
_MOST_NOTES = 200
_MOST_ACKNOWLEDGEMENTS = 500


class IncidentPage(msgspec.Struct, frozen=True):
    """The result of a query for incidents."""

    incidents: tuple[Incident, ...]
    problem: str | None
    """Why the database could not be read, so that only incidents in memory are listed; None where it could."""


class IncidentRepository:
    """Stores incidents that change, and reads what other processes have stored."""

    def __init__(
        self,
        config: Config,
        store_client: StoreClient,
        incidents: IncidentTracker,
        calendar: MaintenanceCalendar,
        *,
        channels: AlertChannels,
        on_windows: Callable[[], None],
        clock: SteadyClock,
        record: RecordOwnEvent = ignore_own_event,
    ) -> None:
        """`channels` are saved with the incidents. `on_windows` is called when the calendar may have changed.

        `record` takes what belongs in the log of events.
        """
        self._channels = channels
        self._record = record
        self._store_client = store_client
        self._incidents = incidents
        self._calendar = calendar
        self._on_windows = on_windows
        self._now = clock.now
        self._may_delete = clock.is_steady
        self._failed_requests = FailedRequests(store_client.run, incidents, clock.now, timedelta())
        self.use(config)
        self._notes: dict[int, tuple[Note, ...]] = {}
        self._from_now: dict[int, MaintenanceWindow] = {}
        self._moved: dict[int, tuple[MaintenanceWindow, MaintenanceWindow]] = {}
        """Windows that `correct` has moved, each as it is stored and as it is to be stored."""
        self._recorded: set[int] = set()
        self._mutes = MuteRepository(store_client, incidents, clock.now, record)
        self._is_restored = False
        self._is_mirror = False
        self._next_forget = 0.0
        self._has_changed = asyncio.Event()
        self._has_delivered = asyncio.Event()

    def use(self, config: Config) -> None:
        """Follow another configuration."""
        self._services = config.services.keys()
        self._settle = timedelta(seconds=config.incidents.settle)
        self._keep = timedelta(days=config.incidents.keep)
        self._failed_requests.kept = timedelta(hours=config.history.hours_of_minutes - 1)

    def __repr__(self) -> str:
        return f"<IncidentRepository: {'read' if self._is_restored else 'not read yet'}>"

    # -- queries --------------------------------------------------------------------------------------

    def shown(self) -> list[tuple[Incident, tuple[Note, ...]]]:
        """The incidents of the page: the open ones, newest first, and the last that ended. From memory."""
        ended = [one for one in self._incidents.ended if one.part_of is None][:SHOWN_ENDED]
        return [(one, self._notes.get(one.id, ())) for one in (*self._incidents.open[::-1], *ended)]

    def planned(self) -> list[MaintenanceWindow]:
        """The open and planned maintenance windows in memory."""
        return self._calendar.windows(self._now())

    async def find(self, *, limit: int, before: int | None = None, is_open: bool | None = None) -> IncidentPage:
        """Incidents, newest first: those in the database, or while it is unavailable those in memory."""
        problem = None
        found: dict[int, Incident] = {}
        try:
            stored = await self._store_client.run(partial(store.newest, limit=limit, before=before, is_open=is_open))
            found = {one.id: one for one in stored}
        except StoreUnavailable as error:
            problem = error.detail
        # Memory has changes that are not stored yet, unless it only mirrors what the leader has stored.
        known = () if self._is_mirror and problem is None else (*self._incidents.open, *self._incidents.ended)
        found |= {one.id: one for one in known if before is None or one.id < before}
        fitting = [one for one in found.values() if is_open is None or one.is_open is is_open]
        return IncidentPage(tuple(sorted(fitting, key=lambda one: one.id, reverse=True)[:limit]), problem)

    async def get(self, number: int) -> tuple[Incident, tuple[Note, ...]] | None:
        """One incident with its notes. Raises `StoreUnavailable` if it is only in an unavailable database."""
        known = self._incidents.get(number)
        try:
            stored = (None if self._is_mirror else known) or await self._store_client.run(
                partial(store.find, number=number)
            )
            if stored is None:
                return None
            notes: Sequence[Note] = await self._store_client.run(
                partial(store.notes, numbers=[number], limit=_MOST_NOTES)
            )
        except StoreUnavailable:
            if known is None:
                raise
            return known, self._notes.get(number, ())
        return stored, tuple(notes)

    async def add_note(self, number: int, author: str, text: str) -> Note | None:
        """Add a note to an incident; None if there is no such incident. Raises `StoreUnavailable`."""
        known = self._incidents.get(number) or await self._store_client.run(partial(store.find, number=number))
        if known is None:
            return None
        work = partial(store.add_note, incident=number, author=author, text=text, at=self._now())
        note: Note = await self._store_client.run(work)
        if number in self._notes:
            self._notes[number] = (*self._notes[number], note)
        self._has_changed.set()
        return note

    async def acknowledge(self, number: int, author: str, note: str) -> Acknowledgement | None:
        """Acknowledge an open incident; None if there is no such incident.

        Raises `Problem` if it is over, and `StoreUnavailable`.
        """
        known = self._incidents.get(number) or await self._store_client.run(partial(store.find, number=number))
        if known is None:
            return None
        if not known.is_open:
            raise Problem(Failure.INCIDENT_OVER)
        work = partial(store.add_acknowledgement, incident=number, author=author, note=note, at=self._now())
        made: Acknowledgement = await self._store_client.run(work)
        self._note_acknowledgement(made)
        self._has_changed.set()
        return made

    async def mute(self, number: int, author: str, minutes: float | None) -> Mute | None:
        """Mute the alerts of an open incident until it ends, or for so many minutes: 0 takes a mute back.

        None if there is no such incident. Raises `Problem` if it is over, and `StoreUnavailable`.
        """
        known = self._incidents.get(number) or await self._store_client.run(partial(store.find, number=number))
        if known is None:
            return None
        if not known.is_open:
            raise Problem(Failure.INCIDENT_OVER)
        return await self._mutes.add(number, author, minutes)

    async def windows(self) -> tuple[list[MaintenanceWindow], str | None]:
        """The open and planned maintenance windows, and why some may be missing: the database could not be read."""
        problem = None
        try:
            await self._read_windows()
        except StoreUnavailable as error:
            problem = error.detail
        return self.planned(), problem

    async def add_window(self, window: MaintenanceWindow) -> MaintenanceWindow:
        """Plan a maintenance window; one that begins now is open at once. Raises `StoreUnavailable`."""
        stored: MaintenanceWindow = await self._store_client.run(partial(store.add_window, window=window))
        if window.is_from_now and stored.id is not None:
            self._from_now[stored.id] = stored
        await self._see_windows()
        return stored

    async def change_window(self, window: MaintenanceWindow) -> MaintenanceWindow | None:
        """Change the times and the reason of a window by its number; None if it is over. Raises `StoreUnavailable`."""
        changed: MaintenanceWindow | None = await self._store_client.run(
            partial(store.change_window, window=window, now=self._now())
        )
        if changed is not None and changed.id is not None:
            # Its end is a time of the day now, which stays where it is when the clock is set.
            self._from_now.pop(changed.id, None)
            self._moved.pop(changed.id, None)
        await self._see_windows()
        return changed

    async def end_window(self, number: int) -> MaintenanceWindow | None:
        """End a maintenance window now, or cancel one that has not begun; None if there is none.

        Raises `StoreUnavailable`.
        """
        ended: MaintenanceWindow | None = await self._store_client.run(
            partial(store.end_window, number=number, now=self._now())
        )
        self._from_now.pop(number, None)
        self._moved.pop(number, None)
        await self._see_windows()
        return ended

    # -- storage ------------------------------------------------------------------------------------------------

    def note_change(self) -> None:
        """Store soon what has changed."""
        self._has_changed.set()

    def note_delivery(self) -> None:
        """Store at once what has changed: a message was delivered, which the next process must not send again."""
        self._has_changed.set()
        self._has_delivered.set()

    def correct(self, moment: Correct) -> None:
        """Correct mutes and maintenance windows after the system clock was set, where they are for so long from now."""
        self._mutes.correct(moment)
        for number, window in self._from_now.items():
            start = moment(window.starts_at)
            end = window.ends_at + (start - window.starts_at)
            moved = self._from_now[number] = replace(window, starts_at=start, ends_at=end)
            self._moved[number] = self._moved.get(number, (window, window))[0], moved
            self._calendar.replace(moved)
        self._on_windows()
        self._has_changed.set()

    async def store_moved(self) -> None:
        """Store what `correct` has moved. A process that does not lead holds those it took too."""
        while self._moved or not self._mutes.is_stored:
            with suppress(StoreUnavailable):
                await self._move_windows()
                await self._mutes.store_moved()
            if self._moved or not self._mutes.is_stored:
                await asyncio.sleep(VISIT_EVERY)

    async def open(self) -> None:
        """Read what an earlier process stored, if the database responds within `OPEN_WAIT`; else it is read later."""
        try:
            async with asyncio.timeout(OPEN_WAIT):
                await self._visit()
        except TimeoutError:
            log.warning("open incidents not read yet", waited=OPEN_WAIT)

    async def mirror(self, *, is_last: bool = False) -> None:
        """Replace what is in memory by what the leader has stored. Raises `StoreUnavailable`.

        After the last time this gateway leads itself, and continues it.
        """
        self._is_restored, self._is_mirror = False, True
        known = await self._stored()
        self._incidents.mirror(known, self._services, self._now())
        await self._read_windows()
        await self._read_notes()
        self._is_restored = is_last

    def lead(self) -> None:
        """From now on this process changes incidents itself."""
        self._is_mirror = False

    async def keep(self) -> None:
        """Read and store every `VISIT_EVERY` seconds, and soon after each change, until cancelled."""
        while True:
            try:
                await self._visit()
            except Exception:  # one failed visit must not end the next ones
                log.exception("incident storage failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._has_delivered.wait()
            self._has_delivered.clear()
            try:
                async with asyncio.timeout(VISIT_EVERY - PAUSE):
                    await self._has_changed.wait()
            except TimeoutError:
                pass
            self._has_changed.clear()

    async def save(self) -> None:
        """Store what has changed; what cannot be stored waits for the next time."""
        with suppress(StoreUnavailable):
            await self._channels.save()
        changed = self._incidents.take_changed()
        if not changed:
            return
        try:
            while changed:
                await self._store_client.run_as_holder(partial(store.save, changed=changed[:_BATCH]))
                del changed[:_BATCH]
        except BaseException as error:
            self._incidents.put_back(changed)
            if not isinstance(error, StoreUnavailable):
                raise

    async def _visit(self) -> None:
        try:
            await self._restore()
            await self._move_windows()
            await self._mutes.store_moved()
            await self._read_windows()
            await self._read_notes()
            await self._read_acknowledgements()
            await self._mutes.read()
            await self._failed_requests.count()
            await self._forget()
        except StoreUnavailable:
            # The store client logs the reason, and the page shows it.
            return
        await self.save()

    async def _restore(self) -> None:
        """Read what an earlier process stored: once, as soon as the database responds."""
        if self._is_restored:
            return
        self._incidents.restore(await self._stored(), self._services, self._now())
        self._is_restored = True

    async def _stored(self) -> list[Incident]:
        """The incidents that are continued, and the last ended ones."""
        now = self._now()
        unfinished = await self._store_client.run(
            partial(store.unfinished, since=now - self._settle, announced_since=now - STALE, limit=_MOST_RESTORED)
        )
        ended = await self._store_client.run(partial(store.newest, limit=SHOWN_ENDED, is_open=False))
        known: dict[int, Incident] = {one.id: one for one in (*ended, *unfinished)}
        return [known[number] for number in sorted(known)]

    async def _move_windows(self) -> None:
        now = self._now()
        self._from_now = {number: window for number, window in self._from_now.items() if window.ends_at > now}
        for number, (stored, window) in list(self._moved.items()):
            is_moved = await self._store_client.run(partial(store.move_window, window=window, before=stored))
            if not is_moved:
                # Another process has ended or changed it.
                self._from_now.pop(number, None)
            if (waiting := self._moved.pop(number, None)) is not None and waiting[1] != window and is_moved:
                # The clock was set again meanwhile.
                self._moved[number] = window, waiting[1]

    async def _read_windows(self) -> None:
        self._calendar.take(
            await self._store_client.run(partial(store.windows, after=self._now(), limit=_MOST_WINDOWS))
        )
        self._on_windows()

    async def _see_windows(self) -> None:
        """Apply a window at once. It is stored, so a database that is unavailable now is no error."""
        with suppress(StoreUnavailable):
            await self._read_windows()

    async def _read_notes(self) -> None:
        numbers = [one.id for one, _ in self.shown()]
        found: list[Note] = []
        if numbers:
            found = await self._store_client.run(partial(store.notes, numbers=numbers, limit=_MOST_NOTES))
        self._notes = {number: tuple(one for one in found if one.incident == number) for number in numbers}

    async def _read_acknowledgements(self) -> None:
        """Note those of open incidents, whichever process took them, and record them in the log of events."""
        numbers = [one.id for one in self._incidents.open]
        if not numbers:
            self._recorded.clear()
            return
        found: list[Acknowledgement] = await self._store_client.run(
            partial(store.acknowledgements_of, numbers=numbers, limit=_MOST_ACKNOWLEDGEMENTS)
        )
        for one in found:
            self._note_acknowledgement(one)

    def _note_acknowledgement(self, one: Acknowledgement) -> None:
        self._incidents.note_acknowledgement(one)
        if one.id not in self._recorded:
            self._recorded.add(one.id)
            # The key makes it one event, though several processes record it, and this one again after a restart.
            key = f"incident-{one.incident}-acknowledged-{one.id}"
            self._record("incident.acknowledged", key=key, incident=one.incident, author=one.author, note=one.note)

    async def _forget(self) -> None:
        moment = time.monotonic()
        if moment < self._next_forget or not self._may_delete():
            return
        gone = await self._store_client.run_as_holder(partial(store.forget, before=self._now() - self._keep))
        # The rest is removed with the next visits, a batch each.
        if not gone:
            self._next_forget = moment + FORGET_EVERY
