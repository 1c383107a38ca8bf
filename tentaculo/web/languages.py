"""The texts of the pages in each language, and numbers, moments, lists and sentences in the form of that language.

The catalogue is the folder `templates/texts`: one file per page, one table per text, one line per language. A text names
its values in braces. Where it depends on a number it is a list of two, for one and for any other number, and that number
is its value `count`.

A sentence is a list of pieces: a moment among its words has its exact time, and a page that is named is a link.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from string import Formatter
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from markupsafe import Markup, escape

from tentaculo.model.service_rates import share_interval
from tentaculo.model.text import format_duration, printable
from tentaculo.server import templating
from tentaculo.server.content_negotiation import LANGUAGE_COOKIE, LANGUAGE_PARAMETER, LANGUAGES, asked_language

_REMEMBERED: Final = 365 * 86400
_LEAST_GROUPED: Final = {"es": 5}
"""Digits from which a number is grouped, where that is not four: `1240`, `12.400`."""

NOTHING: Final = "\N{EN DASH}"
"""Shown where there is no number."""
MOST_NAMED: Final = 3
"""Services that a sentence names."""


class Piece(NamedTuple):
    """A part of a sentence."""

    text: str
    is_strong: bool = False
    at: datetime | None = None
    """The moment that `text` is, where it is one."""
    href: str = ""


Sentence = list[Piece]


class Language:
    """One language. Call it with the key of a text: `file.table` of the catalogue."""

    def __init__(self, code: str, texts: Mapping[str, str | tuple[str, str]]) -> None:
        self.code = code
        self._texts = texts
        self._days = self._pair("common.day_unit")
        self._months = self._text("common.months").split()
        self.short_months = self._text("common.short_months").split()
        """The names of the months in dates."""

    def __repr__(self) -> str:
        return f"<Language {self.code}>"

    def __call__(self, key: str, /, **values: str | int) -> str:
        """The text of `key` with its values. A whole number is written as the language writes it."""
        text = self._texts[key]  # not by `_form`: a page asks for hundreds of texts
        if not isinstance(text, str):
            text = text[0] if values.get("count") == 1 else text[1]
        if not values:
            return text.format_map(values)
        shown = {name: self.number(one) if isinstance(one, int) else one for name, one in values.items()}
        return text.format_map(shown)

    def html(self, key: str, /, **values: str | int) -> Markup:
        """The same as markup, for a template: values that are markup stay so, others are escaped."""
        shown = {name: self.number(one) if isinstance(one, int) else one for name, one in values.items()}
        return escape(self._form(key, values.get("count"))).format_map(shown)

    def sentence(self, key: str, count: int | None = None, /, **values: Piece | str) -> Sentence:
        """The text of `key` in pieces: its own words, and its values, of which those that are pieces stay what they are."""
        found = []
        for words, name, _, _ in Formatter().parse(self._form(key, count)):
            if words:
                found.append(Piece(words))
            if name == "count" and count is not None:
                found.append(Piece(self.number(count)))
            elif name:
                value = values[name]
                found.append(Piece(value) if isinstance(value, str) else value)
        return found

    def section(self, name: str) -> dict[str, str]:
        """The texts of one file of the catalogue as they are, by their table."""
        return {key.partition(".")[2]: self._text(key) for key in self._texts if key.startswith(f"{name}.")}

    def number(self, value: float, digits: int = 0) -> str:
        """A number with so many digits after the decimal sign: `1,240`, `1.240`, `0,3`."""
        shown = f"{value:,.{digits}f}"
        if self.code == "en":
            return shown
        whole, _, rest = shown.partition(".")
        is_grouped = len(whole.replace(",", "")) >= _LEAST_GROUPED.get(self.code, 4)
        whole = whole.replace(",", "." if is_grouped else "")
        return f"{whole},{rest}" if rest else whole

    def decimal(self, digits: str) -> str:
        """A number that is written in digits and a point, with the decimal sign of the language."""
        return digits if self.code == "en" else digits.replace(".", ",")

    def duration(self, seconds: float, units: int = 1) -> str:
        """A duration in its greatest unit, or in its two greatest: `48 s`, `3 h 5 min`, `2 días 4 h`."""
        return format_duration(seconds, units, self._days)

    def short_date(self, day: date, *, year: bool = False) -> str:
        """A day in short: `27 Nov`, `27 nov 2025`."""
        month = self.short_months[day.month - 1]
        return f"{day.day} {month} {day.year}" if year else f"{day.day} {month}"

    def long_date(self, day: date) -> str:
        """A day as a heading: `27 November 2025`, `27 de noviembre de 2025`."""
        month = self._months[day.month - 1]
        return self._text("common.long_date").format(day=day.day, month=month, year=day.year)

    def month(self, day: date, *, year: bool = False) -> str:
        """The month of a day: `November`, `November 2025`, `noviembre de 2025`."""
        name = self._months[day.month - 1]
        return self("incidents.month", month=name, year=str(day.year)) if year else name

    def ago(self, then: datetime | None, now: datetime) -> str:
        """`then` as seen from `now`: `never`, `just now`, `8 s ago`."""
        if then is None:
            return self("common.never")
        seconds = (now - then).total_seconds()
        return self("common.just_now") if seconds < 2 else self("common.ago", duration=self.duration(seconds))

    def clock(self, moment: datetime, now: datetime) -> str:
        """A moment in the zone of `now`, with its date unless that is today: `14:02`, `27 Nov, 14:02`."""
        moment = moment.astimezone(now.tzinfo)
        return f"{moment:%H:%M}" if moment.date() == now.date() else f"{self.short_date(moment)}, {moment:%H:%M}"

    def moment(self, moment: datetime, now: datetime) -> Piece:
        """The same as `clock` in a sentence, with the exact moment."""
        return Piece(self.clock(moment, now), at=moment)

    def day(self, moment: datetime, now: datetime) -> str:
        """The day of a moment in the zone of `now`: `Today`, `Yesterday`, `27 Nov`, `27 Nov 2025`."""
        moment = moment.astimezone(now.tzinfo)
        days = (now.date() - moment.date()).days
        if days in (0, 1):
            return self("common.yesterday") if days else self("common.today")
        return self.short_date(moment, year=moment.year != now.year)

    def rate(self, number: float | None) -> str:
        """A number a minute, with the digits that mean something: `0.2`, `64`, `1,240`."""
        if number is None:
            return NOTHING
        return self.number(number, 0 if number >= 9.95 or number == 0 else 1)

    def share(self, part: float | None) -> str:
        """A part of a whole, cut and never rounded up: `99.98 %`; 100 % is said of nothing less."""
        if part is None:
            return NOTHING
        # The nearest thousandth first: 0.29 * 100 is a little less than 29.
        hundredths = math.floor(round(part * 10_000, 3))
        return f"{self.number(hundredths / 100, 2 if hundredths % 100 else 0)} %"

    def failed_share(self, part: float | None) -> str:
        """A part that failed: `38 %`, `0.03 %`. Of a few in a great number it never says none, and 100 % only of all."""
        if part is None:
            return NOTHING
        percent = part * 100
        if 0 < percent < 0.01:
            return f"< {self.number(0.01, 2)} %"
        if percent >= 10 or not percent:
            return f"{math.floor(percent + 1e-9)} %"
        return f"{self.decimal(f'{percent:.2g}')} %"

    def failed_interval(self, failed: int, counted: int) -> str:
        """What may be behind a share of failures of so few results: `95 % interval 0.4 % to 3.2 %`; empty where there were none."""
        if not counted:
            return ""
        low, high = share_interval(failed, counted)
        return self("service.failed_interval", low=self.failed_share(low), high=self.failed_share(high))

    def latency(self, seconds: float | None) -> str:
        """A latency with two or three digits that mean something: `0.41 ms`, `12 ms`, `1.8 s`."""
        if seconds is None:
            return NOTHING
        if seconds >= 0.9995:
            return f"{self.number(seconds, 1 if seconds < 9.95 else 0)} s"
        milliseconds = seconds * 1000
        digits = 2 if milliseconds < 0.995 else 1 if milliseconds < 9.95 else 0
        return f"{self.number(milliseconds, digits)} ms"

    def gauge(self, number: float) -> str:
        """A number of any size with three digits that mean something: `0.0412`, `12.5`, `1,240`, `4,100,000`."""
        rounded = float(f"{number:.3g}")
        return self.number(rounded, 0 if rounded.is_integer() else min(9, 2 - math.floor(math.log10(abs(rounded)))))

    def listed(self, names: Sequence[str]) -> str:
        """Names in a sentence: `a, b and c`; of many, the first three and how many more."""
        if len(names) > MOST_NAMED + 1:
            return self.joined(names, MOST_NAMED)
        return self("common.and", names=", ".join(names[:-1]), last=names[-1]) if len(names) > 1 else "".join(names)

    def joined(self, names: Sequence[str], most: int = 10, longest: int | None = None) -> str:
        """The first `most` names, and how many more there are: `a, b and 3 more`. With `longest` each is cut."""
        shown = ", ".join(name if longest is None else printable(name, longest) for name in names[:most])
        return shown if len(names) <= most else self("common.and_more", names=shown, count=len(names) - most)

    def _form(self, key: str, count: object) -> str:
        text = self._texts[key]
        return text if isinstance(text, str) else text[0] if count == 1 else text[1]

    def _text(self, key: str) -> str:
        text = self._texts[key]
        assert isinstance(text, str), key
        return text

    def _pair(self, key: str) -> tuple[str, str]:
        text = self._texts[key]
        assert not isinstance(text, str), key
        return text


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, str | list[str]]]:
    """Every text by its key, in each language by its code. Reading the files takes 10 ms: call it first in a thread."""
    names = sorted(path.stem for path in (templating.folder() / "texts").glob("*.toml"))
    return {f"{name}.{key}": one for name in names for key, one in templating.texts(name).items()}


@functools.cache
def language(code: str) -> Language:
    """The language of a code of `LANGUAGES`."""
    texts = {key: one[code] for key, one in catalogue().items()}
    return Language(code, {key: one if isinstance(one, str) else (one[0], one[1]) for key, one in texts.items()})


def language_of(request: web.Request) -> str:
    """The code of the language in which to respond: the one that was chosen, else the one that the browser asks for."""
    cookies = ";".join(request.headers.getall(hdrs.COOKIE, ()))
    accepted = ",".join(request.headers.getall(hdrs.ACCEPT_LANGUAGE, ()))
    return asked_language(request.query.get(LANGUAGE_PARAMETER, ""), cookies, accepted)


def remember(request: web.Request, response: web.Response) -> None:
    """Let the browser send the language again that `request` chose, to the status pages only."""
    chosen = request.query.get(LANGUAGE_PARAMETER, "")
    if chosen in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, chosen, path="/status", max_age=_REMEMBERED, httponly=True, samesite="Lax")


def paragraph(sentences: Iterable[Sentence]) -> Sentence:
    """Sentences one after the other."""
    found: Sentence = []
    for one in sentences:
        found += [Piece(" "), *one] if found else one
    return found


def zone_name(moment: datetime) -> str:
    """The name of the zone of `moment` at that time: `UTC`, `CET`; `UTC-03` where a zone has no letters."""
    name = moment.tzname() or "UTC"
    return f"UTC{name}" if name[0] in "+-" else name
