"""The incident state machine: when an incident opens, which services belong to it, and when it ends. Pure.

Its only input is the observation of one service at a time, after a transition or by the timer. An observation without
news changes nothing, so a missed transition or a restart leaves no wrong incident. The time is passed in.

    service fails by itself     opens an incident, or continues its own where that ended within the settle time
    service fails by a parent   joins the parent's incident
    root is usable              ends the incident; a service that fails a settle time later opens one of its own
    root is in maintenance      the incident waits: it continues or ends after the maintenance
    root is off                 ends the incident
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce

from tentaculo.incidents.availability import Availability, as_ended, availability_of, failure_reason, worse
from tentaculo.model.health import Health, ServiceView
from tentaculo.model.incident import (
    Acknowledgement,
    DeliveryRecord,
    Incident,
    NotificationState,
    Notified,
    add_delivery,
)
from tentaculo.model.incident_past import FailedMinute, count_failed, is_uncounted
from tentaculo.model.mute import Mute
from tentaculo.model.reason import Reason, because

SEEN_EVERY = timedelta(minutes=1)
"""Resolution of `seen_at`: each step is written to the database."""
MOST_ENDED = 200
"""Ended incidents kept in memory, the newest ones, beside those that are not stored or whose end is not announced."""
MOST_WAITING = 2000
"""Those and these together, while the database or the channels are unavailable."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Member:
    """A service that fails, or that failed when its state was last known."""

    incident: int
    unexplained_since: datetime | None = None
    """Since when the incident it belongs to no longer explains its failure; None while it does."""
    undecided_since: datetime | None = None
    """Since when its probes pass while its breaker waits for a request."""


