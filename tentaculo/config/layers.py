"""The layers of a configuration, and where each of its values is from.

    defaults < configuration file < changes < environment < overrides for a time

`Sources` keeps what a configuration was made of, so that a change is made to what the gateway serves and not to a file
that somebody is editing.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tentaculo.config.change_layer import DEFAULT_CHANGES_FILE, ChangeLayer, TimedOverride
from tentaculo.config.environment import lay_over, read, variable_name
from tentaculo.config.errors import ConfigFault, KeyPath
from tentaculo.config.merge_patch import MISSING, Table, leaves, value_at
from tentaculo.model.text import utc_now

if TYPE_CHECKING:
    from tentaculo.config.environment import Overlay
    from tentaculo.config.schema import Config


class Origin(StrEnum):
    """The layer that a value is from."""

    DEFAULT = "default"
    FILE = "file"
    CHANGE = "change"
    ENVIRONMENT = "environment"
    OVERRIDE = "override"


class Source(msgspec.Struct, frozen=True):
    """Where a value is from."""

    origin: Origin
    variable: str = ""
    """Name of the environment variable."""
    until: datetime | None = None
    """The end of an override."""

    def __str__(self) -> str:
        if self.origin is Origin.OVERRIDE and self.until is not None:
            return f"override until {self.until:%Y-%m-%dT%H:%M:%SZ}"
        return self.variable or self.origin.value


@dataclass(frozen=True, slots=True)
class Sources:
    """What a configuration was made of. It contains secrets."""

    folder: Path
    """Where relative paths start."""
    path: Path | None = None
    """The configuration file, absolute; None where there is none."""
    text: str = field(default="", repr=False)
    """The content of the configuration file. Its tables are parsed when they are needed, since they take more memory."""
    changes_file: Path = field(default=DEFAULT_CHANGES_FILE)
    """The file of changes, absolute."""
    layer: ChangeLayer = field(default=ChangeLayer(), repr=False)
    refused: tuple[ConfigFault, ...] = ()
    """Why the file of changes was not applied; empty where it was."""
    contents: Mapping[Path, str] | None = field(default=None, repr=False)
    """What the files had that the configuration names for tokens and keys; None where they are to be read."""
    parsed: Table | None = field(default=None, repr=False, compare=False)
    """The tables of the configuration file while they are used more than once."""

    @property
    def tables(self) -> Table:
        """The tables of the configuration file. Nobody changes them."""
        return tomllib.loads(self.text) if self.parsed is None else self.parsed

    def layered(self, environ: Mapping[str, str], now: datetime | None = None) -> Layered:
        """The values of all layers. `now` is the time in UTC, for the overrides."""
        tables = self.tables
        changed = self.layer.over(tables)
        overlay = lay_over(copy.deepcopy(changed), environ)
        overrides = self.layer.active(now or utc_now())
        return Layered(tables, changed, overlay, enabled_variables(overlay, environ), overrides)


class Layered(msgspec.Struct, frozen=True):
    """The values of all layers, as tables."""

    tables: Table
    """The configuration file's."""
    changed: Table
    """The same with the changes."""
    overlay: Overlay
    """The same with the environment."""
    enabled_by: Mapping[str, str]
    """By name of a service, the variable of its `enabled_env` that is set."""
    overrides: Mapping[str, TimedOverride]
    """Those that are not over."""

    @property
    def effective(self) -> Table:
        """All values that are set, with the overrides and without defaults. It contains secrets."""
        data = copy.deepcopy(self.overlay.data)
        for name, override in self.overrides.items():
            service = value_at(data, ("services", name))
            if isinstance(service, dict):
                service["enabled"] = override.enabled
                if self._is_reason(name):
                    service["off_reason"] = override.reason
        return data

    def _is_reason(self, name: str) -> bool:
        """Whether an override gives the reason why a service is off."""
        override = self.overrides.get(name)
        return override is not None and not override.enabled and override.reason != ""

    def source(self, place: KeyPath) -> Source:
        """Where the value at `place` is from, a default where no layer sets it."""
        match place:
            case ("services", str(name), "enabled") if name in self.overrides:
                return Source(Origin.OVERRIDE, until=self.overrides[name].until)
            case ("services", str(name), "off_reason") if self._is_reason(name):
                return Source(Origin.OVERRIDE, until=self.overrides[name].until)
            case ("services", str(name), "enabled") if name in self.enabled_by:
                return Source(Origin.ENVIRONMENT, self.enabled_by[name])
        for length in range(len(place), 0, -1):
            variable = self.overlay.variables.get(place[:length])
            if variable is not None:
                return Source(Origin.ENVIRONMENT, variable)
        value = value_at(self.changed, place)
        if value is MISSING:
            return Source(Origin.DEFAULT)
        before = value_at(self.tables, place)
        return Source(Origin.FILE if before is not MISSING and before == value else Origin.CHANGE)

    def reason(self, place: KeyPath) -> Source:
        """The layer that is why the value at `place` differs from the configuration file."""
        source = self.source(place)
        if source.origin not in (Origin.FILE, Origin.DEFAULT):
            return source
        # It is removed: by a change, else by a variable that excludes it.
        if value_at(self.changed, place) is MISSING:
            return Source(Origin.CHANGE)
        return Source(Origin.ENVIRONMENT, self._variable(place))

    def overridden(self, patch: Table) -> Iterator[tuple[KeyPath, str]]:
        """What `patch` sets and the environment overrides: each path with the name of the variable."""
        for place, value in leaves(patch):
            match place:
                case ("services", str(name), "enabled") if name in self.enabled_by:
                    yield place, self.enabled_by[name]
                    continue
            wanted = MISSING if value is None else value
            got = value_at(self.overlay.data, place)
            if got is not wanted and got != wanted:
                yield place, self._variable(place)

    def _variable(self, place: KeyPath) -> str:
        """The variable that decides about `place`: its own, that of a table around it, or one that excludes it."""
        variables = self.overlay.variables
        around = [place[:length] for length in range(len(place), 0, -1)]
        inside = [other for other in variables if other[: len(place)] == place]
        beside = [other for other in variables if other[:-1] == place[:-1]]
        return next((variables[one] for one in (*around, *inside, *beside) if one in variables), "the environment")


