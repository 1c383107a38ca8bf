"""The changes that the write API can make, as values: what each makes of the layer of changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Annotated, Any

from tentaculo.config.change_layer import ChangeLayer
from tentaculo.config.changing import FaultyChangeError, SetByEnvironmentError, released, replaced, switched, undone
from tentaculo.config.errors import ConfigError, ConfigFault, ConfigFaults, KeyPath, dotted
from tentaculo.config.layers import Layered, Origin, Sources
from tentaculo.config.merge_patch import MISSING, Table, difference, leaves, merged, value_at
from tentaculo.config.reader import reader_for
from tentaculo.config.section import Doc, Section
from tentaculo.config.services import Weight
from tentaculo.config.types import HttpAddress

MOST_KEYS = 50
"""Names of changed keys in an event or a response at most."""


class NoSuchThingError(Exception):
    """There is nothing at the place of an edit. The text says what is missing."""


class Action(Enum):
    """What an edit does."""

    REPLACE = "replace"
    MERGE = "merge"
    REMOVE = "remove"
    APPEND = "append"
    """Adds an item to a list."""
    TAKE = "take"
    """Removes an item of a list: a number, or the URL of an endpoint."""
    SWITCH = "switch"
    """Switches a service on or off."""
    RELEASE = "release"
    """Ends the override of a service."""
    UNDO = "undo"
    """Follows the configuration file again."""


class EndpointSettings(Section, frozen=True):
    """An item of the list `endpoints`, which stands for one of `urls` with its one of `weights`."""

    url: Annotated[HttpAddress, Doc("URL of the endpoint.")]
    weight: Annotated[Weight | None, Doc("How much it can take beside the others.")] = None


@dataclass(frozen=True, slots=True)
class Edit:
    """One change. `place` is that of a service, a channel or the maintenance plans, or of a list within a service.

    The list `endpoints` of a service has objects with `url` and `weight`.
    """

    action: Action
    place: KeyPath
    value: Any = None
    enabled: bool = False
    length: timedelta | None = None
    """How long a service is switched; None for good."""
    reason: str = ""
    faults: tuple[ConfigFault, ...] = ()
    """Of what was sent, beside `value`. They are reported once what is to be changed is there."""

    @property
    def subject(self) -> str:
        """What it is about, dotted; "everything" without a place."""
        return dotted(self.place) or "everything"

    def apply(self, sources: Sources, environ: Mapping[str, str], *, at: datetime, by: str) -> ChangeLayer:
        """The layer after it; the same one where nothing changes.

        Raises ConfigError, SetByEnvironmentError and `NoSuchThingError`.
        """
        layer = sources.layer
        if self.action is Action.UNDO:
            is_in_file = value_at(sources.tables, self.place) is not MISSING
            if not is_in_file and value_at(layer.changes, self.place) is MISSING:
                layered = sources.layered(environ, at)
                if value_at(layered.overlay.data, self.place) is MISSING:
                    raise NoSuchThingError(missing(layered, self.place))
            return undone(layer, self.place, at=at, by=by, is_in_file=is_in_file)
        layered = sources.layered(environ, at)
        base, inner = (self.place[:2], self.place[2:]) if self.place[0] == "services" else (self.place, ())
        before = value_at(layered.changed, base)
        if self.action is Action.RELEASE:
            if base[1] not in layered.overrides:
                raise NoSuchThingError("No override of this service is in force.")
            return released(layer, str(base[1]), at=at, by=by)
        if self.action is Action.SWITCH and (self.length is not None or self.faults):
            # Above the environment: what that has, or leaves out, counts.
            before = value_at(layered.overlay.data, base)
        if before is MISSING and (inner or self.action is not Action.REPLACE) and base != ("maintenance",):
            if value_at(layered.overlay.data, base) is not MISSING:
                _refuse_of_environment(layered, base)
            raise NoSuchThingError(missing(layered, base))
        if self.faults and (self.action is Action.SWITCH or self.value is None):
            raise ConfigError(self.faults)
        if self.action is Action.SWITCH:
            return switched(
                sources,
                str(base[1]),
                environ,
                enabled=self.enabled,
                at=at,
                by=by,
                length=self.length,
                reason=self.reason,
            )
        try:
            value = self._value(before, inner)
        except NoSuchThingError:
            lists = ("url", "urls") if inner == ("endpoints",) else inner
            for place in [(*base, one) for one in lists] or [base]:
                _refuse_of_environment(layered, place)
            raise
        try:
            layer = replaced(sources, base, value, environ, at=at, by=by)
        except FaultyChangeError as error:
            raise FaultyChangeError([*self.faults, *error.faults], error.layer) from None
        except SetByEnvironmentError:
            if self.faults:
                raise ConfigError(self.faults) from None
            raise
        if self.faults:
            raise FaultyChangeError(self.faults, layer)
        return layer

    def _value(self, before: Any, inner: KeyPath) -> Any:
        if inner:
            return {**before, **self._service_keys(before, str(inner[0]))}
        if self.action is Action.REMOVE:
            return MISSING
        if self.action in (Action.APPEND, Action.TAKE):
            return _edited(before if isinstance(before, list) else [], self)
        return merged(before, self.value) if self.action is Action.MERGE else self.value

    def _service_keys(self, service: Table, name: str) -> Table:
        """The keys of a service that an edit of one of its lists sets; None removes a key."""
        if name != "endpoints":
            items = service.get(name)
            return {name: _edited(items if isinstance(items, list) else [], self)}
        endpoints = _edited(endpoints_of(service), self)
        faults = ConfigFaults({})
        for number, one in enumerate(endpoints) if self.action is not Action.TAKE else ():
            if isinstance(one, dict):
                reader_for(EndpointSettings)(one, (*self.place, number), faults.add)
            else:
                faults.add((*self.place, number), "must be an object with url, and weight if it has one")
        if faults:
            raise ConfigError([*faults])
        if len(endpoints) == 1 and "weight" not in endpoints[0]:
            return {"url": endpoints[0]["url"], "urls": None, "weights": None}
        has_weights = any("weight" in one for one in endpoints)
        return {
            "url": None,
            "urls": [one["url"] for one in endpoints],
            "weights": [one.get("weight", 1) for one in endpoints] if has_weights else None,
        }


UNDO_ALL = Edit(Action.UNDO, ())
"""Takes back all changes."""


def faults_of(messages: Mapping[str, str]) -> tuple[ConfigFault, ...]:
    """The faults of a body, of which `messages` has the texts by their paths."""
    return tuple(ConfigFault(path, message) for path, message in messages.items())


def missing(layered: Layered, place: KeyPath) -> str:
    """What is not at the place of a service or a channel."""
    noun = {"services": "service", "alerts": "alert channel"}.get(str(place[0]), "list")
    services = value_at(layered.overlay.data, ("services",)) if noun == "service" else None
    for name, service in services.items() if isinstance(services, dict) else ():
        aliases = service.get("aliases") if isinstance(service, dict) else None
        if isinstance(aliases, list | tuple) and place[1] in aliases:
            return f"There is no such service. {place[1]} is an alias of {name}."
    return f"There is no such {noun}."


def endpoints_of(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The endpoints of the table of a service, as the write API has them."""
    urls, weights = service.get("urls"), service.get("weights")
    if "url" in service or not isinstance(urls, list):
        return [{"url": service["url"]}] if "url" in service else []
    if not isinstance(weights, list) or len(weights) != len(urls):
        return [{"url": url} for url in urls]
    return [{"url": url, "weight": weight} for url, weight in zip(urls, weights, strict=True)]


