"""Watches the files of the configuration for `reload.watch`, by looking at them once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tentaculo.gateway.configuration_source import ConfigurationSource, look_at

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks. A change counts once two looks in a row have found the same: a file may be half written."""


class FileWatch:
    """Calls `on_change` where the files of a source are not as they were when it read them last."""

    def __init__(self, source: ConfigurationSource, on_change: Callable[[], Awaitable[object]]) -> None:
        """`on_change` has the source read the files again, so that what it finds then is no change any more."""
        self._source = source
        self._on_change = on_change

    def __repr__(self) -> str:
        return f"<FileWatch: {len(self._source.seen)} files>"

    async def run(self) -> None:
        """Look until cancelled."""
        last = dict(self._source.seen)
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                # A file system that is slow, or gone, delays the thread only.
                found = await asyncio.to_thread(look_at, [*self._source.seen])
                is_settled, last = found == last, found
                if is_settled and found != self._source.seen:
                    await self._on_change()
            except Exception:  # one failed look must not end the next ones
                log.exception("configuration files not watched")
