from __future__ import annotations

import json
import stat
import sys
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tentaculo.cli.main import cli
from tentaculo.config.change_layer import DEFAULT_CHANGES_FILE, ChangeLayer, TimedOverride, write_layer
from tentaculo.config.effective import with_all_defaults
from tentaculo.config.loader import load
from tentaculo.config.masking import MASK
from tests.support.config import SECRET

FILE = f"""
[server]
port = 8000
[services.madre]
url = "http://127.0.0.1:8001"
token = "{SECRET}"
urls = []
[[services.madre.routes]]
prefix = "/madre"
set_headers = {{ Authorization = "Basic {SECRET}" }}
[services.old]
url = "http://127.0.0.1:8002"
[alerts]
page = "https://status.example.org"
[alerts.webhooks.ops]
url = "https://example.org/{SECRET}"
secrets = ["whsec_{"A" * 32}"]
"""
ENVIRON = {"TENTACULO_SERVER_PORT": "8123", "TENTACULO_SERVICES_MADRE_STICKY": "yes"}


class Commands:
    """Runs `tentaculo config` in a folder that has a configuration and changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "tentaculo.toml"
        self.file.write_text(FILE)
        now = datetime.now(UTC)
        changes = {"services": {"madre": {"about": "änderung"}, "old": None, "new": {"url": "http://127.0.0.1:9"}}}
        self.until = now + timedelta(hours=1)
        overrides = {"madre": TimedOverride(False, now, self.until, "ana", "repair")}
        write_layer(folder / DEFAULT_CHANGES_FILE, ChangeLayer(7, now, "ana", changes, overrides))

    def run(self, *command: str, environ: Mapping[str, str] = ENVIRON, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["config", *command, "-c", str(self.file)], env=dict(environ))
        assert result.exit_code == code, (result.output, result.exception)
        assert command[0] == "export" or SECRET not in result.output
        return result


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_show_prints_what_counts_with_its_source(commands: Commands) -> None:
    lines = commands.run("show", "--from").output.splitlines()
    override = f"override until {commands.until:%Y-%m-%dT%H:%M:%SZ}"
    for line in (
        "port = 8123  # TENTACULO_SERVER_PORT",
        'url = "http://127.0.0.1:8001"  # file',
        f'token = "{MASK}"  # file',
        'about = "änderung"  # change',
        "sticky = true  # TENTACULO_SERVICES_MADRE_STICKY",
        f"enabled = false  # {override}",
    ):
        assert line in lines
    assert "[services.old]" not in lines
    assert "[services.new]" in lines


def test_show_is_toml_and_json_of_the_same_values(commands: Commands) -> None:
    values = tomllib.loads(commands.run("show").output)
    assert json.loads(commands.run("show", "--json").output) == values
    shown = json.loads(commands.run("show", "--json", "--from").output)
    assert shown["config"] == values
    assert shown["from"]["server.port"] == "TENTACULO_SERVER_PORT"
    assert shown["from"]["services.new.url"] == "change"


def test_show_can_have_the_defaults(commands: Commands) -> None:
    assert "grace" not in commands.run("show").output
    shown = tomllib.loads(commands.run("show", "--all").output)
    assert (shown["server"]["grace"], shown["services"]["new"]["probe"]["interval"]) == (10, 10)
    assert shown["services"]["madre"]["breaker"]["failures"] == 5
    assert shown["database"]["url"] == MASK


def test_the_defaults_cost_in_proportion_to_the_services() -> None:
    """Each of a service was put into a copy of all services: 2 s for a thousand of them."""

    def steps(services: int) -> int:
        count = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            frame.f_trace_opcodes = True
            count += event == "opcode"
            return trace

        values = {"services": {f"s{n}": {"url": "http://h", "probe": {"interval": 3}} for n in range(services)}}
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with_all_defaults(values)
        finally:
            sys.settrace(before)
        return count

    steps(1)
    assert steps(200) < 12 * steps(20)


def test_diff_names_each_difference_to_the_file(commands: Commands) -> None:
    lines = set(commands.run("diff").output.splitlines())
    assert lines == {
        "~ server.port = 8000 → 8123  (TENTACULO_SERVER_PORT)",
        '+ services.madre.about = "änderung"  (change)',
        "+ services.madre.sticky = true  (TENTACULO_SERVICES_MADRE_STICKY)",
        f"+ services.madre.enabled = false  (override until {commands.until:%Y-%m-%dT%H:%M:%SZ})",
        f'+ services.madre.off_reason = "repair"  (override until {commands.until:%Y-%m-%dT%H:%M:%SZ})',
        '- services.old = { url = "http://127.0.0.1:8002" }  (change)',
        '+ services.new.url = "http://127.0.0.1:9"  (change)',
    }
    found = {one["key"]: one for one in json.loads(commands.run("diff", "--json").output)}
    assert found["server.port"] == {
        "key": "server.port",
        "file": 8000,
        "effective": 8123,
        "from": "TENTACULO_SERVER_PORT",
    }


def test_diff_masks_secrets_that_differ(commands: Commands) -> None:
    changes = {"services": {"madre": {"token": f"{SECRET}2"}}}
    write_layer(commands.folder / DEFAULT_CHANGES_FILE, ChangeLayer(8, changes=changes))
    output = commands.run("diff", environ={}).output
    assert output == f'~ services.madre.token = "{MASK}" → "{MASK}"  (change)\n'


def test_diff_says_that_there_is_none(commands: Commands) -> None:
    (commands.folder / DEFAULT_CHANGES_FILE).unlink()
    assert commands.run("diff", environ={}).output == "The configuration is as its file says.\n"


def test_export_can_replace_the_file(commands: Commands) -> None:
    target = commands.folder / "new.toml"
    commands.run("export", "--secrets", "-o", str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = load(commands.file, {}).config
    (commands.folder / DEFAULT_CHANGES_FILE).unlink()
    after = load(target, {}).config
    # The override is not in it: it ends by itself.
    madre = before.services["madre"].replace(override=None, enabled=True, off_reason="off on purpose")
    assert after == before.replace(services={**before.services, "madre": madre})


def test_export_does_not_mask_the_secrets_of_the_file_that_it_reads(commands: Commands) -> None:
    """The configuration file was replaced by one without its secrets."""
    before = commands.file.read_text()
    link = commands.folder / "link.toml"
    link.symlink_to(commands.file)
    for output in (commands.file, link):
        said = commands.run("export", "-o", str(output), code=2).output
        assert "is the configuration file, and would lose its secrets: add --secrets" in said
    assert commands.file.read_text() == before
    commands.run("export", "--secrets", "-o", str(link))
    assert link.is_symlink()
    assert load(commands.file, {}).config.services["new"].addresses == ("http://127.0.0.1:9",)
    assert SECRET in commands.file.read_text()


def test_export_masks_secrets_in_comments(commands: Commands) -> None:
    output = commands.run("export").output
    assert SECRET not in output
    assert "whsec_" not in output
    assert f'# token = "{MASK}"  # a secret; set it here, in a file or by the environment' in output
    assert "# The environment sets server.port: TENTACULO_SERVER_PORT" in output
    values = tomllib.loads(output)
    assert "token" not in values["services"]["madre"]
    assert values["server"]["port"] == 8000


def test_changes_that_cannot_be_applied_are_a_finding(commands: Commands) -> None:
    (commands.folder / DEFAULT_CHANGES_FILE).write_text(f'{{"{SECRET}": 1}}')
    result = commands.run("show", code=1)
    assert "is not a file of changes that this version can read" in result.output


def test_a_faulty_file_is_a_fault(commands: Commands) -> None:
    commands.file.write_text("[server]\nprot = 1\n")
    assert "server.prot" in commands.run("show", code=2).output


def test_a_file_that_cannot_be_written_is_a_fault(commands: Commands) -> None:
    result = commands.run("export", "-o", str(commands.folder / "no" / "new.toml"), code=2)
    assert "cannot be written" in result.output


def test_check_says_what_was_changed(commands: Commands) -> None:
    result = CliRunner().invoke(cli, ["check", "-c", str(commands.file)], env={})
    assert result.exit_code == 0, result.output
    assert "changed by the write API (revision 7): services.madre, services.old, services.new" in result.output
    assert f"madre is switched off until {commands.until:%Y-%m-%d %H:%M:%S} UTC by ana" in result.output


def test_export_over_a_file_lets_its_readers_read_it(commands: Commands) -> None:
    """An administrator locked out the gateway, which runs as another user, but of the group of the file."""
    commands.file.chmod(0o664)
    commands.run("export", "--secrets", "-o", str(commands.file))
    assert stat.S_IMODE(commands.file.stat().st_mode) == 0o660
