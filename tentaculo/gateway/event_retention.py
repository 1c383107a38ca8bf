"""The deletion of old events, which one process does for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from tentaculo.config.schema import Config
from tentaculo.store.client import StoreClient
from tentaculo.store.events import EventRetention

TRIM_EVERY = 60.0
"""Seconds between two deletions."""


async def trim_events(
    config: Config, store: StoreClient, is_steady: Callable[[], bool], now: Callable[[], datetime]
) -> None:
    """Delete what `[events]` does not keep, every minute until cancelled.

    `is_steady` says whether the clock has not been set lately. On a wrong clock every event would seem too old.
    """
    keep, most_bytes = timedelta(days=config.events.keep), config.events.keep_bytes
    keep_own = max(keep, timedelta(days=config.incidents.keep))
    while True:
        await asyncio.sleep(TRIM_EVERY)
        if is_steady():
            store.trim_events(EventRetention(now() - keep, most_bytes, now() - keep_own))
        else:
            store.trim_events(EventRetention(None, most_bytes))
