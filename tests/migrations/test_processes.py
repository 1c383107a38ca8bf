"""Migrations as people run them: from a shell, by `alembic` itself, and by two processes at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tentaculo
from tentaculo.store import migrate
from tests.migrations.test_shapes import make, table_names
from tests.support.runtime_tables import OURS, SERVICES, snapshot

ROOT = Path(tentaculo.__file__).parent.parent

UPGRADE_WHEN_TOLD = """
import sys
from tentaculo.store import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate.upgrade(sys.argv[1])
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENTACULO_")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def alembic(*words: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alembic", *words]
    return subprocess.run(command, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("start", ["none", "a", "b", "c"])
def test_two_processes_that_upgrade_at_once_both_end_well(url: str, start: str) -> None:
    make(url, start)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", UPGRADE_WHEN_TOLD, url]
    both = [
        subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)
    ]
    try:
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        ended = [(process.communicate(timeout=60), process.returncode) for process in both]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert [code for _, code in ended] == [0, 0], ended
    migrate.check(url)
    assert migrate.current(url) == migrate.revisions()[-1].name


def test_alembic_upgrade_head_at_the_root(url: str) -> None:
    make(url, "a")
    before = snapshot(url)
    done = alembic("upgrade", "head", TENTACULO_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert migrate.current(url) == migrate.revisions()[-1].name
    for command in ("check", "current"):
        done = alembic(command, TENTACULO_DATABASE_URL=url)
        assert done.returncode == 0, done.stderr
    done = alembic("downgrade", "base", TENTACULO_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert snapshot(url) == before


def test_alembic_takes_the_address_from_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "tentaculo.toml"
    file.write_text('[database]\nurl = "sqlite:///data/fleet.db"\n')
    done = alembic("upgrade", "head", TENTACULO_CONFIG=str(file))
    assert done.returncode == 0, done.stderr
    assert table_names(f"sqlite:///{tmp_path / 'data' / 'fleet.db'}") == {SERVICES, *OURS}


def test_alembic_names_every_fault_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tentaculo.toml"
    file.write_text("[server]\nport = 99999\nshape = 1\n")
    done = alembic("upgrade", "head", TENTACULO_CONFIG=str(file))
    assert done.returncode != 0
    assert "server.port" in done.stdout + done.stderr
    assert "server.shape" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_revision_cannot_be_written_as_sql_and_says_so(tmp_path: Path) -> None:
    done = alembic("upgrade", "head", "--sql", TENTACULO_DATABASE_URL=f"sqlite:///{tmp_path / 'fleet.db'}")
    assert done.returncode != 0
    assert "cannot be written as SQL" in done.stdout + done.stderr


def test_the_installed_package_finds_its_own_migrations(tmp_path: Path) -> None:
    """As the wheel lays them out: tentaculo/migrations, and no folder beside the package."""
    shutil.copytree(ROOT / "tentaculo", tmp_path / "tentaculo")
    shutil.copytree(ROOT / "alembic", tmp_path / "tentaculo" / "migrations")
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    code = "import sys; from tentaculo.store import migrate; print(migrate.__file__); migrate.upgrade(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, url],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert migrate.current(url) == migrate.revisions()[-1].name


def test_the_migrations_are_no_package_that_would_hide_the_library() -> None:
    assert not (ROOT / "alembic" / "__init__.py").exists()
