"""The early warnings as the pages show them: all of one service on its page, and the open ones on the overview."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from tentaculo.model.early_warning import DAYS, SIGNALS, EarlyWarning
from tentaculo.web import wording
from tentaculo.web.languages import Language

SHOWN = 5
"""Warnings that the page of a service shows, the newest ones and those that are open."""
_MOST_LINES = 3
"""Lines of open warnings on the overview."""


class WarningRow(NamedTuple):
    """One warning."""

    at: datetime
    clock: str
    text: str
    outcome: str
    is_open: bool


class WarningLine(NamedTuple):
    """One open warning on the overview."""

    service: str
    text: str
    tally: str


def rows(warnings: Sequence[EarlyWarning], t: Language, zone: tzinfo) -> list[WarningRow]:
    """The open warnings, then the newest of the others."""
    ordered = sorted(warnings, key=lambda one: (not one.is_open, -one.opened_at.timestamp()))

    def clock(moment: datetime) -> str:
        return f"{moment.astimezone(zone):%H:%M}"

    return [
        WarningRow(
            one.opened_at,
            f"{t.short_date(one.opened_at.astimezone(zone))} {clock(one.opened_at)}",
            text(one, t, zone),
            t(f"warning.{one.outcome}", time=clock(one.ended_at)) if one.ended_at is not None else t("warning.open"),
            one.is_open,
        )
        for one in ordered[:SHOWN]
    ]


def shown_to(warnings: Iterable[EarlyWarning], *, is_public: bool) -> list[EarlyWarning]:
    """Those that a page may show: a gauge is named by the inside of a response, which is not for everybody."""
    return [one for one in warnings if one.signal in SIGNALS or (one.gauge and not is_public)]


def open_lines(
    warnings: Sequence[EarlyWarning], services: Container[str], t: Language, zone: tzinfo, *, is_public: bool
) -> list[WarningLine]:
    """The open warnings of `services` for the overview, the one whose limit is nearest in time first."""
    shown = [one for one in shown_to(warnings, is_public=is_public) if one.service in services]
    found = sorted(
        (one for one in shown if one.is_open), key=lambda one: (one.expected_at or one.opened_at, one.service)
    )
    return [
        WarningLine(one.service, text(one, t, zone), tally((each for each in shown if each.service == one.service), t))
        for one in found[:_MOST_LINES]
    ]


def text(warning: EarlyWarning, t: Language, zone: tzinfo) -> str:
    """Why it opened."""

    def show(value: float) -> str:
        return wording.gauge(value, t) if warning.gauge else wording.latency(value, t)

    signal, limit = warning.gauge or t(f"warning.{warning.signal}"), show(warning.limit)
    if warning.expected_at is None or warning.earliest_at is None or warning.latest_at is None:
        return t(
            "warning.level",
            signal=signal,
            level=show(warning.level),
            way=warning.way,
            usual=show(warning.usual),
            limit=limit,
        )
    times = {
        "since": warning.since,
        "expected": warning.expected_at,
        "earliest": warning.earliest_at,
        "latest": warning.latest_at,
    }
    clocks = {name: f"{moment.astimezone(zone):%H:%M}" for name, moment in times.items()}
    rule = "warning.falling" if warning.per_minute < 0 else "warning.trend"
    return t(rule, signal=signal, slope=show(abs(warning.per_minute)), limit=limit, **clocks)


def tally(warnings: Iterable[EarlyWarning], t: Language) -> str:
    """How many of those that are over were followed by the limit; empty where none is over."""
    over = [one for one in warnings if one.outcome in ("reached", "ended")]
    right = sum(one.outcome == "reached" for one in over)
    return t("warning.tally", count=len(over), right=right, days=DAYS) if over else ""
