"""The weights of what a client takes."""

from __future__ import annotations

import pytest

from tentaculo.server.accept import by_weight, weight_named, weight_of, weights
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
