"""The write API's side of the configuration: what is served, and changes to it.

    PUT, PATCH, … ─▶ edit ─▶ new layer of changes ─▶ checked as a whole ─▶ [table] ─▶ file ─▶ every worker serves it

A change is made to what is served, not to a configuration file that somebody is editing. It holds as a whole or not at
all. With PostgreSQL the row in the table counts: it is changed first, and the files of all machines follow it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from tentaculo.config.changing import FaultyChangeError, SetByEnvironmentError
from tentaculo.config.comparison import compare
from tentaculo.config.effective import effective_values, sources_of
from tentaculo.config.environment import process_environment
from tentaculo.config.errors import ConfigError, ConfigFault, KeyPath, dotted
from tentaculo.config.loader import load_sources
from tentaculo.config.masking import masked
from tentaculo.config.merge_patch import MISSING, Table, value_at, with_value
from tentaculo.gateway.edits import (
    UNDO_ALL,
    Action,
    Edit,
    NoSuchThingError,
    changed_keys,
    endpoints_of,
    faults_of,
    missing,
)
from tentaculo.gateway.layer_keeper import (
    Adoption,
    LayerConflictError,
    Layers,
    NotKeptError,
    NotNowError,
    NotServedError,
    UncertainError,
    is_kept,
)
from tentaculo.gateway.loading import beside_the_loop
from tentaculo.model.failure import Failure, Problem
from tentaculo.tasks import TaskGroup

if TYPE_CHECKING:
    from tentaculo.config.change_layer import ChangeLayer
    from tentaculo.config.comparison import Changes
    from tentaculo.config.layers import Layered, Sources
    from tentaculo.web.admin import Author, Place

ATTEMPTS = 10
"""Attempts to make a change for any generation while other workers and machines make changes too."""
FOLLOW_WITHIN = 3.0
"""Seconds that a change waits until this machine serves what another one has changed first."""
_LOOK_EVERY = 0.05
_NO_ADDRESS = "needs an address in the change itself"
SETTLE_EVERY = 1.0
"""Seconds between two attempts to reach a database that was lost during a change."""


class ChangesTable(Protocol):
    """The row of several machines that has the layer."""

    async def replace(self, before: ChangeLayer, after: ChangeLayer) -> bool:
        """Put `after` in the place of `before`; False where another machine was first.

        Raises `Problem` (503): nothing was changed then, unless it is an `UncertainError`.
        """
        ...

    async def has(self, layer: ChangeLayer) -> bool:
        """Whether the row has the change that made `layer`. Raises `Problem` (503)."""
        ...


class ConfigurationAdministration:
    """Reads and changes the configuration that is served."""

    def __init__(
        self,
        layers: Layers | None,
        generation: Callable[[], str],
        *,
        now: Callable[[], datetime],
        record: Callable[..., None],
        table: ChangesTable | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`generation` identifies what is served; `record` records an event of the gateway's own."""
        self._layers = layers
        self._generation = generation
        self._now = now
        self._record = record
        self._table = table
        self._tasks = TaskGroup("administration")
        self._turn = asyncio.Lock()
        self._environ = process_environment() if environ is None else environ

    def __repr__(self) -> str:
        return f"<ConfigurationAdministration of {self._generation()}>"

    async def view(self) -> tuple[str, dict[str, Any]]:
        """The generation that is served, and the configuration, with masks for secrets."""
        sources = await self._sources()
        return self._generation(), await beside_the_loop(lambda: self._shown(sources))

    async def view_service(self, name: str) -> tuple[str, dict[str, Any]]:
        """The same of one service. Raises `Problem` (404)."""
        sources = await self._sources()
        return self._generation(), await beside_the_loop(lambda: self._shown_service(sources, name))

    async def edit(
        self, action: str, place: Place, *, by: Author, value: Any = None, faults: Mapping[str, str] = {}
    ) -> tuple[str, dict[str, Any]]:
        """Replace, merge, remove, append or take what is at a place; returns the new generation and what changed.

        `faults` are those of the body beside `value`, messages by their paths: all are reported together.
        """
        return await self._change(Edit(Action(action), place, value, faults=faults_of(faults)), by)

    async def switch(
        self, name: str, *, by: Author, faults: Mapping[str, str] = {}, **how: Any
    ) -> tuple[str, dict[str, Any]]:
        """Switch a service on or off, for a time or for good: `enabled`, `length`, `reason` of an edit; `faults` as above."""
        return await self._change(Edit(Action.SWITCH, ("services", name), faults=faults_of(faults), **how), by)

    async def release(self, name: str, *, by: Author) -> tuple[str, dict[str, Any]]:
        """End the override of a service."""
        return await self._change(Edit(Action.RELEASE, ("services", name)), by)

    async def undo(self, place: Place, *, by: Author) -> tuple[str, dict[str, Any]]:
        """Follow the configuration file again."""
        return await self._change(Edit(Action.UNDO, place), by)

    # -- reading -----------------------------------------------------------------------------------------------

    async def _sources(self) -> Sources:
        try:
            sources = None if self._layers is None else await self._layers.describe()
        except NotNowError as error:
            raise _not_now(error) from None
        if sources is None:
            raise Problem(Failure.CHANGES_FAULTY, "The configuration of this gateway is from no file.")
        return sources

    def _shown(self, sources: Sources) -> dict[str, Any]:
        layer, layered = sources.layer, sources.layered(self._environ, self._now())
        values = masked(effective_values(layered, with_overrides=False))
        return {
            "revision": layer.revision,
            "changed_at": layer.changed_at,
            "changed_by": layer.changed_by or None,
            "config": _jsonable(values),
            "from": {name: str(source) for name, source in sources_of(layered, values).items()},
            "changes": _jsonable(masked(layer.changes)),
            "overrides": {name: _override(layered, name) for name in layered.overrides},
            "not_applied": [_fault(fault) for fault in sources.refused],
        }

    def _shown_service(self, sources: Sources, name: str) -> dict[str, Any]:
        layered = sources.layered(self._environ, self._now())
        place: KeyPath = ("services", name)
        values = masked(effective_values(layered, with_overrides=False))
        service = value_at(values, place)
        if not isinstance(service, dict):
            raise Problem(Failure.NOT_FOUND, missing(layered, place))
        shown = {"services": {name: service}}
        return {
            "name": name,
            "config": _jsonable(service),
            "endpoints": endpoints_of(service),
            "from": {one: str(source) for one, source in sources_of(layered, shown).items()},
            "override": _override(layered, name) if name in layered.overrides else None,
        }

    # -- changing ----------------------------------------------------------------------------------------------

    async def _change(self, edit: Edit, by: Author) -> tuple[str, dict[str, Any]]:
        # A client that leaves must neither keep its change out of the log of events, nor have the row in the table go
        # back while the change is served.
        found = await asyncio.shield(self._tasks.start(self._outcome(edit, by), "change"))
        if isinstance(found, Problem):
            raise found
        changed: tuple[str, dict[str, Any]] = found
        return changed

    async def _outcome(self, edit: Edit, by: Author) -> tuple[str, dict[str, Any]] | Problem:
        try:
            # One after another: otherwise those of one process would take each other's attempts.
            async with self._turn:
                return await self._make(edit, by)
        except Problem as problem:
            return problem

    async def _make(self, edit: Edit, by: Author) -> tuple[str, dict[str, Any]]:
        for _ in range(ATTEMPTS):
            sources = await self._sources()
            # Behind it: another generation may have come meanwhile, and what it was made of with it.
            self._check_generation(by)
            generation = self._generation()
            if sources.refused and edit != UNDO_ALL:
                raise Problem(
                    Failure.CHANGES_FAULTY,
                    "The changes from before are not applied, since they are faulty: correct them, or undo all changes.",
                    {"faults": [_fault(fault) for fault in sources.refused]},
                )
            layer, keys = await beside_the_loop(partial(self._apply, edit, sources, by.name))
            if layer is sources.layer and not sources.refused:
                return generation, {"revision": layer.revision, "changed": False, "keys": []}
            event = {
                "key": layer.key,
                "by": by.name,
                "action": edit.action.value,
                "subject": edit.subject,
                "keys": keys,
                "revision": layer.revision,
                **_switch_members(edit, layer),
            }
            try:
                changes = await self._adopt(sources, layer, by.name)
            except UncertainError:
                self._tasks.start(self._record_if_made(layer, event), "uncertain change")
                raise
            except LayerConflictError as error:
                if error.is_foreign:
                    raise Problem(Failure.CHANGES_FAULTY, str(error)) from None
                if await self._is_followed(sources, FOLLOW_WITHIN if by.tags is None else 0.0):
                    continue
                if by.tags is not None:
                    raise self._conflict() from None
                break
            self._record("configuration.changed", **event)
            shown = {"revision": layer.revision, "changed": True, "keys": keys, "changes": changes.as_json()}
            return self._generation(), shown
        raise Problem(
            Failure.CHANGES_NOT_KEPT,
            "Others changed the configuration first, and this gateway does not serve that yet. If this stays so, its log"
            " says why it cannot.",
        )

    async def _is_followed(self, sources: Sources, within: float) -> bool:
        """Wait until something else than `sources` is served; False where that takes more than `within` seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + within
        while True:
            found = await self._sources()
            if (found.layer, found.text) != (sources.layer, sources.text):
                return True
            if clock() >= end:
                return False
            await asyncio.sleep(_LOOK_EVERY)

    def _check_generation(self, by: Author) -> None:
        if by.tags is not None and self._generation() not in by.tags:
            raise self._conflict()

    def _conflict(self) -> Problem:
        return Problem(
            Failure.GENERATION_CHANGED,
            "Read the configuration again, and send the change with its ETag.",
            {"generation": self._generation()},
            headers={"ETag": f'"{self._generation()}"'},
        )

    def _apply(self, edit: Edit, sources: Sources, by: str) -> tuple[ChangeLayer, list[str]]:
        """The new layer, checked with all that it changes, and the names of the changed keys. Raises `Problem`."""
        sources = replace(sources, parsed=sources.tables)
        try:
            at = self._now()
            try:
                layer = edit.apply(sources, self._environ, at=at, by=by)
            except FaultyChangeError as error:
                raise ConfigError([*error.faults, *self._others(error, sources, at)]) from None
            if layer is sources.layer and edit == UNDO_ALL and not is_kept(sources.changes_file, layer, at):
                # It would fail every later change.
                layer = layer.next(at=at, by=by)
            after = self._check(layer, sources, at)
        except NoSuchThingError as error:
            raise Problem(Failure.NOT_FOUND, str(error)) from None
        except ConfigError as error:
            _refuse(error.faults)
        except RecursionError:
            _refuse((ConfigFault(edit.subject, "is nested too deeply"),))
        except SetByEnvironmentError as error:
            variables = [{"key": key, "variable": variable} for key, variable in error.conflicts]
            raise Problem(Failure.SET_BY_ENVIRONMENT, str(error), {"variables": variables}) from None
        return layer, changed_keys(sources.layered(self._environ, at), after.layered(self._environ, at))

    def _check(self, layer: ChangeLayer, sources: Sources, at: datetime) -> Sources:
        """`sources` with `layer`. Raises ConfigError with every fault of the configuration that they make."""
        after = replace(sources, layer=layer, refused=())
        tables = _with_new(sources, layer)
        load_sources(after, self._environ, tables, now=at)
        # Only the environment has its address, which makes nothing new: the change would have no effect.
        if added := [place for place in layer.orphans(sources.tables) if value_at(tables, place) is not MISSING]:
            raise ConfigError([ConfigFault(dotted(place), _NO_ADDRESS) for place in added])
        return after

    def _others(self, error: FaultyChangeError, sources: Sources, at: datetime) -> list[ConfigFault]:
        """The faults of the rest of a change, at other places than those of `error`."""
        try:
            self._check(error.layer, sources, at)
        except ConfigError as rest:
            known = {fault.path for fault in error.faults}
            return [fault for fault in rest.faults if fault.path not in known]
        return []

    async def _adopt(self, sources: Sources, layer: ChangeLayer, by: str) -> Changes:
        assert self._layers is not None
        if self._table is not None and not await self._table.replace(sources.layer, layer):
            raise LayerConflictError("Another machine has changed the configuration.")
        is_served = False
        try:
            changes = await self._layers.adopt(Adoption(sources, layer), f"write API ({by})")
            is_served = True
        except LayerConflictError:
            # What follows the row may have been first, with this change.
            found = await self._sources()
            is_served = found.layer.is_same_change(layer)
            if not is_served:
                raise
            changes = await asyncio.to_thread(self._compared, sources, found)
        except ConfigError as error:
            _refuse(error.faults)
        except NotNowError as error:
            raise _not_now(error) from None
        except (NotKeptError, NotServedError) as error:
            raise Problem(Failure.CHANGES_NOT_KEPT, str(error)) from None
        finally:
            if self._table is not None and not is_served:
                # The other machines go back with this one.
                await self._take_back(layer, msgspec.structs.replace(sources.layer, revision=layer.revision + 1))
        return changes

    async def _take_back(self, layer: ChangeLayer, before: ChangeLayer) -> None:
        """Put `before` in the place of `layer` in the table; later, where the database is away now."""
        assert self._table is not None
        try:
            await self._table.replace(layer, before)
        except Problem:
            self._tasks.start(self._settled(partial(self._table.replace, layer, before)), "take a change back")

    async def _record_if_made(self, layer: ChangeLayer, event: Mapping[str, Any]) -> None:
        assert self._table is not None
        if await self._settled(partial(self._table.has, layer)):
            self._record("configuration.changed", **event)

    async def _settled(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        """The result of `ask` once the database responds."""
        while True:
            await asyncio.sleep(SETTLE_EVERY)
            with suppress(Problem):
                return await ask()

    def _compared(self, before: Sources, after: Sources) -> Changes:
        configs = [load_sources(one, self._environ, now=self._now()).config for one in (before, after)]
        return compare(*configs)


def _with_new(sources: Sources, layer: ChangeLayer) -> Table:
    """The tables of the configuration file, with what `layer` adds and would have no effect: its faults are wanted.

    Something new without an address looks like a change to a part of something that the file no longer has.
    """
    tables = sources.tables
    for place in layer.orphans(tables):
        added = value_at(layer.changes, place)
        if added != value_at(sources.layer.changes, place):
            tables = with_value(tables, place, added)
    return tables


def _not_now(error: NotNowError) -> Problem:
    return Problem(Failure.STOPPING if error.is_stopping else Failure.CHANGES_NOT_KEPT, str(error))


def _refuse(faults: tuple[ConfigFault, ...]) -> NoReturn:
    count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    raise Problem(
        Failure.CONFIGURATION_REJECTED,
        f"It would have {count}, and nothing was changed.",
        {"faults": [_fault(fault) for fault in faults]},
    )


def _fault(fault: ConfigFault) -> dict[str, str]:
    return {"path": fault.path, "message": fault.message}


def _override(layered: Layered, name: str) -> dict[str, Any]:
    one = layered.overrides[name]
    return {"enabled": one.enabled, "since": one.since, "until": one.until, "by": one.by, "reason": one.reason}


def _switch_members(edit: Edit, layer: ChangeLayer) -> dict[str, Any]:
    """What an event says of a switched service."""
    if edit.action is not Action.SWITCH:
        return {}
    override = layer.overrides.get(str(edit.place[-1]))
    until = None if edit.length is None or override is None else override.until.isoformat()
    return {"enabled": edit.enabled, "until": until}


def _jsonable(value: Any) -> Any:
    """Tables as JSON has them: times as text."""
    if isinstance(value, Mapping):
        return {str(name): _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
