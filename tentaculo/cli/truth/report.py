"""What runtime truth found: a line for the terminal, a report in Markdown for people, and data for programs. Pure.

The report may have the drift: differences between the configured services and a compose file. A difference is reported
only if both sides have a value. A compose file may omit a port that only containers use, and a health check that the
image has.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.model.health import Endpoint, Health, ServiceView, words_of

if TYPE_CHECKING:
    # It needs PyYAML, which only a compose file needs.
    from tentaculo.cli.truth.compose_file import ComposeService


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


_SNIPPET = 80
_NOTHING = "—"
_COLUMNS = ("Service", "Port", "Status", "HTTP Code", "Latency (ms)", "Endpoint", "Snippet")
_DRIFT_COLUMNS = ("Service", "Port", "Port in compose", "Health", "Health check in compose", "Difference")
_WORDS = ("OK", "BROKEN", "UNKNOWN")
# An underscore within a word marks nothing up, and names are to be found by searching for them.
_MARKUP = re.compile(r"[\\$`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The drift against one compose file."""

    file: str
    drifts: Sequence[Drift]


def word(health: Health) -> str:
    """The report's word for a health: OK, BROKEN or UNKNOWN."""
    return words_of(health).truth


def line(view: ServiceView) -> str:
    """One service for the terminal: `✓ madre (8001)  OK  answered 200 in 4 ms at /health`."""
    place = f" at {view.endpoint}" if view.health.is_healthy and view.endpoint else ""
    return f"{words_of(view.health).mark} {f'{view.name} ({view.port})':<24} {word(view.health):<8} {view.full_reason}{place}"


def summary(results: Sequence[ServiceView]) -> dict[str, int]:
    """How many services there are of each of the report's words."""
    words = [word(view.health) for view in results]
    return {name: words.count(name) for name in _WORDS}


def report(results: Sequence[ServiceView], at: datetime, against: Comparison | None = None) -> str:
    """The report in Markdown, with the columns and the summary of version 7.0. `at` is timezone-aware.

    Text that comes from a service, or from a compose file, is escaped: in the report it is text and nothing else.
    """
    counts = summary(results)
    off = [view.name for view in results if view.health is Health.OFF]
    purpose = f" (off on purpose: {', '.join(map(_escape, off))})" if off else ""
    wrong = [view for view in results if view.health in (Health.DOWN, Health.DEGRADED)]
    lines = [
        "# VX11 runtime truth",
        "",
        f"**Date:** {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "",
        *_table(_COLUMNS, (_row(view) for view in results)),
        "",
        "## Summary",
        "",
        *(f"- **{name}:** {count} of {len(results)}" for name, count in counts.items()),
    ]
    lines[-1] += purpose
    if wrong:
        lines += ["", "## What is wrong", ""]
        lines += [f"- **{_escape(view.name)}** ({view.port}): {_escape(view.full_reason)}" for view in wrong]
    if against is not None:
        lines += ["", "## Drift", "", _escape(drift_summary(against)), ""]
        lines += _table(_DRIFT_COLUMNS, (_drift_row(drift) for drift in against.drifts))
    return "\n".join(lines) + "\n"


def data(results: Sequence[ServiceView], at: datetime, against: Comparison | None = None) -> dict[str, Any]:
    """The report as data for programs: JSON types and times."""
    shape: dict[str, Any] = {
        "timestamp": at,
        "services": [
            {
                "service": view.name,
                "port": view.port,
                "status": word(view.health),
                "health": view.health.value,
                "reason": view.full_reason,
                "http_code": view.code,
                "latency_ms": view.latency_ms,
                "endpoint": view.endpoint,
                "snippet": view.snippet,
            }
            for view in results
        ],
        "summary": {**summary(results), "total": len(results)},
    }
    if against is not None:
        shape["drift"] = {"file": against.file, "services": [asdict(drift) for drift in against.drifts]}
    return shape


def drift_summary(against: Comparison) -> str:
    """The number of services that differ from the compose file, in a sentence."""
    count = sum(bool(drift.differences) for drift in against.drifts)
    return f"{count or 'None'} of {len(against.drifts)} services differ{'s' if count == 1 else ''} from {against.file}."


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows)]


def _drift_row(drift: Drift) -> tuple[str, ...]:
    cells = (
        drift.service,
        ", ".join(map(str, drift.ports)),
        ", ".join(drift.compose_ports),
        ", ".join(drift.health),
        drift.compose_check,
        "; ".join(drift.differences),
    )
    return tuple(_escape(cell or _NOTHING) for cell in cells)


def _row(view: ServiceView) -> tuple[str, ...]:
    status = word(view.health)
    if view.health is Health.OFF:
        status += " (off on purpose)"
    elif view.health is Health.DEGRADED:
        status += " (degraded)"
    snippet = view.snippet or ""
    cut = snippet if len(snippet) <= _SNIPPET else snippet[: _SNIPPET - 1] + "…"
    return (
        _escape(view.name),
        str(view.port),
        status,
        _NOTHING if view.code is None else str(view.code),
        _NOTHING if view.latency_ms is None else str(view.latency_ms),
        _escape(view.endpoint or _NOTHING),
        _escape(cut or _NOTHING),
    )


def _escape(text: str) -> str:
    """`text` as the content of one cell: a single line without markup or HTML."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))
