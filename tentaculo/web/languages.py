"""The texts of the pages in each language, and numbers, durations and dates in the form of that language.

The catalogue is the folder `templates/texts`: one file per page, one table per text, one line per language. A text names
its values in braces. Where it depends on a number it is a list of two, for one and for any other number, and that number
is its value `count`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from datetime import date
from string import Formatter
from typing import Final, TypeVar

from aiohttp import hdrs, web
from markupsafe import Markup, escape

from tentaculo.model.text import format_duration
from tentaculo.server import templating
from tentaculo.server.content_negotiation import LANGUAGE_COOKIE, LANGUAGE_PARAMETER, LANGUAGES, asked_language

_REMEMBERED: Final = 365 * 86400
_LEAST_GROUPED: Final = {"es": 5}
"""Digits from which a number is grouped, where that is not four: `1240`, `12.400`."""

T = TypeVar("T")


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
        if not values:
            return self._form(key, None).format_map(values)
        shown = {name: self.number(one) if isinstance(one, int) else one for name, one in values.items()}
        return self._form(key, values.get("count")).format_map(shown)

    def html(self, key: str, /, **values: str | int) -> Markup:
        """The same as markup, for a template: values that are markup stay so, others are escaped."""
        shown = {name: self.number(one) if isinstance(one, int) else one for name, one in values.items()}
        return escape(self._form(key, values.get("count"))).format_map(shown)

    def split(self, key: str, /, count: int | None = None, **values: T) -> Iterator[str | T]:
        """The parts of a text in order: its own words, and its values as they are."""
        for words, name, _, _ in Formatter().parse(self._form(key, count)):
            if words:
                yield words
            if name == "count" and count is not None:
                yield self.number(count)
            elif name:
                yield values[name]

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
