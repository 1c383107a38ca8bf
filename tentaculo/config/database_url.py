"""Where the database is, resolved: what the gateway, `db upgrade` and alembic/env.py all open."""

from __future__ import annotations

from tentaculo.config.schema import Config

_POSTGRESQL_DRIVER = "postgresql+pg8000://"


def database_url(config: Config) -> str:
    """The SQLAlchemy address with every default filled in. It may hold a password: never log or show it.

    A relative SQLite path becomes absolute, from the configuration file's folder. `postgresql://` and `postgres://`
    get the one driver this project ships with, pg8000.
    """
    url = config.database.url.reveal()
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return _POSTGRESQL_DRIVER + url.removeprefix(scheme)
    split = _split_sqlite(url)
    if split is None:
        return url
    path, query = split
    return f"sqlite:///{(config.folder / path).absolute()}{query}"


def is_sqlite(config: Config) -> bool:
    """Whether the database is SQLite, in a file or in memory."""
    return config.database.url.reveal().startswith("sqlite")


def make_database_folder(config: Config) -> None:
    """Make the folder of the SQLite file, if it is a file and the folder is missing. Raises OSError."""
    split = _split_sqlite(config.database.url.reveal())
    if split is not None:
        (config.folder / split[0]).absolute().parent.mkdir(parents=True, exist_ok=True)


def _split_sqlite(url: str) -> tuple[str, str] | None:
    """Path and query (with its `?`) of a SQLite file, None for anything that is not a plain file."""
    scheme, separator, rest = url.partition(":///")
    if not separator or scheme not in ("sqlite", "sqlite+pysqlite"):
        return None
    path, mark, query = rest.partition("?")
    # SQLite's own URI form names memory or a file in its own way, and is passed on as it is.
    if not path or path == ":memory:" or path.startswith("file:"):
        return None
    return path, mark + query
