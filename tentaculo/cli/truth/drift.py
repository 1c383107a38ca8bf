"""Drift: differences between the configured services and a compose file. Pure.

A difference is reported only if both sides have a value. A compose file may omit a port that only containers use, and
a health check that the image has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from tentaculo.cli.truth.compose_file import ComposeService
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.model.health import Endpoint


@dataclass(frozen=True, slots=True)
class Drift:
    """One service in the configuration and in the compose file."""

    service: str
    ports: tuple[int, ...]
    """Ports in the configuration; empty if it is not configured."""
    compose_ports: tuple[str, ...]
    """Ports in the compose file: `8001`, or `18001→8001` if the port of the host differs."""
    health: tuple[str, ...]
    compose_check: str
    """Target of the health check in the compose file; empty if there is none, `?` if the file does not show it."""
    differences: tuple[str, ...]
    """The differences in words; empty if both agree."""


def compare(config: Config, declared: Mapping[str, ComposeService], *, own: str) -> list[Drift]:
    """Every service of both sides, those of the configuration first. `own` is the name of the gateway."""
    found: list[Drift] = []
    matched: set[str] = set()
    for service in config.services.values():
        theirs = _counterpart(service, declared)
        if theirs is None:
            differences = ("is not in the compose file",) if service.enabled else ()
            found.append(Drift(service.name, _ports(service), (), service.health, "", differences))
        else:
            matched.add(theirs.name)
            found.append(_drift(service, theirs, is_inside=service.name == own))
    for name, theirs in declared.items():
        if name not in matched:
            differences = ("is only in the compose file",)
            found.append(Drift(name, (), _compose_ports(theirs), (), _compose_check(theirs), differences))
    return found


def _counterpart(service: ServiceSettings, declared: Mapping[str, ComposeService]) -> ComposeService | None:
    """The compose service with the same name or alias, or else with the host name of an endpoint."""
    names = (service.name, *service.aliases)
    for name in names:
        if name in declared:
            return declared[name]
    folded = {_folded(name) for name in names}
    for theirs in declared.values():
        if _folded(theirs.name) in folded:
            return theirs
    hosts = {upstream.host for upstream in service.upstreams}
    return next((theirs for theirs in declared.values() if hosts & theirs.hosts), None)


def _folded(name: str) -> str:
    # A host name may not contain an underscore, so files write - in its place.
    return name.lower().replace("_", "-")


def _drift(service: ServiceSettings, theirs: ComposeService, *, is_inside: bool) -> Drift:
    differences: dict[str, None] = {}
    for upstream in service.upstreams:
        from_inside = is_inside or upstream.host in theirs.hosts or not _is_local(upstream.host)
        differences |= dict.fromkeys(_port_differences(upstream, service, theirs, from_inside))
    differences |= dict.fromkeys(_check_differences(service, theirs))
    return Drift(
        service.name,
        _ports(service),
        _compose_ports(theirs),
        service.health,
        _compose_check(theirs),
        tuple(differences),
    )


def _port_differences(
    upstream: Endpoint, service: ServiceSettings, theirs: ComposeService, from_inside: bool
) -> Iterator[str]:
    if from_inside:
        if theirs.inner and upstream.port not in theirs.inner:
            yield f"is asked on port {upstream.port}, and declares {_listed(theirs.inner)}"
    elif upstream.port in theirs.published:
        inner = theirs.published[upstream.port]
        if theirs.check is not None and theirs.check.port not in (None, inner):
            yield f"is asked on its port {inner}, and its health check on {theirs.check.port}"
    elif theirs.published:
        yield f"is asked on port {upstream.port} of the host, and publishes {_listed(theirs.published)}"
    elif service.enabled:
        yield f"is asked on port {upstream.port} of the host, and publishes none"


def _check_differences(service: ServiceSettings, theirs: ComposeService) -> Iterator[str]:
    check = theirs.check
    if service.probe.kind != "http" or check is None:
        return
    if check.path not in service.health:
        yield f"is asked at {' and '.join(service.health)}, and its health check at {check.path}"
    asked = {upstream.port for upstream in service.upstreams if upstream.host in theirs.hosts}
    if asked and check.port is not None and check.port not in asked:
        yield f"is asked on port {_listed(asked)}, and its health check on {check.port}"


def _is_local(host: str) -> bool:
    """Whether the endpoint is a port of this host: an IP address, or `localhost`."""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def _ports(service: ServiceSettings) -> tuple[int, ...]:
    return tuple(dict.fromkeys(upstream.port for upstream in service.upstreams))


def _compose_ports(theirs: ComposeService) -> tuple[str, ...]:
    published = [f"{host}" if host == inner else f"{host}→{inner}" for host, inner in sorted(theirs.published.items())]
    hidden = theirs.inner - set(theirs.published.values())
    return (*published, *map(str, sorted(hidden)))


def _compose_check(theirs: ComposeService) -> str:
    if theirs.check is not None:
        return str(theirs.check)
    return "" if theirs.is_unchecked else "?"


def _listed(ports: Mapping[int, int] | frozenset[int] | set[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