class IncidentTracker:
    """Every open incident, and the last that ended.

    A failure of the same service within `settle` seconds after the end continues the same incident. A service that is
    still down `settle` seconds after its parent is back has an incident of its own.
    """

    def __init__(self, *, settle: float, degraded: bool = False, slow: bool = False) -> None:
        self.use(settle=settle, degraded=degraded, slow=slow)
        self._open: dict[int, Incident] = {}
        self._ended: dict[int, Incident] = {}
        self._members: dict[str, _Member] = {}
        self._changed: dict[int, None] = {}
        self._restored: set[int] = set()
        self._earlier: set[int] = set()
        self._in_maintenance: set[str] = set()
        self._last_id = 0

    def __repr__(self) -> str:
        return f"<IncidentTracker: {len(self._open)} open, {len(self._ended)} ended>"

    @property
    def open(self) -> tuple[Incident, ...]:
        """The open incidents, oldest first."""
        return tuple(sorted(self._open.values(), key=lambda incident: incident.id))

    @property
    def ended(self) -> tuple[Incident, ...]:
        """The last incidents that ended, newest end first."""
        return tuple(sorted(self._ended.values(), key=lambda one: one.ended_at or _LONG_AGO, reverse=True))

    @property
    def notifiable(self) -> tuple[Incident, ...]:
        """The incidents that alerts may be about.

        Not those of an earlier process whose root was not observed yet, nor open ones whose root is in maintenance.
        An incident that was merged into another is among them when its root no longer fails.
        """
        return tuple(
            one
            for one in (*self.open, *self.ended)
            if one.id not in self._restored
            and (not one.is_open or one.root not in self._in_maintenance)
            and (one.part_of is None or one.root not in self._members)
        )

    def incident_of_root(self, service: str) -> Incident | None:
        """The open incident whose root is `service`."""
        incident = self._incident_of(service)
        return incident if incident is not None and incident.root == service else None

    def get(self, number: int) -> Incident | None:
        """An incident in memory."""
        return self._open.get(number) or self._ended.get(number)

    def is_continued(self, number: int) -> bool:
        """Whether an open incident was opened by an earlier process, or by another machine."""
        return number in self._earlier

    @property
    def has_changed(self) -> bool:
        """Whether an incident has changed since the last `take_changed`."""
        return bool(self._changed)

    def take_changed(self) -> list[Incident]:
        """The incidents that have changed since the last call, to be stored."""
        self._forget_oldest()
        changed = [found for number in self._changed if (found := self.get(number)) is not None]
        self._changed.clear()
        return changed

    def put_back(self, incidents: Iterable[Incident]) -> None:
        """Return these with the next `take_changed` again: they could not be stored."""
        self._changed.update(dict.fromkeys(incident.id for incident in incidents))

    def mirror(self, stored: Iterable[Incident], configured: Collection[str], now: datetime) -> None:
        """Replace all that is in memory by what another gateway has stored."""
        for part in (self._open, self._ended, self._members, self._restored, self._earlier, self._in_maintenance):
            part.clear()
        self.restore(stored, configured, now)
        self._changed.clear()

    def restore(self, stored: Iterable[Incident], configured: Collection[str], now: datetime) -> None:
        """Continue the incidents of an earlier process: open ones, and those that may be reopened.

        An incident of a service that is no longer configured ends. One that was opened meanwhile is merged into the
        stored incident of the same service.
        """
        for incident in stored:
            self._last_id = max(self._last_id, incident.id)
            if self.get(incident.id) is not None:
                continue
            if not incident.is_open:
                self._ended[incident.id] = incident
                continue
            if incident.root not in configured:
                self._end(incident, now, because("removed"))
                continue
            self._open[incident.id] = incident
            self._restored.add(incident.id)
            self._earlier.add(incident.id)
            if (newer := self._incident_of(incident.root)) is not None and newer.root == incident.root:
                self._go_on_as(newer, incident, now)
            # The root fails by itself, even if it was a member of another incident before.
            self._members[incident.root] = _Member(incident.id)
            for name in incident.services:
                if name in configured:
                    self._members.setdefault(name, _Member(incident.id))

    def observe(self, view: ServiceView, at: datetime) -> None:
        """Observe one service: `view` is its state at `at`."""
        use, severity = availability_of(view, degraded=self._degraded, slow=self._slow)
        member = self._members.get(view.name)
        if use is Availability.MAINTENANCE:
            self._pause(view.name, member)
            return
        self._in_maintenance.discard(view.name)
        if use is Availability.FAILS:
            self._fails(view, severity, at, member)
        elif member is None:
            return
        elif use is Availability.USABLE:
            self._leaves(view.name, at, self._recovery(view, member))
        elif use is Availability.OFF:
            self._leaves(view.name, at, because("switched_off", what=view.why))
        elif view.health.is_healthy and not view.is_restored:
            self._undecided(view, at, member)

    def use(self, *, settle: float, degraded: bool, slow: bool) -> None:
        """Follow these settings from the next observation on."""
        self._settle, self._degraded, self._slow = timedelta(seconds=settle), degraded, slow

    def remove(self, services: Collection[str], now: datetime) -> None:
        """These were removed from the configuration: their incidents end, and they are in no other one any more."""
        self._in_maintenance.difference_update(services)
        removed, ending = self._members.keys() & set(services), because("removed")
        self._end_merged(removed, now, ending)
        for name in removed:
            self._leave(name, now, ending)

    def note_error_rate(self, service: str, rate: float) -> None:
        """Record the share of failures among the latest requests and probes of `service`."""
        incident = self.incident_of_root(service)
        if incident is not None and service not in self._in_maintenance and rate > (incident.peak_error_rate or 0.0):
            self._put(replace(incident, peak_error_rate=rate))

    def uncounted(self, since: datetime, until: datetime) -> list[Incident]:
        """The incidents that have minutes from `since` to `until`, whose failed requests are not counted yet."""
        return [one for one in (*self._open.values(), *self._ended.values()) if is_uncounted(one, since, until)]

    def count_failed(self, minutes: Iterable[FailedMinute], since: datetime, until: datetime) -> None:
        """Count `minutes`, all with failures between `since` and `until`, for the incidents that were open in them."""
        failed: dict[str, list[FailedMinute]] = {}
        for minute in minutes:
            failed.setdefault(minute.service, []).append(minute)
        for incident in self.uncounted(since, until):
            self._put(count_failed(incident, failed, until))

    def note_delivery(self, number: int, delivery: DeliveryRecord, notified: Notified | None) -> None:
        """Record what a channel did with a message about an incident; `notified` is what it knows if it was delivered."""
        incident = self.get(number)
        if incident is None:
            return
        whole = self.get(incident.part_of) if incident.part_of is not None else None
        if whole is not None and whole.root == incident.root and incident.notified_by(delivery.channel) is None:
            # The database responded while the message was in progress: the failure is that of the stored incident.
            incident = whole
        incident = replace(incident, deliveries=add_delivery(incident.deliveries, delivery))
        if notified is not None:
            incident = replace(incident, notified={**incident.notified, delivery.channel: notified})
        self._put(incident)

    def note_acknowledgement(self, acknowledgement: Acknowledgement) -> None:
        """Record that a person has acknowledged an open incident. It has a row of its own, so nothing is to be stored."""
        incident = self._open.get(acknowledgement.incident)
        if incident is not None:
            self._open[incident.id] = replace(incident, acknowledged=acknowledgement)

    def note_mute(self, mute: Mute) -> None:
        """Record that a person has muted the alerts of an open incident, which has a row of its own too."""
        if (incident := self._open.get(mute.incident)) is not None:
            self._open[incident.id] = replace(incident, muted=mute)

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct every moment in memory after the system clock was set."""
        for incident in (*self._open.values(), *self._ended.values()):
            if (corrected := incident.corrected(moment)) != incident:
                self._put(corrected)
        for member in self._members.values():
            member.unexplained_since = member.unexplained_since and moment(member.unexplained_since)
            member.undecided_since = member.undecided_since and moment(member.undecided_since)

    # -- one service -------------------------------------------------------------------------------------------

    def _fails(self, view: ServiceView, severity: Health, at: datetime, member: _Member | None) -> None:
        parent = view.root if view.root != view.name else None
        explaining = self._incident_of(parent) if parent is not None else None
        if member is None:
            if explaining is not None:
                self._join(view.name, explaining)
            elif parent is None:
                self._begin(view, severity, at, at)
            # Else the parent is in maintenance, or was not looked at yet: the next look decides.
            return
        member.undecided_since = None
        incident = self._open.get(member.incident)
        if incident is not None and incident.root == view.name:
            if explaining is not None and explaining.id != incident.id and self._fell_together(incident, explaining):
                self._fold(incident, explaining, at)
            else:
                self._go_on(incident, view, severity, at)
        elif explaining is not None:
            member.unexplained_since = None
            if incident is None or explaining.id != incident.id:
                self._join(view.name, explaining)
        elif parent is None:
            since = member.unexplained_since = member.unexplained_since or at
            if at - since >= self._settle:
                self._begin(view, severity, since, at)

    def _pause(self, name: str, member: _Member | None) -> None:
        """A service is in maintenance: whether it fails is decided when the maintenance is over."""
        self._in_maintenance.add(name)
        if member is not None:
            member.unexplained_since = member.undecided_since = None

    def _undecided(self, view: ServiceView, at: datetime, member: _Member) -> None:
        """The breaker waits for a trial request. Where none comes within the settle time, the probes decide."""
        member.undecided_since = member.undecided_since or at
        if at - member.undecided_since >= self._settle:
            self._leaves(view.name, at, because("probes_pass", what=view.why))

    def _recovery(self, view: ServiceView, member: _Member) -> Reason:
        incident = self._open.get(member.incident)
        if incident is not None and incident.id in self._restored:
            return because("recovered_unseen", time=incident.seen_at.astimezone(UTC).isoformat())
        return because("recovered", what=view.why)

    def _leaves(self, name: str, at: datetime, ending: Reason) -> None:
        """A service no longer fails. Where it is the root, its incident ends."""
        self._end_merged((name,), at, ending)
        self._leave(name, at, ending)

    def _end_merged(self, roots: Collection[str], at: datetime, ending: Reason) -> None:
        """An announced incident that was merged into another ends for the channels when its own root recovers."""
        for merged in list(self._ended.values()):
            if merged.root in roots and merged.part_of is not None and merged.alert_state is NotificationState.OPEN:
                self._put(as_ended(merged, at, ending, merged.part_of))

    def _leave(self, name: str, at: datetime, ending: Reason) -> None:
        incident = self._open.get(self._members.pop(name).incident)
        if incident is None or incident.root != name:
            return
        self._end(incident, at, ending)
        for service in incident.services:
            if (other := self._members.get(service)) is not None and other.incident == incident.id:
                other.unexplained_since = at

    # -- one incident ------------------------------------------------------------------------------------------

    def _incident_of(self, service: str) -> Incident | None:
        member = self._members.get(service)
        return None if member is None else self._open.get(member.incident)

    def _begin(self, view: ServiceView, severity: Health, since: datetime, at: datetime) -> None:
        """Open an incident of `view`, or continue its last one."""
        before = next((one for one in self._ended.values() if self._continues(one, view.name, at)), None)
        if before is not None:
            del self._ended[before.id]
            incident = replace(
                before,
                ended_at=None,
                ending="",
                ending_cause=None,
                seen_at=at,
                reopened=before.reopened + (before.part_of is None),
                reopened_at=at if before.part_of is None else before.reopened_at,
                part_of=None,
            )
        else:
            reason, cause = failure_reason(view)
            self._last_id = max(self._last_id + 1, int(at.timestamp() * 1000))
            incident = Incident(self._last_id, view.name, (view.name,), severity, reason, since, at, cause=cause)
        self._open[incident.id] = incident
        self._members[view.name] = _Member(incident.id)
        self._put(incident)
        self._go_on(incident, view, severity, at)

    def _continues(self, ended: Incident, root: str, at: datetime) -> bool:
        """Whether a failure of `root` continues `ended`.

        An incident that was merged into another is continued if it was announced and its root has failed ever since:
        the channels know it, and its end was not announced.
        """
        if ended.root != root or ended.ended_at is None:
            return False
        if ended.part_of is not None:
            return ended.alert_state is NotificationState.OPEN and root in self._members
        # An end long after now is of a process whose clock was wrong, and says nothing about this failure.
        return abs(at - ended.ended_at) <= self._settle

    def _fell_together(self, child: Incident, parent: Incident) -> bool:
        # A service that was down long before its parent is down for a reason of its own.
        return parent.started_at - child.started_at <= self._settle

    def _go_on_as(self, newer: Incident, stored: Incident, now: datetime) -> None:
        """The failure of `newer` was known before the restart: it is the one of `stored`."""
        self._restored.discard(stored.id)
        stored = replace(
            stored,
            notified={**stored.notified, **newer.notified},
            deliveries=reduce(add_delivery, newer.deliveries, stored.deliveries),
        )
        self._open[stored.id] = stored
        # Its end would be announced beside that of the stored one.
        newer = replace(newer, notified={})
        self._absorb(newer, stored, now, because("begun_before_restart", id=stored.id))

    def _join(self, name: str, incident: Incident) -> None:
        self._members[name] = _Member(incident.id)
        if name not in incident.services:
            self._put(replace(incident, services=(*incident.services, name)))

    def _fold(self, child: Incident, parent: Incident, at: datetime) -> None:
        """`child` turns out to be a part of `parent`, with the requests that it cost."""
        if child.failed_requests:
            parent = replace(parent, failed_requests=child.failed_requests + (parent.failed_requests or 0))
        self._absorb(child, parent, at, because("explained_by", root=parent.root, id=parent.id))

    def _absorb(self, lesser: Incident, greater: Incident, at: datetime, ending: Reason) -> None:
        """`lesser` ends, and its services join `greater`."""
        self._end(lesser, at, ending, part_of=greater.id)
        for member in self._members.values():
            if member.incident == lesser.id:
                member.incident, member.unexplained_since = greater.id, None
        more = tuple(name for name in lesser.services if name not in greater.services)
        self._put(replace(greater, services=(*greater.services, *more)))

    def _go_on(self, incident: Incident, view: ServiceView, severity: Health, at: datetime) -> None:
        self._restored.discard(incident.id)
        # The reason stays that of the opening or of the worsening: a later one may be that of a recovery.
        if worse(severity, incident.severity) is not incident.severity:
            reason, cause = failure_reason(view)
            self._put(replace(incident, reason=reason, cause=cause, severity=severity, seen_at=at))
        elif at - incident.seen_at >= SEEN_EVERY:
            self._put(replace(incident, seen_at=at))

    def _end(self, incident: Incident, at: datetime, ending: Reason, part_of: int | None = None) -> None:
        self._open.pop(incident.id, None)
        self._restored.discard(incident.id)
        self._earlier.discard(incident.id)
        self._ended[incident.id] = as_ended(incident, at, ending, part_of)
        self._changed[incident.id] = None

    def _forget_oldest(self) -> None:
        ended, changed = self._ended.values(), self._changed
        if len(ended) > MOST_ENDED:
            needed = {one.id for one in ended if one.id in changed or one.alert_state is NotificationState.OPEN}
            oldest = sorted(ended, key=lambda one: (one.id in needed, one.ended_at or _LONG_AGO))
            for one in oldest[: len(oldest) - min(max(len(needed), MOST_ENDED), MOST_WAITING)]:
                del self._ended[one.id]

    def _put(self, incident: Incident) -> None:
        (self._open if incident.is_open else self._ended)[incident.id] = incident
        self._changed[incident.id] = None
