"""The axis of the page of events: a lane for each source, a dot for each event, and what connects them. Pure.

Each event is at the time at which it happened by the gateway's clock. Where that time is known by a corrected clock, a bar
shows how much earlier it may have been.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from tentaculo.model.event import Event
from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.model.incident import Incident
from tentaculo.model.text import printable
from tentaculo.web import event_text, timeline
from tentaculo.web.languages import Language
from tentaculo.web.timeline import Axis, Tick, number
from tentaculo.web.wording import ISOLATE, POP, foreign

MOST_LANES: Final = 10
"""Lanes of sources; the events of all further ones share one."""
LANE: Final = 32
"""Height of a lane on the canvas of the connections."""
_STEPS: Final = (1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR)
_LONG_STEPS: Final = (2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 15 * DAY, 30 * DAY)
_MOST_TICKS: Final = 7


class Tie(NamedTuple):
    """A connection: between two events, or from an event to an incident."""

    source: int
    """The id of an event."""
    target: int
    """The id of an event, or of an incident where `to_incident`."""
    by: str
    """What says so."""
    is_statistical: bool = False
    """Whether it is a claim of the statistics, not a fact that the events state."""
    to_incident: bool = False


class Dot(NamedTuple):
    """One event on its lane."""

    id: int
    x: str
    bar_x: str
    """Where it may have been at the earliest."""
    bar_width: str
    """Empty where the time is not a corrected one."""
    key: str
    """Class of its colour."""
    text: str
    at: datetime
    """When it happened, in UTC."""
    group: int | None
    """Number of the events that are connected with it; None where none is."""


class Lane(NamedTuple):
    """The events of one source, or of the gateway about one service."""

    name: str
    href: str
    """The page of the service; empty where it is none."""
    events: int
    dots: list[Dot]


class Stretch(NamedTuple):
    """One incident on its lane."""

    id: int
    key: str
    x: str
    width: str
    text: str
    at: datetime
    group: int | None


class Curve(NamedTuple):
    """A connection as it is drawn."""

    path: str
    is_statistical: bool
    group: int | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that is drawn. The lane of the incidents is the first."""

    axis: Axis
    step: int
    """Seconds between two marks."""
    ticks: list[Tick]
    incidents: list[Stretch]
    lanes: list[Lane]
    curves: list[Curve]
    groups: Mapping[int, int]
    """By event, the number of its group."""

    @property
    def since(self) -> datetime:
        """The beginning of the axis, in the zone of its marks."""
        return datetime.fromtimestamp(self.axis.since, self.axis.zone)

    @property
    def until(self) -> datetime:
        """The end of the axis."""
        return datetime.fromtimestamp(self.axis.until, self.axis.zone)

    @property
    def height(self) -> int:
        """The height of the canvas of the connections."""
        return (len(self.lanes) + 1) * LANE


def happened_at(event: Event) -> datetime:
    """When an event happened by the gateway's clock."""
    return event.received_at if event.corrected is None else _of_ms(event.corrected.ms)


