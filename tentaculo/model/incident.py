"""Incidents, their notes and maintenance windows, and the checks of those that people enter. Pure.

Times are UTC and timezone-aware. Text comes from outside: it is bounded here, and escaped where it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from tentaculo.model.health import Health
from tentaculo.model.mute import Mute
from tentaculo.model.reason import TEXTS, Reason
from tentaculo.model.text import printable

EVERY_CHANNEL: Final = ""
"""Key of a delivery for which no channel was recorded."""
_NO_RECOVERIES: Final = ("switched_off", "removed")
"""The codes of the endings of an incident whose service did not recover."""
_SWITCHED_OFF, _REMOVED = (TEXTS[code].partition(":")[0].rstrip(".") for code in _NO_RECOVERIES)


class NotificationState(StrEnum):
    """What the last delivered alert said about an incident."""

    NOTHING = "nothing"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Notified:
    """The last message about an incident that one channel delivered."""

    state: NotificationState
    """OPEN or ENDED."""
    at: datetime
    severity: Health
    """The severity that the message stated."""
    services: int
    """How many services the message named."""


class DeliveryOutcome(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """Abandoned after every attempt. Its incidents stay due, so another message follows."""
    REFUSED = "refused"
    """The receiver wants no more messages at all."""


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What one channel did with a message about an incident, or with several of one kind and outcome in a row."""

    channel: str
    kind: str
    """The kind of the message, such as `incident.opened`."""
    outcome: DeliveryOutcome
    first_at: datetime
    at: datetime
    """When the first and the last of these messages ended."""
    messages: int = 1
    attempts: int = 1
    """Of all these messages."""
    error: str = ""
    """Why the last attempt failed; empty where it was delivered."""

    def after(self, earlier: DeliveryRecord) -> DeliveryRecord:
        """This one with the messages of `earlier`, of the same kind and outcome."""
        return replace(
            self,
            first_at=earlier.first_at,
            messages=earlier.messages + self.messages,
            attempts=earlier.attempts + self.attempts,
        )


MOST_DELIVERIES, MOST_OF_CHANNEL = 100, 10
"""Records of deliveries that an incident keeps: in all, and of one channel."""


