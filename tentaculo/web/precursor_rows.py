"""What the statistics say before incidents, in words and numbers for the page of events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from tentaculo.model.precursor import LEAST_INCIDENTS, LEVEL, Precursor, PrecursorReport, ServicePrecursors
from tentaculo.model.text import format_duration, printable
from tentaculo.web import wording

MOST_CLAIMS: Final = 20
MOST_COUNTS: Final = 20
"""Types of events of which nothing is claimed, the most telling ones."""
_SMALLEST_P: Final = 0.0001


class Number(NamedTuple):
    """A number with its name."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What was counted of one type of events before the incidents of one service."""

    service: str
    source: str
    type: str
    sentence: str
    numbers: list[Number]
    q: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the page shows of a report."""

    claims: list[Statement]
    """The most certain first."""
    counts: list[Statement]
    """Those of which nothing is claimed."""
    basis: str
    """What was looked at."""
    too_few: list[str]
    """The services with too few incidents for a claim."""


def statistics(report: PrecursorReport) -> Iterator[Statistics | None]:
    """The statements of `report`, yielded last: before them a None after each service, where others may run."""
    claims, counts = list[Statement](), list[Statement]()
    for service in report.services.values():
        for one in service.precursors:
            (claims if one.is_claimed else counts).append(_statement(report, service, one))
        yield None
    claims.sort(key=lambda one: one.q)
    counts.sort(key=lambda one: one.q)
    counted = [one for one in report.services.values() if one.incidents]
    yield Statistics(
        claims[:MOST_CLAIMS],
        counts[:MOST_COUNTS],
        _basis(report, counted),
        [one.service for one in counted if len(one.incidents) < LEAST_INCIDENTS],
    )


def _basis(report: PrecursorReport, counted: Sequence[ServicePrecursors]) -> str:
    days = wording.count_of((report.until - report.since).days, "day")
    if not counted:
        return f"No incident in {days}"
    incidents = wording.count_of(sum(len(one.incidents) for one in counted), "incident")
    services = wording.count_of(len(counted), "service")
    return f"{incidents} of {services} in {days}; {wording.count_of(report.tested, 'test')}"


def _statement(report: PrecursorReport, service: ServicePrecursors, one: Precursor) -> Statement:
    with_it, incidents = len(one.before), len(service.incidents)
    numbers = [
        Number("incidents", f"{incidents}"),
        Number("before them", f"{_percent(with_it / incidents)} ({with_it} of {incidents})"),
        Number("otherwise", _base_rate(one.others_with, service.others)),
        Number("lift", _lift(with_it / incidents, one.others_with, service.others)),
    ]
    if one.p is not None:
        numbers.append(Number("p", _probability(one.p)))
    if one.q is not None:
        numbers.append(Number(f"p after correction (claimed up to {LEVEL:g})", _probability(one.q)))
    if lead := _lead(report, service, one):
        numbers.append(Number("lead time", lead))
    return Statement(
        service.service,
        one.source,
        printable(one.type, 60),
        printable(service.sentence(one), 400),
        numbers,
        1.0 if one.q is None else one.q,
    )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.1 or not share else f"{share * 100:.2g} %"


def _base_rate(others_with: int, others: int) -> str:
    return f"{_percent(others_with / others)} ({others_with} of {others})" if others else wording.NOTHING


def _lift(share: float, others_with: int, others: int) -> str:
    """How many times as often it came before incidents; where it never came otherwise, what once would have made."""
    if not others:
        return wording.NOTHING
    lift = share * others / max(others_with, 1)
    return f"{'over ' if not others_with else ''}{lift:,.0f}" if lift >= 10 else f"{lift:.1f}"


def _probability(p: float) -> str:
    return f"under {_SMALLEST_P:g}" if p < _SMALLEST_P else f"{p:.2g}"


def _lead(report: PrecursorReport, service: ServicePrecursors, one: Precursor) -> str:
    """From the last such event to the opening: the median, and the shortest and the longest.

    Ids are times in microseconds, but for those given while the clock was set back: these are left out.
    """
    found = [
        seconds
        for incident, last in one.before.items()
        if (opening := report.openings.get(incident)) is not None
        and 0 < (seconds := (opening - last) / 1_000_000) <= service.within + service.margin
    ]
    if not found:
        return ""
    middle = format_duration(median(found))
    if len(found) == 1:
        return middle
    return f"{middle} ({format_duration(min(found))} to {format_duration(max(found))})"
