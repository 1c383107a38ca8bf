"""A page of the log of events, as the pages for people read it: the events, and which of them belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tentaculo.model.event import Event, EventFilter

PAGE_EVENTS: Final = 50
"""Events of one page."""


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Which part of the log is wanted."""

    wanted: EventFilter
    not_from: str | None = None
    """A source whose events are left out."""
    before: int | None = None
    """Only events with smaller ids: the next older page."""
    after: int | None = None
    """Only events with greater ids: the next newer page. It counts only without `before`."""


class EventLink(NamedTuple):
    """Two events that belong together, as their producers state; the earlier one first."""

    source: int
    target: int
    by: str
    """The fact that says so."""


@dataclass(frozen=True, slots=True)
class LogPage:
    """The part that was found."""

    events: tuple[Event, ...] = ()
    """In the order in which they happened, the newest first."""
    links: tuple[EventLink, ...] = ()
    """Among `events`."""
    correlations: Mapping[int, str] = field(default_factory=dict)
    """By event, a value that others may share with it."""
    older: int | None = None
    """The id that the next older page is before; None where there is none."""
    newer: int | None = None
    """The id that the next newer page is after; None where there is none."""
    is_cut: bool = False
    """Whether the time was over before all rows had been looked at. The next page continues there."""