def _of_ms(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def axis_of(
    events: Sequence[Event], since: datetime, until: datetime, *, is_begin: bool, is_end: bool, zone: tzinfo
) -> Axis:
    """The axis for a page of `events`: it covers their time, and to `since` or `until` where the page reaches that far.

    Its marks are those of `zone`.
    """
    times = [happened_at(event) for event in events]
    first = min(times, default=since) if not is_begin else since
    last = max(times, default=until) if not is_end else until
    start, end = int(first.timestamp()), int(last.timestamp()) + (not is_end)
    room = 0 if is_begin and is_end else (end - start) // 40
    start, end = start - (0 if is_begin else room), end + (0 if is_end else room)
    return Axis(start, max(end, start + 2), zone)


def draw(
    axis: Axis,
    events: Sequence[Event],
    incidents: Sequence[Incident],
    ties: Sequence[Tie],
    names: Mapping[str, str],
    now: datetime,
    t: Language,
) -> Chart:
    """Everything on `axis`, in the language of `t`. `names` gives the service of each name and alias."""
    groups = _groups(ties)
    lane_of = {event.id: _lane(event, names, t) for event in events}
    counts = Counter(lane_of.values())
    shown = [name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    kept, rest = (shown, []) if len(shown) <= MOST_LANES else (shown[: MOST_LANES - 1], shown[MOST_LANES - 1 :])
    place = {name: number for number, name in enumerate(kept)} | dict.fromkeys(rest, len(kept))
    dots: list[list[Dot]] = [[] for _ in range(len(kept) + bool(rest))]
    for event in reversed(events):  # the newest is drawn last, over the others
        dots[place[lane_of[event.id]]].append(_dot(axis, event, groups.get(event.id), t))
    lanes = [_shown_lane(name, names, own, t) for name, own in zip(kept, dots, strict=False)]
    if rest:
        lanes.append(Lane(t("events.others", count=len(rest)), "", len(dots[-1]), dots[-1]))
    stretches = [_stretch(axis, one, groups.get(-one.id), now, t) for one in reversed(incidents)]
    spots = {event.id: (axis.place(happened_at(event)), place[lane_of[event.id]] + 1) for event in events}
    spots |= {-one.id: (axis.place(one.started_at), 0) for one in incidents}
    step = _step(axis.until - axis.since)
    return Chart(
        axis,
        step,
        axis.ticks(step, t),
        stretches,
        lanes,
        [
            Curve(_path(spots[tie.source], spots[_target(tie)]), tie.is_statistical, groups.get(tie.source))
            for tie in ties
            if tie.source in spots and _target(tie) in spots
        ],
        groups,
    )


def service_of(event: Event, names: Mapping[str, str]) -> str:
    """The service that an event is about or came from; empty where it is none of `names`."""
    return names.get(event_text.service_of(event) or event.source.removeprefix("/"), "")


def _lane(event: Event, names: Mapping[str, str], t: Language) -> str:
    """The service that an event is about, else its source."""
    if event_text.is_own(event):
        return event_text.service_of(event) or t("events.the_gateway")
    return names.get(event.source.removeprefix("/"), event.source)


def _shown_lane(name: str, names: Mapping[str, str], dots: list[Dot], t: Language) -> Lane:
    href = f"/status/services/{name}" if names.get(name) == name else ""
    return Lane(printable(name, 40) or t("events.no_name"), href, len(dots), dots)


def _dot(axis: Axis, event: Event, group: int | None, t: Language) -> Dot:
    at = happened_at(event)
    bar_x = bar_width = ""
    if event.corrected is not None:
        earliest = at - timedelta(milliseconds=event.corrected.width_ms)
        bar_x = axis.percent(earliest)
        bar_width = f"{(axis.place(at) - axis.place(earliest)) / 10:.2f}%"
    is_exact = event.corrected is not None or event_text.is_own(event)
    alarm = " alarm" if event_text.is_alarming(event) else ""
    return Dot(
        event.id,
        axis.percent(at),
        bar_x,
        bar_width,
        f"dot{alarm}{'' if is_exact else ' late'}",
        f"{ISOLATE}{event_text.title(event, t)}{POP}, {foreign(event.source, 40)}",
        at,
        group,
    )


def _stretch(axis: Axis, incident: Incident, group: int | None, now: datetime, t: Language) -> Stretch:
    return Stretch(
        incident.id,
        timeline.state_key(incident.severity),
        axis.percent(incident.started_at),
        axis.width(incident.started_at, incident.ended_at or now),
        t("overview.incident_of", root=printable(incident.root, 80)),
        incident.started_at,
        group,
    )


def _target(tie: Tie) -> int:
    """Its place among events and incidents: ids of incidents are told apart by their sign."""
    return -tie.target if tie.to_incident else tie.target


def _groups(ties: Iterable[Tie]) -> dict[int, int]:
    """The number of the group of each event and, below zero, of each incident. What is connected is one group."""
    parent: dict[int, int] = {}

    def root(one: int) -> int:
        while parent.setdefault(one, one) != one:
            one = parent[one]
        return one

    for tie in ties:
        parent[root(_target(tie))] = root(tie.source)
    numbers: dict[int, int] = {}
    return {one: numbers.setdefault(root(one), len(numbers)) for one in parent}


def _path(start: tuple[float, int], end: tuple[float, int]) -> str:
    """A curve between two places on two lanes, or an arc above one lane."""
    (x, lane), (other_x, other_lane) = start, end
    y, other_y = (lane + 0.5) * LANE, (other_lane + 0.5) * LANE
    if lane == other_lane:
        return f"M{number(x)} {number(y)}Q{number((x + other_x) / 2)} {number(y - 0.8 * LANE)} {number(other_x)} {number(y)}"
    middle = (y + other_y) / 2
    return (
        f"M{number(x)} {number(y)}C{number(x)} {number(middle)} {number(other_x)} {number(middle)}"
        f" {number(other_x)} {number(other_y)}"
    )


def _step(seconds: int) -> int:
    steps = (*_STEPS, *_LONG_STEPS)
    return next((step for step in steps if seconds / step <= _MOST_TICKS), steps[-1])
