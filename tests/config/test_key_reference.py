from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from tentaculo.cli.main import cli
from tentaculo.config.key_reference import ANY, Key, KeyKind, example_text, format_toml, json_schema, walk
from tentaculo.config.loader import load_tables
from tests.support.gateway_process import ROOT

# `#key = value` and `#[table]` are settings in a comment; `# …` is prose; `#:schema` is for editors.
TABLES_BY_NAME = (("services",), ("alerts", "webhooks"))
UNCOMMENTED = re.sub(r"(?m)^#(?![ :]|$)", "", example_text())


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
    assert example_text("docs/a.json").splitlines()[0] == "#:schema docs/a.json"


def test_it_loads_as_it_is_and_means_the_defaults(tmp_path: Path) -> None:
    loaded = load_tables(tomllib.loads(example_text()), {}, folder=tmp_path)
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
    # Examples, since an empty list is none.
    limits = config.limits.replace(routes=(), own_paths=())
    assert (limits, config.log, config.cors) == (default.limits, default.log, default.cors), "offers: the defaults"


def test_no_key_of_the_schema_is_missing() -> None:
    named = named_in(tomllib.loads(UNCOMMENTED))
    assert [key.path for key in walk() if key.path not in named] == []


@pytest.mark.thorough
@pytest.mark.parametrize("key", [key for key in walk() if len(key.path) > 1], ids=lambda key: ".".join(key.path))
def test_every_key_has_the_schemas_comment_above_it(key: Key) -> None:
    name = re.escape(key.path[-1])
    heading = (
        rf"\[+(?:services\.\w+\.(?:routes\.)?(?:rotation\.)?{name}|(?:auth|limits)\.{name}|alerts\.{name}\.\w+)\]+$"
    )
    blocks = re.findall(rf"(?m)((?:^# .*\n)+)#?(?:{name} =|{heading})", example_text())
    assert any(key.description in " ".join(block.replace("# ", "").split()) for block in blocks), key.description


def test_every_single_value_says_its_default_or_that_it_is_required() -> None:
    silent = [
        key.path
        for key in walk()
        if not key.is_section and "Default" not in key.description and "Required" not in key.description
    ]
    assert silent == []


VALIDATOR = Draft7Validator(json_schema())
BLOCK = re.compile(r"(?s)```toml\n(.*?)```")


def messages(text: str) -> list[str]:
    """What is wrong with TOML `text`, by the schema. Editors see a time as text."""
    tables: Any = json.loads(json.dumps(tomllib.loads(text), default=datetime.isoformat))
    return [error.message for error in VALIDATOR.iter_errors(tables)]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(json_schema())


@pytest.mark.parametrize("name", ["tentaculo.example.toml", "docker/vx11.toml"])
def test_it_accepts_every_configuration_in_the_project(name: str) -> None:
    assert messages((ROOT / name).read_text("utf-8")) == []


def test_it_accepts_the_example_with_every_line_set() -> None:
    assert messages(re.sub(r"(?m)^#(?![ :]|$)", "", example_text())) == []


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_it_accepts_the_examples_in_the_documents(name: str) -> None:
    blocks = BLOCK.findall((ROOT / name).read_text("utf-8"))
    assert blocks
    for block in blocks:
        assert messages(block.replace("sha256:…", "sha256:" + 64 * "0")) == []


@pytest.mark.parametrize(
    "text",
    [
        "health = '/health'\nurl = 'http://h'",
        "url = 'http://h'\nprobe = { status = [204, '300-399'] }",
        "url = 'http://h'\nroutes = [{ prefix = '/a', set_headers = { X-A = 'b' } }]",
    ],
)
def test_it_accepts_every_way_to_write_a_value(text: str) -> None:
    assert messages(f"[services.a]\n{text}") == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[sever]", "'sever' was unexpected"),
        ("[server]\nprot = 1", "'prot' was unexpected"),
        ("[server]\nport = '8000'", "is not of type 'integer'"),
        ("[server]\nport = 1.5", "is not of type 'integer'"),
        ("[server]\nport = 65536", "greater than the maximum of 65535"),
        ("[server]\nworkers = 0", "less than the minimum of 1"),
        ("[limits]\nconnect = 0", "less than or equal to the minimum of 0"),
        ("[limits]\nstall = 1000001", "greater than the maximum of 1000000"),
        ("[log]\nlevel = 'trace'", "is not one of"),
        ("[auth]\ntokens = ['a-token']", "is not valid under any of the given schemas"),
        ("[auth]\nenabled = 'no'", "is not of type 'boolean'"),
        ("[services.a]\nurl = 'ftp://h'", "does not match"),
        ("[services.a]\nhealth = []", "is not valid under any of the given schemas"),
        ("[services.a]\nprobe = { jitter = 0.6 }", "greater than the maximum of 0.5"),
        ("[[services.a.routes]]\nstrip = true", "'prefix' is a required property"),
        ("[alerts.webhooks.a]\ntimeout = 1", "'url' is a required property"),
        ("[alerts.apprise]\n'a b' = 'x://y'", "does not match"),
        ("[[maintenance]]\nservices = []", "should be non-empty"),
    ],
)
def test_it_refuses_what_an_editor_can_show(text: str, part: str) -> None:
    found = messages(text)
    assert len(found) == 1
    assert part in found[0]


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(cli, ["config", "schema"])
    assert result.exit_code == 0
    assert json.loads(result.output) == json_schema()


def test_kinds_say_how_the_environment_writes_a_value() -> None:
    kinds = {key.path: key.kind for key in walk()}
    assert kinds["server", "port"] is KeyKind.SCALAR
    assert kinds["auth", "token_file"] is KeyKind.SCALAR
    assert kinds["services", ANY, "health"] is KeyKind.LIST
    assert kinds["services", ANY, "routes", ANY, "set_headers"] is KeyKind.TABLE
    assert kinds["services", ANY, "probe"] is KeyKind.TABLE


def test_what_only_loading_sets_is_no_key() -> None:
    internal = [key.path for key in walk() if key.path[-1] in ("name", "folder", "plain_token", "source")]
    assert internal == [
        ("auth", "tokens", ANY, "name"),
        ("services", ANY, "routes", ANY, "rotation", "targets", ANY, "name"),
    ], "which a file sets"


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


def test_every_number_has_a_least_value() -> None:
    """`limits.connections = -1`, which means "unlimited" elsewhere, was valid and refused every client."""

    def numbers(schema: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        if schema.get("type") in ("integer", "number"):
            yield path, schema
        for name, inner in schema.get("properties", {}).items():
            yield from numbers(inner, (*path, name))
        for inner in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(inner, dict):
                yield from numbers(inner, (*path, ANY))

    found = dict(numbers(json_schema()))
    assert len(found) > 50
    assert {path for path, schema in found.items() if not schema.keys() & {"minimum", "exclusiveMinimum"}} == set()
