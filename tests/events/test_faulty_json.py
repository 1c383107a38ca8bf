"""Values that JSON does not have: each is named by its member."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events.faulty_json import MOST_FAULTS, MOST_VALUES, masked, parse_members
from tentaculo.events.ingest import read_event
from tentaculo.events.schemas import DEPTH, JsonError, Rejected


def fields(text: str, whole: str = "") -> list[str]:
    return [fault.field for fault in parse_members(text.encode(), whole)[1]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a":NaN}', ["a"]),
        ('{"a":{"b":[1,-Infinity,{"c":1e999}]},"d":Infinity}', ["a.b[1]", "a.b[2].c", "d"]),
        (r'{"a":"\ud800","\udc00":1}', ["a", "(a name that is not printable)"]),
        ("NaN", ["body"]),
        ("[1,NaN]", ["[1]"]),
        ('{"ok":1}', []),
        (json.dumps(dict.fromkeys(map(str, range(50)), float("nan"))), [str(number) for number in range(MOST_FAULTS)]),
        ('{"' + "x" * 500 + '":NaN}', ["x" * 63 + "…"]),
    ],
)
def test_each_member_is_named(text: str, found: list[str]) -> None:
    assert fields(text) == found


def test_a_part_of_an_event_has_its_name_before() -> None:
    assert fields('{"a":NaN}', "data") == ["data.a"]
    assert fields("NaN", "data") == ["data"]


@pytest.mark.parametrize(
    "text",
    [
        b"{NaN}",
        b'{"a":NaN',
        b'{"a":NaN,"a":1}',
        b"[NaN," + b"[" * DEPTH + b"]" * DEPTH + b"]",
        b"[NaN" + b",1" * MOST_VALUES + b"]",
        b"[NaN" + b",[1]" * (MOST_VALUES // 2) + b"]",
        b"[NaN," * 60_000,
        b"[NaN," + b"1" * 5000 + b"]",
        b'["\xff",NaN]',
        b"\xef\xbb\xbf[NaN]",
    ],
)
def test_what_else_is_wrong_is_the_fault_of_no_member(text: bytes) -> None:
    with pytest.raises(JsonError):
        parse_members(text)


def errors(text: bytes) -> dict[str, str]:
    verdict = read_event(text, 0)
    assert isinstance(verdict, Rejected)
    assert len(dict(verdict.faults)) == len(verdict.faults)
    return dict(verdict.faults)


def test_all_other_faults_are_listed_too_and_none_twice() -> None:
    text = b'{"source":NaN,"type":"system.alert","payload":{"alert_id":NaN,"severity":1,"message":"m","source":NaN}}'
    found = errors(text)
    assert set(found) == {"source", "payload.alert_id", "severity", "payload.source"}
    assert "NaN" in found["source"]
    assert "NaN" not in found["severity"]
    assert set(errors(b'{"type":"t","payload":{"source":NaN}}')) == {"source", "payload.source"}
    assert set(errors(b'{"source":"s","type":"t","payload":NaN}')) == {"payload"}
    assert set(errors(b"NaN")) == {"body"}


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@given(VALUES)
def test_the_masked_text_has_the_same_size_and_is_json(value: Any) -> None:
    text = json.dumps(value).encode()
    assert len(masked(text)) == len(text)
    json.loads(masked(text), parse_constant=pytest.fail)
    kept, _ = parse_members(text)
    json.dumps(kept, allow_nan=False).encode()
