from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config import example
from tentaculo.config.key_reference import ANY, Key, walk
from tentaculo.config.loader import load_tables

# `#key = value` and `#[table]` are settings in a comment; `# …` is prose; `#:schema` is for editors.
TABLES_BY_NAME = (("services",), ("alerts", "webhooks"))
UNCOMMENTED = re.sub(r"(?m)^#(?![ :]|$)", "", example.text())


def named_in(tables: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Paths of everything in `tables`, as the schema writes them."""
    found = {path} if path else set()
    if isinstance(tables, dict):
        for key, value in tables.items():
            found |= named_in(value, (*path, ANY if path in TABLES_BY_NAME else key))
    elif isinstance(tables, list):
        for value in tables:
            found |= named_in(value, (*path, ANY))
    return found


def test_its_first_line_names_the_schema_for_editors() -> None:
    assert example.text("docs/a.json").splitlines()[0] == "#:schema docs/a.json"


def test_it_loads_as_it_is_and_means_the_defaults(tmp_path: Path) -> None:
    loaded = load_tables(tomllib.loads(example.text()), {}, folder=tmp_path)
    assert loaded.warnings == ()
    default = load_tables({}, {}, folder=tmp_path).config
    assert loaded.config.replace(services={}) == default


def test_it_loads_with_every_line_taken_up(tmp_path: Path) -> None:
    (tmp_path / "example.token").write_text("a-token")
    (tmp_path / "archive.secret").write_text(f"whsec_{'A' * 32}")
    config = load_tables(tomllib.loads(UNCOMMENTED), {}, folder=tmp_path).config
    assert len(config.services["example"].routes) == 2
    assert len(config.services["workers"].addresses) == 2
    default = load_tables({}, {}, folder=tmp_path).config
    assert (config.limits, config.log, config.cors) == (default.limits, default.log, default.cors), (
        "offers: the defaults"
    )


def test_no_key_of_the_schema_is_missing() -> None:
    named = named_in(tomllib.loads(UNCOMMENTED))
    assert [key.path for key in walk() if key.path not in named] == []


@pytest.mark.parametrize("key", [key for key in walk() if len(key.path) > 1], ids=lambda key: ".".join(key.path))
def test_every_key_has_the_schemas_comment_above_it(key: Key) -> None:
    name = re.escape(key.path[-1])
    heading = rf"\[+(?:services\.\w+\.{name}|alerts\.{name}\.\w+)\]+$"
    blocks = re.findall(rf"(?m)((?:^# .*\n)+)#?(?:{name} =|{heading})", example.text())
    assert any(key.description in " ".join(block.replace("# ", "").split()) for block in blocks), key.description


def test_every_single_value_says_its_default_or_that_it_is_required() -> None:
    silent = [
        key.path
        for key in walk()
        if not key.is_section and "Default" not in key.description and "Required" not in key.description
    ]
    assert silent == []
