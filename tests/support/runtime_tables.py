"""The three shapes in which `copilot_runtime_services` is found in the field, with the data found in them.

Written as the products that made them did, in plain SQL; `{serial}` and `{datetime}` are what differs by dialect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.pool import NullPool

from tentaculo.store.database import parse_url

SERVICES = "copilot_runtime_services"
OURS = {
    "tentaculo_acknowledgements",
    "tentaculo_alert_channels",
    "tentaculo_clocks",
    "tentaculo_configuration_changes",
    "tentaculo_early_warnings",
    "tentaculo_event_blocks",
    "tentaculo_event_sequence",
    "tentaculo_events",
    "tentaculo_gauges",
    "tentaculo_heartbeats",
    "tentaculo_history",
    "tentaculo_incident_notes",
    "tentaculo_incidents",
    "tentaculo_lease",
    "tentaculo_maintenance",
    "tentaculo_mutes",
    "tentaculo_route_history",
    "tentaculo_schema_notes",
    "tentaculo_schema_version",
    "tentaculo_sessions",
    "tentaculo_state_changes",
    "tentaculo_tickets",
    "tentaculo_token_uses",
}

_LEGACY_COLUMNS = """
    id {serial},
    service_name TEXT UNIQUE,
    host TEXT DEFAULT 'localhost',
    port INTEGER,
    health_url TEXT,
    status TEXT DEFAULT 'unknown',
    last_check TIMESTAMP,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
"""
TABLES = {
    "a": (f"CREATE TABLE {SERVICES} ({_LEGACY_COLUMNS})",),
    "b": (
        f"""CREATE TABLE {SERVICES} (
            id {{integer_key}} NOT NULL,
            service_name VARCHAR(128) NOT NULL,
            host VARCHAR(128),
            port INTEGER NOT NULL,
            health_url VARCHAR(256),
            status VARCHAR(32),
            http_code INTEGER,
            latency_ms INTEGER,
            endpoint_ok VARCHAR(128),
            snippet TEXT,
            last_check {{datetime}},
            checked_at {{datetime}},
            created_at {{datetime}},
            PRIMARY KEY (id),
            UNIQUE (service_name)
        )""",
    ),
    "c": (
        f"CREATE TABLE {SERVICES} ({_LEGACY_COLUMNS})",
        *(
            f"ALTER TABLE {SERVICES} ADD COLUMN {column}"
            for column in (
                "http_code INTEGER",
                "latency_ms INTEGER",
                "snippet TEXT",
                "checked_at TIMESTAMP",
                "endpoint_ok TEXT",
            )
        ),
    ),
}
SHAPES = tuple(TABLES)

# Twelve rows for ten services: two stand there under an alias too.
_NAMES = (
    *("tentaculo_link", "madre", "switch", "hermes", "hormiguero", "manifestator", "mcp"),
    *("shubniggurath", "shub", "spawner", "operator", "operator_backend"),
)
_PORTS = (8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8007, 8008, 8011, 8011)
_STATUSES = ("up", "down", "unknown", "OK", "BROKEN", "UNKNOWN")


def columns_of(shape: str) -> set[str]:
    """The columns that a shape has before anything is added."""
    legacy = {"id", "service_name", "host", "port", "health_url", "status", "last_check", "created_at"}
    return legacy if shape == "a" else legacy | {"http_code", "latency_ms", "endpoint_ok", "snippet", "checked_at"}


def make_services(connection: Connection, shape: str) -> None:
    """Make the table in `shape`, and fill it with what drifted in over the years."""
    is_sqlite = connection.dialect.name == "sqlite"
    words = {
        "serial": "INTEGER PRIMARY KEY AUTOINCREMENT" if is_sqlite else "SERIAL PRIMARY KEY",
        "integer_key": "INTEGER" if is_sqlite else "SERIAL",
        "datetime": "DATETIME" if is_sqlite else "TIMESTAMP",
    }
    for statement in TABLES[shape]:
        connection.exec_driver_sql(statement.format(**words))
    for number, (name, port) in enumerate(zip(_NAMES, _PORTS, strict=True), 1):
        separator = "T" if number % 2 else " "
        values = {
            "service_name": f"'{name}'",
            "port": "NULL" if shape != "b" and number % 4 == 0 else str(port),
            "status": f"'{_STATUSES[number % 6]}'",
            "last_check": f"'2025-12-{number:02}{separator}09:45:00'",
            "created_at": f"'2025-11-{number:02}{separator}08:00:00.123456'",
        }
        _insert(connection, values)
    if shape != "b":
        _insert(connection, {"service_name": "NULL", "port": "NULL", "status": "NULL"})
        _insert(connection, {"service_name": "NULL", "port": "9999", "host": "NULL"})


def make_foreign(connection: Connection, tables: int = 50) -> None:
    """Another product's tables: with rows, keys, indexes, defaults and a view."""
    is_sqlite = connection.dialect.name == "sqlite"
    key = "INTEGER PRIMARY KEY AUTOINCREMENT" if is_sqlite else "SERIAL PRIMARY KEY"
    statements = [
        f"CREATE TABLE events (id {key}, type TEXT, payload TEXT)",
        "INSERT INTO events (type, payload) VALUES ('theirs', '{}')",
    ]
    for number in range(1, tables):
        name = f"foreign_{number:02}"
        statements += [
            f"""CREATE TABLE {name} (
                id {key}, name TEXT UNIQUE, score REAL DEFAULT 0.5, made TIMESTAMP DEFAULT '2025-01-01 00:00:00',
                parent INTEGER REFERENCES events (id), note VARCHAR(20) NOT NULL DEFAULT 'none', CHECK (score < 1000)
            )""",
            f"CREATE INDEX ix_{name}_score ON {name} (score, made)",
            f"INSERT INTO {name} (name, score, parent) VALUES ('á {number}', {number}.25, 1)",
            f"INSERT INTO {name} (name, parent) VALUES (NULL, NULL)",
        ]
    statements.append("CREATE VIEW foreign_view AS SELECT f.name FROM foreign_01 f JOIN events e ON true")
    # To a server all at once: two hundred journeys there would take longer than the test itself.
    for statement in statements if is_sqlite else [";".join(statements)]:
        connection.exec_driver_sql(statement)


