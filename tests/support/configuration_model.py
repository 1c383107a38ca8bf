"""What a gateway must serve after any sequence of changes: a model of the layers that is simpler than the layers.

    configuration file < changes < environment < overrides for a time

A service is a flat table here: each key is kept, changed or removed as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Service = dict[str, Any]
Services = dict[str, Service]

TOKEN_VARIABLE = "TENTACULO_SERVICES_FIXED_TOKEN"
"""Overrides the token of the service `fixed`, while there is one."""
ENABLED_VARIABLE = "MODEL_ENABLED"
"""What `enabled_env` of a service names."""


class Expected(NamedTuple):
    """A response of a proxied route."""

    status: int
    body: str | None = None
    """Where the service responds: its endpoint, its token, and the stamp that the route has it sent."""
    stamp: str | None = None
    """The field that the route adds to the response."""
    policy: str | None = None
    """The limit of the route."""
    origin: str | None = None
    """The origin that CORS allows."""


@dataclass
class Override:
    """A service that is switched until `end`, in seconds of the clock of the test."""

    enabled: bool
    end: float


@dataclass
class Model:
    """The layers, and what is made of them."""

    file: Services
    tokens: frozenset[str]
    has_cors: bool
    environment: Mapping[str, str]
    changes: dict[str, Service | None] = field(default_factory=dict)
    """By name of a service, the keys that differ from the file, None where a key or the service is removed."""
    parts: frozenset[str] = frozenset()
    """The services of which a part was changed, since the file had them."""
    overrides: dict[str, Override] = field(default_factory=dict)
    revision: int = 0
    now: float = 0.0

    def copy(self) -> Model:
        """One that changes by itself."""
        return Model(
            self.file,
            self.tokens,
            self.has_cors,
            self.environment,
            dict(self.changes),
            self.parts,
            dict(self.overrides),
            self.revision,
            self.now,
        )

    # -- layers ----------------------------------------------------------------------------------------------------

    @property
    def changed(self) -> Services:
        """The services of the file with the changes."""
        services = {name: dict(table) for name, table in self.file.items()}
        for name, patch in self.changes.items():
            if patch is None:
                services.pop(name, None)
            elif name in services:
                services[name] = _merged(services[name], patch)
            elif name not in self.parts:
                services[name] = _merged({}, patch)
        return services

    @property
    def effective(self) -> Services:
        """The same with the environment."""
        services = self.changed
        if TOKEN_VARIABLE in self.environment and "fixed" in services:
            services["fixed"]["token"] = self.environment[TOKEN_VARIABLE]
        return services

    def is_enabled(self, name: str) -> bool:
        """Whether requests of a service are proxied."""
        if name in self.overrides:
            return self.overrides[name].enabled
        service = self.effective[name]
        if "enabled_env" in service and ENABLED_VARIABLE in self.environment:
            return self.environment[ENABLED_VARIABLE] == "yes"
        return bool(service.get("enabled", True))

    @property
    def fault_count(self) -> int:
        """Faults of what would be served: routes that collide, services that depend on themselves or what is not there."""
        services = self.effective
        prefixes = [route["prefix"] for table in services.values() for route in table.get("routes", ())]
        needs = [(name, one) for name, table in services.items() for one in table.get("depends_on", ())]
        wrong = [one for name, one in needs if one == name or one not in services]
        return len(prefixes) - len(set(prefixes)) + len(wrong)

    # -- changes ---------------------------------------------------------------------------------------------------

    def is_set_by_environment(self, name: str, wanted: Service | None) -> bool:
        """Whether the environment overrides what would change if the service became `wanted`."""
        old = self.changed.get(name)
        keys = set(difference(old or {}, wanted or {}))
        if name == "fixed" and TOKEN_VARIABLE in self.environment:
            given = self.environment[TOKEN_VARIABLE]
            if wanted is not None and "token" in keys and wanted.get("token") != given:
                return True
        decides = wanted is not None and "enabled_env" in wanted and ENABLED_VARIABLE in self.environment
        return decides and "enabled" in keys

    def put(self, name: str, wanted: Service | None) -> bool:
        """Have a service become `wanted`, None removes it; returns whether that changes anything."""
        if self.changed.get(name) == wanted:
            return False
        in_file = self.file.get(name)
        kept: Service | None = wanted
        if wanted is not None and in_file is not None:
            kept = difference(in_file, wanted)
        if kept == {} or (wanted is None and in_file is None):
            self.changes.pop(name, None)
        else:
            self.changes[name] = kept
        is_part = in_file is not None and bool(kept)
        self.parts = self.parts | {name} if is_part else self.parts - {name}
        if wanted is None:
            self.overrides.pop(name, None)
        self.revision += 1
        return True

    def switch(self, name: str, enabled: bool, seconds: float) -> None:
        """Switch a service for a time."""
        self.overrides[name] = Override(enabled, self.now + seconds)
        self.revision += 1

    def release(self, name: str) -> None:
        """End the override of a service."""
        del self.overrides[name]
        self.revision += 1

    def undo(self, name: str) -> bool:
        """Follow the file again, everywhere where `name` is empty; returns whether that changes anything."""
        if name not in self.changes and (name or not (self.changes or self.overrides)):
            return False
        if name:
            del self.changes[name]
            self.parts -= {name}
            if name not in self.file:
                self.overrides = {one: override for one, override in self.overrides.items() if one != name}
        else:
            self.changes, self.parts, self.overrides = {}, frozenset(), {}
        self.revision += 1
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass. The ends of overrides are no changes of anybody."""
        self.now += seconds
        self.overrides = {name: one for name, one in self.overrides.items() if one.end > self.now}

    # -- what is served ----------------------------------------------------------------------------------------------

    def response(self, target: str, token: str | None, origin: str) -> Expected:
        """The response of the proxied route of `target`."""
        allowed = origin if self.has_cors else None
        found = [
            (name, route)
            for name, table in self.effective.items()
            for route in table.get("routes", ())
            if target.startswith(route["prefix"] + "/")
        ]
        if not found:
            return Expected(404, origin=allowed)
        if token not in self.tokens:
            return Expected(401 if token is None else 403, origin=allowed)
        name, route = max(found, key=lambda one: len(one[1]["prefix"]))
        rate = route["limits"][0]["rate"]
        if not self.is_enabled(name):
            return Expected(503, policy=rate, origin=allowed)
        service = self.effective[name]
        stamp = route["set_response_headers"]["X-Stamp"]
        body = f"{service['url']} {service.get('token')} {route['set_headers']['X-Sent']}"
        return Expected(200, body, stamp, rate, allowed)


def difference(old: Service, new: Service) -> Service:
    """The keys that make `new` of `old`, None for one that is removed."""
    removed = {key: None for key in old if key not in new}
    return {**removed, **{key: value for key, value in new.items() if key not in old or old[key] != value}}


def _merged(old: Service, patch: Service) -> Service:
    return {key: value for key, value in {**old, **patch}.items() if value is not None}
