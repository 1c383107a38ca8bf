"""What a client takes: weights, codings, and the language in which its user reads."""

from __future__ import annotations

import pytest

from tentaculo.server.content_negotiation import (
    asked_language,
    by_weight,
    negotiate_language,
    takes_gzip,
    weight_named,
    weight_of,
    weights,
)
from tests.support.calls import counting_calls

JSON, EVENTS = "application/json", "text/event-stream"


@pytest.mark.parametrize(
    ("accept", "weight"),
    [
        ("", 0),
        (JSON, 1),
        ("*/*;q=0.1, application/*;q=0.2, application/json;q=0.3", 0.3),
        ("*/*;q=0.1, application/*;q=0.2", 0.2),
        ("*/*;q=0.1, text/*", 0.1),
        ("application/json;q=0, */*", 0),
        ("application/json;q=0.2, application/json;v=2;q=0.4", 0.4),
        ("APPLICATION/JSON;Q=0.5", 0.5),
        (" application/json ; q=0.5 ", 0.5),
        ("application/json;q=one, */*", 0),
        ("application/json;q=nan, */*", 0),
        ("application/json;q=-1, */*", 0),
        ("application/problem+json;q=0.7, application/json;q=0.2", 0.7),
        ("application/problem+json;q=0.7, */*", 0.7),
    ],
)
def test_the_most_specific_range_counts(accept: str, weight: float) -> None:
    assert weight_of(weights(accept), JSON, "application/problem+json") == weight


def test_only_a_name_counts_where_it_must_be_named() -> None:
    assert weight_named("text/html, Text/Event-Stream;q=0.9", EVENTS) == 0.9
    assert weight_named("text/event-stream-2, */*, text/*", EVENTS) == 0


def test_what_is_wanted_most_comes_first_and_what_is_refused_not_at_all() -> None:
    found = by_weight("a/b;q=0.5, c/d;q=0, e/f;v=1, g/h;q=0.5")
    assert [one.text for one in found] == ["e/f;v=1", "a/b;q=0.5", "g/h;q=0.5"]


@pytest.mark.parametrize("more", [";", ";q=", ",", ",a;b"])
def test_the_cost_of_a_long_field_is_small(more: str) -> None:
    with counting_calls() as calls:
        weights(EVENTS + more * 8_000)
    assert calls.total < 2_000


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
    assert negotiate_language(accepted) == code


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


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("br", False),
        ("", False),
        ("notgzip", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=0, x-gzip", True),
        ("*;q=0, gzip", True),
    ],
)
def test_gzip_is_sent_to_who_takes_it(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken
