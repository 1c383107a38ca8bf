"""Keeps the layer of changes where configurations are read: writes its file, and ends overrides when their time is over.

It runs beside the `Reloader`: in the gateway's own process, or in the supervisor of several workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Protocol

import msgspec
import structlog

from tentaculo.config.change_layer import ChangeLayer, TimedOverride, locked, read_layer, write_layer
from tentaculo.config.comparison import Changes
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Sources
from tentaculo.health.steady_clock import time_since_boot
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import utc_now

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks at the overrides in force, at most."""
STEP = 5.0
"""Seconds by which the system clock must have been set before the moments of overrides are moved with it."""


class LayerConflictError(Exception):
    """The layer is not the one that was to be changed. The text says why."""

    def __init__(self, reason: str, *, is_foreign: bool = False) -> None:
        super().__init__(reason)
        self.is_foreign = is_foreign
        """Whether the file has changed and what is served has not: another attempt would fail too."""


class NotKeptError(Exception):
    """The file of changes cannot be written. The text is the reason."""


class NotNowError(Exception):
    """No configuration can be served in place of another now. The text is the reason."""

    def __init__(self, reason: str, *, is_stopping: bool = False) -> None:
        super().__init__(reason)
        self.is_stopping = is_stopping


class NotServedError(Exception):
    """The new configuration is valid, and could not be served. The text is the reason; what was served is served on."""


class UncertainError(Problem):
    """The database did not say whether it has made a change. The response is 503."""

    def __init__(self) -> None:
        super().__init__(
            Failure.STORE_UNAVAILABLE,
            "It is not known whether the change was made, since the database did not confirm it: read the configuration"
            " again.",
            headers={"Retry-After": "5"},
        )


class Adoption(msgspec.Struct, frozen=True):
    """A layer that is to be served and kept in place of the one of `before`."""

    before: Sources
    """What must be served until then."""
    layer: ChangeLayer
    is_kept: bool = True
    """Whether its file must be written before it is served."""


class Layers(Protocol):
    """What serves configurations and keeps their layers of changes."""

    async def describe(self) -> Sources | None:
        """What the served configuration was made of; None where it is from no file. Raises `NotNowError`."""

    async def adopt(self, adoption: Adoption, by: str) -> Changes:
        """Serve a layer and keep it.

        Raises ConfigError, `LayerConflictError`, `NotKeptError`, `NotServedError` and `NotNowError`; nothing was changed then.
        """
        ...


class KeptFile:
    """The file of changes while one change is applied: written first, and put back if the change is not served."""

    def __init__(self, path: Path, before: ChangeLayer, *, may_replace: bool = False) -> None:
        """`may_replace` is whether a file that was refused may be replaced, whatever is in it."""
        self._path = path
        self._before = before
        self._may_replace = may_replace
        self._turn = Lock()
        """Held by the thread that writes."""
        self._written: ChangeLayer | None = None
        self._is_put_back = False

    def __repr__(self) -> str:
        return f"<KeptFile {self._path}>"

    def write(self, layer: ChangeLayer, now: datetime) -> None:
        """Write `layer`, unless another gateway that has the same file has written this change.

        `now` is the time by which overrides end. Raises `LayerConflictError` where somebody has edited the file since it
        was read, and `NotKeptError`. It blocks.
        """
        try:
            with self._turn, locked(self._path):
                if self._is_put_back:
                    return
                found = self._read()
                if found is not None and found != self._before and found.is_same_change(layer):
                    return
                # Taking everything back is the way out of a file that nobody can read: it has nothing to lose.
                # The end of an override, which nobody asked for now, has the revision from before.
                is_way_out = found is None and layer.is_empty and layer.revision != self._before.revision
                if not (self._may_replace or is_way_out or (found and found.is_kept_of(self._before, now))):
                    raise LayerConflictError(
                        "The file of changes was edited or replaced since it was read: reload the configuration first.",
                        is_foreign=True,
                    )
                write_layer(self._path, layer)
                self._written = layer
        except OSError as error:
            raise NotKeptError(
                f"The file of changes (admin.changes_file) cannot be written: {error.strerror or 'failed'}."
            ) from None

    def put_back(self) -> None:
        """Write the layer from before again, if it was replaced, and no other one from now on. It blocks."""
        try:
            with self._turn:
                self._is_put_back = True
                if self._written is None:
                    return
                with locked(self._path):
                    if self._read() == self._written:
                        write_layer(self._path, self._before)
        except OSError as error:
            log.error("changes not put back", file=str(self._path), reason=error.strerror)

    def _read(self) -> ChangeLayer | None:
        try:
            return read_layer(self._path)
        except ConfigError:
            return None


def is_kept(path: Path, layer: ChangeLayer, now: datetime) -> bool:
    """Whether the file has what gateways keep of `layer`: nobody has edited it, and it can be read. It blocks."""
    try:
        return read_layer(path).is_kept_of(layer, now)
    except ConfigError:
        return False


class OverrideTimer:
    """Notices the ends of overrides. An override lasts as long as it was asked for, whatever happens to the system clock."""

    def __init__(
        self,
        on_end: Callable[[frozenset[str]], None],
        *,
        on_step: Callable[[Mapping[str, TimedOverride], timedelta], None] = lambda overrides, step: None,
        now: Callable[[], datetime] = utc_now,
        elapsed: Callable[[], float] = time_since_boot,
    ) -> None:
        """`on_end` is called with the names of the services whose override is over.

        `on_step` is called when the system clock was set, with the overrides whose moments are by the clock from before,
        and the difference. `now` is the system clock, `elapsed` a clock nobody sets.
        """
        self._on_end = on_end
        self._on_step = on_step
        self._now = now
        self._elapsed = elapsed
        self._deadlines: dict[str, tuple[TimedOverride, float]] = {}
        self._offset: float | None = None
        """The system clock minus `elapsed` in seconds, while an override is in force."""
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<OverrideTimer: {len(self._deadlines)}>"

    def set(self, layer: ChangeLayer, now: datetime) -> None:
        """Follow the overrides of `layer`, which is served. One that is known keeps its end; `now` is by the system clock."""
        known, elapsed = self._deadlines, self._elapsed()
        self._deadlines = {name: one for name, one in known.items() if layer.overrides.get(name) == one[0]}
        self._follow_clock(now)
        for name, override in layer.active(now).items():
            self._deadlines.setdefault(name, (override, elapsed + override.remaining(now).total_seconds()))
        self._wait()

    def close(self) -> None:
        """Follow none."""
        self._deadlines = {}
        self._wait()

    def _follow_clock(self, now: datetime) -> None:
        offset = now.timestamp() - self._elapsed()
        if not self._deadlines or self._offset is None:
            self._offset = offset
        elif abs(step := offset - self._offset) >= STEP:
            self._offset = offset
            self._on_step({name: override for name, (override, _) in self._deadlines.items()}, timedelta(seconds=step))

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._deadlines:
            # The loop's clock stands still while the machine is suspended, so that it is looked at often.
            first = min(deadline for _, deadline in self._deadlines.values()) - self._elapsed()
            self._timer = asyncio.get_running_loop().call_later(min(max(first, 0.0), LOOK_EVERY), self._look)

    def _look(self) -> None:
        self._timer = None
        elapsed = self._elapsed()
        over = frozenset(name for name, (_, deadline) in self._deadlines.items() if deadline <= elapsed)
        self._deadlines = {name: one for name, one in self._deadlines.items() if name not in over}
        self._wait()
        if over:
            self._on_end(over)
        self._follow_clock(self._now())
