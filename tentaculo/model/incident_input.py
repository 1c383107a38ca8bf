"""What people enter, by API or command line: notes and maintenance windows, judged before they are kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from tentaculo.model.incident import MaintenanceWindow

TEXT_LENGTH, REASON_LENGTH, NAME_LENGTH = 4000, 200, 80
"""Characters of a note, of a reason, and of an author."""
LONGEST = timedelta(days=366)
"""How long a maintenance may be, and how far ahead it may be planned."""
EVERY = "*"
"""Stands for every service."""


class InvalidInputError(ValueError):
    """An entry that cannot be kept. It never repeats what was entered."""

    def __init__(self, field: str, words: str) -> None:
        super().__init__(f"{field} {words}")
        self.field = field
        self.words = words


def note(author: str, text: str) -> tuple[str, str]:
    """Author and text without white space around them. Raises EntryError."""
    text = text.strip()
    if not text or len(text) > TEXT_LENGTH or not all(c.isprintable() or c in "\n\t" for c in text):
        raise InvalidInputError("text", f"must be 1 to {TEXT_LENGTH} printable characters; line ends are fine")
    return _line("author", author, NAME_LENGTH, least=0), text


def window(
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
    """The maintenance window that is meant, from `starts_at` (default now) to `ends_at`, or for so many `minutes`.

    `services` are names or aliases, or `EVERY`; `names` leads from each to the service's own. Raises EntryError.
    """
    if not services:
        raise InvalidInputError("services", f'must name services; "{EVERY}" is every one')
    if any(name != EVERY and name not in names for name in services):
        raise InvalidInputError("services", "has a name that is no service's")
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
        chosen, start, end, _line("reason", reason, REASON_LENGTH), _line("author", author, NAME_LENGTH, least=0)
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


def _line(field: str, value: str, most: int, *, least: int = 1) -> str:
    text = value.strip()
    if not least <= len(text) <= most or not text.isprintable():
        raise InvalidInputError(field, f"must be a line of {least} to {most} printable characters")
    return text
