"""Whatever a file or the environment holds: a configuration or its faults, never another error, never a secret."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.config.environment import variable_name
from tentaculo.config.errors import ConfigError
from tentaculo.config.key_reference import ANY, walk
from tentaculo.config.loader import load_tables
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


@settings(max_examples=150, deadline=None)
@given(tables(), ENVIRONMENTS)
def test_a_configuration_or_its_faults(data: dict[str, Any], environ: dict[str, str]) -> None:
    try:
        shown = load_tables(data, environ, folder=Path("/nowhere")).warnings
    except ConfigError as error:
        # One line for each fault, and at least one.
        shown = tuple(map(str, error.faults)) or ("no fault\nat all",)
    assert not any("\n" in line or SECRET in line for line in shown)
