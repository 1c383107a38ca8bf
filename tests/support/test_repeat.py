"""Which tests belong to a change, and that the first failure ends the repetition."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.repeat import files_for, repeat

CHANGED = [
    "README.md",
    "tentaculo/model/text.py",
    "tentaculo/proxy/exchange.py",
    "tentaculo/model/__init__.py",
    "tests/store/conftest.py",
    "tests/test_tasks.py",
    "tests/proxy/test_gone.py",
    "alembic/env.py",
]


def test_the_files_for_a_change_are_its_test_files_and_those_of_its_modules() -> None:
    assert files_for(CHANGED) == ["tests/model/test_text.py", "tests/test_tasks.py", "tests/wire/test_failures.py"]


@pytest.mark.parametrize(("worst", "code", "runs"), [(1, 0, 3), (2, 1, 2)], ids=["passes", "fails in the second"])
def test_the_first_failure_ends_it_and_says_how_to_repeat_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, worst: int, code: int, runs: int
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    file = tmp_path / "test_seed.py"
    file.write_text(
        "import os\n"
        "def test_seed():\n"
        f"    open({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
        f"    assert int(os.environ['PYTHONHASHSEED']) != {worst} or {worst} == 1\n"
    )
    plugins = ["-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin"]
    assert repeat([str(file)], 3, [*plugins, f"--rootdir={tmp_path}", "-c", "/dev/null"]) == code
    assert len((tmp_path / "runs").read_text()) == runs
    said = capfd.readouterr().out
    assert ("Iteration 2 of 3 failed. The same again: PYTHONHASHSEED=2 " in said) is (code == 1)
    assert ("1 test files passed 3 times" in said) is (code == 0)
