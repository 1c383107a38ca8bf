"""Reads the stored early warnings for the page and the endpoint. It loads no detector, which few gateways need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from tentaculo.model.early_warning import DAYS, EarlyWarning
from tentaculo.store import early_warnings as stored
from tentaculo.store.client import StoreClient

SHOWN: Final = 200
"""Warnings that the page and the endpoint read at most."""
ReadWarnings = Callable[[Sequence[str] | None], Awaitable[Sequence[EarlyWarning]]]


def warnings_reader(store_client: StoreClient, now: Callable[[], datetime]) -> ReadWarnings:
    """Reads the newest warnings of 90 days, of some services or of all. It raises `StoreUnavailable`."""

    async def read(services: Sequence[str] | None) -> Sequence[EarlyWarning]:
        since = now() - timedelta(days=DAYS)
        found: list[EarlyWarning] = await store_client.read(
            partial(stored.read, since=since, services=services, limit=SHOWN)
        )
        return found

    return read
