"""In which language a reader reads."""

from __future__ import annotations

import pytest

from tentaculo.server.accept_language import asked_language, negotiate


@pytest.mark.parametrize(
    ("accepted", "code"),
    [
        ("", "en"),
        ("es", "es"),
        ("pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7", "pt"),
        ("es-419, en;q=0.5", "es"),
        ("ES-mx", "es"),
        ("en;q=0.5, es", "es"),
        ("en;q=0.5, es;q=0.4, pt;q=0.45", "en"),
        ("fr", "en"),
        ("fr, pt;q=0.1", "pt"),
        ("fr, *;q=0.1", "en"),
        ("en;q=0, *", "es"),
        ("es;q=0, pt;q=0", "en"),
        ("en;q=0", "en"),
        ("pt;q=0.2, pt-BR;q=0.9, es;q=0.5", "pt"),
        ("es;q=high, pt;q=0.1", "pt"),
        ("es;q=nan, pt;q=0.1", "pt"),
        ("es;q=2, pt;q=0.1", "pt"),
        (";;,,=;q", "en"),
        (",".join(["xx"] * 64) + ",es", "en"),
    ],
)
def test_the_language_is_the_one_that_the_browser_wants_most(accepted: str, code: str) -> None:
    assert negotiate(accepted) == code


@pytest.mark.parametrize(
    ("parameter", "cookies", "code"),
    [
        ("es", "tentaculo_language=pt", "es"),
        ("fr", "a=b; tentaculo_language=pt;c=d", "pt"),
        ("", "xtentaculo_language=es", "pt"),
        ("", "tentaculo_language=fr", "pt"),
    ],
)
def test_what_was_chosen_counts_more_than_what_the_browser_asks_for(parameter: str, cookies: str, code: str) -> None:
    assert asked_language(parameter, cookies, "pt-BR") == code
