"""The axis of time of the status page: its range, its marks, and what is drawn on it: states, latencies, incidents, events. Pure.

Shapes are in SVG's terms. Places along the axis are thousandths of it, so that one drawing fits every width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from markupsafe import Markup

from tentaculo.model.event import Event
from tentaculo.model.health import Health, StateChange
from tentaculo.model.history import DAY, HOUR, MINUTE, Period
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.text import printable
from tentaculo.model.timeline import Timeline
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import Language

WIDTH: Final = 1000
HEIGHT: Final = 30
"""The canvas of one service's curve."""
_USUAL_AT: Final = 18.0
_STEP: Final = 7.0
"""Where on the canvas the usual latency is, and how far up each doubling of it leads."""
_TOP, _BOTTOM = 1.0, 28.0
_LAST_TICK: Final = 0.84
"""Place of the last mark on the axis, as a share of it: the word for now stands behind, on a phone too."""
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - by the clock of any zone
_SHORTEST: Final = 2
"""Thousandths: a shorter state is drawn this long, since a trouble of a second must be seen."""
_MOST_DOTS: Final = 100
"""Thousandths of the axis of which each has one event at most: dots beside each other cannot be told apart."""


class Range(NamedTuple):
    """A choice of the length of the axis."""

    key: str
    """As in the query string, and in the keys of its texts."""
    seconds: int
    span: int
    """Seconds of one period of latencies."""
    tick: int
    """Seconds between two marks."""

    def end(self, now: datetime) -> int:
        """The end of an axis of this range, seconds since 1970: now or a little later, by less than can be drawn.

        It stays for 10 seconds or a minute, so that what is drawn changes seldom while nothing happens.
        """
        step = 10 if self.seconds <= 3 * HOUR else MINUTE
        return -(-int(now.timestamp()) // step) * step


RANGES: Final = {
    one.key: one
    for one in (
        Range("3h", 3 * HOUR, MINUTE, 30 * MINUTE),
        Range("24h", DAY, HOUR, 3 * HOUR),
        Range("7d", 7 * DAY, HOUR, DAY),
        Range("90d", 90 * DAY, DAY, 15 * DAY),
    )
}


class Tick(NamedTuple):
    """One mark of the axis."""

    place: str
    at: datetime
    text: str


class Bar(NamedTuple):
    """A stretch of the axis in one colour."""

    key: str
    """The class of its colour: `up`, `slow`, `down`, `plan` or `none`."""
    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of time that is drawn from left to right."""

    since: int
    """Seconds since 1970."""
    until: int
    zone: tzinfo = UTC
    """Whose time the marks show."""

    @property
    def end(self) -> datetime:
        """The time at its right end."""
        return datetime.fromtimestamp(self.until, UTC)

    def place(self, moment: datetime) -> float:
        """Where `moment` is, 0 to `WIDTH`; one outside is at the nearer end."""
        share = (moment.timestamp() - self.since) / (self.until - self.since)
        return min(max(share, 0.0), 1.0) * WIDTH

    def percent(self, moment: datetime) -> str:
        """The same as a percentage."""
        return f"{self.place(moment) / 10:.2f}%"

    def width(self, since: datetime, until: datetime) -> str:
        """The stretch between two moments as a percentage, at least so wide that it is seen."""
        return f"{max(self.place(until) - self.place(since), _SHORTEST) / 10:.2f}%"

    def ticks(self, every: int, t: Language) -> list[Tick]:
        """A mark at each multiple of `every` seconds of the zone's clock, except near the end, which has its own."""
        first, last = (datetime.fromtimestamp(end, self.zone).replace(tzinfo=None) for end in (self.since, self.until))
        form = "%H:%M" if every >= MINUTE else "%H:%M:%S"
        found = []
        for number in range(
            (first - _EPOCH) // timedelta(seconds=every), (last - _EPOCH) // timedelta(seconds=every) + 1
        ):
            # The zone's own clock, which may be set in between.
            shown = _EPOCH + number * timedelta(seconds=every)
            at = shown.replace(tzinfo=self.zone).astimezone(UTC)
            if 0.03 * WIDTH < self.place(at) < _LAST_TICK * WIDTH:
                found.append(Tick(self.percent(at), at, t.short_date(shown) if every >= DAY else f"{shown:{form}}"))
        return found


_KEYS: Final = {
    Health.UP: "up",
    Health.DEGRADED: "slow",
    Health.DOWN: "down",
    Health.MAINTENANCE: "plan",
    Health.OFF: "none",
    Health.UNKNOWN: "none",
}
_BEST_FIRST: Final = ("none", "up", "plan", "slow", "down")
_RANKS: Final = {health: _BEST_FIRST.index(key) for health, key in _KEYS.items()}
_CELLS: Final = math.ceil(WIDTH / _SHORTEST)
_WORSE: Final = [bytes(max(rank, one) for one in range(256)) for rank in range(len(_BEST_FIRST))]
"""By rank, what `bytes.translate` makes of each rank: the worse of the two. A loop over the cells takes thirty times as long."""
_WHOLE: Final = re.compile(r"\.0(?![0-9])")
"""The digit behind the point of a whole number, of numbers with one digit there."""
_RUNS: Final = re.compile(rb"(.)\1*", re.DOTALL)


def state_key(health: Health) -> str:
    """The class of the colour of `health`."""
    return _KEYS[health]


def bars(axis: Axis, changes: Sequence[StateChange], health: Health, since: datetime) -> list[Bar]:
    """The states of one service along the axis; it has had `health` since `since`.

    Before the first known change nothing is known. States that are too short to be seen are drawn with the least width,
    and of several in one place the worst is drawn.
    """
    # Places are counted in cells of the least width. A service that flaps has thousands of changes.
    origin, scale = axis.since, _CELLS / (axis.until - axis.since)
    known = [
        ((change.at.timestamp() - origin) * scale, _RANKS[change.after]) for change in changes if change.at < since
    ]
    # After the clock was set, a change may lie before the one that was noted earlier.
    known.sort(key=itemgetter(0))
    known.append(((since.timestamp() - origin) * scale, _RANKS[health]))
    known.append((float(_CELLS), 0))
    painted = bytearray(_CELLS)
    for (start, rank), (end, _) in pairwise(known):
        if end <= 0:
            continue  # it is not on the axis
        first = int(start) if 0 < start < _CELLS else 0 if start <= 0 else _CELLS - 1
        if end <= first + 1:
            if painted[first] < rank:
                painted[first] = rank
        else:
            last = min(math.ceil(end), _CELLS)
            painted[first:last] = painted[first:last].translate(_WORSE[rank])
    return [
        Bar(_BEST_FIRST[run[0][0]], str(run.start() * _SHORTEST), str((run.end() - run.start()) * _SHORTEST))
        for run in _RUNS.finditer(painted)
    ]


def rects(found: Iterable[Bar], y: int, height: int) -> Markup:
    """The bars as SVG. All values are of this module; a template escapes each, which took a fifth of the overview."""
    made = [f'<rect class="r-{bar.key}" x="{bar.x}" width="{bar.width}" y="{y}" height="{height}"/>' for bar in found]
    return Markup("".join(made))  # noqa: S704


def curve(axis: Axis, span: int, points: Mapping[int, float], usual: float | None) -> str:
    """The path of latencies in seconds, by the start of their period, against the usual one.

    Each step up doubles it. Without a usual latency the median of `points` stands for it. Where a period is missing, the
    line is broken.
    """
    if not points:
        return ""
    base = usual or sorted(points.values())[len(points) // 2]
    path: list[str] = []
    last: int | None = None
    # As `Axis.place` of the middle of each period; a page has a thousand of them.
    length, half, log2 = axis.until - axis.since, span / 2, math.log2
    for start in sorted(points):
        x = min(max((start + half - axis.since) / length, 0.0), 1.0) * WIDTH
        y = min(max(_USUAL_AT - _STEP * log2(max(points[start] / base, 1e-9)), _TOP), _BOTTOM)
        path.append(f"{'M' if last is None else 'L' if start - last == span else 'h0M'}{x:.1f} {y:.1f}")
        last = start
    # As `number` writes them.
    return _WHOLE.sub("", "".join(path)) + "h0"


USUAL_Y: Final = f"{_USUAL_AT:g}"
"""Where on the canvas the usual latency is."""


def number(value: float) -> str:
    """A coordinate in as few characters as are seen."""
    return f"{value:.1f}".removesuffix(".0")


def p95_points(periods: Iterable[Period]) -> dict[int, float]:
    """The 95th percentile of each period in seconds, by its start: of requests, and of probes where there were none."""
    found = {}
    for period in periods:
        tally = period.requests if period.requests.ok else period.probes
        p95 = tally.latency.percentile(0.95)
        if p95 is not None:
            found[period.start] = p95
    return found


class Mark(NamedTuple):
    """Something on a lane above the rows."""

    key: str
    x: str
    width: str
    text: str
    at: datetime
    href: str = ""
    """The page about it, where there is one."""


def lanes(
    axis: Axis,
    past: Timeline,
    incidents: Sequence[tuple[Incident, Sequence[Note]]],
    windows: Sequence[MaintenanceWindow],
    now: datetime,
    t: Language,
) -> dict[str, list[Mark]]:
    """What lies on the lanes above the rows of services: `incidents` with the maintenance, and `events`; and `pins`, the
    events just before trouble. `incidents` are those in memory, which `past` may not have yet."""
    known = {one.id: one for one in past.incidents} | {one.id: one for one, _ in incidents}
    beginning = now - timedelta(seconds=axis.until - axis.since)
    found = []
    for window in windows:
        if window.starts_at < now and window.ends_at > beginning:
            services = t.listed(window.services) or t("overview.every_service")
            text = t("overview.maintenance_of", services=services)
            end = min(window.ends_at, axis.end)
            width = axis.width(window.starts_at, end)
            found.append(Mark("plan", axis.percent(window.starts_at), width, text, window.starts_at))
    # Incidents come last: they are drawn over the maintenance.
    for incident in sorted(known.values(), key=lambda one: one.started_at):
        end = incident.ended_at or axis.end
        if end >= beginning and incident.part_of is None:
            found.append(
                Mark(
                    state_key(incident.severity),
                    axis.percent(incident.started_at),
                    axis.width(incident.started_at, end),
                    t("overview.incident_of", root=printable(incident.root, 80)),
                    incident.started_at,
                    incident_words.path(incident.id),
                )
            )
    pins = [pin(axis, event, t) for event in past.just_before.values()]
    return {
        "incidents": found,
        "events": list(_dots(axis, past.events, t)),
        "pins": [one for one in pins if one is not None],
    }


def pin(axis: Axis, event: Event | None, t: Language) -> Mark | None:
    """An event that a line through everything below it shows; None where it is not on the axis."""
    if event is None or not axis.since <= event.received_at.timestamp() <= axis.until:
        return None
    text = wording.plain(event_title(event, t))
    is_late = axis.place(event.received_at) > WIDTH / 2
    return Mark("end" if is_late else "start", axis.percent(event.received_at), "", text, event.received_at)


def _dots(axis: Axis, events: Iterable[Event], t: Language) -> Iterator[Mark]:
    taken: set[int] = set()
    for event in events:
        place = int(axis.place(event.received_at) / WIDTH * _MOST_DOTS)
        if place not in taken:
            taken.add(place)
            severity = event.severity or ""
            key = "alarm" if severity.lower() in ("critical", "error", "high") else "event"
            text = wording.plain(event_title(event, t))
            yield Mark(key, axis.percent(event.received_at), "", text, event.received_at)


def event_title(event: Event, t: Language) -> str:
    """An event in a few words: `deploy.finished from ci`."""
    return t("overview.event_from", type=wording.foreign(event.type, 60), source=wording.foreign(event.source, 40))


def event_path(event: Event) -> str:
    """The place of an event in the page of events, with those of the hours before it."""
    until = (event.received_at + timedelta(minutes=1)).astimezone(UTC)
    return f"/status/events?range=3h&to={until:%Y-%m-%dT%H:%M:%SZ}#event-{event.id}"
