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
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Table, event, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

import tentaculo
import tentaculo.store.changes  # its table is one of `metadata`
from tentaculo.model.text import printable
from tentaculo.store.database import connect, database_file, parse_url
from tentaculo.store.errors import StoreUnavailable, describe
from tentaculo.store.tables import VERSION_TABLE, events, metadata, schema_notes

_OWN = "tentaculo_"
"""How the names of the gateway's own tables begin."""
_PARTIAL = {"ix_tentaculo_events_source_key": "key", "ix_tentaculo_events_severity_id": "severity"}
"""Indexes that leave out rows without a value in this column."""
_OLD_VERSION_TABLE = "alembic_version"
"""Where earlier versions kept their revision."""


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`; a SQLite file and its folder are made where they are missing.

    Several processes may do so at once: one does the work, the others wait for it and find it done. Raises
    `StoreUnavailable`, whose `detail` is one sentence why; nothing was changed then.
    """
    with _address(url, revision) as address:
        file = database_file(address)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        command.upgrade(_config(address), revision)
        if revision == "head":
            _make_dropped_tables(address)


def downgrade(url: str, revision: str) -> None:
    """Bring the database back to `revision`, or by `base` to before the first one.

    Only what the revisions added is removed, with what is in it. Raises `StoreUnavailable`.
    """
    with _address(url, revision) as address:
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
            known = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return known.get_current_revision() or recorded_revision(connection)


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema's history."""

    name: str
    parent: str | None


def revisions() -> tuple[Revision, ...]:
    """The whole history, oldest first."""
    steps = reversed(list(ScriptDirectory.from_config(_bare_config()).walk_revisions()))
    return tuple(Revision(step.revision, str(step.down_revision) if step.down_revision else None) for step in steps)


def recorded_revision(connection: Connection) -> str | None:
    """The revision of a database that has no version table of ours, from the notes of its revisions; None without notes.

    A row of `alembic_version` does not say whose it is: other products have revisions of the same names.
    """
    names = inspect(connection).get_table_names()
    if VERSION_TABLE in names or schema_notes.name not in names:
        return None
    noted = set(connection.scalars(select(schema_notes.c.revision)))
    return next((step.name for step in reversed(revisions()) if step.name in noted), None)


def take_over(context: MigrationContext, connection: Connection) -> None:
    """Move the revision that an older version wrote into `alembic_version` to the version table of ours.

    Another product's rows stay. The table is dropped where no row is left in it.
    """
    revision = recorded_revision(connection)
    if revision is None:
        return
    context.stamp(ScriptDirectory.from_config(_bare_config()), revision)
    if _OLD_VERSION_TABLE in inspect(connection).get_table_names():
        connection.execute(text(f"DELETE FROM {_OLD_VERSION_TABLE} WHERE version_num = :own"), {"own": revision})  # noqa: S608
        if connection.scalar(text(f"SELECT count(*) FROM {_OLD_VERSION_TABLE}")) == 0:  # noqa: S608
            connection.execute(text(f"DROP TABLE {_OLD_VERSION_TABLE}"))


def _make_dropped_tables(address: URL) -> None:
    """Make those of the gateway's tables that somebody has dropped: a database at the last revision has no step to do."""
    with closing(connect(address)) as connection:
        found = inspect(connection)
        names = {*found.get_table_names(), *found.get_view_names()}
        dropped = [one for one in metadata.sorted_tables if one.name.startswith(_OWN) and one.name not in names]
        if dropped:
            metadata.create_all(connection, dropped)
            connection.commit()


@event.listens_for(events, "before_create")
def _leave_out_missing_values(table: Table, connection: Connection, **_: object) -> None:
    """As revisions 0025 and 0027: each event without a key or severity would have an entry in their indexes."""
    for index in table.indexes:
        if index.name in _PARTIAL:
            index.dialect_options[connection.dialect.name]["where"] = text(f"{_PARTIAL[index.name]} IS NOT NULL")


def _config(address: URL) -> Config:
    config = _bare_config()
    # Not by an option: a password may hold what an ini file takes for its own.
    config.attributes["url"] = address.render_as_string(hide_password=False)
    return config


def _bare_config() -> Config:
    # Alembic would print for its own command line.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> Path:
    """The migrations: within the installed package, or beside it in a checkout."""
    package = Path(tentaculo.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "alembic"


def make_private_file(address: URL) -> None:
    """Create the SQLite file of `address`, if it is missing, for its owner only. SQLite's other files get the same mode."""
    file = database_file(address)
    if file is not None and file.parent.is_dir() and not file.exists():
        file.touch(0o600)


@contextmanager
def _address(url: str, asked: str = "") -> Iterator[URL]:
    """Take `url` apart, and turn any error of that database into a sentence. `asked` is the revision that is wanted."""
    address = URL.create("sqlite")
    try:
        address = parse_url(url)
        yield address
    except CommandError as error:
        raise StoreUnavailable(_command_words(error, asked)) from error
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise StoreUnavailable(describe(error, address)) from error


def _command_words(error: CommandError, asked: str) -> str:
    missing = error.__cause__
    if isinstance(missing, ResolutionError) and missing.argument != asked:
        found = printable(str(missing.argument), 32)
        return f"The database has the revision {found}, of another version of the gateway: use that one."
    return str(error)
