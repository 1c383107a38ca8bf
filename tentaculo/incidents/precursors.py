"""What came before the incidents of a service: which windows of time are compared, and the test of what came in them. Pure.

    case window     the minutes before an incident, without the last ones before its detection
    other window    the same minutes of another day, within two weeks of the incident; a working day for a working day

Both kinds keep the same rules. A window counts while the gateway watched the service, outside of maintenance, and not
during an incident that affects the service or within an hour after it. So an incident that follows another one does not
count: the two are one occurrence. Windows never overlap, so no event counts twice.

A window has an event type or has it not. A burst is one occurrence, however many events it has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from tentaculo.config.probes import ProbeSettings
from tentaculo.incidents.statistics import Stratum, adjusted, exact_test
from tentaculo.model.incident import Incident
from tentaculo.model.precursor import LEAST_INCIDENTS, LEVEL, WINDOW, Precursor, ServicePrecursors

DAY, HOUR = 86400, 3600
LEAST_MARGIN = 60.0
"""Seconds before the detection that are always left out."""
NEIGHBOURS, MOST_OTHERS = 14, 14
"""Days before an incident, and after it, whose windows are compared with its own, and how many windows there are."""
SETTLED = HOUR
"""Seconds after an incident in which a window does not count."""
MOST_OF_SERVICE = 60
"""Incidents of one service, the newest ones."""
MOST_TOGETHER = 300
"""Incidents of all services."""
MOST_TYPES = 2000
"""Types of one service. Further ones are not counted."""
MOST_SHOWN = 50
"""Types of one service in the report."""
_AGREE = 120.0
"""Seconds by which two records of one moment may differ while the clock was not set."""


class Span(NamedTuple):
    """A time, in seconds since 1970; the end is not part of it."""

    start: float
    end: float


class Window(NamedTuple):
    """A time in which events are looked for."""

    start: float
    end: float
    stratum: int
    """The hour of the day of the incident, and 24 more on Saturday and Sunday. Only windows of one stratum compare."""
    incident: int | None = None
    """The incident before which it is; None for one of another day."""
    before_id: int | None = None
    """Only events with smaller ids came before the incident; None where that is unknown."""


class Opening(NamedTuple):
    """The event in the log that records the opening of an incident."""

    id: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Watched:
    """The time in which a service was watched."""

    since: float
    until: float
    maintenance: Sequence[Span] = ()
    hours: Collection[int] | None = None
    """The first seconds of the hours in which the service was watched; None where nothing is recorded."""

    def has(self, span: Span) -> bool:
        """Whether `span` is in it, maintenance aside."""
        if not self.since <= span.start < span.end <= self.until:
            return False
        first, last = int(span.start // HOUR) * HOUR, int(span.end // HOUR) * HOUR
        return self.hours is None or (first in self.hours and (last in self.hours or last == span.end))


def margin_of(probe: ProbeSettings) -> float:
    """Seconds before the detection that are left out for a service: what its probes may take to notice a failure.

    An event in them may be a consequence of the failure.
    """
    if probe.kind == "heartbeat":
        return max(LEAST_MARGIN, probe.silence)
    until_noticed = probe.interval * (1 + probe.jitter) + probe.failures * (probe.timeout + probe.recheck)
    return max(LEAST_MARGIN, until_noticed if probe.kind != "none" else 0.0)


def moment_of(incident: Incident, opening: Opening | None) -> float:
    """When an incident was detected, by the clock by which the events before it were received; seconds since 1970.

    The start of an incident is corrected after the system clock was set, and the events are not. The id then shows the
    difference, and the event of the opening has the moment.
    """
    started = incident.started_at.timestamp()
    if opening is None or abs(incident.id / 1000 - started) <= _AGREE:
        return started
    return opening.at.timestamp() - 1  # it is recorded up to a second later


def chosen_services(incidents: Iterable[Incident], most: int = MOST_TOGETHER) -> list[str]:
    """The services with the most incidents, as many as have `most` together. Merged ones are those of another service."""
    counts = Counter(one.root for one in incidents if one.part_of is None)
    found = list[str]()
    for service, count in counts.most_common():
        most -= min(count, MOST_OF_SERVICE)
        if most < 0:
            break
        found.append(service)
    return found


def plan_windows(
    service: str, incidents: Sequence[Incident], openings: Mapping[int, Opening], margin: float, watched: Watched
) -> list[Window]:
    """The windows of a service: those before its incidents, and then those of other days, the nearest days first.

    `incidents` are those of all services. `margin` is in seconds.
    """
    own = [one for one in incidents if service in one.services]
    spans = {one.id: _span(one, openings.get(one.id), watched.until) for one in own}
    roots = sorted((one for one in own if one.root == service and one.part_of is None), key=lambda one: -one.id)
    cases = list[Window]()
    for one in roots[:MOST_OF_SERVICE]:
        opening = openings.get(one.id)
        moment = moment_of(one, opening)
        span = Span(moment - margin - WINDOW, moment - margin)
        disturbed = [*watched.maintenance, *(other for number, other in spans.items() if number != one.id)]
        if watched.has(span) and not any(_overlap(span, other) for other in disturbed):
            stratum = int(moment // HOUR) % 24 + 24 * _is_weekend(span.start)
            cases.append(Window(*span, stratum, one.id, opening and opening.id))
    before = [Span(span.start - margin - WINDOW, span.end) for span in spans.values()]
    free = _Free([*watched.maintenance, *before])
    others, found = list[Window](), Counter[int]()
    for distance in range(1, NEIGHBOURS + 1):
        for number, case in enumerate(cases):
            for days in (-distance, distance):
                span = Span(case.start + days * DAY, case.end + days * DAY)
                is_alike = _is_weekend(span.start) == _is_weekend(case.start)
                if is_alike and found[number] < MOST_OTHERS and watched.has(span) and free.take(span):
                    others.append(Window(*span, case.stratum))
                    found[number] += 1
    return cases + others


class _Free:
    """The time that nothing has taken yet."""

    def __init__(self, taken: Iterable[Span]) -> None:
        self._starts, self._ends = list[float](), list[float]()
        for start, end in sorted(taken):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)
        self._windows = list[float]()

    def take(self, span: Span) -> bool:
        """Take a window of the usual length; False where a part of it is taken."""
        place = bisect_left(self._starts, span.end) - 1
        if place >= 0 and self._ends[place] > span.start:
            return False
        after = bisect_right(self._windows, span.start - WINDOW)
        if after < len(self._windows) and self._windows[after] < span.end:
            return False
        insort(self._windows, span.start)
        return True


def _span(incident: Incident, opening: Opening | None, until: float) -> Span:
    """From the begin of an incident until an hour after it."""
    start = min(moment_of(incident, opening), incident.started_at.timestamp())
    end = until if incident.ended_at is None else incident.ended_at.timestamp()
    return Span(start, max(start, end) + SETTLED)


def _is_weekend(moment: float) -> bool:
    """Whether it is a Saturday or a Sunday in UTC. The first day of 1970 was a Thursday."""
    return (moment // DAY + 3) % 7 >= 5


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


@dataclass(slots=True)
class _TypeCounts:
    before: dict[int, int] = field(default_factory=dict)
    cases: Counter[int] = field(default_factory=Counter)
    others: Counter[int] = field(default_factory=Counter)


class WindowCounts:
    """In which of the windows of one service each type of event came."""

    def __init__(self, service: str, margin: float) -> None:
        self._service = service
        self._margin = margin
        self._incidents: list[int] = []
        self._cases: Counter[int] = Counter()
        self._others: Counter[int] = Counter()
        self._types: dict[tuple[str, str], _TypeCounts] = {}

    def __repr__(self) -> str:
        return f"<WindowCounts of {self._service}: {len(self._incidents)} incidents, {len(self._types)} types>"

    def add(self, window: Window, found: Iterable[tuple[str, str, int]]) -> None:
        """Count a window with the source, the type and the greatest id of each type of event that came in it."""
        if window.incident is None:
            self._others[window.stratum] += 1
        else:
            self._cases[window.stratum] += 1
            self._incidents.append(window.incident)
        for source, type_, last_id in found:
            counts = self._types.get((source, type_))
            if counts is None:
                if len(self._types) >= MOST_TYPES:
                    continue
                counts = self._types[source, type_] = _TypeCounts()
            if window.incident is None:
                counts.others[window.stratum] += 1
            else:
                counts.cases[window.stratum] += 1
                counts.before[window.incident] = last_id

    def precursors(self) -> Iterator[Precursor]:
        """Each type with its p. It is None where the incidents are too few, and where no p of the type could be small."""
        is_enough = len(self._incidents) >= LEAST_INCIDENTS
        for (source, type_), counts in self._types.items():
            test = exact_test(self._strata(counts)) if is_enough else None
            # Tarone (1990): what could not be claimed wherever it came needs no place among what is tested.
            p = test.p if test is not None and test.least_p <= LEVEL else None
            yield Precursor(source, type_, counts.before, counts.others.total(), p)

    def result(self, precursors: Iterable[Precursor]) -> ServicePrecursors:
        """The result of the service: of `precursors`, the most telling of those that came before an incident."""
        seen = [one for one in precursors if one.before]
        seen.sort(key=lambda one: (1.0 if one.p is None else one.p, -len(one.before), one.others_with))
        numbers = tuple(sorted(self._incidents))
        return ServicePrecursors(self._service, self._margin, numbers, self._others.total(), tuple(seen[:MOST_SHOWN]))

    def _strata(self, counts: _TypeCounts) -> list[Stratum]:
        return [
            Stratum(cases, counts.cases[stratum], self._others[stratum], counts.others[stratum])
            for stratum, cases in self._cases.items()
        ]


def with_q(services: Iterable[ServicePrecursors], p_values: Sequence[float]) -> Iterator[ServicePrecursors]:
    """The same, with the q of each p. `p_values` are those of everything that was tested, shown or not."""
    q_of = dict(zip(p_values, adjusted(p_values), strict=True))
    for service in services:
        precursors = tuple(one if one.p is None else replace(one, q=q_of[one.p]) for one in service.precursors)
        yield replace(service, precursors=precursors)
