"""The lanes above the rows of services: incidents, maintenance and events, on the same axis of time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from tentaculo.model.event import Event
from tentaculo.model.text import printable
from tentaculo.web import incident_words, reasons, timeline, wording
from tentaculo.web.languages import Language
from tentaculo.web.overview import Fleet
from tentaculo.web.timeline import Axis

_MOST_DOTS: Final = 100
"""Thousandths of the axis of which each has one event at most: dots beside each other cannot be told apart."""


class Mark(NamedTuple):
    """Something on a lane above the rows."""

    key: str
    x: str
    width: str
    text: str
    at: datetime
    href: str = ""
    """The page about it, where there is one."""


def lanes(fleet: Fleet) -> dict[str, list[Mark]]:
    """What lies on the lanes: `incidents` with the maintenance, and `events`; and `pins`, the events just before trouble."""
    axis = fleet.axis
    known = {one.id: one for one in (fleet.timeline.incidents if fleet.timeline is not None else ())}
    known |= {one.id: one for one, _ in fleet.incidents}
    beginning = fleet.now - timedelta(seconds=fleet.range.seconds)
    found = []
    for window in fleet.windows:
        if window.starts_at < fleet.now and window.ends_at > beginning:
            services = wording.listed(window.services, fleet.t) or fleet.t("overview.every_service")
            text = fleet.t("overview.maintenance_of", services=services)
            end = min(window.ends_at, axis.end)
            width = axis.width(window.starts_at, end)
            found.append(Mark("plan", axis.percent(window.starts_at), width, text, window.starts_at))
    # Incidents come last: they are drawn over the maintenance.
    for incident in sorted(known.values(), key=lambda one: one.started_at):
        end = incident.ended_at or axis.end
        if end >= beginning and incident.part_of is None:
            found.append(
                Mark(
                    timeline.state_key(incident.severity),
                    axis.percent(incident.started_at),
                    axis.width(incident.started_at, end),
                    fleet.t("overview.incident_of", root=printable(incident.root, 80)),
                    incident.started_at,
                    incident_words.path(incident.id),
                )
            )
    before = fleet.timeline.just_before.values() if fleet.timeline is not None else ()
    pins = [pin(axis, event, fleet.t) for event in before]
    return {"incidents": found, "events": list(_dots(axis, fleet)), "pins": [one for one in pins if one is not None]}


def pin(axis: Axis, event: Event | None, t: Language) -> Mark | None:
    """An event that a line through everything below it shows; None where it is not on the axis."""
    if event is None or not axis.since <= event.received_at.timestamp() <= axis.until:
        return None
    text = reasons.plain(event_title(event, t))
    is_late = axis.place(event.received_at) > timeline.WIDTH / 2
    return Mark("end" if is_late else "start", axis.percent(event.received_at), "", text, event.received_at)


def _dots(axis: Axis, fleet: Fleet) -> Iterator[Mark]:
    taken: set[int] = set()
    for event in fleet.timeline.events if fleet.timeline is not None else ():
        place = int(axis.place(event.received_at) / timeline.WIDTH * _MOST_DOTS)
        if place not in taken:
            taken.add(place)
            severity = event.severity or ""
            key = "alarm" if severity.lower() in ("critical", "error", "high") else "event"
            text = reasons.plain(event_title(event, fleet.t))
            yield Mark(key, axis.percent(event.received_at), "", text, event.received_at)


def event_title(event: Event, t: Language) -> str:
    """An event in a few words: `deploy.finished from ci`."""
    return t("overview.event_from", type=reasons.foreign(event.type, 60), source=reasons.foreign(event.source, 40))


def event_path(event: Event) -> str:
    """The place of an event in the page of events, with those of the hours before it."""
    until = (event.received_at + timedelta(minutes=1)).astimezone(UTC)
    return f"/status/events?range=3h&to={until:%Y-%m-%dT%H:%M:%SZ}#event-{event.id}"
