"""Slow tests are in groups, and a developer can leave them out."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.gateway_process import ROOT, clean_environment
from tests.support.groups import GROUPS

ALONE = (
    *("-q", "-c", "/dev/null", f"--rootdir={ROOT}", "--noconftest", "-p", "no:cacheprovider"),
    *("-p", "tests.support.groups"),
)
"""No other plugin, which takes a second less."""
FILES = ("tests/model/test_clock.py", "tests/migrations/test_stairs.py")


def collected(*options: str) -> tuple[str, list[str]]:
    """The output of a collection of FILES, and the files in the order in which their tests would run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", *ALONE, *options, *reversed(FILES)],
        cwd=ROOT,
        env=clean_environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    names = [line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line]
    return done.stdout, list(dict.fromkeys(names))


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ((), FILES),
        (("--fast",), FILES[:1]),
        (("--slow",), FILES[1:]),
        (("-m", "migration"), FILES[1:]),
    ],
    ids=["all, the fast ones first", "fast", "slow", "one group"],
)
def test_a_run_has_the_tests_it_was_asked_for(options: tuple[str, ...], files: tuple[str, ...]) -> None:
    output, names = collected(*options)
    assert names == list(files), output
    assert all(name in output for name in GROUPS) is ("--fast" in options)


@pytest.mark.command
@pytest.mark.timeout(300)  # two whole collections: beside other tests they take more than a minute
def test_two_processes_collect_the_same_tests_in_the_same_order() -> None:
    """pytest-xdist needs that. A name that is made of a set's order, a time or a random number differs."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "--ignore=tests/conformance", "-p", "no:cacheprovider"]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=clean_environment({"PYTHONHASHSEED": seed}), stdout=subprocess.PIPE, text=True
        )
        for seed in ("1", "2")
    ]
    one, two = ([line for line in process.communicate()[0].splitlines() if "::" in line] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert len(one) > 5000
    assert one == two


@pytest.mark.parametrize("name", GROUPS)
def test_every_place_of_a_group_is_there(name: str) -> None:
    _, places = GROUPS[name]
    assert [place for place in places if not (ROOT / "tests" / place).exists()] == []
