"""What a database URL means: its driver, its file, and its defaults. The gateway, the commands and Alembic use it."""

from __future__ import annotations

from pathlib import Path

from tentaculo.config.schema import Config

_DRIVERS = {
    "postgres": "postgresql+pg8000",
    "postgresql": "postgresql+pg8000",
    "postgresql+asyncpg": "postgresql+pg8000",
    "sqlite+pysqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}
"""Schemes that get one of the two drivers that the gateway is shipped with. Other schemes stay."""


def database_url(config: Config) -> str:
    """The SQLAlchemy URL with its driver. It may contain a password: never log or show it.

    A relative SQLite path becomes absolute, from the folder of the configuration file.
    """
    url = with_driver(config.database.url.reveal())
    file = _configured_file(config)
    if file is None:
        return url
    _, mark, query = url.partition("?")
    return f"sqlite:///{file}{mark}{query}"


def with_driver(url: str) -> str:
    """`url` with a driver of the gateway in place of a general or an asynchronous one."""
    scheme, separator, rest = url.partition("://")
    return f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}"


def sqlite_file(database: str | None) -> Path | None:
    """The file of a SQLite database, from the path in its URL; None for memory and for SQLite's own `file:` form."""
    if not database or database == ":memory:" or database.startswith("file:"):
        return None
    return Path(database)


def is_sqlite(config: Config) -> bool:
    """Whether the database is SQLite, in a file or in memory."""
    return config.database.url.reveal().startswith("sqlite")


def make_database_folder(config: Config) -> None:
    """Make the folder of the SQLite file, if it is a file and the folder is missing. Raises OSError."""
    file = _configured_file(config)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def _configured_file(config: Config) -> Path | None:
    scheme, _, rest = with_driver(config.database.url.reveal()).partition(":///")
    file = sqlite_file(rest.partition("?")[0]) if scheme == "sqlite" else None
    return None if file is None else (config.folder / file).absolute()
