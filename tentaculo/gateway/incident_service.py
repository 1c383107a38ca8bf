"""The desk: incidents, maintenance and alerts, joined.

a change of health, or the clock → look → incidents → books, notices → channels
the configuration's plans and the books' windows → calendar → the board's maintenance
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import islice

import structlog

from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService, utc_now
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.incidents.alert_message import MessageContext
from tentaculo.incidents.alert_policy import Notification
from tentaculo.incidents.error_rate import ErrorRates
from tentaculo.incidents.maintenance_calendar import MaintenanceCalendar
from tentaculo.incidents.notifier import Notifier
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.health import ServiceView, Transition
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

TICK = 1.0
"""Seconds between looks at a part of the services, at the calendar, and at what is to be told."""
ROUND = 5
"""Ticks in which every service is looked at once, a part of them in each: what no change of health told of, such as a
breaker, is seen then. All at once would hold requests up where there are a thousand."""


class IncidentService:
    """What is known of incidents and maintenance, and who keeps it up to date."""

    def __init__(
        self,
        config: Config,
        fleet: HealthService,
        recorder: StoreClient,
        *,
        page: Callable[[], str],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`page` gives the status page's address, for links."""
        self._names = tuple(config.services)
        self._fleet = fleet
        self._page = page
        self._now = now
        self._incidents = IncidentTracker(settle=config.incidents.settle, degraded=config.incidents.degraded)
        self._calendar = MaintenanceCalendar(config.maintenance, config.services)
        self.books = IncidentRepository(
            config, recorder, self._incidents, self._calendar, on_windows=self._apply_calendar, now=now
        )
        self._rates = ErrorRates()
        self._notices = Notifier(config, self._surroundings, on_told=self._note_told, now=now)
        self._in_maintenance: dict[str, str] = {}
        self._logged: dict[int, str] = {}
        self._rounds: Iterator[str] = iter(())
        fleet.on_transition.append(self._note_transition)

    def __repr__(self) -> str:
        return f"<Desk: {self._incidents!r}, {self._calendar!r}>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep everything up to date from entering to leaving; what is left is then told and stored, if it can be."""
        self._apply_calendar()
        await self.books.open()
        tasks = TaskGroup("desk")
        try:
            async with self._notices.delivered():
                tasks.start(self._attend(), "clock")
                tasks.start(self.books.keep(), "books")
                try:
                    yield
                finally:
                    await tasks.close()
        finally:
            await self.books.save()

    def numbers(self) -> tuple[int, dict[str, tuple[int, int, int]]]:
        """For the metrics: how many incidents are open, and of each channel the alerts sent, given up and dropped."""
        counts = {name: (one.sent, one.failed, one.dropped) for name, one in self._notices.counts.items()}
        return len(self._incidents.open), counts

    def _note_transition(self, transition: Transition, view: ServiceView) -> None:
        self._incidents.observe(view, transition.at)
        if self._incidents.has_changed:
            self.books.note_change()

    async def _attend(self) -> None:
        while True:
            try:
                self._tick()
            except Exception:  # one bad round must not end the watch
                log.exception("the desk failed")
            await asyncio.sleep(TICK)

    def _tick(self) -> None:
        self._apply_calendar()
        now, board = self._now(), self._fleet.board
        for name in self._next_part():
            view = board.service(name)
            self._incidents.observe(view, now)
            if (rate := self._rates.look(view, now)) is not None:
                self._incidents.note_error_rate(name, rate)
        self._notices.look(self._incidents.tellable)
        self._note_changes()

    def _next_part(self) -> list[str]:
        """The services whose turn it is."""
        part = list(islice(self._rounds, -(-len(self._names) // ROUND)))
        if not part:
            self._rounds = iter(self._names)
        return part

    def _apply_calendar(self) -> None:
        """Put services into maintenance, and take them out of it, as the calendar says."""
        reasons = self._calendar.reasons(self._now())
        before, self._in_maintenance = self._in_maintenance, reasons
        for name in reasons.keys() | before.keys():
            if reasons.get(name) != before.get(name):
                self._fleet.set_maintenance(name, reasons.get(name))

    def _note_changes(self) -> None:
        """What is new goes to the log now, and to the books soon."""
        if not self._incidents.has_changed:
            return
        self.books.note_change()
        now_open = {one.id: one for one in self._incidents.open}
        for number, one in now_open.items():
            if number not in self._logged:
                log.warning("incident opened", incident=number, service=one.root, reason=one.reason)
        for number in self._logged.keys() - now_open.keys():
            ended = self._incidents.get(number)
            log.info(
                "incident ended",
                incident=number,
                service=self._logged[number],
                ending=ended.ending if ended is not None else "",
            )
        self._logged = {number: one.root for number, one in now_open.items()}

    def _surroundings(self) -> MessageContext:
        return MessageContext(self._page(), self._depends_on)

    def _depends_on(self, name: str) -> list[tuple[str, str]]:
        board = self._fleet.board
        return [(parent, board.service(parent).health.value) for parent in board.parents(name)]

    def _note_told(self, telling: Notification, at: datetime) -> None:
        for one in telling.incidents:
            self._incidents.note_told(one.id, telling.told, at, len(one.services))
        self.books.note_change()
