"""Finds contradictions between keys.

The checks read the TOML tables and not the frozen values, so that their faults are reported together with the faults
of single values. A value of the wrong type is skipped, because the reader reports it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tentaculo.config.environment import variable_name
from tentaculo.config.errors import ConfigFaults, KeyPath, did_you_mean, dotted
from tentaculo.config.types import is_service_name
from tentaculo.model.health import GATEWAY_ALIAS, GATEWAY_NAME
from tentaculo.model.incident import EVERY

_RESERVED = frozenset({GATEWAY_NAME, GATEWAY_ALIAS})
_SEGMENT = re.compile(r"\{\w+\}")
"""A changing segment of a route's path."""

Table = dict[str, Any]


def services_of(data: Table) -> Iterator[tuple[str, Table]]:
    """The services that are tables, by name."""
    services = data.get("services")
    if isinstance(services, dict):
        yield from ((str(name), table) for name, table in services.items() if isinstance(table, dict))


def webhooks_of(data: Table) -> Iterator[tuple[KeyPath, Table]]:
    """The webhooks that are tables, each with its path."""
    alerts = data.get("alerts")
    webhooks = alerts.get("webhooks") if isinstance(alerts, dict) else None
    if isinstance(webhooks, dict):
        for name, table in webhooks.items():
            if isinstance(table, dict):
                yield ("alerts", "webhooks", str(name)), table


def check(data: Table, faults: ConfigFaults) -> None:
    """Add every contradiction in `data` to `faults`."""
    _check_names(data, faults)
    _check_aliases(data, faults)
    _check_routes(data, faults)
    _check_rotations(data, faults)
    _check_dependencies(data, faults)
    _check_maintenance(data, faults)
    _check_channels(data, faults)
    for name, table in services_of(data):
        place: KeyPath = ("services", name)
        if ("url" in table) == bool(table.get("urls")):
            faults.add(place, "needs either url or urls")
        weights, urls = table.get("weights"), table.get("urls", ())
        if weights and isinstance(weights, list) and isinstance(urls, list) and len(weights) != len(urls):
            faults.add(place, "needs as many weights as urls")
        if "token" in table and "token_file" in table:
            faults.add(place, "has both token and token_file")
        for index, route in _routes(table):
            if route.get("strip") is True and "to" in route:
                faults.add((*place, "routes", index), "has both strip and to; to already replaces the prefix")
    server = data.get("server")
    listen = _list(server, "listen") if isinstance(server, dict) else []
    for index, address in enumerate(listen):
        if address in listen[:index]:
            faults.add(("server", "listen", index), f"is the same as server.listen[{listen.index(address)}]")


def _check_names(data: Table, faults: ConfigFaults) -> None:
    taken: dict[str, KeyPath] = {}
    # An environment variable has _ for -, and upper case.
    for name, _ in services_of(data):
        place: KeyPath = ("services", name)
        if not is_service_name(name):
            faults.add(place, "must have only letters, digits, _ and -, at most 64")
        elif _folded(name) in _RESERVED:
            faults.add(place, "is reserved for the gateway; choose another name")
        elif (other := taken.get(_folded(name))) is not None:
            shared = variable_name("services", name)
            faults.add(
                place, f"differs from {dotted(other)} only in case, - or _; in the environment both are {shared}"
            )
        taken.setdefault(_folded(name), place)


def _check_aliases(data: Table, faults: ConfigFaults) -> None:
    names = {_folded(name): name for name, _ in services_of(data)}
    taken: dict[str, tuple[str, KeyPath]] = {}
    for name, table in services_of(data):
        listed = _list(table, "aliases")
        for index, alias in enumerate(listed):
            if not isinstance(alias, str):
                continue
            place: KeyPath = ("services", name, "aliases", index)
            folded = _folded(alias)
            owner, first = taken.setdefault(folded, (name, place))
            if not is_service_name(alias):
                faults.add(place, "must have only letters, digits, _ and -, at most 64")
            elif folded in _RESERVED:
                faults.add(place, "is reserved for the gateway; choose another name")
            elif alias == name:
                faults.add(place, "is the service's own name")
            elif names.get(folded, name) != name:
                faults.add(place, f"is the name of another service, {names[folded]}")
            elif owner != name or alias in listed[:index]:
                faults.add(place, f"is taken already by {dotted(first)}")


def _check_routes(data: Table, faults: ConfigFaults) -> None:
    taken: dict[tuple[str, str, bool], KeyPath] = {}
    for name, table in services_of(data):
        for index, route in _routes(table):
            prefix, host = route.get("prefix"), route.get("host", "")
            if not isinstance(prefix, str) or not isinstance(host, str):
                continue
            place: KeyPath = ("services", name, "routes", index)
            is_exact = route.get("exact") is True
            _check_segments(place, route, faults, is_exact=is_exact)
            path = _SEGMENT.sub("{}", prefix) if is_exact else prefix.rstrip("/") or "/"
            key = (host.lower().removesuffix("."), path, is_exact)
            if (first := taken.setdefault(key, place)) != place:
                faults.add((*place, "prefix"), f"is taken already by {dotted(first)}")


