"""The early warnings as the pages show them: all of one service on its page, and the open ones on the overview."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from tentaculo.model.early_warning import DAYS, SIGNALS, EarlyWarning
from tentaculo.web.languages import Language, Piece, Sentence, paragraph

SHOWN = 5
"""Warnings that the page of a service shows, the newest ones and those that are open."""
_MOST_LINES = 3
"""Lines of open warnings on the overview."""


class WarningRow(NamedTuple):
    """One warning."""

    opened: Piece
    text: Sentence
    """Why it opened, and what became of it."""
    is_open: bool


class WarningLine(NamedTuple):
    """One open warning on the overview."""

    service: str
    text: Sentence
    tally: str


def rows(warnings: Sequence[EarlyWarning], t: Language, now: datetime) -> list[WarningRow]:
    """The open warnings, then the newest of the others, with their times in the zone of `now`."""
    ordered = sorted(warnings, key=lambda one: (not one.is_open, -one.opened_at.timestamp()))
    return [
        WarningRow(t.moment(one.opened_at, now), paragraph((text(one, t, now), _outcome(one, t, now))), one.is_open)
        for one in ordered[:SHOWN]
    ]


def _outcome(warning: EarlyWarning, t: Language, now: datetime) -> Sentence:
    if warning.ended_at is None:
        return t.sentence("warning.open")
    # One that a later version wrote is not known here.
    outcome = warning.outcome if warning.outcome in ("reached", "ended") else "unknown"
    return t.sentence(f"warning.{outcome}", time=t.moment(warning.ended_at, now))


def shown_to(warnings: Iterable[EarlyWarning], *, is_public: bool) -> list[EarlyWarning]:
    """Those that a page may show: a gauge is named by the inside of a response, which is not for everybody."""
    return [one for one in warnings if one.signal in SIGNALS or (one.gauge and not is_public)]


def open_lines(
    warnings: Sequence[EarlyWarning], services: Container[str], t: Language, now: datetime, *, is_public: bool
) -> list[WarningLine]:
    """The open warnings of `services` for the overview, the one whose limit is nearest in time first."""
    shown = [one for one in shown_to(warnings, is_public=is_public) if one.service in services]
    found = sorted(
        (one for one in shown if one.is_open), key=lambda one: (one.expected_at or one.opened_at, one.service)
    )
    return [
        WarningLine(one.service, text(one, t, now), tally((each for each in shown if each.service == one.service), t))
        for one in found[:_MOST_LINES]
    ]


def text(warning: EarlyWarning, t: Language, now: datetime) -> Sentence:
    """Why it opened, with times in the zone of `now`."""

    def show(value: float) -> str:
        return t.gauge(value) if warning.gauge else t.latency(value)

    signal, limit = warning.gauge or t(f"warning.{warning.signal}"), show(warning.limit)
    if warning.expected_at is None or warning.earliest_at is None or warning.latest_at is None:
        return t.sentence(
            "warning.level",
            signal=signal,
            level=show(warning.level),
            way=t.number(warning.way),
            usual=show(warning.usual),
            limit=limit,
        )
    return t.sentence(
        "warning.falling" if warning.per_minute < 0 else "warning.trend",
        signal=signal,
        slope=show(abs(warning.per_minute)),
        limit=limit,
        since=t.moment(warning.since, now),
        expected=t.moment(warning.expected_at, now),
        earliest=t.moment(warning.earliest_at, now),
        latest=t.moment(warning.latest_at, now),
    )


def tally(warnings: Iterable[EarlyWarning], t: Language) -> str:
    """How many of those that are over were followed by the limit; empty where none is over."""
    over = [one for one in warnings if one.outcome in ("reached", "ended")]
    right = sum(one.outcome == "reached" for one in over)
    return t("warning.tally", count=len(over), right=right, days=DAYS) if over else ""
