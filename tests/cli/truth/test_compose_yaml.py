from __future__ import annotations

from typing import Any

import pytest
import yaml

from tentaculo.cli.truth import compose_file, compose_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ports: !override ['8001:80']", {"ports": ["8001:80"]}),
        ("ports: !override\n  - 8001:80\n", {"ports": ["8001:80"]}),
        ("a: !override {b: 1}", {"a": {"b": 1}}),
        ("a: !override 8001", {"a": 8001}),
        ("a: !override '8001'", {"a": "8001"}),
        ("a: !reset {}\nb: 1", {"b": 1}),
        ("a: !reset null", {}),
        ("a: !reset 5", {}),
        ("a: [1, !reset 2]", {"a": [1]}),
        ("a: !of-a-tool {b: [yes]}", {"a": {"b": ["yes"]}}),
        ("a: 22:22", {"a": "22:22"}),
        ("a: [3306:3306, 1:2:3]", {"a": ["3306:3306", "1:2:3"]}),
        ("on: {no: y}", {"on": {"no": "y"}}),
        ("007: 2026-99-99", {"007": "2026-99-99"}),
        ("a: [true, False, null, ~, ]", {"a": [True, False, None, None]}),
        ("a: [0x1F, 0o17, 017, 0b11, 8_001, -5, 0, 08, 1e3]", {"a": [31, 15, 15, 3, 8001, -5, 0, "08", "1e3"]}),
        ("x: &x {expose: [1]}\na: {<<: *x, b: 2}", {"x": {"expose": [1]}, "a": {"expose": [1], "b": 2}}),
    ],
)
def test_values_are_read_as_compose_reads_them(text: str, value: Any) -> None:
    assert compose_yaml.parse(text.encode()) == value


def test_a_service_that_is_reset_is_not_declared() -> None:
    document = compose_yaml.parse(b"services: {a: !reset {}, operator-backend: {ports: !override [22:22]}}")
    (declared,) = compose_file.read(document).values()
    assert (declared.name, declared.published) == ("operator-backend", {22: 22})


@pytest.mark.parametrize(
    "text", [b"a: !!python/object:os.system {}", b"a: !!python/name:os.system ''", b"a: [", b"--- 1\n--- 2"]
)
def test_what_makes_objects_is_refused(text: bytes) -> None:
    with pytest.raises(yaml.YAMLError):
        compose_yaml.parse(text)
