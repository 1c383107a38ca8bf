"""Text that people read."""

from __future__ import annotations

import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.text import fold_case, format_duration, format_time, has_case, join_names, parse_time, printable

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC)),
        ("2015-06-30T19:59:60.25-04:00", datetime(2015, 7, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("2016-02-29T23:59:60", datetime.fromisoformat("2016-03-01T00:00:00")),
        ("2016-12-31T23:59:59Z", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_leap_second_counts_as_the_second_behind_it(text: str, moment: datetime) -> None:
    assert parse_time(text, datetime.fromisoformat) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("2016-02-28T23:59:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:60+01:00", "2016-12-31T23:59:60-00:01"),
        *("2016-12-31T23:59:600Z", "2016-12-31T23:60:60Z", "2016-12-31T23:59:60Zx", "2016-12-31T23:59:61Z"),
    ],
)
def test_no_other_minute_has_61_seconds(text: str) -> None:
    with pytest.raises(ValueError, match=r"second|isoformat|minute"):
        parse_time(text, datetime.fromisoformat)


@pytest.mark.parametrize(
    ("seconds", "two", "one"),
    [
        (-5, "0 s", "0 s"),
        (59.9, "59 s", "59 s"),
        (60, "1 min", "1 min"),
        (3599, "59 min", "59 min"),
        (3600, "1 h", "1 h"),
        (11100, "3 h 5 min", "3 h"),
        (86399, "23 h 59 min", "23 h"),
        (86400, "1 day", "1 day"),
        (2 * 86400 + 4 * 3600, "2 days 4 h", "2 days"),
    ],
)
def test_format_duration(seconds: float, two: str, one: str) -> None:
    assert (format_duration(seconds), format_duration(seconds, units=1)) == (two, one)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW - timedelta(hours=1), "14:09 UTC"),
        ((NOW - timedelta(hours=1)).astimezone(timezone(timedelta(hours=9))), "14:09 UTC"),
        (NOW - timedelta(days=11), "2026-03-03 15:09 UTC"),
        (NOW - timedelta(days=365), "2025-03-14 15:09 UTC"),
    ],
)
def test_format_time(moment: datetime, text: str) -> None:
    assert format_time(moment, NOW) == text


def test_without_a_present_time_the_date_is_always_there() -> None:
    assert format_time(NOW) == "2026-03-14 15:09 UTC"


def test_join_names() -> None:
    assert join_names([]) == ""
    assert join_names(["a", "b"], most=2) == "a, b"
    assert join_names(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert join_names(["a\nb", "c" * 9], longest=4) == "a b, ccc…"


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_printable_is_one_line_within_its_limit(text: str, most: int) -> None:
    for line in (printable(text), printable(text, most)):
        assert line.isprintable()
        assert line == line.strip()
    assert len(printable(text, most)) <= most


def test_printable_leaves_what_fits() -> None:
    assert printable("a  b\nc") == printable("a  b\nc", 10) == "a b c"
    assert printable("a\x1b[2Jb") == "a[2Jb"
    assert printable("x" * 11, 10) == "x" * 9 + "…"
    assert printable(" " * 100 + "x", 10) == "…"


@pytest.mark.thorough
def test_folding_changes_neither_the_length_nor_what_ascii_is() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    folded = fold_case(every)
    assert len(folded) == len(every)
    assert folded == fold_case(folded)
    assert all(one.isascii() == other.isascii() for one, other in zip(every, folded, strict=True))
    assert fold_case("MÉXICO Ñ ΣΑΣ ЖУК") == fold_case("méxico ñ σας жук")
    assert fold_case("Straße") != fold_case("STRASSE")


@pytest.mark.thorough
def test_characters_that_fold_alike_have_a_case() -> None:
    """The database takes any character for one that has a case, so that it loses none."""
    alike = defaultdict[str, list[str]](list)
    for character in map(chr, range(sys.maxunicode + 1)):
        alike[fold_case(character)].append(character)
    assert all(has_case(one) for group in alike.values() if len(group) > 1 for one in group)
