"""Bring a database up to date, or back. Only the `db` command imports this: the server never loads Alembic."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

import tentaculo
from tentaculo.store.database import connect, database_file, parse_url
from tentaculo.store.errors import StoreUnavailable, describe


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`; a SQLite file and its folder are made where they are missing.

    Several processes may do so at once: one does the work, the others wait for it and find it done. Raises
    `StoreUnavailable`, whose `detail` is one sentence why; nothing was changed then.
    """
    with _address(url) as address:
        file = database_file(address)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        command.upgrade(_config(address), revision)


def downgrade(url: str, revision: str) -> None:
    """Bring the database back to `revision`, or by `base` to before the first one.

    Only what the revisions added is removed, with what is in it. Raises `StoreUnavailable`.
    """
    with _address(url) as address:
        command.downgrade(_config(address), revision)


def check(url: str) -> None:
    """See that the database has everything the gateway's tables need. Raises `StoreUnavailable` where it has not."""
    with _address(url) as address:
        command.check(_config(address))


def current(url: str) -> str | None:
    """The revision of the database; None where it was never migrated, or is not there. Raises `StoreUnavailable`."""
    with _address(url) as address:
        file = database_file(address)
        if file is not None and not file.exists():
            return None
        with closing(connect(address)) as connection:
            return MigrationContext.configure(connection).get_current_revision()


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema's history."""

    name: str
    parent: str | None


def revisions() -> tuple[Revision, ...]:
    """The whole history, oldest first."""
    steps = reversed(list(ScriptDirectory.from_config(_bare_config()).walk_revisions()))
    return tuple(Revision(step.revision, str(step.down_revision) if step.down_revision else None) for step in steps)


def _config(address: URL) -> Config:
    config = _bare_config()
    # Not by an option: a password may hold what an ini file takes for its own.
    config.attributes["url"] = address.render_as_string(hide_password=False)
    return config


def _bare_config() -> Config:
    # What Alembic would print is for its own command line; ours has words of its own.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> Path:
    """The migrations: within the installed package, or beside it in a checkout."""
    package = Path(tentaculo.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "alembic"


@contextmanager
def _address(url: str) -> Iterator[URL]:
    """Take `url` apart, and put whatever goes wrong with that database into words."""
    address = URL.create("sqlite")
    try:
        address = parse_url(url)
        yield address
    except CommandError as error:
        raise StoreUnavailable(str(error)) from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise StoreUnavailable(describe(error, address)) from error
