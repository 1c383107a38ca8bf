"""What the statistics say before incidents, in words and numbers for the page of events. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, NamedTuple

from tentaculo.model.precursor import LEAST_INCIDENTS, LEVEL, Precursor, PrecursorReport, ServicePrecursors
from tentaculo.model.text import printable
from tentaculo.web import wording
from tentaculo.web.languages import NOTHING, Language

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


def statistics(report: PrecursorReport, t: Language) -> Iterator[Statistics | None]:
    """The statements of `report`, yielded last: before them a None after each service, where others may run."""
    claims, counts = list[Statement](), list[Statement]()
    for service in report.services.values():
        for one in service.precursors:
            (claims if one.is_claimed else counts).append(_statement(report, service, one, t))
        yield None
    claims.sort(key=lambda one: one.q)
    counts.sort(key=lambda one: one.q)
    counted = [one for one in report.services.values() if one.incidents]
    yield Statistics(
        claims[:MOST_CLAIMS],
        counts[:MOST_COUNTS],
        _basis(report, counted, t),
        [one.service for one in counted if len(one.incidents) < LEAST_INCIDENTS],
    )


def sentence(service: ServicePrecursors, one: Precursor, t: Language) -> str:
    """What was counted, in words: the text of `ServicePrecursors.sentence`."""
    text = t(
        "precursor.sentence",
        count=len(one.before),
        incidents=len(service.incidents),
        service=printable(service.service, 80),
        minutes=round(service.within / 60),
        type=wording.foreign(one.type, 60),
        source=wording.foreign(one.source, 60),
        others_with=one.others_with,
        others=service.others,
    )
    if len(service.incidents) < LEAST_INCIDENTS:
        return f"{text} {t('precursor.too_few', needed=LEAST_INCIDENTS)}"
    return text if one.is_claimed else f"{text} {t('precursor.chance')}"


def _basis(report: PrecursorReport, counted: Sequence[ServicePrecursors], t: Language) -> str:
    return t(
        "precursor.basis",
        incidents=t("precursor.incidents", count=sum(len(one.incidents) for one in counted)),
        services=t("common.services", count=len(counted)),
        days=t("precursor.days", count=(report.until - report.since).days),
        tests=t("precursor.tests", count=report.tested),
    )


def _statement(report: PrecursorReport, service: ServicePrecursors, one: Precursor, t: Language) -> Statement:
    with_it, incidents = len(one.before), len(service.incidents)
    numbers = [
        Number(t("precursor.number_incidents"), t.number(incidents)),
        Number(t("precursor.number_before"), _share_of(with_it, incidents, t)),
        Number(t("precursor.number_otherwise"), _share_of(one.others_with, service.others, t)),
        Number(t("precursor.number_lift"), _lift(with_it / incidents, one.others_with, service.others, t)),
    ]
    if one.p is not None:
        numbers.append(Number("p", probability(one.p, t)))
    if one.q is not None:
        name = t("precursor.number_q", level=t.decimal(f"{LEVEL:g}"))
        numbers.append(Number(name, probability(one.q, t)))
    if lead := _lead(report, service, one, t):
        numbers.append(Number(t("precursor.number_lead"), lead))
    return Statement(
        service.service,
        one.source,
        printable(one.type, 60),
        sentence(service, one, t),
        numbers,
        1.0 if one.q is None else one.q,
    )


def _share_of(number: int, total: int, t: Language) -> str:
    if not total:
        return NOTHING
    percent = number * 100 / total
    share = f"{percent:.0f} %" if percent >= 10 or not percent else f"{t.decimal(f'{percent:.2g}')} %"
    return t("precursor.share_of", share=share, number=number, total=total)


def _lift(share: float, others_with: int, others: int, t: Language) -> str:
    """How many times as often it came before incidents; where it never came otherwise, what once would have made."""
    if not others:
        return NOTHING
    lift = share * others / max(others_with, 1)
    shown = t.number(lift, 0 if lift >= 10 else 1)
    return shown if others_with or lift < 10 else t("precursor.over", number=shown)


def probability(p: float, t: Language) -> str:
    """A probability with two digits that mean something."""
    if p < _SMALLEST_P:
        return t("precursor.under", number=t.decimal(f"{_SMALLEST_P:g}"))
    return t.decimal(f"{p:.2g}")


def _lead(report: PrecursorReport, service: ServicePrecursors, one: Precursor, t: Language) -> str:
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
    middle, shortest, longest = (t.duration(seconds, 2) for seconds in (median(found), min(found), max(found)))
    if len(found) == 1:
        return middle
    return t("precursor.lead_range", middle=middle, shortest=shortest, longest=longest)
