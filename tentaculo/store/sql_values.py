"""Values as the databases take them."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from sqlalchemy import Connection


def naive_utc(moment: datetime) -> datetime:
    """`moment` as the database keeps it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def storable(text: str) -> str:
    """`text` without what a database refuses: NUL (PostgreSQL) and lone surrogates (both)."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def dialect_module(connection: Connection) -> Any:
    """The dialect's own module, which has the INSERT that knows ON CONFLICT. Only the one in use: each is megabytes."""
    return import_module(f"sqlalchemy.dialects.{connection.dialect.name}")


def aware_utc(moment: datetime) -> datetime:
    """The moment as UTC, of one read from the database, where it has no zone."""
    return moment.replace(tzinfo=UTC)
