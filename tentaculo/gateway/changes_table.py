"""The row of several machines that has the changes: written before the file, and followed by every machine.

The times of overrides are those of the database's clock there, so that all machines end one at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import Connection

from tentaculo.config.change_layer import ChangeLayer
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Sources
from tentaculo.gateway.layer_keeper import (
    Adoption,
    LayerConflictError,
    Layers,
    NotKeptError,
    NotNowError,
    NotServedError,
    UncertainError,
)
from tentaculo.model.failure import Problem
from tentaculo.model.text import utc_now
from tentaculo.store.changes import StoredChanges, clock_ahead, read_changes, read_revision, replace_changes
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the row."""
_PLACE = Path("tentaculo_configuration_changes")
"""Where the faults of the row are."""
RETRY_EVERY = 30.0
"""Seconds until a layer that this machine could not serve is tried again."""


class _GivenUpError(ValueError):
    """Nobody waits for the change any more. The transaction is undone."""


class _Attempt:
    """One attempt to replace the row. The database may respond after the one who asked has given up."""

    def __init__(self, before: ChangeLayer, after: ChangeLayer, now: Callable[[], datetime]) -> None:
        self._before = before
        self._after = after
        self._now = now
        self._is_given_up = False
        self._is_committing = False

    def __repr__(self) -> str:
        return f"<_Attempt: {'given up' if self._is_given_up else 'wanted'}>"

    def give_up(self) -> bool:
        """Have the row stay as it is; False where it may be committed already."""
        self._is_given_up = True
        return not self._is_committing

    def write(self, connection: Connection) -> bool:
        """Replace the row in the transaction of `connection`, in the thread of the database."""
        if self._is_given_up:
            return False
        shared = self._after.shifted(clock_ahead(connection, self._now()))
        done = replace_changes(connection, self._before.revision, StoredChanges(self._after.revision, shared.encode()))
        # In this order: `give_up` has the other one, so that one of the two sees what the other thread has set.
        self._is_committing = done
        if self._is_given_up:
            raise _GivenUpError
        return done


class ChangesTable:
    """Writes the row."""

    def __init__(self, store_client: StoreClient, now: Callable[[], datetime] = utc_now) -> None:
        """`now` is the system clock, by which the layers of this machine have their overrides."""
        self._store_client = store_client
        self._now = now

    def __repr__(self) -> str:
        return "<ChangesTable>"

    async def replace(self, before: ChangeLayer, after: ChangeLayer) -> bool:
        """Put `after` in the place of `before`; False where another machine was first.

        Raises `Problem` (503): nothing was changed then, unless it is an `UncertainError`.
        """
        attempt = _Attempt(before, after, self._now)
        try:
            done: bool = await self._store_client.run(attempt.write)
        except StoreUnavailable as problem:
            if attempt.give_up():
                raise
            raise UncertainError from problem
        return done

    async def has(self, layer: ChangeLayer) -> bool:
        """Whether the row has the change that made `layer`. Raises `Problem` (503)."""
        found: StoredChanges | None = await self._store_client.run(read_changes)
        if found is None or found.revision != layer.revision:
            return False
        return ChangeLayer.decode(found.document, _PLACE).is_same_change(layer)


class TableFollower:
    """Serves what other machines have changed, and keeps it in the file of this one."""

    def __init__(
        self,
        layers: Layers,
        store_client: StoreClient,
        *,
        every: float = LOOK_EVERY,
        now: Callable[[], datetime] = utc_now,
        on_first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`on_first` is awaited once this machine serves what the row had at the start. It may raise `NotNowError`."""
        self._layers = layers
        self._store_client = store_client
        self._every = every
        self._on_first = on_first
        self._now = now
        self._table = ChangesTable(store_client, now)
        self._compared: ChangeLayer | None = None
        """What this machine serves, and the row was found to have. A restored database may have another one."""
        self._refused = 0
        """The revision that this machine could not serve."""
        self._refused_with: Sources | None = None
        """What it served then. After a reload it may be able to."""

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
                if self._on_first is not None:
                    await self._on_first()
                    self._on_first = None
            except Problem:
                # What comes back may be another database, or an earlier state of it.
                self._compared = None
            except (NotNowError, LayerConflictError):
                continue  # the next look is soon
            except Exception:  # one failed look must not end the next ones
                log.exception("changes of other machines not followed", again_in=RETRY_EVERY)
                await asyncio.sleep(RETRY_EVERY)

    async def look(self) -> None:
        """Look once. Raises `Problem`, `NotNowError` and `LayerConflictError`."""
        revision = await self._store_client.run(read_revision)
        sources = await self._layers.describe()
        if sources is None:
            return
        if revision is None:
            await self._bring(sources)
        elif revision == self._refused and sources == self._refused_with:
            return
        elif (
            self._compared is None
            or revision != sources.layer.revision
            or not self._compared.is_same_change(sources.layer)
        ):
            await self._follow(sources)

    async def _bring(self, sources: Sources) -> None:
        """The first machine with changes from a time without this table has the others serve them too."""
        if sources.layer.revision and not sources.refused and await self._table.replace(sources.layer, sources.layer):
            log.info("changes of this machine shared", revision=sources.layer.revision)

    async def _follow(self, sources: Sources) -> None:
        found: tuple[StoredChanges, timedelta] | None = await self._store_client.run(self._read)
        if found is None:
            return
        stored, ahead = found
        try:
            layer = ChangeLayer.decode(stored.document, _PLACE).shifted(-ahead)
            if not layer.is_same_change(sources.layer):
                await self._layers.adopt(Adoption(sources, layer), "another machine")
            self._compared, self._refused = layer, 0
        except LayerConflictError as error:
            if not error.is_foreign:
                raise
            self._refuse(stored.revision, sources, error)
        except (ConfigError, NotKeptError, NotServedError) as error:
            self._refuse(stored.revision, sources, error)

    def _read(self, connection: Connection) -> tuple[StoredChanges, timedelta] | None:
        found = read_changes(connection)
        return None if found is None else (found, clock_ahead(connection, self._now()))

    def _refuse(self, revision: int, sources: Sources, error: Exception) -> None:
        self._refused, self._refused_with = revision, sources
        log.error("changes of another machine not served", revision=revision, reason=str(error))