def _check_segments(place: KeyPath, route: Table, faults: ConfigFaults, *, is_exact: bool) -> None:
    """Find faults in the changing segments, `{name}`, of a route's paths."""
    paths = {key: value for key in ("prefix", "to") if isinstance(value := route.get(key), str)}
    for key, path in paths.items():
        segments = [segment for segment in path.split("/") if "{" in segment or "}" in segment]
        if segments and not is_exact:
            faults.add((*place, key), "has a {name}, which needs exact = true")
            return
        if not all(_SEGMENT.fullmatch(segment) for segment in segments):
            faults.add((*place, key), "must have each {name} as a whole segment")
            return
    names = _SEGMENT.findall(paths.get("prefix", ""))
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add((*place, "prefix"), f"has {name} twice")
    for name in sorted({*_SEGMENT.findall(paths.get("to", ""))} - {*names}):
        faults.add((*place, "to"), f"has {name}, which prefix does not have")


def _check_rotations(data: Table, faults: ConfigFaults) -> None:
    """Find targets of routes that lead to no service, or past the token that a service needs."""
    names = [name for name, _ in services_of(data)]
    for name, table in services_of(data):
        for index, route in _routes(table):
            rotation = route.get("rotation")
            if not isinstance(rotation, dict):
                continue
            place: KeyPath = ("services", name, "routes", index, "rotation", "targets")
            for number, target in enumerate(_list(rotation, "targets")):
                if not isinstance(target, dict):
                    continue
                here: KeyPath = (*place, number)
                other = target.get("service")
                if isinstance(other, str) and other not in names:
                    faults.add((*here, "service"), "is not the name of a service" + did_you_mean(other, names))
                if route.get("auth") == "none" and ("service" in target or "path" in target):
                    faults.add(here, 'leads elsewhere than the route, which needs auth = "token" then')
                if "path" in target and "{" in str(route.get("prefix", "")):
                    faults.add((*here, "path"), "replaces a prefix, and the route has a {name} in it")


def _check_dependencies(data: Table, faults: ConfigFaults) -> None:
    names = [name for name, _ in services_of(data)]
    parents: dict[str, list[str]] = {}
    for name, table in services_of(data):
        for index, parent in enumerate(_list(table, "depends_on")):
            place: KeyPath = ("services", name, "depends_on", index)
            if not isinstance(parent, str):
                continue
            if parent == name:
                faults.add(place, "is the service itself")
            elif parent not in names:
                faults.add(place, "is not the name of a service" + did_you_mean(parent, names))
            else:
                parents.setdefault(name, []).append(parent)
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        # The error lists the cycle from parent to child. The fault lists it from child to parent.
        circle = [*reversed(error.args[1])]
        faults.add(("services", circle[0], "depends_on"), f"is a circular dependency: {' → '.join(circle)}")


def _check_maintenance(data: Table, faults: ConfigFaults) -> None:
    known = {EVERY}
    for name, table in services_of(data):
        known |= {name, *(alias for alias in _list(table, "aliases") if isinstance(alias, str))}
    for index, plan in enumerate(_list(data, "maintenance")):
        if not isinstance(plan, dict):
            continue
        if ("at" in plan) == ("starts" in plan or "ends" in plan):
            faults.add(("maintenance", index), "needs either starts and ends, or at")
        for number, name in enumerate(_list(plan, "services")):
            if isinstance(name, str) and name not in known:
                place: KeyPath = ("maintenance", index, "services", number)
                faults.add(place, f"is not a service{did_you_mean(name, known)}")


def _check_channels(data: Table, faults: ConfigFaults) -> None:
    for place, webhook in webhooks_of(data):
        if ("secrets" in webhook) == ("secrets_file" in webhook):
            faults.add(place, "needs either secrets or secrets_file; `tentaculo alerts secret` makes one")
    alerts = data.get("alerts")
    if isinstance(alerts, dict):
        named = {kind: alerts.get(kind) for kind in ("webhooks", "apprise")}
        channels = {kind: table if isinstance(table, dict) else {} for kind, table in named.items()}
        for name in channels["apprise"]:
            if name in channels["webhooks"]:
                faults.add(("alerts", "apprise", name), f"is taken already by {dotted(('alerts', 'webhooks', name))}")


def _routes(table: Table) -> Iterator[tuple[int, Table]]:
    yield from ((index, route) for index, route in enumerate(_list(table, "routes")) if isinstance(route, dict))


def _list(table: Table, key: str) -> list[Any]:
    value = table.get(key)
    return value if isinstance(value, list) else []


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
