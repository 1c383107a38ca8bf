"""The row of several machines that has the changes: written before the file, and followed by every machine.

The times of overrides are those of the database's clock there, so that all machines end one at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Connection

from tentaculo.config.change_layer import ChangeLayer
from tentaculo.config.errors import ConfigError
from tentaculo.gateway.layer_keeper import (
    Adoption,
    LayerConflictError,
    Layers,
    NotKeptError,
    NotNowError,
    NotServedError,
)
from tentaculo.model.failure import Problem
from tentaculo.model.text import utc_now
from tentaculo.store.changes import StoredChanges, clock_ahead, read_changes, read_revision, replace_changes
from tentaculo.store.client import StoreClient

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the row."""
_PLACE = Path("tentaculo_configuration_changes")
"""Where the faults of the row are."""
RETRY_EVERY = 30.0
"""Seconds until a layer that this machine could not serve is tried again."""


class ChangesTable:
    """Writes the row."""

    def __init__(self, store_client: StoreClient, now: Callable[[], datetime] = utc_now) -> None:
        """`now` is the system clock, by which the layers of this machine have their overrides."""
        self._store_client = store_client
        self._now = now

    def __repr__(self) -> str:
        return "<ChangesTable>"

    async def replace(self, before: ChangeLayer, after: ChangeLayer) -> bool:
        """Put `after` in the place of `before`; False where another machine was first. Raises `Problem` (503)."""

        def write(connection: Connection) -> bool:
            shared = after.shifted(clock_ahead(connection, self._now()))
            return replace_changes(connection, before.revision, StoredChanges(after.revision, shared.encode()))

        done: bool = await self._store_client.run(write)
        return done


class TableFollower:
    """Serves what other machines have changed, and keeps it in the file of this one."""

    def __init__(
        self,
        layers: Layers,
        store_client: StoreClient,
        *,
        every: float = LOOK_EVERY,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._layers = layers
        self._store_client = store_client
        self._every = every
        self._now = now
        self._is_compared = False
        """Whether what this machine has of its revision is what the row has. A restored database may have another one."""
        self._refused = 0
        """The revision that this machine could not serve."""

    def __repr__(self) -> str:
        return f"<TableFollower: {self._refused} refused>"

    async def run(self) -> None:
        """Follow until cancelled."""
        refused_for = 0.0
        while True:
            await asyncio.sleep(self._every)
            refused_for = refused_for + self._every if self._refused else 0.0
            if refused_for >= RETRY_EVERY:
                self._refused, refused_for = 0, 0.0
            try:
                await self.look()
            except Problem:
                # What comes back may be another database, or an earlier state of it.
                self._is_compared = False
            except (NotNowError, LayerConflictError):
                continue  # the next look is soon

    async def look(self) -> None:
        """Look once. Raises `Problem`, `NotNowError` and `LayerConflictError`."""
        revision = await self._store_client.run(read_revision)
        if revision is None or revision == self._refused:
            return
        sources = await self._layers.describe()
        if sources is None or (sources.layer.revision == revision and self._is_compared):
            return
        found: tuple[StoredChanges, timedelta] | None = await self._store_client.run(self._read)
        if found is None:
            return
        stored, ahead = found
        try:
            layer = ChangeLayer.decode(stored.document, _PLACE).shifted(-ahead)
            if not layer.is_same_change(sources.layer):
                await self._layers.adopt(Adoption(sources, layer), "another machine")
            self._is_compared = True
        except LayerConflictError as error:
            if not error.is_foreign:
                raise
            self._refuse(stored.revision, error)
        except (ConfigError, NotKeptError, NotServedError) as error:
            self._refuse(stored.revision, error)

    def _read(self, connection: Connection) -> tuple[StoredChanges, timedelta] | None:
        found = read_changes(connection)
        return None if found is None else (found, clock_ahead(connection, self._now()))

    def _refuse(self, revision: int, error: Exception) -> None:
        self._refused = revision
        log.error("changes of another machine not served", revision=revision, reason=str(error))
