from __future__ import annotations

from pathlib import Path

import pytest

from tentaculo.config.database_url import database_url, is_sqlite, make_database_folder
from tentaculo.config.reader import read
from tentaculo.config.schema import Config, DatabaseSettings


def config_with(url: str, folder: Path) -> Config:
    return Config(database=read(DatabaseSettings, {"url": url}), folder=folder)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///data/x.db", "sqlite:////etc/t/data/x.db"),
        ("sqlite+pysqlite:///x.db?timeout=3", "sqlite:////etc/t/x.db?timeout=3"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:x?mode=memory&uri=true", "sqlite:///file:x?mode=memory&uri=true"),
        ("postgresql://u:p@h/d", "postgresql+pg8000://u:p@h/d"),
        ("postgres://h/d", "postgresql+pg8000://h/d"),
        ("postgresql+pg8000://h/d", "postgresql+pg8000://h/d"),
    ],
)
def test_an_address_is_resolved(url: str, resolved: str) -> None:
    config = config_with(url, Path("/etc/t"))
    assert database_url(config) == resolved
    assert is_sqlite(config) is url.startswith("sqlite")


def test_a_relative_folder_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_url(config_with("sqlite:///x.db", Path("conf"))) == f"sqlite:///{tmp_path}/conf/x.db"


def test_the_folder_is_made_when_asked_and_not_before(tmp_path: Path) -> None:
    config = config_with("sqlite:///a/b/x.db", tmp_path)
    database_url(config)
    assert not (tmp_path / "a").exists()
    make_database_folder(config)
    make_database_folder(config)
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://h/d"])
def test_a_database_without_a_file_needs_no_folder(tmp_path: Path, url: str) -> None:
    make_database_folder(config_with(url, tmp_path))
    assert list(tmp_path.iterdir()) == []
