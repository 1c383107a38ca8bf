from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.merge_patch import is_same
from tentaculo.config.toml_text import toml_text, toml_value

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.datetimes(timezones=st.just(UTC)).map(lambda one: one.replace(microsecond=0)),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=12,
)


@pytest.mark.thorough
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_written_is_read_back(tables: dict[str, Any]) -> None:
    assert is_same(tomllib.loads(toml_text(tables)), tables)


def test_tables_have_headings_and_lists_of_tables_too() -> None:
    tables = {
        "services": {
            "my api": {"url": "http://h", "routes": [{"prefix": "/a"}, {"prefix": "/b"}], "breaker": {"rate": 1}}
        },
        "server": {"port": 8000},
    }
    assert toml_text(tables) == (
        '[services."my api"]\nurl = "http://h"\n\n'
        '[[services."my api".routes]]\nprefix = "/a"\n\n'
        '[[services."my api".routes]]\nprefix = "/b"\n\n'
        '[services."my api".breaker]\nrate = 1\n\n'
        "[server]\nport = 8000\n"
    )


def test_a_key_can_have_a_comment_and_can_be_one() -> None:
    written = toml_text(
        {"a": 1, "b": "x", "c": None},
        comment=lambda place: "from the file" if place == ("a",) else "",
        is_hidden=lambda place: place == ("b",),
    )
    assert written == 'a = 1  # from the file\n# b = "x"\n'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (60.0, "60"),
        (0.5, "0.5"),
        (True, "true"),
        ({}, "{}"),
        ([], "[]"),
        ('a"b\\\n\x7f\u202e', '"a\\"b\\\\\\n\\u007f\\u202e"'),
        (datetime(2026, 12, 1, 2, tzinfo=UTC), "2026-12-01T02:00:00Z"),
    ],
)
def test_values(value: object, written: str) -> None:
    assert toml_value(value) == written


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    assert tomllib.loads(f"a = {toml_value(chr(0xD800))}") == {"a": "\ufffd"}
