"""The JSON Schema accepts what the loader accepts, and refuses the mistakes that an editor can show."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import datetime
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from tentaculo.cli.main import cli
from tentaculo.config import example
from tentaculo.config.json_schema import schema
from tests.support.gateway_process import ROOT

VALIDATOR = Draft7Validator(schema())
BLOCK = re.compile(r"(?s)```toml\n(.*?)```")


def messages(text: str) -> list[str]:
    """What is wrong with TOML `text`, by the schema. Editors see a time as text."""
    tables: Any = json.loads(json.dumps(tomllib.loads(text), default=datetime.isoformat))
    return [error.message for error in VALIDATOR.iter_errors(tables)]


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("name", ["tentaculo.example.toml", "docker/vx11.toml"])
def test_it_accepts_every_configuration_in_the_project(name: str) -> None:
    assert messages((ROOT / name).read_text("utf-8")) == []


def test_it_accepts_the_example_with_every_line_set() -> None:
    assert messages(re.sub(r"(?m)^#(?![ :]|$)", "", example.text())) == []


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
        ("[auth]\ntokens = ['a-token']", "does not match"),
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
    assert json.loads(result.output) == schema()
