"""Serves and keeps layers of changes in the process that reads the configuration, one after another.

adopt ─▶ check as a whole ─▶ prepare ─▶ write the file ─▶ swap
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

import structlog

from tentaculo.config.change_layer import ChangeLayer
from tentaculo.config.changing import tidied
from tentaculo.config.comparison import Changes
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Sources
from tentaculo.config.loader import Loaded
from tentaculo.gateway.layer_keeper import (
    Adoption,
    KeptFile,
    LayerConflictError,
    NotKeptError,
    NotServedError,
    OverrideTimer,
)
from tentaculo.model.text import utc_now
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

RETRY_END = 5.0
"""Seconds until the end of an override is tried again where it could not be served."""


class Serving(Protocol):
    """What serves a configuration in place of another, in two steps."""

    async def prepare(self, loaded: Loaded) -> Any:
        """Build everything. Raises ConfigError and `NotServedError`, and changes nothing."""

    async def swap(self, prepared: Any, by: str) -> Changes:
        """Serve what was prepared. Raises `NotServedError`; nothing was changed then."""
        ...


class LayerReloads:
    """The layers of one gateway. `sources` is what is served was made of."""

    def __init__(
        self,
        sources: Sources,
        load: Callable[[Sources], Loaded],
        serving: Serving,
        *,
        lock: asyncio.Lock,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`load` makes a configuration of its sources, with all checks of a start. Whoever else serves another
        configuration holds `lock` meanwhile, and calls `note_served`."""
        self._sources = sources
        self._load = load
        self._serving = serving
        self._lock = lock
        self._now = now
        self._tasks = TaskGroup("layers")
        self._timer = OverrideTimer(self._end)
        self._timer.set(sources.layer, now())

    def __repr__(self) -> str:
        return f"<LayerReloads: revision {self._sources.layer.revision}>"

    def open(self) -> None:
        """Tidy what an earlier run has left: overrides that are over, and those from a time that the clock has not reached."""
        if _tidied(self._sources, self._now()) != self._sources.layer:
            self._tasks.start(self._tidy(), "tidy")

    async def _tidy(self) -> None:
        before = self._sources
        layer = _tidied(before, self._now())
        try:
            await self._adopt(Adoption(before, layer), "overrides of an earlier run")
        except (ConfigError, LayerConflictError, NotKeptError, NotServedError) as error:
            log.error("changes not kept", file=str(before.changes_file), reason=str(error))

    async def close(self) -> None:
        """End no override any more."""
        self._timer.close()
        await self._tasks.close()

    async def describe(self) -> Sources:
        """What is served was made of this."""
        return self._sources

    def note_served(self, sources: Sources) -> None:
        """Something else than a change has had other sources served."""
        self._sources = sources
        self._timer.set(sources.layer, self._now())

    async def adopt(self, adoption: Adoption, by: str) -> Changes:
        """Serve a layer and keep it.

        Raises ConfigError, `LayerConflictError`, `NotKeptError` and `NotServedError`; nothing was changed then.
        """
        # A client that leaves must not end a change between its file and what is served.
        return await asyncio.shield(self._tasks.start(self._adopt(adoption, by), "adopt"))

    async def _adopt(self, adoption: Adoption, by: str) -> Changes:
        async with self._lock:
            before = self._sources
            if (before.layer, before.text) != (adoption.before.layer, adoption.before.text):
                raise LayerConflictError("The configuration has changed meanwhile.")
            after = replace(before, layer=adoption.layer, refused=())
            loaded = await asyncio.to_thread(self._load, after)
            prepared = await self._serving.prepare(loaded)
            kept = KeptFile(before.changes_file, before.layer, may_replace=bool(before.refused))
            if adoption.is_kept:
                await asyncio.to_thread(kept.write, adoption.layer)
            try:
                changes = await self._serving.swap(prepared, by)
            except BaseException:
                if adoption.is_kept:
                    await asyncio.to_thread(kept.put_back)
                raise
            self.note_served(after)
            return changes

    def _end(self, names: frozenset[str]) -> None:
        self._tasks.start(self._end_overrides(names), "end of overrides")

    async def _end_overrides(self, names: frozenset[str]) -> None:
        """Serve without these overrides, whatever happens to the file: one that is over has no effect there."""
        while True:
            before = self._sources
            ended = names & before.layer.overrides.keys()
            if not ended:
                return
            left = {name: one for name, one in before.layer.overrides.items() if name not in ended}
            layer = before.layer.next(at=self._now(), by="", overrides=left)
            by = f"end of what was switched for a time: {', '.join(sorted(ended))}"
            try:
                await self._serve_end(before, layer, by)
            except LayerConflictError:
                continue
            except (ConfigError, NotServedError) as error:
                log.error("override not ended", services=sorted(ended), reason=str(error), again_in=RETRY_END)
                await asyncio.sleep(RETRY_END)
                continue
            return

    async def _serve_end(self, before: Sources, layer: ChangeLayer, by: str) -> None:
        await self._adopt(Adoption(before, layer, is_kept=False), by)
        kept = KeptFile(before.changes_file, before.layer)
        try:
            await asyncio.to_thread(kept.write, layer)
        except (LayerConflictError, NotKeptError) as error:
            log.error("changes not kept", file=str(before.changes_file), reason=str(error))


def _tidied(sources: Sources, now: datetime) -> ChangeLayer:
    """The layer without overrides that are over. One from after `now` starts now: the clock was set back."""
    layer = tidied(sources.layer, frozenset(sources.layer.overrides), now=now)
    return layer if layer == sources.layer else layer.next(at=now, by="")
