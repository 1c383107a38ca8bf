"""What a database address means: which driver, and which file."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url

_DRIVERS = {
    "postgres": "postgresql+pg8000",
    "postgresql": "postgresql+pg8000",
    "postgresql+asyncpg": "postgresql+pg8000",
    "sqlite+pysqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}


def parse(url: str) -> URL:
    """Take a SQLAlchemy address apart; one without a driver gets the one that the gateway is shipped with.

    Raises `sqlalchemy.exc.ArgumentError` where it is no address.
    """
    parsed = make_url(url)
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def database_file(url: URL) -> Path | None:
    """The SQLite file behind `url`; None for a server, a database in memory, or a `file:` address."""
    name = url.database
    if url.get_backend_name() != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)
