"""The sections [database], [history] and [events]: where data is stored, and how long it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from tentaculo.config.section import Doc, Section, at_least, at_most
from tentaculo.config.types import DatabaseUrl, Seconds, Secret


class DatabaseSettings(Section, frozen=True):
    """[database]: where health and events are kept."""

    url: Annotated[
        DatabaseUrl,
        Doc(
            "Database URL: sqlite:/// or postgresql://. A relative SQLite path starts at the folder of this file.",
            active=True,
        ),
    ] = Secret("sqlite:///data/tentaculo.db")
    auto_upgrade: Annotated[
        bool | None,
        Doc(
            "Whether `tentaculo serve` brings the database schema up to date.",
            default="true for SQLite, false for PostgreSQL",
            example=True,
        ),
    ] = None
    durability: Annotated[
        Literal["power", "process"],
        Doc(
            "What a stored event survives: a power cut of the machine, or only the end of the process, which is faster."
            " For SQLite."
        ),
    ] = "power"


class HistorySettings(Section, frozen=True):
    """[history]: how long counts and latencies are kept in the database."""

    hours_of_minutes: Annotated[
        int, at_least(3), at_most(8760), Doc("How long the values of each minute are kept.", unit="hours")
    ] = 48
    days_of_hours: Annotated[
        int, at_least(2), at_most(3660), Doc("How long the values of each hour are kept.", unit="days")
    ] = 90
    years_of_days: Annotated[
        int, at_least(1), at_most(100), Doc("How long the values of each day are kept.", unit="years")
    ] = 2


class EventSettings(Section, frozen=True):
    """[events]: how long events wait for the database, and how long they are kept in it."""

    wait: Annotated[
        Seconds,
        Doc(
            "How long an event waits for a database that is locked, full or away.",
            unit="seconds",
            beyond="503 `store_unavailable` with Retry-After",
        ),
    ] = 15
    queue: Annotated[
        int,
        at_least(1),
        Doc(
            "Events that wait for the database, 32 MiB of them at most.",
            unit="events",
            beyond="503 `store_unavailable` with Retry-After",
        ),
    ] = 4096
    correlate: Annotated[
        tuple[str, ...],
        Doc(
            "Members of events whose equal values join them in `GET /debug/events/correlations`, in the payload or the"
            " metadata; `payload.id` is that of the payload alone."
        ),
    ] = ("spawn_id", "child", "payload.id", "task_id", "session_id")
    keep: Annotated[
        int, at_least(1), at_most(3660), Doc("How long events are kept.", unit="days", beyond="the event is deleted")
    ] = 90
    keep_bytes: Annotated[
        int,
        at_least(1024 * 1024),
        Doc(
            "Size of the events of producers together. It counts the rows, not the file.",
            unit="bytes",
            beyond="the oldest events are deleted",
        ),
    ] = 1024 * 1024 * 1024
