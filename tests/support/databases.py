"""Databases for tests, of both kinds: empty ones, and migrated ones that are copies of one template."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tentaculo.store import migrate
from tests.support.postgresql import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database. For SQLite the file does not exist yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fleet.db'}"
    else:
        server: Server = request.getfixturevalue("postgresql")
        with server.database() as url:
            yield url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy from. No test may open it."""
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    migrate.upgrade(f"sqlite:///{path}")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name], "the file alone is the whole database"
    return path


@pytest.fixture
def file(tmp_path: Path, migrated_file: Path) -> Path:
    """A migrated SQLite file."""
    return Path(shutil.copyfile(migrated_file, tmp_path / "fleet.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database."""
    if request.param == "sqlite":
        yield f"sqlite:///{request.getfixturevalue('file')}"
    else:
        server: Server = request.getfixturevalue("postgresql")
        with server.database(server.template("migrated", migrate.upgrade)) as url:
            yield url