def add_delivery(known: tuple[DeliveryRecord, ...], new: DeliveryRecord) -> tuple[DeliveryRecord, ...]:
    """`known`, by their last moment, with `new`. Of each channel the first record and the latest ones are kept."""
    own = [one for one in known if one.channel == new.channel]
    gone = None
    if own and (own[-1].kind, own[-1].outcome) == (new.kind, new.outcome):
        gone, new = own[-1], new.after(own[-1])
    elif len(own) >= MOST_OF_CHANNEL:
        gone = own[1]
    return (*(one for one in known if one is not gone), new)[-MOST_DELIVERIES:]


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """What one channel of alerts has done so far, over all starts of the gateway."""

    name: str
    sent: int = 0
    """Messages that were delivered."""
    failed: int = 0
    """Messages that were abandoned or refused."""
    last_sent_at: datetime | None = None
    last_error_at: datetime | None = None
    """When an attempt last failed."""
    last_error: str = ""
    """Why it failed."""

    def __bool__(self) -> bool:
        return bool(self.sent or self.failed or self.last_error_at)

    def since(self, earlier: ChannelTotals) -> ChannelTotals:
        """What came after `earlier`, which are totals of the same counting."""
        has_error = self.last_error_at != earlier.last_error_at
        return ChannelTotals(
            self.name,
            self.sent - earlier.sent,
            self.failed - earlier.failed,
            self.last_sent_at if self.sent > earlier.sent else None,
            self.last_error_at if has_error else None,
            self.last_error if has_error else "",
        )

    def __add__(self, later: ChannelTotals) -> ChannelTotals:
        """The totals with those of a later time."""
        return ChannelTotals(
            self.name,
            self.sent + later.sent,
            self.failed + later.failed,
            later.last_sent_at or self.last_sent_at,
            later.last_error_at or self.last_error_at,
            later.last_error or self.last_error,
        )


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A person's word that somebody takes care of an incident. It stops the reminders."""

    id: int
    incident: int
    at: datetime
    author: str
    """A label that the caller gives. It says who, and proves nothing."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One failure of one service, with all that failed because of it."""

    id: int
    """Milliseconds since 1970 at the opening. It grows strictly and fits in 53 bits, as JavaScript needs."""
    root: str
    """The service whose failure caused it."""
    services: tuple[str, ...]
    """Every service affected so far, the root first, then the others in the order in which they failed."""
    severity: Health
    """The worst so far: DOWN or DEGRADED."""
    reason: str
    """Why the root fails, in words: at the opening, or when it became worse."""
    started_at: datetime
    seen_at: datetime
    """When the failure was last observed, to the minute."""
    ended_at: datetime | None = None
    """None while it is open."""
    ending: str = ""
    """How it ended, in words; empty while it is open."""
    ending_cause: Reason | None = field(default=None, compare=False)
    """`ending` with its code and values; None while it is open, and where an earlier version stored its text only."""
    peak_error_rate: float | None = None
    """The highest share (0 to 1) of failures among the root's requests and probes in any minute since the opening."""
    reopened: int = 0
    """How often the service failed again within the settle time after a recovery."""
    part_of: int | None = None
    """The incident that this one was merged into, where the failure of another service explains it."""
    notified: Mapping[str, Notified] = field(default_factory=dict, hash=False)
    """By name of the channel. `EVERY_CHANNEL` is a message that an earlier version recorded without its channel."""
    deliveries: tuple[DeliveryRecord, ...] = ()
    """What the channels did with the messages about it, by their last moment. An earlier version recorded none."""
    cause: Reason | None = field(default=None, compare=False)
    """`reason` with its code and values, so that it can be translated; None where an earlier version stored its text only."""
    acknowledged: Acknowledgement | None = None
    """The latest acknowledgement, which has a row of its own."""
    muted: Mute | None = None
    """The latest mute of its alerts, which has a row of its own too."""
    reopened_at: datetime | None = None
    """When the service last failed again; None where it never did, or an earlier version did not record it."""
    failed_requests: int | None = None
    """Requests of `services` that failed or were refused in the minutes of the incident, as far as they are counted.

    None where nothing was counted yet, or an earlier version did not count."""
    counted_until: datetime | None = None
    """The end of the last minute that `failed_requests` has."""

    @property
    def delivery_log(self) -> tuple[DeliveryRecord, ...]:
        """The deliveries, by their last moment; those of an earlier version are made of what a channel knows."""
        if self.deliveries:
            return self.deliveries
        kinds = {NotificationState.OPEN: "incident.opened", NotificationState.ENDED: "incident.ended"}
        return tuple(
            DeliveryRecord(channel, kinds[one.state], DeliveryOutcome.DELIVERED, one.at, one.at)
            for channel, one in sorted(self.notified.items(), key=lambda item: item[1].at)
            if one.state in kinds
        )

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.ended_at is None

    def is_muted(self, now: datetime) -> bool:
        """Whether no alert is to be sent about it at `now`, but that it is over."""
        return self.muted is not None and self.is_open and self.muted.holds(now)

    @property
    def is_recovery(self) -> bool:
        """Whether it ended because the service works again."""
        if self.is_open:
            return False
        if self.ending_cause is not None:
            return self.ending_cause.code not in _NO_RECOVERIES
        # An earlier version stored the text only.
        return not self.ending.startswith((_SWITCHED_OFF, _REMOVED))

    @property
    def count_from(self) -> datetime:
        """The beginning of the first minute that `failed_requests` does not have yet."""
        return self.counted_until or self.started_at.replace(second=0, microsecond=0)

    @property
    def changed_at(self) -> datetime:
        """When it last opened, ended or was acknowledged."""
        acknowledged_at = None if self.acknowledged is None else self.acknowledged.at
        moments = (self.started_at, self.reopened_at, self.ended_at, acknowledged_at)
        return max(moment for moment in moments if moment is not None)

    @property
    def alert_state(self) -> NotificationState:
        """What the channels know of it: OPEN while one of them has announced it and not its end."""
        states = {one.state for one in self.notified.values()}
        for state in (NotificationState.OPEN, NotificationState.ENDED):
            if state in states:
                return state
        return NotificationState.NOTHING

    @property
    def alerted_at(self) -> datetime | None:
        """When a channel last delivered a message about it."""
        return max((one.at for one in self.notified.values()), default=None)

    def notified_by(self, channel: str) -> Notified | None:
        """The last message about it that `channel` delivered."""
        return self.notified.get(channel) or self.notified.get(EVERY_CHANNEL)

    def corrected(self, moment: Callable[[datetime], datetime]) -> Incident:
        """The same with every moment of its own corrected by `moment`, after the system clock was set."""
        return replace(
            self,
            started_at=moment(self.started_at),
            seen_at=moment(self.seen_at),
            ended_at=self.ended_at and moment(self.ended_at),
            notified={name: replace(one, at=moment(one.at)) for name, one in self.notified.items()},
            deliveries=tuple(replace(one, first_at=moment(one.first_at), at=moment(one.at)) for one in self.deliveries),
            reopened_at=self.reopened_at and moment(self.reopened_at),
            counted_until=self.counted_until and moment(self.counted_until).replace(second=0, microsecond=0),
        )

    @property
    def affected(self) -> tuple[str, ...]:
        """The services that failed because of the root."""
        return self.services[1:]


