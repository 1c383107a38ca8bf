"""One event of the log, what became of one that was to be stored, which events a reader wants, and a page of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from tentaculo.model.clock import CorrectedTime

MAX_EVENT_ID = 2**53 - 1
"""The greatest id: JavaScript holds no greater integer."""
MOST_LED = 8
"""Types, sources or severities that are looked for one by one, each by its index."""


class Event(msgspec.Struct, frozen=True):
    """One event, as it is stored and broadcast. A struct is made in a quarter of the time of a frozen dataclass."""

    id: int
    """Grows strictly with each event and is at most `MAX_EVENT_ID`."""
    source: str
    type: str
    payload: Mapping[str, Any]
    received_at: datetime
    canonical: bool = False
    broadcast: bool = False
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    key: str | None = None
    """The producer's own key. With `source` it names the event: a repeat is not stored again."""
    digest: str | None = None
    """What the producer sent, hashed: the same key with another digest is another event. None without a key."""
    severity: str | None = None
    stated_ms: int | None = None
    """When it happened by the producer's clock, milliseconds since 1970. None where the producer did not say."""
    corrected: CorrectedTime | None = None
    """When it happened by our own clock. None where the offset of the producer's clock was not known at the receipt."""

    @property
    def received_ms(self) -> int:
        """When it was received, milliseconds since 1970."""
        return int(self.received_at.timestamp() * 1000)

    @property
    def happened_ms(self) -> int:
        """When it happened, milliseconds since 1970: the corrected time, else that of the receipt."""
        return self.received_ms if self.corrected is None else self.corrected.ms


class StoreOutcome(Enum):
    """What became of an event that was to be stored."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    """An event with this source, key and content was stored before."""
    CONFLICT = "conflict"
    """An event with this source and key and another content was stored before."""
    REFUSED = "refused"
    """The database does not accept the values of this event."""


class StoredEvent(NamedTuple):
    """The result of storing one event."""

    id: int
    """The id in the log; that of the first event for DUPLICATE and CONFLICT, 0 for REFUSED."""
    outcome: StoreOutcome


class FoundEvents(NamedTuple):
    """The result of one look into the log."""

    events: list[Event]
    reached: int | None = None
    """The id of the last row that was looked at, where the time was over before all had been; else None."""


class RecordOwnEvent(Protocol):
    """Records an event of the gateway's own life in the log. Never waits and never raises."""

    def __call__(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        """`type_` is written without the prefix `gateway.`, which all of them have.

        With a `key` the event is recorded once, also by several processes and after a restart.
        """
        ...


def ignore_own_event(type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
    """Record nothing."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants. Empty parts select all."""

    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    since: datetime | None = None
    """Received at this moment or later."""
    until: datetime | None = None
    """Received before this moment."""
    text: str = ""
    """Contained in source, type, payload or metadata, as they are stored; letters in any case (`fold_case`)."""
    is_broadcast: bool = False
    """Only events that are broadcast to the clients of `/ws`."""
    about: tuple[str, ...] = ()
    """Sent by one of these, or an own event of the gateway in which the name of one of these is a value."""
    correlation: str = ""
    """Contained in a value of payload or metadata."""
    not_source: str = ""
    """Not sent by this one."""

    def __bool__(self) -> bool:
        return self != _ALL

    @property
    def is_search(self) -> bool:
        """Whether rows have to be read whole, one by one."""
        return bool(self.text or self.about or self.correlation)

    @property
    def is_indexed(self) -> bool:
        """Whether indexes lead to exactly the events that are wanted, so that no other row is read."""
        only = EventFilter(types=self.types, sources=self.sources, severities=self.severities)
        numbers = [len(values) for values in (self.types, self.sources, self.severities) if values]
        return self == only and len(numbers) <= 1 and max(numbers, default=0) <= MOST_LED

    def matches(self, event: Event) -> bool:
        """Whether a live event is wanted, as far as its members say. `text`, `about` and `correlation` are not looked
        at: no live reader asks for the last two."""
        return (
            (self.since is None or event.received_at >= self.since)
            and (self.until is None or event.received_at < self.until)
            and (not self.is_broadcast or event.broadcast)
            and (not self.types or event.type in self.types)
            and (not self.sources or event.source in self.sources)
            and (not self.severities or event.severity in self.severities)
            and (not self.not_source or event.source != self.not_source)
        )


_ALL = EventFilter()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROUNDING = 10
"""Microseconds: ids are computed with floats."""


def lowest_id(since: datetime) -> int:
    """A number that no id of an event received at `since` or later is below: an id is at least the time.

    With it a query that begins late need not look at all earlier rows.
    """
    microseconds = (since - _EPOCH) // timedelta(microseconds=1) - _ROUNDING
    return max(0, min(microseconds, MAX_EVENT_ID - 2**50))


PAGE_EVENTS: Final = 50
"""Events of one page."""
PAGE_INCIDENTS: Final = 100
"""Incidents that are drawn beside them, the newest."""


class LogRequest(msgspec.Struct, frozen=True):
    """Which part of the log is wanted."""

    wanted: EventFilter
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


class LogPage(msgspec.Struct, frozen=True):
    """The part that was found."""

    events: tuple[Event, ...] = ()
    """In the order in which they happened, the newest first."""
    links: tuple[EventLink, ...] = ()
    """Among `events`."""
    correlations: Mapping[int, str] = msgspec.field(default_factory=dict)
    """By event, a value that others may share with it."""
    older: int | None = None
    """The id that the next older page is before; None where there is none."""
    newer: int | None = None
    """The id that the next newer page is after; None where there is none."""
    is_cut: bool = False
    """Whether the time was over before all rows had been looked at. The next page continues there."""
