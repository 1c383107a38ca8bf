from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.probes import parse_condition

BODY: dict[str, Any] = {
    "status": "ok",
    "queue": {"depth": 250, "name": "jobs", "rate": 1.5, "": "empty"},
    "workers": [{"alive": True}, {"alive": False}, 3],
    "disk /": {"free-gb": 7},
    "none": None,
    "yes": True,
    "no": False,
    "zero": 0,
}


@pytest.mark.parametrize(
    "text",
    [
        'status == "ok"',
        'status=="ok"',
        '  status  ==  "ok" ',
        'status != "down"',
        "status",
        "queue.depth == 250",
        "queue.depth == 250.0",
        "queue.depth != 251",
        'queue.depth != "250"',
        "queue.depth > 249",
        "queue.depth >= 250",
        "queue.depth <= 250",
        "queue.rate < 2",
        'queue.name < "k"',
        'queue."" == "empty"',
        "queue",
        "workers",
        "workers[0].alive",
        "workers[0].alive == true",
        "workers[1].alive == false",
        "workers[ 2 ] == 3",
        '"disk /".free-gb > 5',
        "none == null",
        "zero",
        "zero != null",
        "yes != 1",
        "zero != false",
    ],
)
def test_holds(text: str) -> None:
    condition = parse_condition(text)
    assert condition.complaint(BODY) == ""
    assert str(condition) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('status == "down"', 'status is "ok", not == "down"'),
        ('status != "ok"', 'status is "ok", not != "ok"'),
        ("queue.depth < 100", "queue.depth is 250, not < 100"),
        ('queue.depth < "300"', 'queue.depth is 250, not < "300"'),
        ("queue.name > 1", 'queue.name is "jobs", not > 1'),
        ("queue.nothing == 1", "queue.nothing is missing"),
        ("queue.nothing != 1", "queue.nothing is missing"),
        ("status.x", "status.x is missing"),
        ("workers.alive", "workers.alive is missing"),
        ("workers[7]", "workers[7] is missing"),
        ("status[0]", "status[0] is missing"),
        ("workers[1].alive", "workers[1].alive is false"),
        ("workers == 3", "workers is a list, not == 3"),
        ("queue == null", "queue is an object, not == null"),
        ("none", "none is null"),
        ("no", "no is false"),
        ("yes == 1", "yes is true, not == 1"),
        ("yes > 0", "yes is true, not > 0"),
        ("[0].a", "[0].a is missing"),
    ],
)
def test_does_not_hold(text: str, complaint: str) -> None:
    assert parse_condition(text).complaint(BODY) == complaint


def test_the_root_may_be_a_list() -> None:
    assert parse_condition("[1].a == 2").complaint([0, {"a": 2}]) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "must begin with a path"),
        ("== 1", "must begin with a path"),
        ("a. == 1", "must begin with a path"),
        (".a", "must begin with a path"),
        ("a b", "one of == != < <= > >="),
        ("a = 1", "one of == != < <= > >="),
        ("a === 1", "must compare with"),
        ("a ==", "must compare with"),
        ("a == ok", "must compare with"),
        ("a == NaN", "must compare with"),
        ("a == Infinity", "must compare with"),
        ("a == [1]", "must compare with"),
        ("a == 1 and b == 2", "must compare with"),
        ("a < true", "can use < with a number or a text only"),
        ("a >= null", "can use >= with a number or a text only"),
        ('"\\x"', "no JSON string"),
        ('checks."\\ud800" == 1', "half of a character"),
        ('checks."a\\nb"', "a control character"),
        ('status == "\\udfff"', "half of a character"),
        ("a" * 501, "more than 500 characters"),
        ("a[-1]", "one of == != < <= > >="),
        ("a..b", "must begin with a path"),
        ("a.[0]", "must begin with a path"),
        ("a[0]b", "one of == != < <= > >="),
    ],
)
def test_faults(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as told:
        parse_condition(text)
    assert fault in str(told.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["a", "[0]", '"" == 1', "a.b < 3", 'a != "x"', "[0][0] >= 2", '[0].a < "z"', "a == null"]))
def test_no_value_breaks_anything(value: Any, text: str) -> None:
    complaint = parse_condition(text).complaint(value)
    assert complaint.isprintable()
    assert len(complaint) < 120


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_fault(text: str) -> None:
    try:
        condition = parse_condition(text)
    except ValueError:
        return
    condition.complaint(BODY)
    assert condition.path


def test_what_a_service_says_is_cut_and_printable() -> None:
    complaint = parse_condition('a == "b"').complaint({"a": "\x1b[31m<script>\u202e" + "x" * 10_000})
    assert complaint.isprintable()
    assert len(complaint) < 80
