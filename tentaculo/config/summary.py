"""A configuration that is fine, in a few lines for people: what `tentaculo check` prints. It shows no secret."""

from __future__ import annotations

from collections.abc import Iterator

from tentaculo.config.load import Loaded
from tentaculo.config.services import Route, Service


def summarise(loaded: Loaded) -> Iterator[str]:
    """One line for the whole, then each service with its routes, then the warnings."""
    services = loaded.config.services.values()
    routes = sum(len(service.routes) for service in services)
    yield f"{loaded.path or 'The environment'} is fine: {_count(len(services), 'service')}, {_count(routes, 'route')}"
    for service in services:
        yield ""
        yield _service(service)
        for route in service.routes:
            yield _route(route)
    if loaded.warnings:
        yield ""
    for warning in loaded.warnings:
        yield f"warning: {warning}"


def _service(service: Service) -> str:
    aliases = f", also {', '.join(service.aliases)}" if service.aliases else ""
    off = "" if service.enabled else f" ({service.off_reason})"
    depends = f", depends on {', '.join(service.depends_on)}" if service.depends_on else ""
    return f"{service.name}{aliases} at {', '.join(service.addresses)}{depends}{off}"


def _route(route: Route) -> str:
    notes = []
    if route.timeout is not None:
        notes.append(f"{route.timeout:g} s")
    if route.auth == "none":
        notes.append("open without a token")
    path = f"{route.host or ''}{route.prefix}"
    target = "as it is" if route.replacement == route.prefix.rstrip("/") else f"as {route.replacement or '/'}"
    return f"  {path:<32} {target}" + "".join(f", {note}" for note in notes)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
