"""Connects incidents, maintenance and alerts with the health of the services.

health transition, or timer → tracker → repository → database
                                      → notifier   → alert channels
planned windows of the configuration and of the database → calendar → maintenance on the board
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from itertools import islice

import structlog

from tentaculo.config.comparison import Changes
from tentaculo.config.schema import Config
from tentaculo.gateway.alert_channels import AlertChannels
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.gateway.own_events import reason_members
from tentaculo.gateway.turn_queue import TurnQueue
from tentaculo.health.steady_clock import Correct, SteadyClock
from tentaculo.incidents.alerts import MessageContext, Notification
from tentaculo.incidents.availability import ErrorRates, MaintenanceCalendar
from tentaculo.incidents.notifier import Notifier
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.early_warning import EarlyWarning, WarningCounts
from tentaculo.model.event import RecordOwnEvent, ignore_own_event
from tentaculo.model.health import ServiceView, Transition
from tentaculo.model.incident import DeliveryOutcome, DeliveryRecord, Incident, opening_key
from tentaculo.model.reason import Reason
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

MOST_MAINTAINED = 64
"""Services whose maintenance begins or ends in one turn of the event loop. Each takes 32 µs."""
TICK = 1.0
"""Seconds between two updates: of a part of the services, of the calendar, and of the alerts that are due."""
ROUND = 5
"""Ticks in which every service is observed once, a part of them in each. This finds changes without a transition, such
as those of a breaker. Observing a thousand services in one tick would delay requests."""


class IncidentService:
    """Keeps incidents and maintenance current, stores them and sends alerts."""

    def __init__(
        self,
        config: Config,
        health_service: HealthService,
        store_client: StoreClient,
        clock: SteadyClock,
        *,
        page: Callable[[], str],
        record: RecordOwnEvent = ignore_own_event,
        may_alert: Callable[[], bool] = lambda: True,
    ) -> None:
        """`page` returns the URL of the status page, for links. `record` takes what belongs in the log of events.

        `may_alert` says whether this gateway is the one of several that alerts.
        """
        self._record = record
        self._names = dict.fromkeys(config.services)
        self._is_running = False
        self._health_service = health_service
        self._page = page
        now = self._now = clock.now
        self._incidents = IncidentTracker(
            settle=config.incidents.settle, degraded=config.incidents.degraded, slow=config.incidents.slow_alerts
        )
        self._calendar = MaintenanceCalendar(config.maintenance, config.services)
        self.alert_channels = AlertChannels(config, store_client, lambda: self._notifier.counts)
        self.incident_repository = IncidentRepository(
            config,
            store_client,
            self._incidents,
            self._calendar,
            channels=self.alert_channels,
            on_windows=self.apply_calendar,
            clock=clock,
            record=record,
        )
        self._rates = ErrorRates()
        self._notifier = Notifier(
            config,
            self._message_context,
            on_delivery=self._note_delivery,
            now=now,
            record=record,
            may_send=may_alert,
            is_held=self._is_held,
        )
        self.warning_counts = WarningCounts()
        self._in_maintenance: dict[str, Reason] = {}
        self._logged: dict[int, str] = {}
        self._to_report = TurnQueue()
        self._to_maintain = TurnQueue(MOST_MAINTAINED)
        self._rounds: Iterator[str] = iter(())
        health_service.on_transition.append(self._note_transition)

    def prepare(self, config: Config, changes: Changes) -> Callable[[], None]:
        """Make what a configuration needs beside what there is; the result puts it in place. May run in a thread."""
        notifier = self._notifier.prepare(config)

        def use() -> None:
            self._names, self._rounds = dict.fromkeys(config.services), iter(())
            settings = config.incidents
            self._incidents.use(settle=settings.settle, degraded=settings.degraded, slow=settings.slow_alerts)
            self._calendar.use(config.maintenance, config.services)
            self.alert_channels.use(config)
            self.incident_repository.use(config)
            self._rates.forget(changes.removed)
            notifier()
            self._in_maintenance = {
                name: reason for name, reason in self._in_maintenance.items() if name in config.services
            }
            # The board forgets the maintenance of a service that is switched off and on.
            self.apply_calendar(frozenset(changes.changed))
            self._to_maintain.finish()
            if self._is_running:
                self._incidents.remove(changes.removed, self._now())
                self._note_changes()

        return use

    def __repr__(self) -> str:
        return f"<IncidentService: {self._incidents!r}, {self._calendar!r}>"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run while the context is open. On leaving, pending alerts are sent and changes stored, as far as possible."""
        self._logged = {}
        self._is_running = True
        self.incident_repository.lead()
        self.apply_calendar()
        self._to_maintain.finish()
        await self.incident_repository.open()
        tasks = TaskGroup("incidents")
        try:
            async with self._notifier.delivered():
                tasks.start(self._run(), "clock")
                tasks.start(self.incident_repository.keep(), "incident repository")
                try:
                    yield
                finally:
                    await tasks.close()
        finally:
            self._is_running = False
            self._to_report.finish()
            await self.incident_repository.save()

    async def mirror(self, *, is_last: bool = False) -> None:
        """Show what the leader of all machines has stored, without alerting. Raises `StoreUnavailable`.

        After the last time this gateway leads itself.
        """
        await self.incident_repository.mirror(is_last=is_last)

    def correct(self, moment: Correct) -> None:
        """Correct every moment after the system clock was set."""
        self._incidents.correct(moment)
        self._rates.correct(moment)
        self.incident_repository.correct(moment)

    def numbers(self) -> tuple[int, dict[str, tuple[int, int, int]], WarningCounts]:
        """For the metrics: the number of open incidents, per channel the alerts sent, given up and dropped, and warnings."""
        counts = {name: (one.sent, one.failed, one.dropped) for name, one in self._notifier.counts.items()}
        return len(self._incidents.open), counts, self.warning_counts

    def warn(self, warning: EarlyWarning) -> None:
        """Send the message of an early warning on every channel. Never waits."""
        self._notifier.warn(warning)

    def _note_transition(self, transition: Transition, view: ServiceView) -> None:
        self._observe(view, transition.at)
        if self._incidents.has_changed:
            self.incident_repository.note_change()

    def _observe(self, view: ServiceView, at: datetime) -> None:
        before = self._incidents.incident_of_root(view.name)
        self._incidents.observe(view, at)
        if before is None and self._incidents.incident_of_root(view.name) is not None:
            self._rates.restart(view, at)

    async def _run(self) -> None:
        while True:
            try:
                self._tick()
            except Exception:  # an error in one update must not stop the next ones
                log.exception("incident update failed")
            await asyncio.sleep(TICK)

    def _tick(self) -> None:
        self.apply_calendar()
        now, board = self._now(), self._health_service.board
        for name in self._next_part():
            view = board.service(name)
            self._observe(view, now)
            if (rate := self._rates.update(view, now)) is not None:
                self._incidents.note_error_rate(name, rate)
        self._notifier.send_due(self._incidents.notifiable)
        self._note_changes()

    def _next_part(self) -> list[str]:
        """The services to observe in this tick."""
        part = list(islice(self._rounds, -(-len(self._names) // ROUND)))
        if not part:
            self._rounds = iter(self._names)
        return part

    def apply_calendar(self, forgotten: Collection[str] = ()) -> None:
        """Start and end the maintenance of services as the calendar says: of many, in later turns of the event loop.

        The board may have forgotten the maintenance of the services in `forgotten`.
        """
        reasons = self._calendar.reasons(self._now())
        before, self._in_maintenance = self._in_maintenance, reasons
        for name in reasons.keys() | before.keys():
            if reasons.get(name) != before.get(name) or name in forgotten:
                self._to_maintain.add(partial(self._maintain, name))

    def _maintain(self, name: str) -> None:
        if name in self._names:  # a reload may have removed it meanwhile
            self._health_service.set_maintenance(name, self._in_maintenance.get(name))

    def _note_changes(self) -> None:
        """Log what is new now, and let the repository store it soon."""
        if self._incidents.has_changed:
            self.incident_repository.note_change()
        # Also where nothing is left to be stored: the repository may have stored a change before this round.
        now_open = {one.id: one for one in self._incidents.open}
        for number, one in now_open.items():
            if number not in self._logged:
                self._to_report.add(partial(self._report_opened, one))
        for number in self._logged.keys() - now_open.keys():
            ended = self._incidents.get(number)
            self._to_report.add(partial(self._report_ended, number, self._logged[number], ended))
        self._logged = {number: one.root for number, one in now_open.items()}

    def _report_opened(self, one: Incident) -> None:
        if self._incidents.is_continued(one.id):
            log.info("incident continued", incident=one.id, service=one.root, reason=one.reason)
        else:
            log.warning("incident opened", incident=one.id, service=one.root, reason=one.reason)
        # The event has a key, so that one of an incident that an earlier process has recorded is not repeated.
        self._record(
            "incident.opened",
            severity="warning",
            key=opening_key(one.id, one.reopened),
            incident=one.id,
            service=one.root,
            services=list(one.services),
            reason=one.reason,
            **reason_members(one.cause),
        )

    def _report_ended(self, number: int, root: str, ended: Incident | None) -> None:
        ending = ended.ending if ended is not None else ""
        log.info("incident ended", incident=number, service=root, ending=ending)
        times = ended.reopened if ended is not None else 0
        cause = ended.ending_cause if ended is not None else None
        self._record(
            "incident.ended",
            key=f"incident-{number}-ended-{times}",
            incident=number,
            service=root,
            ending=ending,
            **reason_members(cause, "ending"),
        )

    def _message_context(self) -> MessageContext:
        return MessageContext(self._page(), self._depends_on)

    def _depends_on(self, name: str) -> list[tuple[str, str]]:
        board = self._health_service.board
        return [(parent, board.service(parent).health.value) for parent in board.parents(name)]

    def _is_held(self, incident: Incident) -> bool:
        """Whether an incident of a message that waits was muted, or its root is in maintenance since."""
        known = self._incidents.get(incident.id)
        if known is None or not known.is_open:
            return False
        return known.is_muted(self._now()) or known not in self._incidents.notifiable

    def _note_delivery(self, notification: Notification, delivery: DeliveryRecord) -> None:
        for one in notification.incidents:
            is_delivered = delivery.outcome is DeliveryOutcome.DELIVERED
            known = notification.record(one, delivery.at) if is_delivered else None
            self._incidents.note_delivery(one.id, delivery, known)
        self.incident_repository.note_delivery()
