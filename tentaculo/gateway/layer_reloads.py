"""Serves and keeps layers of changes in the process that reads the configuration, one after another.

adopt ─▶ check as a whole ─▶ write the file ─▶ serve, else put the file back
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import structlog

from tentaculo.config.change_layer import ChangeLayer, TimedOverride, tidied
from tentaculo.config.comparison import Changes
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Sources
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.layer_keeper import (
    Adoption,
    KeptFile,
    LayerConflictError,
    NotKeptError,
    NotNowError,
    NotServedError,
    OverrideTimer,
)
from tentaculo.gateway.loading import beside_the_loop
from tentaculo.gateway.reloading import Reloader, ReloadRefusedError, ReloadReport
from tentaculo.health.steady_clock import time_since_boot
from tentaculo.model.text import utc_now
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

_FAILURES = (ConfigError, LayerConflictError, NotKeptError, NotNowError, NotServedError)
RETRY_END = 5.0
"""Seconds until the end of an override is tried again where it could not be served."""

Overrides = Mapping[str, TimedOverride]
"""By name of the service."""


class LayerReloads:
    """The layers of one gateway, and what is served was made of."""

    def __init__(
        self,
        source: ConfigurationSource,
        reloader: Reloader,
        sources: Sources,
        *,
        now: Callable[[], datetime] = utc_now,
        elapsed: Callable[[], float] = time_since_boot,
    ) -> None:
        """`source` makes a configuration of its sources, with all checks of a start, and `reloader` has it served.

        Overrides end by `elapsed`, the seconds of a clock nobody sets.
        """
        self._sources = sources
        self._source = source
        self._reloader = reloader
        self._now = now
        self._tasks = TaskGroup("layers")
        self._timer = OverrideTimer(self._end, on_step=self._move, now=now, elapsed=elapsed)
        reloader.on_served = self._note_served

    def __repr__(self) -> str:
        return f"<LayerReloads: revision {self._sources.layer.revision}>"

    def open(self) -> None:
        """End overrides from now on, and tidy what an earlier run has left.

        That are overrides that are over, and those from a time that the clock has not reached.
        """
        self._timer.set(self._sources.layer, self._now())
        if _tidied(self._sources, self._now()) != self._sources.layer:
            self._tasks.start(self._tidy(), "tidy")

    async def _tidy(self) -> None:
        before = self._sources
        layer = _tidied(before, self._now())
        try:
            await self._adopt(Adoption(before, layer), "overrides of an earlier run")
        except _FAILURES as error:
            log.error("changes not kept", file=str(before.changes_file), reason=str(error))

    async def close(self) -> None:
        """End no override any more."""
        self._timer.close()
        await self._tasks.close()

    async def describe(self) -> Sources:
        """What is served was made of this."""
        return self._sources

    def _note_served(self, candidate: Candidate) -> None:
        if candidate.sources is not None:
            self._sources = candidate.sources
            self._timer.set(self._sources.layer, self._now())

    async def adopt(self, adoption: Adoption, by: str) -> Changes:
        """Serve a layer and keep it.

        Raises ConfigError, `LayerConflictError`, `NotKeptError`, `NotServedError` and `NotNowError`; nothing was changed then.
        """
        # A client that leaves must not end a change between its file and what is served.
        adopting = self._tasks.start(self._outcome(adoption, by), "adopt")
        try:
            found = await asyncio.shield(adopting)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if adopting.cancelled() and not (asking and asking.cancelling()):
                raise NotNowError("The gateway is stopping.", is_stopping=True) from None
            raise
        if isinstance(found, Changes):
            return found
        raise found

    async def _outcome(self, adoption: Adoption, by: str) -> Changes | Exception:
        """A refusal is returned: a task that raises is logged as a defect."""
        try:
            return await self._adopt(adoption, by)
        except _FAILURES as error:
            return error

    async def _adopt(self, adoption: Adoption, by: str) -> Changes:
        try:
            async with self._reloader.turn() as serve:
                return await self._adopt_now(adoption, by, serve)
        except ReloadRefusedError as error:
            raise NotNowError(str(error), is_stopping=error.is_stopping) from None

    async def _adopt_now(
        self, adoption: Adoption, by: str, serve: Callable[[str, Candidate], Awaitable[ReloadReport]]
    ) -> Changes:
        before = self._sources
        if (before.layer, before.text) != (adoption.before.layer, adoption.before.text):
            raise LayerConflictError("The configuration has changed meanwhile.")
        wanted = replace(before, layer=adoption.layer, refused=())
        now = self._now()
        candidate = await beside_the_loop(lambda: self._source.revise(wanted, now))
        kept = KeptFile(before.changes_file, before.layer, may_replace=bool(before.refused))
        try:
            if adoption.is_kept:
                await asyncio.to_thread(kept.write, adoption.layer, now)
                self._source.note_written(before.changes_file)
            report = await serve(by, candidate)
        except asyncio.CancelledError:
            # The gateway stops, and says that nothing was changed: the next start must not serve it.
            kept.put_back()
            raise
        if report.changes is not None:
            return report.changes
        if adoption.is_kept:
            await asyncio.to_thread(kept.put_back)
            self._source.note_written(before.changes_file)
        if report.faults:
            raise ConfigError(report.faults)
        raise NotServedError(f"The configuration was not applied: {report.why_not}.")

    def _end(self, names: frozenset[str]) -> None:
        """End these overrides, whatever happens to the file: one that is over has no effect there."""

        def without(overrides: Overrides) -> Overrides:
            return {name: one for name, one in overrides.items() if name not in names}

        by = f"end of what was switched for a time: {', '.join(sorted(names))}"
        self._tasks.start(self._serve_overrides(without, by), "end of overrides")

    def _move(self, overrides: Overrides, step: timedelta) -> None:
        """The system clock was set by `step`: these overrides end as much later by it, or earlier."""

        def moved(found: Overrides) -> Overrides:
            return {name: one.moved(step) if overrides.get(name) == one else one for name, one in found.items()}

        self._tasks.start(self._serve_overrides(moved, "system clock set"), "overrides by another clock")

    async def _serve_overrides(self, change: Callable[[Overrides], Overrides], by: str) -> None:
        while True:
            before = self._sources
            overrides = change(before.layer.overrides)
            if overrides == before.layer.overrides:
                return
            # The same revision: each of several machines does it by itself.
            layer = msgspec.structs.replace(before.layer, overrides=dict(overrides))
            try:
                await self._serve_end(before, layer, by)
            except LayerConflictError:
                continue
            except NotNowError:
                return
            except (ConfigError, NotServedError) as error:
                log.error("override not ended", by=by, reason=str(error), again_in=RETRY_END)
                await asyncio.sleep(RETRY_END)
                continue
            return

    async def _serve_end(self, before: Sources, layer: ChangeLayer, by: str) -> None:
        await self._adopt(Adoption(before, layer, is_kept=False), by)
        kept = KeptFile(before.changes_file, before.layer)
        try:
            await asyncio.to_thread(kept.write, layer, self._now())
            self._source.note_written(before.changes_file)
        except (LayerConflictError, NotKeptError) as error:
            log.error("changes not kept", file=str(before.changes_file), reason=str(error))


def _tidied(sources: Sources, now: datetime) -> ChangeLayer:
    """The layer without overrides that are over. One from after `now` starts now: the clock was set back."""
    return tidied(sources.layer, frozenset(sources.layer.overrides), now=now)