def opening_key(number: int, reopened: int = 0) -> str:
    """The key of the event that records that an incident opened, or opened again."""
    return f"incident-{number}-opened-{reopened}"


@dataclass(frozen=True, slots=True)
class Note:
    """A note that a person added to an incident."""

    id: int
    incident: int
    at: datetime
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A planned maintenance. While it is open its services are in maintenance and cause no alert."""

    services: tuple[str, ...]
    """Canonical names; empty is every service."""
    starts_at: datetime
    ends_at: datetime
    """The first moment after the window."""
    reason: str
    author: str = ""
    id: int | None = None
    """The row in the database; None for a window of the configuration."""
    is_from_now: bool = False
    """Whether it was planned to begin at once and last for so many minutes. Not stored."""

    def holds(self, now: datetime) -> bool:
        """Whether the window is open at `now`."""
        return self.starts_at <= now < self.ends_at

    def covers(self, service: str) -> bool:
        """Whether `service` is one of its services."""
        return not self.services or service in self.services


TEXT_LENGTH, REASON_LENGTH, NAME_LENGTH = 4000, 200, 80
"""Characters of a note, of a reason, and of an author."""
LONGEST = timedelta(days=366)
"""Longest maintenance window, and how far ahead one may be planned."""
EVERY = "*"
"""The name that selects every service."""


class InvalidInputError(ValueError):
    """Invalid input. Of the input the error repeats only a name that is no service, printable and cut."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(f"{field} {words}")
        self.field = field
        self.words = words


def check_note(author: str, text: str) -> tuple[str, str]:
    """Author and text without white space around them. Raises InvalidInputError."""
    text = _text("text", text, least=1)
    return _line("author", author, NAME_LENGTH, least=0), text


def check_acknowledgement(author: str, note: str) -> tuple[str, str]:
    """Author and note without white space around them; the note may be empty. Raises InvalidInputError."""
    return _line("author", author, NAME_LENGTH), _text("note", note, least=0)


def check_window(
    services: Sequence[str],
    reason: str,
    *,
    names: Mapping[str, str],
    now: datetime,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    minutes: float | None = None,
    author: str = "",
) -> MaintenanceWindow:
    """The maintenance window from `starts_at` (default now) to `ends_at`, or of so many `minutes`.

    `services` are names or aliases, or `EVERY`; `names` maps each to the canonical name. Raises InvalidInputError.
    """
    if not services:
        raise InvalidInputError("services", f'must name services; "{EVERY}" is every one')
    for name in services:
        if name != EVERY and name not in names:
            raise InvalidInputError("services", f'has "{printable(name, NAME_LENGTH)}", which is no service')
    chosen = () if EVERY in services else tuple(dict.fromkeys(names[name] for name in services))
    start = now if starts_at is None else _moment("starts_at", starts_at)
    if (ends_at is None) == (minutes is None):
        raise InvalidInputError("ends_at", "or minutes is needed, and not both")
    if minutes is not None:
        if not 0 < minutes <= LONGEST / timedelta(minutes=1):
            raise InvalidInputError("minutes", "must be more than 0, and no more than a year")
        end = start + timedelta(minutes=minutes)
    else:
        assert ends_at is not None
        end = _moment("ends_at", ends_at)
    if end <= now or end <= start:
        raise InvalidInputError("ends_at", "must be later than the start, and than now")
    if end - now > LONGEST or end - start > LONGEST:
        raise InvalidInputError("ends_at", "must not be more than a year away, nor that long after the start")
    return MaintenanceWindow(
        chosen,
        start,
        end,
        _line("reason", reason, REASON_LENGTH),
        _line("author", author, NAME_LENGTH, least=0),
        is_from_now=starts_at is None and minutes is not None,
    )


def _moment(field: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        raise InvalidInputError(field, "must say its offset: 2026-12-01T02:00:00Z")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = datetime.min.replace(tzinfo=UTC)
    if not 2000 <= moment.year < 9000:
        raise InvalidInputError(field, "is out of range")
    return moment


def _text(field: str, value: str, *, least: int) -> str:
    text = value.strip()
    if not least <= len(text) <= TEXT_LENGTH or not all(c.isprintable() or c in "\n\t" for c in text):
        raise InvalidInputError(field, f"must be {least} to {TEXT_LENGTH} printable characters; line ends are fine")
    return text


def _line(field: str, value: str, most: int, *, least: int = 1) -> str:
    text = value.strip()
    if not least <= len(text) <= most or not text.isprintable():
        raise InvalidInputError(field, f"must be a line of {least} to {most} printable characters")
    return text