@contextmanager
def opened(url: str) -> Iterator[Connection]:
    """A plain connection in one transaction, which makes a SQLite file where there is none."""
    address = parse_url(url)
    # On a Unix socket there is nothing to encrypt, and the driver would read the system's certificates each time.
    arguments = {} if address.get_backend_name() == "sqlite" else {"ssl_context": False}
    engine = create_engine(address, poolclass=NullPool, connect_args=arguments)
    with engine.begin() as connection:
        yield connection


def snapshot(url: str) -> dict[str, Any]:
    """Everything in the database but what is ours alone: definitions and every row, by table; views too."""
    with opened(url) as connection:
        inspector = inspect(connection)
        # All tables in one query each: on PostgreSQL one by one takes seconds.
        described: dict[str, Any] = {
            "columns": inspector.get_multi_columns(),
            "key": inspector.get_multi_pk_constraint(),
            "references": inspector.get_multi_foreign_keys(),
            "indexes": inspector.get_multi_indexes(),
            "unique": inspector.get_multi_unique_constraints(),
            "checks": inspector.get_multi_check_constraints(),
        }
        found: dict[str, Any] = {}
        for name in sorted(set(inspector.get_table_names()) - OURS):
            found[name] = {what: of_all[None, name] for what, of_all in described.items()}
            found[name]["columns"] = [{**column, "type": str(column["type"])} for column in found[name]["columns"]]
            found[name]["rows"] = rows_of(connection, name)
        found["views"] = {name: inspector.get_view_definition(name) for name in inspector.get_view_names()}
        if connection.dialect.name == "sqlite":
            stated = connection.exec_driver_sql("SELECT name, tbl_name, sql FROM sqlite_master ORDER BY name")
            found["statements"] = [tuple(row) for row in stated if row[1] not in OURS]
            if any(row[0] == "sqlite_sequence" for row in connection.exec_driver_sql("SELECT name FROM sqlite_master")):
                given = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence ORDER BY name")
                found["sequences"] = [tuple(row) for row in given if row[0] not in OURS]
            found["journal"] = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        return found


def rows_of(connection: Connection, table: str) -> list[dict[str, Any]]:
    """Every row as the driver reads it, without SQLAlchemy's own idea of the types."""
    return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1").mappings()]


def _insert(connection: Connection, values: dict[str, str]) -> None:
    names, literals = ", ".join(values), ", ".join(values.values())
    connection.exec_driver_sql(f"INSERT INTO {SERVICES} ({names}) VALUES ({literals})")
