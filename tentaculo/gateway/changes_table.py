"""The row of several machines that has the changes: written before the file, and followed by every machine."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import structlog

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
from tentaculo.store.changes import StoredChanges, read_changes, read_revision, replace_changes
from tentaculo.store.client import StoreClient

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the row."""
RETRY_EVERY = 30.0
"""Seconds until a layer that this machine could not serve is tried again."""


class ChangesTable:
    """Writes the row."""

    def __init__(self, store_client: StoreClient) -> None:
        self._store_client = store_client

    def __repr__(self) -> str:
        return "<ChangesTable>"

    async def replace(self, before: ChangeLayer, after: ChangeLayer) -> bool:
        """Put `after` in the place of `before`; False where another machine was first. Raises `Problem` (503)."""
        stored = StoredChanges(after.revision, after.encode())
        done: bool = await self._store_client.run(partial(replace_changes, before=before.revision, after=stored))
        return done


class TableFollower:
    """Serves what other machines have changed, and keeps it in the file of this one."""

    def __init__(self, layers: Layers, store_client: StoreClient, *, every: float = LOOK_EVERY) -> None:
        self._layers = layers
        self._store_client = store_client
        self._every = every
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
            except (Problem, NotNowError, LayerConflictError):
                continue  # the next look is soon

    async def look(self) -> None:
        """Look once. Raises `Problem`, `NotNowError` and `LayerConflictError`."""
        revision = await self._store_client.run(read_revision)
        if revision is None or revision == self._refused:
            return
        sources = await self._layers.describe()
        if sources is None or sources.layer.revision == revision:
            return
        found: StoredChanges | None = await self._store_client.run(read_changes)
        if found is None:
            return
        try:
            layer = ChangeLayer.decode(found.document, Path("tentaculo_configuration_changes"))
            await self._layers.adopt(Adoption(sources, layer), "another machine")
        except (ConfigError, NotKeptError, NotServedError) as error:
            self._refused = revision
            log.error("changes of another machine not served", revision=revision, reason=str(error))
