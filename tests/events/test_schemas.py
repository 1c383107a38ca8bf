from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.events import json_codec
from tentaculo.events.schemas import CANONICAL, JsonKind, Nature, canonical_type, validate

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
    room = SIZES[type_] - json_codec.size_of({**GOOD[type_], "pad": ""})
    full = {**GOOD[type_], "pad": "é" * (room // 2) + "x" * (room % 2)}
    assert json_codec.size_of(full) == SIZES[type_]
    assert faulty(type_, full) == {}
    assert set(faulty(type_, {**full, "pad": full["pad"] + "x"})) == {"payload"}
    del full["timestamp"]
    assert faulty(type_, full) == {}


@given(type_=st.sampled_from(sorted(CANONICAL)), fields=st.dictionaries(st.text(), json_values))
def test_random_payloads_never_crash(type_: str, fields: dict[str, Any]) -> None:
    required = set(CANONICAL[type_].fields) - {"timestamp"}
    assert required - set(fields) <= set(faulty(type_, fields))


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
