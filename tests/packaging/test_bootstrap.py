"""tools/bootstrap.sh on machines that lack something.

It runs with a PATH of stand-ins for the system's commands: a python3 whose environments are empty, an `id` that says
who calls, an apt-get that only notes what it was asked for. One test makes a real environment.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway_process import ROOT

REAL = sys.executable
PYTHON = f"""
if [ "$*" = "-m venv .venv" ]; then
    mkdir -p .venv/bin
    printf '#!/bin/sh\\necho "$@" >>"$NOTES"\\n' >.venv/bin/python
    chmod 755 .venv/bin/python
else
    exec "{REAL}" "$@"
fi"""
NO_VENV = f"""case "$*" in *ensurepip*) [ -e "$NOTES.venv" ] || exit 1 ;; esac
{PYTHON}"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A checkout with the files that the script reads, and the commands it finds."""

    checkout: Path
    commands: Path
    notes: Path

    def command(self, name: str, script: str) -> None:
        path = self.commands / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def bootstrap(self, what: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.checkout / "tools" / "bootstrap.sh"), what],
            env={"PATH": f"{self.commands}:/usr/bin:/bin", "NOTES": str(self.notes), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
            preexec_fn=_hear_signals,
        )

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


def _hear_signals() -> None:
    """A shell never hears a signal that was ignored when it started, as SIGINT is behind a shell's `&`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    checkout = tmp_path / "checkout"
    (checkout / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "bootstrap.sh", checkout / "tools")
    (checkout / "requirements.txt").write_text("# nothing\n")
    (checkout / "requirements-dev.txt").write_text("-r requirements.txt\n")
    commands = tmp_path / "commands"
    commands.mkdir()
    machine = Machine(checkout, commands, tmp_path / "notes")
    machine.command("python3", PYTHON)
    machine.command("id", "echo 1000")
    machine.command("apt-get", 'echo "$@" >>"$NOTES"')
    return machine


def test_the_environment_is_made_once(machine: Machine) -> None:
    machine.command("python3", f'exec "{REAL}" "$@"')
    first = machine.bootstrap("run")
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stderr
    made = (machine.checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    second = machine.bootstrap("run")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (machine.checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == made


def test_the_tests_environment_serves_the_gateway_too(machine: Machine) -> None:
    assert "Installing requirements-dev.txt" in machine.bootstrap("dev").stderr
    assert machine.bootstrap("run").stderr == ""


def test_changed_requirements_are_installed_into_the_same_environment(machine: Machine) -> None:
    machine.bootstrap("run")
    (machine.checkout / "requirements.txt").write_text("# still nothing\n")
    again = machine.bootstrap("run")
    assert "Installing requirements.txt" in again.stderr
    assert "Making .venv" not in again.stderr
    assert len([line for line in machine.noted() if line.endswith("-r requirements.txt")]) == 2


def test_an_installation_that_fails_is_tried_again(machine: Machine) -> None:
    machine.bootstrap("run")
    (machine.checkout / "requirements.txt").write_text("# still nothing\n")
    python = machine.checkout / ".venv" / "bin" / "python"
    works = python.read_text()
    python.write_text('#!/bin/sh\n[ "$2" != pip ]\n')
    assert machine.bootstrap("run").returncode == 1
    python.write_text(works)
    assert "Installing requirements.txt" in machine.bootstrap("run").stderr


def test_a_broken_environment_is_made_anew(machine: Machine) -> None:
    machine.bootstrap("run")
    (machine.checkout / ".venv" / "bin" / "python").unlink()
    again = machine.bootstrap("run")
    assert again.returncode == 0, again.stderr
    assert "Making .venv" in again.stderr


def test_without_the_venv_module_and_without_root_it_says_what_to_type(machine: Machine) -> None:
    machine.command("python3", NO_VENV)
    done = machine.bootstrap("run")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 1
    assert f"sudo apt-get install python{version}-venv" in done.stderr
    assert machine.noted() == []
    assert not (machine.checkout / ".venv").exists()


def test_as_root_it_installs_the_venv_module(machine: Machine) -> None:
    machine.command("python3", NO_VENV)
    machine.command("id", "echo 0")
    machine.command("apt-get", 'echo "$@" >>"$NOTES"; case "$*" in *-venv*) touch "$NOTES.venv" ;; esac')
    done = machine.bootstrap("run")
    assert done.returncode == 0, done.stderr
    assert any("install" in line and line.endswith("-venv") for line in machine.noted())


def test_as_root_without_success_it_still_says_what_to_type(machine: Machine) -> None:
    machine.command("python3", NO_VENV)
    machine.command("id", "echo 0")
    machine.command("apt-get", "exit 100")
    done = machine.bootstrap("run")
    assert done.returncode == 1
    assert "sudo apt-get install" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_installation_lets_services_start_again(machine: Machine, number: signal.Signals) -> None:
    """A policy-rc.d that stays would keep every package of the machine from starting its service."""
    script = machine.checkout / "tools" / "bootstrap.sh"
    policy = machine.checkout / "policy-rc.d"
    script.write_text(script.read_text().replace("/usr/sbin/policy-rc.d", str(policy)))
    machine.command("python3", NO_VENV)
    machine.command("id", "echo 0")
    machine.command("apt-get", f'[ "$1" = update ] || kill -{number.name.removeprefix("SIG")} "$PPID"')
    assert machine.bootstrap("run").returncode == 128 + number
    assert not policy.exists()


def test_an_old_python_is_named(machine: Machine) -> None:
    machine.command("python3", 'case "$1" in -V) echo "Python 3.9.2" ;; *) exit 1 ;; esac')
    done = machine.bootstrap("run")
    assert done.returncode == 1
    assert "Python 3.9.2 is too old" in done.stderr
    assert "3.11" in done.stderr


def test_another_interpreter_can_be_named(machine: Machine) -> None:
    machine.command("python3", "exit 1")
    machine.command("python3.99", PYTHON)
    assert machine.bootstrap("run", PYTHON="python3.99").returncode == 0


def test_a_missing_interpreter_is_named(machine: Machine) -> None:
    done = machine.bootstrap("run", PYTHON="python9")
    assert done.returncode == 1
    assert "python9 is not there" in done.stderr


def test_what_few_tests_need_is_added_and_nothing_fails_where_it_cannot_be(machine: Machine) -> None:
    for program in ("varnishtest", "slowhttptest", "git", "litmus", "npm"):
        machine.command(program, "")
    (machine.checkout / "requirements-conformance.txt").write_text("# nothing\n")
    machine.bootstrap("dev")
    python = machine.checkout / ".venv" / "bin" / "python"
    works = python.read_text()
    python.write_text('#!/bin/sh\n[ "$2" != pip ]\n')
    without = machine.bootstrap("conformance")
    assert without.returncode == 0
    assert "requirements-conformance.txt could not be installed" in without.stderr
    python.write_text(works)
    assert "Installing requirements-conformance.txt" in machine.bootstrap("conformance").stderr
    assert machine.bootstrap("conformance").stderr == ""
