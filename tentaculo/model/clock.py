"""The wall clock."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, with the time zone UTC."""
    return datetime.now(UTC)
