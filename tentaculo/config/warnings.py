"""Warnings about a configuration that is valid but suspicious."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Set
from importlib.util import find_spec
from urllib.parse import urlsplit

from tentaculo.config.schema import Config
from tentaculo.config.services import grouped_by_endpoint
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.native_paths import OWN_PATHS, OWN_TREES

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


def warnings_of(config: Config) -> list[str]:
    """The warnings, one sentence each."""
    found = []
    if not config.auth.enabled:
        beyond = [host for host, _ in config.server.addresses if host not in _LOOPBACK]
        if beyond:
            found.append(f"auth.enabled is false: every client that reaches {beyond[0]} may call every service")
        unsent = [
            service.name
            for service in config.services.values()
            if service.token is not None and service.routes and not any(route.send_token for route in service.routes)
        ]
        if unsent:
            found.append(
                f"auth.enabled is false, so every caller is anonymous: only probes carry the token of {', '.join(unsent)};"
                " set send_token on a route to send it with requests"
            )
    if config.auth.share_token and config.plain_token is not None:
        found.append("auth.share_token is true: services receive the token that opens the gateway")
    # Without services it is the demonstration, which is one process.
    if config.server.workers > 1 and config.services:
        found.append(
            f"server.workers is {config.server.workers}: each worker has its own breakers and metrics, and the limits of"
            " connections, queues and subscribers count in each of them (docs/operations.md)"
        )
    return found + _address_warnings(config) + _route_warnings(config) + _alert_warnings(config)


def _address_warnings(config: Config) -> list[str]:
    """The services whose requests would come back to the gateway."""
    names = {*config.server.hosts, socket.gethostname().lower(), GATEWAY_NAME, GATEWAY_NAME.replace("_", "-")}
    return [
        f"services.{service.name} is asked at {endpoint}, where the gateway itself listens"
        for service in config.services.values()
        for endpoint in service.upstreams
        if any(
            port == endpoint.port and _reaches(endpoint.host.lower().removesuffix("."), host.lower(), names)
            for host, port in config.server.addresses
        )
    ]


def _reaches(host: str, listening: str, names: Set[str]) -> bool:
    """Whether `host` leads to a socket of this machine that listens at `listening`; `names` are the machine's."""
    if host == listening:
        return True
    if listening in _EVERY_ADDRESS:
        return host in names or _is_loopback(host) or _is_of_this_machine(host)
    return listening in _LOOPBACK and host in _LOOPBACK + _EVERY_ADDRESS


def _is_of_this_machine(host: str) -> bool:
    """Whether `host` is an address of this machine: a socket can be bound to it. Nothing is sent."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except (OSError, ValueError):  # not an address, not this machine's, or of a family that it lacks
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _route_warnings(config: Config) -> list[str]:
    found: list[str] = []
    own_paths = OWN_PATHS | {f"/vx11/history/{name}" for name in config.names}
    for service in config.services.values():
        for index, route in enumerate(service.routes):
            place = f"services.{service.name}.routes[{index}]"
            if route.host in config.server.hosts:
                found.append(
                    f"{place} claims {route.host}, which is in server.hosts: the gateway's own paths win there"
                )
            if "*" in route.prefix:
                found.append(
                    f"{place}.prefix has a *, which stands for itself: a prefix takes every path below it already"
                )
            may_hide = route.host is None or route.host in config.server.hosts
            if may_hide and route.prefix in own_paths:
                found.append(
                    f"{place}.prefix is a path of the gateway itself, which wins: the service gets only paths below it,"
                    f" as of {route.prefix}/"
                )
            tree = next((tree for tree in OWN_TREES if route.prefix.startswith(tree)), None)
            if may_hide and tree is not None:
                found.append(
                    f"{place}.prefix is below {tree}, where the gateway's own paths win: a later version may have more of"
                    " them"
                )
    return found + _open_route_warnings(config)


def _open_route_warnings(config: Config) -> list[str]:
    """The open routes to paths that another route guards, of the same service or of one at the same endpoint."""
    groups = grouped_by_endpoint([*config.services.values()])
    guards = {
        id(group): [
            (service, f"services.{service.name}.routes[{number}]", route, route.replacement)
            for service in group
            for number, route in enumerate(service.routes)
            if route.auth != "none"
        ]
        for group in groups.values()
    }
    found = []
    for service in config.services.values():
        for index, route in enumerate(service.routes):
            if route.auth != "none":
                continue
            place, inside = f"services.{service.name}.routes[{index}]", route.replacement
            for other, guarded_place, guarded, its_inside in guards[id(groups[service.name])]:
                if its_inside == inside and guarded.exact == route.exact:
                    if service.sees_as(route, other, guarded):
                        end = f", but needs a token: the service sees the paths that {guarded_place} guards"
                    else:
                        end = f" and reaches every path that {guarded_place} guards at another host"
                    found.append(f"{place} is open{end}")
                elif other is not service and not route.exact and its_inside.startswith(inside + "/"):
                    found.append(
                        f"{place} is open, but not to the paths that {guarded_place} guards: {other.name} has an"
                        f" endpoint of {service.name}"
                    )
    return found


def _alert_warnings(config: Config) -> list[str]:
    found = []
    for name, webhook in config.alerts.webhooks.items():
        address = urlsplit(webhook.url.reveal())
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            found.append(f"alerts.webhooks.{name} is not https://: others on the network can read its messages")
    if (config.alerts.webhooks or config.alerts.apprise) and config.alerts.page is None:
        found.append("alerts.page is not set: the links in alerts work on this machine only")
    if config.alerts.apprise and find_spec("apprise") is None:
        found.append("alerts.apprise needs a package that is not installed: pip install 'tentaculo-link[alerts]'")
    return found
