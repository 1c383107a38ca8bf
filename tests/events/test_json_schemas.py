"""The schemas of events say of a value what the checks of the code say of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tentaculo.events import ingest
from tentaculo.events.cloud_events import read_structured
from tentaculo.events.ingest import read_event
from tentaculo.events.json_schemas import SCHEMAS
from tentaculo.events.schemas import CANONICAL, Envelope, JsonError, JsonKind
from tentaculo.model.health import GATEWAY_NAME

CHECKS = {
    name: jsonschema.Draft7Validator({"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}})
    for name in ("IngestEvent", "CloudEvent")
}
# Whole numbers are written without a fraction here: 5.0 is an integer for JSON Schema only. Printable is more than a
# pattern can say, so texts are ASCII.
TEXTS = st.text(st.characters(max_codepoint=127), max_size=6) | st.sampled_from(
    (GATEWAY_NAME, " ", "x" * 129, "x" * 257)
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**33), 2**33) | st.just(0.5) | TEXTS
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXTS, SCALARS, max_size=2)
TYPES = st.sampled_from([*CANONICAL, "t"])
FIELDS = sorted({field for schema in CANONICAL.values() for field in schema.fields})
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4)


@st.composite
def payloads(draw: st.DrawFn, type_: Any) -> Any:
    """One that fits a canonical type, with a change."""
    good = {
        JsonKind.STRING: "x",
        JsonKind.INTEGER: 1,
        JsonKind.NUMBER: 0.5,
        JsonKind.LIST: [],
        JsonKind.OBJECT: {},
        JsonKind.BOOLEAN: True,
    }
    schema = CANONICAL.get(type_) if isinstance(type_, str) else None
    fields = {name: good[kind] for name, kind in schema.fields.items()} if schema else {}
    changed = {**fields, **draw(PAYLOADS)}
    for gone in draw(st.lists(st.sampled_from(FIELDS), max_size=1)):
        changed.pop(gone, None)
    return draw(st.sampled_from([fields, changed, []]))


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    type_ = draw(TYPES | VALUES)
    event = {"source": draw(st.just("madre") | VALUES), "type": type_, "payload": draw(payloads(type_))}
    more = st.fixed_dictionaries({}, optional=dict.fromkeys(("broadcast", "metadata", "key", "id"), VALUES))
    return {**event, **draw(more)}


ATTRIBUTES = ("subject", "datacontenttype", "dataschema", "broadcast", "data", "data_base64", "x1", "A_b")
CLOUD_EVENTS = st.fixed_dictionaries(
    {
        "specversion": st.sampled_from(("1.0", "1.0", "0.3")),
        "id": st.just("1") | VALUES,
        "source": st.just("/a") | TEXTS,
        "type": st.just("t") | TEXTS,
    },
    optional={name: SCALARS | st.sampled_from(("aGk=", "aGk", "true")) for name in ATTRIBUTES},
)


@pytest.mark.thorough
@given(events())
@settings(max_examples=200)
def test_an_event_is_accepted_where_its_schema_says_so(event: dict[str, Any]) -> None:
    accepted = isinstance(read_event(json.dumps(event).encode(), 1_700_000_000_000), Envelope)
    assert CHECKS["IngestEvent"].is_valid(event) is accepted


@pytest.mark.thorough
@given(events())
@example({"source": "s", "type": "t", "payload": {}, "unknown": [[[[]]]]})
@example({"source": "s", "type": "t", "payload": {"deep": json.loads("[" * 70 + "]" * 70)}})
@example({"source": "s", "type": "t", "payload": {"timestamp": 1_700_000_000_000, "severity": "low"}, "key": "k"})
@example({"source": "s", "type": "t", "payload": {}, "metadata": None, "key": None})
@settings(max_examples=200)
def test_the_short_way_of_reading_gives_what_the_long_one_gives(event: dict[str, Any]) -> None:
    text = json.dumps(event).encode()

    def read(by: Callable[[bytes, int], Any]) -> Any:
        try:
            return by(text, 1_700_000_000_000)
        except JsonError as error:
            return str(error)

    assert read(ingest.read_event) == read(ingest._read_any)


@pytest.mark.parametrize("key", [{}, {"key": "k-1"}])
@pytest.mark.parametrize("type_", ["spawn_success", "shub.action.narrated"])
def test_usual_events_are_read_the_short_way(monkeypatch: pytest.MonkeyPatch, type_: str, key: dict[str, str]) -> None:
    monkeypatch.delattr(ingest, "_read_any")
    payload = {"action": "a", "reason": "r", "next_step": "n"}
    event = {"source": "madre", "type": type_, "payload": payload, "broadcast": True, "metadata": {"host": "h"}, **key}
    assert isinstance(read_event(json.dumps(event).encode(), 1_700_000_000_000), Envelope)


@pytest.mark.thorough
@given(CLOUD_EVENTS)
@example({"specversion": "1.0", "id": "1", "source": "a\n", "type": "t"})
@settings(max_examples=200)
def test_a_cloud_event_is_accepted_where_its_schema_says_so(event: dict[str, Any]) -> None:
    accepted = isinstance(read_structured(json.dumps(event).encode(), 1_700_000_000_000), Envelope)
    assert CHECKS["CloudEvent"].is_valid(event) is accepted


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one_of_draft_7(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMAS[name])
