from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tentaculo.config.key_reference import ANY, KeyKind, format_toml, walk


def test_kinds_say_how_the_environment_writes_a_value() -> None:
    kinds = {key.path: key.kind for key in walk()}
    assert kinds["server", "port"] is KeyKind.SCALAR
    assert kinds["auth", "token_file"] is KeyKind.SCALAR
    assert kinds["services", ANY, "health"] is KeyKind.LIST
    assert kinds["services", ANY, "routes", ANY, "set_headers"] is KeyKind.TABLE
    assert kinds["services", ANY, "probe"] is KeyKind.TABLE


def test_what_only_loading_sets_is_no_key() -> None:
    assert not any(key.path[-1] in ("name", "folder", "plain_token") for key in walk())


def test_a_description_gives_meaning_unit_and_default() -> None:
    said = {key.path: key.description for key in walk()}
    assert said["limits", "body"] == "Size of a request body. Unit: bytes. 0 means unlimited. Default: 0."
    assert said["services", ANY, "routes", ANY, "prefix"].endswith("Required.")
    assert said["alerts", "webhooks", ANY, "secrets"].endswith("Required unless secrets_file is set.")
    assert said["alerts", "page"].endswith("Default: the address it listens on.")


@pytest.mark.parametrize(
    ("value", "toml"),
    [
        (True, "true"),
        (0.5, "0.5"),
        ("a", '"a"'),
        ('say "a"', "'say \"a\"'"),
        (Path("data/token"), '"data/token"'),
        (("a", 1), '["a", 1]'),
        ({"X-A": "b"}, '{ X-A = "b" }'),
        (datetime(2026, 12, 1, 2, tzinfo=UTC), "2026-12-01T02:00:00Z"),
    ],
)
def test_values_are_written_as_toml(value: object, toml: str) -> None:
    assert format_toml(value) == toml
    loaded = tomllib.loads(f"a = {toml}")["a"]
    assert loaded == (list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value)
