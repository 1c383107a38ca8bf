"""One change to the layer of changes: what it sets, and why it is refused. Pure.

A change replaces or removes the value at one place: a service, an alert channel, the maintenance plans. It is kept as
the difference to the configuration file, so that what it does not touch still follows that file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tentaculo.config.change_layer import ChangeLayer, TimedOverride
from tentaculo.config.effective import effective_values
from tentaculo.config.environment import lay_over
from tentaculo.config.errors import ConfigError, ConfigFault, KeyPath, dotted
from tentaculo.config.layers import Layered, Sources, enabled_variables
from tentaculo.config.masking import FILE_FAULT, files_named, masked, masks_left, restored
from tentaculo.config.merge_patch import MISSING, Table, difference, is_same, merged, value_at, with_value

LONGEST_OVERRIDE = timedelta(days=366)
"""The longest time for which a service can be switched on or off."""
SHORTEST_OVERRIDE = timedelta(seconds=1)


class SetByEnvironmentError(Exception):
    """A change would have no effect, since the environment overrides what it sets."""

    def __init__(self, conflicts: Sequence[tuple[KeyPath, str]]) -> None:
        self.conflicts = tuple((dotted(place), variable) for place, variable in conflicts)
        """What was to change, each with the name of the variable that decides about it."""
        names = ", ".join(f"{place} (set by {variable})" for place, variable in self.conflicts)
        super().__init__(f"The environment overrides {names}.")


class FaultyChangeError(ConfigError):
    """What was sent cannot be kept as it is: masks that stand for nothing, files."""

    def __init__(self, faults: Sequence[ConfigFault], layer: ChangeLayer) -> None:
        super().__init__(faults)
        self.layer = layer
        """The layer that the rest of the change makes. The check of it finds the other faults."""


def replaced(
    sources: Sources, place: KeyPath, value: Any, environ: Mapping[str, str], *, at: datetime, by: str
) -> ChangeLayer:
    """The layer after `value` was put at `place`; MISSING removes what is there.

    The same layer where nothing changes. Values that are the environment's, and masks of secrets, may be sent back as
    they were read: they change nothing. Raises `FaultyChangeError` and SetByEnvironmentError.
    """
    layered = sources.layered(environ, at)
    old = value_at(layered.changed, place)
    value = value if value is MISSING else _as_sent(layered, place, value, old)
    if value is MISSING or old is MISSING:
        patch = with_value({}, place, None if value is MISSING else value) if value is not old else {}
    else:
        patch = _below(place, _difference(old, value))
    if faults := dict(_faults(place, value, patch)):
        rest = _changed(sources.layer, layered.tables, place, _without_places(value, place, faults), at=at, by=by)
        raise FaultyChangeError([ConfigFault(dotted(one), message) for one, message in faults.items()], rest)
    if not patch:
        return sources.layer
    _refuse_overridden(merged(layered.changed, patch), patch, environ, at)
    return _changed(sources.layer, layered.tables, place, value, at=at, by=by)


def switched(
    sources: Sources,
    name: str,
    environ: Mapping[str, str],
    *,
    enabled: bool,
    at: datetime,
    by: str,
    length: timedelta | None = None,
    reason: str = "",
) -> ChangeLayer:
    """The layer after the service `name` was switched on or off: for a time, or for good where `length` is None.

    For a time it holds above the environment too. For good it is a change of `enabled`, which ends an override. Raises
    ConfigError and SetByEnvironmentError.
    """
    overrides = {one: override for one, override in sources.layer.active(at).items() if one != name}
    if length is not None:
        if not SHORTEST_OVERRIDE <= length <= LONGEST_OVERRIDE:
            raise ConfigError([ConfigFault("for", "must be from 1 second to 366 days")])
        overrides[name] = TimedOverride(enabled, at, at + length, by, reason)
        return sources.layer.next(at=at, by=by, overrides=overrides)
    service = value_at(sources.layered(environ, at).changed, ("services", name))
    wanted: Table = {**(service if isinstance(service, dict) else {}), "enabled": enabled}
    if enabled:
        # A reason was for the time that ends now, and the next one may have another.
        in_file = value_at(sources.tables, ("services", name, "off_reason"))
        wanted["off_reason"] = None if in_file is MISSING else in_file
    elif reason:
        wanted["off_reason"] = reason
    layer = replaced(sources, ("services", name), wanted, environ, at=at, by=by)
    if name in sources.layer.overrides:
        return sources.layer.next(at=at, by=by, changes=layer.changes, parts=layer.parts, overrides=overrides)
    return layer


def released(layer: ChangeLayer, name: str, *, at: datetime, by: str) -> ChangeLayer:
    """The layer without the override of the service `name`; the same one where there is none."""
    if name not in layer.overrides:
        return layer
    overrides = {one: override for one, override in layer.overrides.items() if one != name}
    return layer.next(at=at, by=by, overrides=overrides)


def undone(layer: ChangeLayer, place: KeyPath, *, at: datetime, by: str, is_in_file: bool = True) -> ChangeLayer:
    """The layer without its changes at `place`, where the configuration file decides again; () is all of them.

    What the file does not have is gone then: `is_in_file` is False, and an override of it ends.
    """
    if not place:
        return layer.next(at=at, by=by, changes={}, overrides={}, parts=frozenset()) if not layer.is_empty else layer
    if value_at(layer.changes, place) is MISSING:
        return layer
    parts = frozenset(part for part in layer.parts if part[: len(place)] != place)
    overrides = layer.overrides if is_in_file else _without(layer.overrides, place)
    changes = with_value(layer.changes, place, MISSING)
    return layer.next(at=at, by=by, changes=changes, parts=parts, overrides=overrides)


def _without(overrides: dict[str, TimedOverride], place: KeyPath) -> dict[str, TimedOverride]:
    """The overrides that are left where what is at `place` is gone."""
    return {name: one for name, one in overrides.items() if ("services", name) != place}


def _as_sent(layered: Layered, place: KeyPath, value: Any, old: Any) -> Any:
    """`value` without nulls, and with what was sent back as it was read: masks of secrets, values of the environment."""
    value = merged(MISSING, value) if isinstance(value, dict) else value
    shown = masked(effective_values(layered, with_overrides=False)) if layered.overlay.variables else {}
    for variable in layered.overlay.variables:
        inner = variable[len(place) :]
        if variable[: len(place)] != place or not inner or not isinstance(value, dict):
            continue
        sent = value_at(value, inner)
        if sent is not MISSING and is_same(sent, value_at(shown, variable)):
            value = with_value(value, inner, value_at(layered.changed, variable))
    return restored(value, old, place)


def _difference(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return difference(old, new) or MISSING
    return MISSING if is_same(old, new) else new


def _below(place: KeyPath, value: Any) -> Table:
    return {} if value is MISSING else with_value({}, place, value)


def _faults(place: KeyPath, value: Any, patch: Table) -> Iterator[tuple[KeyPath, str]]:
    for mask in masks_left(value, place) if value is not MISSING else ():
        yield mask, "is the mask of a secret, and there is no secret here that it could stand for"
    for file in files_named(patch):
        yield file, FILE_FAULT


def _without_places(value: Any, place: KeyPath, faulty: Iterable[KeyPath]) -> Any:
    """`value` at `place` without what is at the faulty places. In a list it stays: the next items keep their numbers."""
    for one in faulty:
        inner = one[len(place) :]
        if inner and all(isinstance(part, str) for part in inner):
            value = with_value(value, inner, MISSING)
    return value


def _refuse_overridden(changed: Table, patch: Table, environ: Mapping[str, str], at: datetime) -> None:
    overlay = lay_over(copy.deepcopy(changed), environ)
    after = Layered({}, changed, overlay, enabled_variables(overlay, environ), {})
    if conflicts := [*after.overridden(patch)]:
        raise SetByEnvironmentError(conflicts)


def _changed(layer: ChangeLayer, tables: Table, place: KeyPath, value: Any, *, at: datetime, by: str) -> ChangeLayer:
    """The layer in which `place` has `value`, as the difference to the configuration file's `tables`."""
    in_file = value_at(tables, place)
    if value is MISSING:
        kept: Any = MISSING if in_file is MISSING else None
    elif in_file is MISSING:
        kept = value
    else:
        kept = _difference(in_file, value)
    is_part = isinstance(in_file, dict) and isinstance(kept, dict)
    parts = layer.parts | {place} if is_part else layer.parts - {place}
    overrides = _without(layer.overrides, place) if value is MISSING else layer.overrides
    changes = with_value(layer.changes, place, kept)
    return layer.next(at=at, by=by, changes=changes, parts=parts, overrides=overrides)
