"""How many requests of each service failed in each minute, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, select

from tentaculo.model.history import MINUTE
from tentaculo.model.incident_past import FailedMinute
from tentaculo.store.tables import history

MOST_SERVICES = 500
"""Services that are named in a query; of more, the rows of all are read."""


def read_failed(connection: Connection, since: int, until: int, services: Collection[str]) -> list[FailedMinute]:
    """The minutes that begin between `since` and `until` (not included) in which requests of `services` failed."""
    c = history.c
    query = select(c.service, c.start, c.requests_failed).where(
        c.span == MINUTE, c.start >= since, c.start < until, c.requests_failed > 0
    )
    if len(services) <= MOST_SERVICES:
        query = query.where(c.service.in_(services))
    return [FailedMinute(service, start, failed) for service, start, failed in connection.execute(query)]