def changes_path(tables: Table, environ: Mapping[str, str], folder: Path) -> Path:
    """The file of changes, absolute: by the environment, else by the configuration file, else the default."""
    found = read(environ, variable_name("admin", "changes_file"))
    named = found[1] if found is not None else value_at(tables, ("admin", "changes_file"))
    return (folder / (named if isinstance(named, str) else DEFAULT_CHANGES_FILE)).absolute()


def enabled_variables(overlay: Overlay, environ: Mapping[str, str]) -> dict[str, str]:
    """By name of a service, the variable of its `enabled_env` if that decides: it is set, and none of its own name is."""
    services = overlay.data.get("services")
    found = {}
    for name, table in services.items() if isinstance(services, dict) else ():
        variable = table.get("enabled_env") if isinstance(table, dict) else None
        if not isinstance(variable, str) or read(environ, variable) is None:
            continue
        if ("services", str(name), "enabled") not in overlay.variables:
            found[str(name)] = variable
    return found


def with_overrides(config: Config, overrides: Mapping[str, TimedOverride]) -> Config:
    """`config` with the services switched as `overrides` say; one of a service that is not there has no effect."""
    services = dict(config.services)
    for name, override in overrides.items():
        if (service := services.get(name)) is not None:
            reason = {"off_reason": override.reason} if override.reason and not override.enabled else {}
            services[name] = service.replace(enabled=override.enabled, override=override, **reason)
    return config.replace(services=services) if overrides else config


def origins_of_changes(layer: ChangeLayer) -> dict[KeyPath, str]:
    """The path of each value that a change sets, with what its faults name as their origin."""
    return {place: "a change" for place, value in leaves(layer.changes) if value is not None and len(place) > 0}
