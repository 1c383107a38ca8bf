"""What `tentaculo check` prints of a valid configuration. It shows no secret."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from tentaculo.cli.token_sentences import accepted_lines, ends_soon
from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.errors import ConfigFault, dotted
from tentaculo.config.incidents import DAYS, AlertSettings, MaintenanceSettings
from tentaculo.config.loader import Loaded
from tentaculo.config.routes import RouteSettings
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.model.incident import EVERY
from tentaculo.model.scopes import unknown_services
from tentaculo.model.text import utc_now
from tentaculo.security.token_file import accepted_tokens
from tentaculo.security.tokens import name_of
from tentaculo.server.listeners import connection_limit


def summarise(loaded: Loaded) -> Iterator[str]:
    """The lines: a summary, each service with its routes, maintenance and alert channels, warnings."""
    services = loaded.config.services.values()
    routes = sum(len(service.routes) for service in services)
    yield f"{loaded.path or 'The environment'} is valid: {_count(len(services), 'service')}, {_count(routes, 'route')}"
    for service in services:
        yield ""
        yield _service(service)
        for route in service.routes:
            yield _route(route)
    planned = [*map(_plan, loaded.config.maintenance), *_channels(loaded.config.alerts)]
    if planned:
        yield ""
    yield from planned
    tokens = accepted_tokens(loaded.config) if loaded.config.auth.enabled else []
    if tokens:
        yield ""
    yield from accepted_lines(tokens)
    if shared := list(_same_origin(loaded.config)):
        yield ""
    yield from shared
    if changed := list(_changes(loaded)):
        yield ""
    yield from changed
    allowed, shortage = connection_limit(loaded.config.limits.connections)
    yield ""
    yield f"{_count(allowed, 'client connection')} at once for each process, by the limits of this shell"
    warnings = [*loaded.warnings, *([shortage] if shortage else []), *_token_warnings(loaded.config, tokens)]
    if warnings:
        yield ""
    for warning in warnings:
        yield f"warning: {warning}"


def _token_warnings(config: Config, tokens: Sequence[TokenSettings]) -> Iterator[str]:
    yield from ends_soon(tokens, utc_now())
    for one in tokens:
        for scope in unknown_services(one.scopes or (), config.names):
            yield f"the token {name_of(one)} has the scope {scope}, which names a service that is not configured"


def refused_channels(loaded: Loaded) -> Iterator[ConfigFault]:
    """A fault for each Apprise address that Apprise does not take; none where Apprise is not installed."""
    channels = loaded.config.alerts.apprise
    if not channels or find_spec("apprise") is None:
        return
    from tentaculo.incidents.channels import is_apprise_url

    for name, url in channels.items():
        if not is_apprise_url(url.reveal()):
            yield ConfigFault(f"alerts.apprise.{name}", "is not an address that Apprise can use")


def _changes(loaded: Loaded) -> Iterator[str]:
    """What the write API has changed."""
    layer = loaded.sources.layer
    changed = [
        dotted((section, name)) if isinstance(table, dict) else section
        for section, table in layer.changes.items()
        for name in (table if isinstance(table, dict) else [section])
    ]
    if changed:
        yield f"changed by the write API (revision {layer.revision}): {', '.join(changed)}"
    for service in loaded.config.services.values():
        if (override := service.override) is not None:
            by = f" by {override.by}" if override.by else ""
            word = "on" if override.enabled else "off"
            yield f"{service.name} is switched {word} until {override.until:%Y-%m-%d %H:%M:%S} UTC{by}"


def _service(service: ServiceSettings) -> str:
    aliases = f", also {', '.join(service.aliases)}" if service.aliases else ""
    off = "" if service.enabled else f" ({service.off_reason})"
    depends = f", depends on {', '.join(service.depends_on)}" if service.depends_on else ""
    return f"{service.name}{aliases} at {', '.join(service.addresses)}{depends}{off}"


def _route(route: RouteSettings) -> str:
    notes = []
    if route.timeout is not None:
        notes.append(f"{route.timeout:g} s")
    if route.exact:
        notes.append("this path only")
    if route.auth == "none":
        notes.append("open without a token")
    path = f"{route.host or ''}{route.prefix}"
    target = "as it is" if route.replacement == route.base else f"as {route.replacement or '/'}"
    return f"  {path:<32} {target}" + "".join(f", {note}" for note in notes)


def _same_origin(config: Config) -> Iterator[str]:
    """Which services a browser cannot tell apart from the status page, for who signs in there."""
    if not config.auth.enabled:
        return
    shared, opened = [], []
    for service in config.services.values():
        routes = [one for one in service.routes if one.host is None or one.host in config.server.hosts]
        shared += [service.name] if routes else []
        opened += [service.name] if any(route.auth == "none" for route in routes) else []
    if shared:
        yield f"on the host of the status page, and so of its origin for a browser: {', '.join(shared)}"
    if opened:
        yield (
            f"  a page of {', '.join(opened)} opens without a token, and can do there what a person who has signed in"
            " can: give it a host of its own (docs/threat-model.md)"
        )


def _plan(plan: MaintenanceSettings) -> str:
    services = "every service" if EVERY in plan.services else ", ".join(plan.services)
    if plan.once is not None:
        start, end = (moment.isoformat(" ", "minutes") for moment in plan.once)
        when = f"from {start} to {end}"
    else:
        days = "every day" if set(plan.days) == set(DAYS) else ", ".join(plan.days)
        when = f"{plan.at} {plan.zone}, {days}"
    return f"maintenance of {services}: {plan.reason}, {when}"


def _channels(alerts: AlertSettings) -> Iterator[str]:
    # Their addresses may hold tokens, so only their names are shown.
    for kind, names in (("webhooks", alerts.webhooks), ("Apprise", alerts.apprise)):
        if names:
            yield f"alerts by {kind}: {', '.join(names)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