def changed_keys(before: Layered, after: Layered) -> list[str]:
    """The dotted names of the keys whose value two states of the layers differ in, overrides included. At most some."""
    keys = [dotted(place) for place, _ in leaves(difference(before.effective, after.effective))]
    for name in {**before.overrides, **after.overrides}:
        if before.overrides.get(name) != after.overrides.get(name) and f"services.{name}.enabled" not in keys:
            keys.append(dotted(("services", name, "enabled")))
    return [*keys[:MOST_KEYS], *(["…"] if len(keys) > MOST_KEYS else [])]


def _edited(items: Sequence[Any], edit: Edit) -> list[Any]:
    """A list after an edit of it."""
    if edit.action is Action.APPEND:
        return [*items, edit.value]
    if edit.action is Action.REMOVE:
        return []
    if edit.action is Action.TAKE:
        numbers = [n for n, one in enumerate(items) if n == edit.value or _url(one) == edit.value]
        if not numbers:
            raise NoSuchThingError("There is no such item.")
        return [one for n, one in enumerate(items) if n != numbers[0]]
    if not isinstance(edit.value, list):
        raise ConfigError([ConfigFault(edit.subject, "must be a list")])
    return list(edit.value)


def _url(item: Any) -> Any:
    return item.get("url") if isinstance(item, dict) else None


def _refuse_of_environment(layered: Layered, place: KeyPath) -> None:
    """Raise SetByEnvironmentError where the value at `place` is from the environment."""
    source = layered.source(place)
    if source.origin is Origin.ENVIRONMENT:
        raise SetByEnvironmentError([(place, source.variable)])
