"""Filters and positions of query strings."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from tentaculo.events.query import MOST_TEXT, MOST_VALUES, Position, cursor, parse_filter, parse_position, values
from tentaculo.model.event import MAX_EVENT_ID, EventFilter
from tentaculo.model.failure import Failure, Problem

NAME = "0123456789ab"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_values_are_repeated_or_separated_by_commas() -> None:
    query = MultiDict([("type", "a,b"), ("type", ""), ("type", "b,,c"), ("source", "x"), ("severity", "L1")])
    # A name may have commas itself.
    types = ("a", "b", "c", "a,b", "b,,c")
    assert parse_filter(query) == EventFilter(types=types, sources=("x",), severities=("L1",))
    assert values(MultiDict(type=",a,"), "type") == ("a",)
    assert values(MultiDict(type=f"a,{'b' * 127}"), "type") == ("a", "b" * 127)
    assert not parse_filter(MultiDict(other="1"))
    for faulty in (",".join(map(str, range(MOST_VALUES + 1))), "x" * (MOST_TEXT + 1)):
        with pytest.raises(Problem) as caught:
            values(MultiDict(type=faulty), "type")
        assert caught.value.failure is Failure.BAD_REQUEST


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05",
        "2026-01-02 03:04:05+00:00",
        "2026-01-02T03:04:05 00:00",
        "2026-01-02 03:04:05 0000",
        "2026-01-02T04:04:05 01:00",
        "20260102T030405Z",
        "1767323045000",
    ],
)
def test_a_moment_may_have_lost_its_plus(text: str) -> None:
    assert parse_filter(MultiDict({"from": text, "to": text})) == EventFilter(since=MOMENT, until=MOMENT)


@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2016-12-31 23:59:60", "2017-01-01T08:59:60 09:00"])
def test_a_leap_second_is_the_second_behind_it(text: str) -> None:
    assert parse_filter(MultiDict({"from": text})).since == datetime(2017, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("2016-12-31T23:58:60Z", "2016-12-30T23:59:60Z", "9999-12-31T23:59:60Z", "2016-12-31T23:59:61Z"),
        *("yesterday", "9" * 15 + "9", "9" * 15, "0001-01-01T00:00+09:00", "\u0661", "-1"),
        # An hour, if each of its times is tried with all that follows.
        pytest.param("00:00" * 200_000, id="a million characters"),
    ],
)
def test_a_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="from must be a time"):
        parse_filter(MultiDict({"from": text}))


def test_a_position_is_a_cursor_or_a_plain_id() -> None:
    assert parse_position(cursor(NAME, 17), "since") == Position(NAME, 17)
    assert parse_position(str(MAX_EVENT_ID), "since") == Position(None, MAX_EVENT_ID)
    for faulty in ("-1", "1-2", f"{NAME}-", f"{NAME.upper()}-1", "\u0661", " 1", f"{MAX_EVENT_ID + 1}", "9" * 5000):
        with pytest.raises(Problem, match="since must be a cursor"):
            parse_position(faulty, "since")


NAMES = st.sampled_from(["type", "source", "severity", "from", "to", "text", "other"])


@pytest.mark.thorough
@given(st.lists(st.tuples(NAMES, st.text() | st.from_regex(r"[0-9:TZ+ -]{1,30}", fullmatch=True))))
def test_any_query_is_a_filter_or_a_clear_refusal(pairs: list[tuple[str, str]]) -> None:
    with suppress(Problem):
        wanted = parse_filter(MultiDict(pairs))
        assert all(moment is None or moment.tzinfo is UTC for moment in (wanted.since, wanted.until))
