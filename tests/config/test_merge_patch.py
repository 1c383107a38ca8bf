from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.merge_patch import MISSING, difference, is_same, leaves, merged, value_at, with_value

NAMES = st.sampled_from(["a", "b", "c", "d"])
SCALARS = st.one_of(st.booleans(), st.integers(-2, 2), st.sampled_from(["", "x"]), st.sampled_from([0.0, 1.0]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=4)


# RFC 7396, appendix A.
@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_the_rfc(original: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(original)
    assert merged(original, patch) == result
    assert original == before


@given(TABLES, TABLES)
def test_the_difference_leads_from_one_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = difference(old, new)
    assert is_same(merged(old, patch), new)
    assert (patch == {}) == is_same(old, new)


@given(TABLES, TABLES)
def test_every_leaf_of_a_difference_is_a_change(old: dict[str, Any], new: dict[str, Any]) -> None:
    for place, value in leaves(difference(old, new)):
        before, after = value_at(old, place), value_at(new, place)
        assert after is MISSING if value is None else is_same(after, value)
        assert before is MISSING or after is MISSING or not is_same(before, after)


def test_a_flag_is_no_number() -> None:
    assert difference({"a": 1}, {"a": True}) == {"a": True}
    assert difference({"a": 1}, {"a": 1.0}) == {}


def test_a_value_is_put_and_removed_at_a_place() -> None:
    table = {"services": {"madre": {"url": "u"}}}
    changed = with_value(table, ("services", "new", "url"), "v")
    assert changed == {"services": {"madre": {"url": "u"}, "new": {"url": "v"}}}
    assert with_value(changed, ("services", "new"), MISSING) == table
    # Tables that are empty then are removed too.
    assert with_value(table, ("services", "madre", "url"), MISSING) == {}
    assert with_value({}, ("a", "b"), MISSING) == {}
    assert table == {"services": {"madre": {"url": "u"}}}
