"""The JSON that is accepted, and the schemas of canonical events."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentaculo.events.hub import encode_broadcast
from tentaculo.events.schemas import (
    CANONICAL,
    DEPTH,
    JsonError,
    JsonKind,
    Nature,
    canonical_type,
    json_size,
    parse_json,
    validate,
)
from tentaculo.model.event import Event

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def event(payload: dict[str, Any]) -> Event:
    return Event(7, "madre", "spawn_success", payload, RECEIVED)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{'a':1}",
        b'{"a":1,}',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00x"}',
        b'{"\\ud83d":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":01}',
        b'"\x01"',
        b"[" * 100_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"1" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(JsonError):
        parse_json(text)


def test_depth_is_bounded_exactly() -> None:
    deepest = b"[" * DEPTH + b"]" * DEPTH
    parse_json(deepest)
    parse_json(b'{"a":' * DEPTH + b"1" + b"}" * DEPTH)
    with pytest.raises(JsonError, match="levels"):
        parse_json(b"[" + deepest + b"]")
    with pytest.raises(JsonError, match="levels"):
        parse_json(b'[1, {"a": ' + deepest + b"}]")
    brackets = b'"' + b"[{" * DEPTH + rb"\"[\\" + b'"'
    parse_json(b"[" * (DEPTH - 1) + b"{" + brackets + b":" + brackets + b"}" + b"]" * (DEPTH - 1))
    parse_json(b"[" + b"[]," * 1000 + b"{}]")


def test_large_integers_and_equal_keys_are_harmless() -> None:
    assert parse_json(b'{"a":1,"a":' + b"9" * 200 + b"}") == {"a": int("9" * 200)}


@given(st.binary())
@example(b'{"a":"\\ud800"}')
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data)
    except JsonError:
        return
    # What was accepted can be written again, and means the same to a lenient reader.
    assert json.loads(json.dumps(value)) == value == json.loads(data)


def test_flat_is_one_object_of_four_keys_and_the_payload() -> None:
    assert json.loads(encode_broadcast(event({"spawn": "s1", "ttl": 60}))) == {
        "type": "spawn_success",
        "source": "madre",
        "event_id": 7,
        "timestamp": 1767323045678,
        "spawn": "s1",
        "ttl": 60,
    }


def test_flat_the_gateways_type_source_and_event_id_win_and_the_payloads_timestamp() -> None:
    payload = {"type": "x", "source": "y", "event_id": 9, "id": "z", "timestamp": "yesterday", "metadata": 1}
    assert json.loads(encode_broadcast(event(payload))) == {
        "type": "spawn_success",
        "source": "madre",
        "event_id": 7,
        "id": "z",
        "timestamp": "yesterday",
        "metadata": 1,
    }


def test_size_is_of_the_compact_utf8_form() -> None:
    assert json_size(parse_json(b'{ "a" : "\\u00e9" }')) == len('{"a":"é"}'.encode())


GOOD: dict[str, dict[str, Any]] = {
    "system.alert": {"alert_id": "a", "severity": "L1", "message": "m", "timestamp": 1},
    "system.correlation.updated": {"correlation_id": "c", "related_events": [], "strength": 0.5, "timestamp": 1},
    "forensic.snapshot.created": {"snapshot_id": "s", "reason": "r", "timestamp": 1},
    "madre.decision.explained": {"decision_id": "d", "summary": "s", "confidence": 1, "timestamp": 1},
    "switch.tension.updated": {"value": 3, "components": {}, "timestamp": 1},
    "shub.action.narrated": {"action": "a", "reason": "r", "next_step": "n", "timestamp": 1},
}
SIZES = {
    "system.alert": 2048,
    "system.correlation.updated": 2048,
    "forensic.snapshot.created": 1024,
    "madre.decision.explained": 3072,
    "switch.tension.updated": 1024,
    "shub.action.narrated": 2048,
}
FIELDS = [(type_, field) for type_, fields in GOOD.items() for field in fields]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def faulty(type_: str, fields: dict[str, Any]) -> dict[str, str]:
    schema = canonical_type(type_)
    assert schema is not None
    return dict(validate(schema, fields, now_ms=1, whole="payload")[1])


def test_the_six_types_are_the_contracts() -> None:
    assert set(CANONICAL) == set(GOOD)
    assert {name: set(schema.fields) for name, schema in CANONICAL.items()} == {
        name: set(fields) for name, fields in GOOD.items()
    }
    assert {name: schema.max_bytes for name, schema in CANONICAL.items()} == SIZES
    assert [schema.nature for schema in CANONICAL.values()] == list(Nature)


@pytest.mark.parametrize("other", ["spawn_success", "", "SYSTEM.ALERT", None, 5, ["system.alert"], {}])
def test_other_types_have_no_schema(other: Any) -> None:
    assert canonical_type(other) is None


@pytest.mark.parametrize("type_", GOOD)
def test_good_event_passes_also_with_more_fields(type_: str) -> None:
    assert faulty(type_, GOOD[type_]) == {}
    assert faulty(type_, {**GOOD[type_], "extra": [1], "type": type_}) == {}


@pytest.mark.parametrize(("type_", "field"), FIELDS)
def test_defect_6_a_boolean_passes_for_nothing_else(type_: str, field: str) -> None:
    assert set(faulty(type_, {**GOOD[type_], field: True})) == {field}


@pytest.mark.parametrize(("type_", "field"), FIELDS)
def test_every_field_is_required_and_null_is_no_value(type_: str, field: str) -> None:
    without = {name: value for name, value in GOOD[type_].items() if name != field}
    assert faulty(type_, without) == ({} if field == "timestamp" else {field: "is required"})
    assert "not null" in faulty(type_, {**GOOD[type_], field: None})[field]


@pytest.mark.parametrize("bad", [5.0, 1e3, "5", math.nan, math.inf, -math.inf, [], {}])
def test_integers_are_integers(bad: Any) -> None:
    assert set(faulty("switch.tension.updated", {**GOOD["switch.tension.updated"], "value": bad})) == {"value"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "0.5", [], {}])
def test_nan_is_not_a_number(bad: Any) -> None:
    fields = {**GOOD["madre.decision.explained"], "confidence": bad}
    assert set(faulty("madre.decision.explained", fields)) == {"confidence"}


@pytest.mark.parametrize("good", [0, -1, 0.25, 10**400])
def test_numbers_are_integers_and_fractions_of_any_size(good: Any) -> None:
    assert JsonKind.NUMBER.accepts(good)


def test_a_missing_timestamp_is_filled_in_and_the_argument_left_alone() -> None:
    schema = CANONICAL["system.alert"]
    fields = {"alert_id": "a", "severity": "L1", "message": "m"}
    filled, faults = validate(schema, fields, now_ms=1234, whole="payload")
    assert not faults
    assert filled == {**fields, "timestamp": 1234}
    assert "timestamp" not in fields


def test_every_fault_is_reported_at_once() -> None:
    fields = {"alert_id": 5, "severity": [], "message": "x" * 3000, "timestamp": True}
    assert set(faulty("system.alert", fields)) == {"alert_id", "severity", "timestamp", "payload"}


@pytest.mark.parametrize("type_", GOOD)
def test_size_is_exact_in_compact_utf8_as_it_came(type_: str) -> None:
    room = SIZES[type_] - json_size({**GOOD[type_], "pad": ""})
    full = {**GOOD[type_], "pad": "é" * (room // 2) + "x" * (room % 2)}
    assert json_size(full) == SIZES[type_]
    assert faulty(type_, full) == {}
    assert set(faulty(type_, {**full, "pad": full["pad"] + "x"})) == {"payload"}
    del full["timestamp"]
    assert faulty(type_, full) == {}


@pytest.mark.thorough
@given(type_=st.sampled_from(sorted(CANONICAL)), fields=st.dictionaries(st.text(), json_values))
def test_random_payloads_never_crash(type_: str, fields: dict[str, Any]) -> None:
    required = set(CANONICAL[type_].fields) - {"timestamp"}
    assert required - set(fields) <= set(faulty(type_, fields))


@pytest.mark.thorough
@given(data=st.data(), type_=st.sampled_from(sorted(CANONICAL)))
def test_random_values_in_the_right_places_are_judged_by_kind(data: st.DataObject, type_: str) -> None:
    schema = CANONICAL[type_]
    fields = {name: data.draw(json_values, label=name) for name in schema.fields}
    kinds = {
        JsonKind.STRING: (str,),
        JsonKind.INTEGER: (int,),
        JsonKind.NUMBER: (int, float),
        JsonKind.LIST: (list,),
        JsonKind.OBJECT: (dict,),
    }
    wrong = {
        name
        for name, kind in schema.fields.items()
        if isinstance(fields[name], bool) or not isinstance(fields[name], kinds[kind])
    }
    assert set(faulty(type_, fields)) - {"payload"} == wrong
