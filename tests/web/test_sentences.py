"""Sentences in pieces."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tentaculo.server.content_negotiation import LANGUAGES
from tentaculo.web.languages import language
from tentaculo.web.sentences import Piece, clock, joined, sentence

NOW = datetime(2026, 3, 14, 0, 30, tzinfo=timezone(timedelta(hours=2)))


def test_values_keep_what_they_are() -> None:
    t = language("en")
    at = datetime(2026, 3, 13, 20, 15, tzinfo=UTC)
    assert sentence(t, "summary.note_at", author="Ana", time=clock(at, NOW, t)) == [
        Piece("Ana"),
        Piece(" wrote a note at "),
        Piece("13 Mar, 22:15", at=at),
        Piece("."),
    ]
    assert joined([[Piece("a"), Piece("b")], [Piece("c")]]) == [Piece("a"), Piece("b"), Piece(" "), Piece("c")]


@pytest.mark.parametrize("code", LANGUAGES)
def test_today_is_that_of_the_zone(code: str) -> None:
    today = clock(datetime(2026, 3, 13, 22, 15, tzinfo=UTC), NOW, language(code))
    assert today.text == "00:15"
    assert clock(NOW - timedelta(days=1), NOW, language(code)).text.endswith(", 00:30")
