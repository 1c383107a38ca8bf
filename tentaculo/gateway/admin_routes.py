"""The write API of a gateway. What it needs is loaded when somebody first uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from tentaculo.gateway.layer_keeper import NotNowError
from tentaculo.gateway.loading import LoadedLater
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.failure import Failure, Problem
from tentaculo.security.cors import CorsPolicy
from tentaculo.server import caller
from tentaculo.server.caller import SENDER, is_from_own_page
from tentaculo.server.native_routes import NativeRoute
from tentaculo.store.client import StoreClient
from tentaculo.web import admin

if TYPE_CHECKING:
    from tentaculo.gateway.administration import ConfigurationAdministration
    from tentaculo.gateway.layer_keeper import Layers


RECORDED_WITHIN = timedelta(days=1)
"""After which a change is not recorded at a start: events are kept longer than that, and one that is gone stays so."""
RETRY = 1.0
"""Seconds until a worker that is being started asks for it again."""


class AdminParts(msgspec.Struct, frozen=True):
    """What the write API uses of a gateway."""

    generation: Callable[[], str]
    """What identifies the configuration that is served."""
    record: Callable[..., None]
    """Records an event of the gateway's own."""


class LazyAdministration:
    """A `ConfigurationAdministration` that is made at the first request."""

    def __init__(self, load: Callable[[], ConfigurationAdministration]) -> None:
        self._made = LoadedLater(load)

    def __repr__(self) -> str:
        return f"<LazyAdministration {self._made!r}>"

    async def view(self) -> tuple[str, dict[str, Any]]:
        """As that of the administration; the following too."""
        return await (await self._made.get()).view()

    async def view_service(self, name: str) -> tuple[str, dict[str, Any]]:
        """See above."""
        return await (await self._made.get()).view_service(name)

    async def edit(self, *what: Any, **how: Any) -> tuple[str, dict[str, Any]]:
        """See above."""
        return await (await self._made.get()).edit(*what, **how)

    async def switch(self, *what: Any, **how: Any) -> tuple[str, dict[str, Any]]:
        """See above."""
        return await (await self._made.get()).switch(*what, **how)

    async def release(self, *what: Any, **how: Any) -> tuple[str, dict[str, Any]]:
        """See above."""
        return await (await self._made.get()).release(*what, **how)

    async def undo(self, *what: Any, **how: Any) -> tuple[str, dict[str, Any]]:
        """See above."""
        return await (await self._made.get()).undo(*what, **how)


def routes(
    layers: Layers | None,
    store_client: StoreClient,
    cors: CorsPolicy,
    parts: AdminParts,
    now: Callable[[], datetime],
) -> list[NativeRoute]:
    """The routes. `layers` is None where the configuration is from no file."""

    def load() -> ConfigurationAdministration:
        from tentaculo.gateway.administration import ConfigurationAdministration
        from tentaculo.gateway.changes_table import ChangesTable

        table = ChangesTable(store_client) if store_client.may_be_shared else None
        return ConfigurationAdministration(layers, parts.generation, now=now, record=parts.record, table=table)

    return admin.routes(LazyAdministration(load), require_caller, partial(check_origin, cors))


async def follow_changes(
    layers: Layers, store_client: StoreClient, record: RecordOwnEvent, now: Callable[[], datetime]
) -> None:
    """Record the change that was the last one before the start, and serve what other machines change, until cancelled."""
    record_last = partial(record_last_change, layers, record, now)
    if store_client.may_be_shared:
        from tentaculo.gateway.changes_table import TableFollower

        await TableFollower(layers, store_client, on_first=record_last).run()
    is_recorded = False
    while not is_recorded:
        try:
            await record_last()
            is_recorded = True
        except NotNowError as error:
            # A worker learns of it once it serves.
            is_recorded = error.is_stopping
            await asyncio.sleep(RETRY)


async def record_last_change(layers: Layers, record: RecordOwnEvent, now: Callable[[], datetime]) -> None:
    """Record the last change of the configuration. Raises `NotNowError`.

    A process that was killed behind it may not have recorded it. The key keeps it one event where it has.
    """
    sources = await layers.describe()
    layer = None if sources is None else sources.layer
    if layer is None or layer.changed_at is None or now() - layer.changed_at > RECORDED_WITHIN:
        return
    at = layer.changed_at.isoformat()
    record("configuration.changed", key=layer.key, by=layer.changed_by, revision=layer.revision, at=at)


def check_origin(cors: CorsPolicy, request: web.Request) -> None:
    """Raise `Problem` (403) for the page of an origin that may not send requests here."""
    origin = request.headers.get("Origin")
    if origin is not None and not cors.allows(origin) and not is_from_own_page(request[SENDER].inbound):
        raise Problem(Failure.ORIGIN_DENIED, "Add the page's origin to cors.origins.")


def require_caller(request: web.Request) -> str:
    """The name of the caller. Raises `Problem` (403) where nobody is authenticated: without tokens the configuration is closed."""
    if not request[SENDER].is_authenticated:
        raise Problem(Failure.FORBIDDEN, "Without tokens nobody may change the configuration by HTTP.")
    return caller.name_of(request) or "a token without a name"
