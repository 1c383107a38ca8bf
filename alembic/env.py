"""How Alembic reaches the gateway's database: one run at a time, and only the gateway's own tables are compared."""

from __future__ import annotations

from logging.config import fileConfig
from typing import Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from tentaculo.config.environment import database_url, make_database_folder
from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load_usable
from tentaculo.store.database import encryption
from tentaculo.store.migrate import make_private_file, take_over
from tentaculo.store.runtime_table import services_fault
from tentaculo.store.tables import VERSION_TABLE, metadata, services

LOCK_WAIT = 60
"""Seconds that a run waits for another one to end."""
LOCK_KEY = 0x74656E7461
"""The PostgreSQL advisory lock of all migrations of this project; the number is its name in ASCII."""


def _url() -> str:
    """The address the `db` command gives, else that of the gateway's own configuration."""
    given: str | None = context.config.attributes.get("url")
    if given is not None:
        return given
    try:
        config = load_usable().config
    except ConfigError as error:
        raise CommandError(str(error)) from error
    make_database_folder(config)
    return database_url(config)


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, poolclass=NullPool, connect_args=encryption(make_url(url)))
    make_private_file(make_url(url))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_WAIT})

    # Python's driver begins no transaction before DDL; so it begins none at all, and we begin one that excludes others.
    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _is_known(name: str | None, kind: str, _parents: object) -> bool:
    """Whether something found in the database is looked at: of tables only those that bear our names."""
    return kind != "table" or name in metadata.tables


def _is_ours(thing: Any, name: str | None, kind: str, is_reflected: bool, counterpart: object) -> bool:
    """Whether a difference is ours to speak of: of an adopted table, only a column it lacks."""
    table = name if kind == "table" else thing.table.name
    if table != services.name:
        return True
    if services_fault(context.get_bind()) is not None:
        return False
    return kind == "table" or (kind == "column" and not is_reflected and counterpart is None)


def _run(connection: Connection | None, url: str) -> None:
    context.configure(
        connection=connection,
        url=None if connection is not None else url,
        literal_binds=connection is None,
        target_metadata=metadata,
        include_name=_is_known,
        include_object=_is_ours,
        # All or nothing on SQLite too, whose driver Alembic otherwise does not trust with DDL in transactions.
        transactional_ddl=True,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        if connection is not None and connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        if connection is not None:
            take_over(context.get_context(), connection)
        context.run_migrations()
        if connection is not None and not context.get_context().get_current_heads():
            connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))


if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)

if context.is_offline_mode():
    _run(None, _url())
else:
    with _engine(_url()).connect() as _connection:
        _run(_connection, "")
