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


@pytest.mark.parametrize("name", GROUPS)
def test_every_place_of_a_group_is_there(name: str) -> None:
    _, places = GROUPS[name]
    assert [place for place in places if not (ROOT / "tests" / place).exists()] == []
