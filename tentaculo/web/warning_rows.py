"""The early warnings of one service as its page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from tentaculo.model.early_warning import DAYS, SIGNALS, EarlyWarning
from tentaculo.web import wording
from tentaculo.web.languages import Language

SHOWN = 5
"""Warnings that the page shows, the newest ones and those that are open."""


class WarningRow(NamedTuple):
    """One warning."""

    at: datetime
    clock: str
    text: str
    outcome: str
    is_open: bool


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
        if one.signal in SIGNALS
    ]


def text(warning: EarlyWarning, t: Language, zone: tzinfo) -> str:
    """Why it opened."""
    signal, limit = t(f"warning.{warning.signal}"), wording.latency(warning.limit, t)
    if warning.expected_at is None or warning.earliest_at is None or warning.latest_at is None:
        return t(
            "warning.level",
            signal=signal,
            level=wording.latency(warning.level, t),
            way=warning.way,
            usual=wording.latency(warning.usual, t),
            limit=limit,
        )
    times = {
        "since": warning.since,
        "expected": warning.expected_at,
        "earliest": warning.earliest_at,
        "latest": warning.latest_at,
    }
    clocks = {name: f"{moment.astimezone(zone):%H:%M}" for name, moment in times.items()}
    return t("warning.trend", signal=signal, slope=wording.latency(warning.per_minute, t), limit=limit, **clocks)


def tally(warnings: Iterable[EarlyWarning], t: Language) -> str:
    """How many of those that are over were followed by the limit; empty where none is over."""
    over = [one for one in warnings if one.outcome in ("reached", "ended")]
    right = sum(one.outcome == "reached" for one in over)
    return t("warning.tally", count=len(over), right=right, days=DAYS) if over else ""
