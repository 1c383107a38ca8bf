"""Whatever a file or the environment holds: a configuration or its faults, never another error, never a secret."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tentaculo.config.environment import variable_name
from tentaculo.config.errors import ConfigError
from tentaculo.config.key_reference import ANY, Key, json_schema, walk
from tentaculo.config.loader import load_tables
from tentaculo.config.reader import REFUSED, reader_for
from tests.support.config import SECRET

PATHS = [key.path for key in walk()]
SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.just(date(2025, 12, 16)),
    st.sampled_from([SECRET, f"http://u:{SECRET}@h", "http://h", "/a", "h:1", "[::1]:1", "a\0b"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prefix", "x", ""]), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["madre", "my-api", "My_API", "gateway", "a.b", "", "é"])


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Real keys with any values."""
    data: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(PATHS), max_size=6)):
        place: Any = data
        steps = [draw(NAMES) if step == ANY else step for step in path]
        for step in steps[:-1]:
            place = place.setdefault(step, {})
            if not isinstance(place, dict):
                break
        else:
            place[steps[-1]] = draw(VALUES)
    return data


ENVIRONMENTS = st.dictionaries(
    st.sampled_from(
        ["TENTACULO_TOKEN", "TENTACULO_SERVICE_TOKEN", "TENTACULO_SERVICES"]
        + [variable_name(*("madre" if step == ANY else step for step in path)) for path in PATHS]
    ),
    st.sampled_from(
        ["", "1", "true", "[]", "{}", "[1]", '{"prefix": 1}', '["/a"]', "NaN", "null", SECRET, "é\n", "\0"]
    ),
    max_size=4,
)


@pytest.mark.thorough
@settings(max_examples=150, deadline=None)
@given(tables(), ENVIRONMENTS)
def test_a_configuration_or_its_faults(data: dict[str, Any], environ: dict[str, str]) -> None:
    try:
        shown = load_tables(data, environ, folder=Path("/nowhere")).warnings
    except ConfigError as error:
        # One line for each fault, and at least one.
        shown = tuple(map(str, error.faults)) or ("no fault\nat all",)
    assert not any("\n" in line or SECRET in line for line in shown)


EDITOR_VALUES = st.one_of(
    SCALARS,
    st.integers(-2, 600),
    st.floats(0, 1),
    st.sampled_from(
        [
            "GET",
            "http",
            "tls",
            "none",
            "info",
            "10.0.0.0/8",
            "200-299",
            "a.b == 1",
            "whsec_" + 32 * "A",
            "sha256:" + 64 * "a",
            "sqlite:///a",
            "tgram://a/b",
            "02:00-04:30",
            "Europe/Madrid",
            "mon",
            "2026-12-01T02:00:00Z",
            datetime(2026, 12, 1, tzinfo=UTC),
        ]
    ),
)
EDITOR_INPUTS = st.one_of(
    EDITOR_VALUES,
    st.lists(EDITOR_VALUES, max_size=2),
    st.dictionaries(st.sampled_from(["X-A", "phone", "a b", ""]), EDITOR_VALUES, max_size=2),
)


def schema_of(key: Key) -> dict[str, Any]:
    """What the JSON Schema says of one key."""
    found = json_schema()
    for step in key.path:
        # A table that may be written in another form too comes first.
        found = found["anyOf"][0] if "anyOf" in found else found
        found = found.get("items") or found["additionalProperties"] if step == ANY else found["properties"][step]
    return found


@pytest.mark.thorough
@settings(max_examples=1500, deadline=None)
@given(st.sampled_from([key for key in walk() if not key.is_section]), EDITOR_INPUTS)
def test_an_editor_marks_no_value_that_the_loader_accepts(key: Key, value: Any) -> None:
    read = reader_for(key.declared.form)(value, (), lambda path, message: None)
    if read is not REFUSED:
        # Editors see a time as text.
        assert Draft7Validator(schema_of(key)).is_valid(json.loads(json.dumps(value, default=datetime.isoformat)))
