"""Sentences of the pages in pieces: a moment among their words has its exact time, and a page that is named is a link."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from tentaculo.web import wording
from tentaculo.web.languages import Language


class Piece(NamedTuple):
    """A part of a sentence."""

    text: str
    is_strong: bool = False
    at: datetime | None = None
    """The moment that `text` is, where it is one."""
    href: str = ""


Sentence = list[Piece]


def sentence(t: Language, key: str, count: int | None = None, /, **values: Piece | str) -> Sentence:
    """The text of `key`, with pieces among its values."""
    parts = t.split(key, count, **{name: Piece(one) if isinstance(one, str) else one for name, one in values.items()})
    return [Piece(part) if isinstance(part, str) else part for part in parts]


def joined(sentences: Iterable[Sentence]) -> Sentence:
    """Sentences one after the other."""
    found: Sentence = []
    for one in sentences:
        found += [Piece(" "), *one] if found else one
    return found


def clock(moment: datetime, now: datetime, t: Language) -> Piece:
    """A moment in the zone of `now`, with its date unless that is today."""
    return Piece(wording.clock(moment, now, t), at=moment)
