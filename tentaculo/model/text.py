"""The current time, and times, durations, lists and foreign text in the form in which people read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

utc_now: Callable[[], datetime] = partial(datetime.now, UTC)
"""The current time, with the time zone UTC."""


_LEAP_SECOND = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}):60([^0-9].*)?")


def parse_time(text: str, parse: Callable[[str], datetime]) -> datetime:
    """The moment that `parse` reads, which knows no leap second: one counts as the second behind it, as in POSIX.

    RFC 3339 (section 5.7) has 23:59:60 UTC at the end of a month, in any offset. Raises ValueError for another second 60,
    what `parse` raises, and OverflowError behind the year 9999. A time without an offset counts as UTC.
    """
    found = _LEAP_SECOND.fullmatch(text)
    if found is None:
        return parse(text)
    moment = parse(f"{found[1]}:59{found[2] or ''}") + timedelta(seconds=1)
    behind = moment if moment.tzinfo is None else moment.astimezone(UTC)
    if (behind.day, behind.hour, behind.minute, behind.second) != (1, 0, 0, 0):
        raise ValueError("no minute has 61 seconds but the last one of a month")
    return moment


def format_duration(seconds: float, units: int = 2, day_words: tuple[str, str] = ("day", "days")) -> str:
    """A duration in its `units` greatest units, 1 or 2, rounded down: `48 s`, `12 min`, `3 h 5 min`, `2 days 4 h`.

    A negative duration is `0 s`. Minutes never show seconds. `day_words` are those for one day and for several: the
    symbols of the other units are the same in most languages.
    """
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        first, second = f"{days} {day_words[days > 1]}", f"{hours % 24} h" if hours % 24 else ""
    elif hours:
        first, second = f"{hours} h", f"{minutes % 60} min" if minutes % 60 else ""
    else:
        first, second = f"{minutes} min" if minutes else f"{whole} s", ""
    return f"{first} {second}" if second and units > 1 else first


def format_time(moment: datetime, now: datetime | None = None) -> str:
    """A moment in UTC, without its date where that is the date of `now`: `14:02 UTC`, `2026-03-03 14:02 UTC`."""
    moment = moment.astimezone(UTC)
    is_today = now is not None and moment.date() == now.astimezone(UTC).date()
    return f"{moment:%H:%M} UTC" if is_today else f"{moment:%Y-%m-%d %H:%M} UTC"


def join_names(names: Sequence[str], most: int = 10, longest: int | None = None) -> str:
    """The first `most` names, and how many more there are: `a, b and 3 more`.

    With `longest` each name is made `printable` and cut to that many characters.
    """
    shown = ", ".join(name if longest is None else printable(name, longest) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def fold_case(text: str) -> str:
    """`text` with small letters, one for each: two texts that differ in case only become equal.

    A letter becomes one letter, and none outside ASCII becomes one of ASCII: `ß` is not `ss`, and the Kelvin sign is
    not `k`. Accents count.
    """
    folded = text.casefold()
    if len(folded) == len(text) and not any(letter in text for letter in _LIKE_ASCII):
        return folded
    return _RUNS.sub(lambda run: "".join(map(_fold, run[0])), text)


def has_case(character: str) -> bool:
    """Whether `fold_case` may make it equal to another character."""
    return any(one != character for one in (character.lower(), character.upper(), character.casefold()))


_LIKE_ASCII = "\u017f\u212a"
"""The long s and the Kelvin sign: Unicode's folding takes them for s and k."""
_RUNS = re.compile(r"[^\x00-@\[-\x7f]+")
"""Capital letters of ASCII and all that is not ASCII. A class with all of Unicode takes 2 ms to compile."""


def _fold(character: str) -> str:
    if character.isascii():
        return character.lower()
    forms = (character.casefold(), character.lower())
    return next((form for form in forms if len(form) == 1 and not form.isascii()), character)


def printable(text: str, most: int | None = None) -> str:
    """Untrusted text as one line of printable characters, cut to `most` characters where that is given.

    Runs of white space become one space. Control, direction and other unprintable characters are removed. A line that
    was cut ends in an ellipsis.
    """
    # A bounded part of a long text is enough: only white space and unprintable characters are lost from it.
    part = text if most is None else text[: most * 2]
    if not part.isprintable():
        part = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in part)
    line = " ".join(part.split())
    if most is None or (len(line) <= most and len(text) <= most * 2):
        return line
    return line[: most - 1].rstrip() + "…"
