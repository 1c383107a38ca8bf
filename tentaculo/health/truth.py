"""Runtime truth: every service asked once, now; a line for the terminal and a report in Markdown for the files."""

from __future__ import annotations

import asyncio
import html
import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tentaculo.config.schema import Config, Server
from tentaculo.config.services import Service
from tentaculo.health.board import Board
from tentaculo.health.probe import Prober
from tentaculo.model import Health, ServiceView
from tentaculo.tasks import TaskGroup

GATEWAY = "tentaculo_link"
"""The gateway's own name in the fleet."""
PATH_TIMEOUT = 3.0
"""Seconds that each health path may take."""

_SNIPPET = 80
_NOTHING = "—"
_COLUMNS = ("Service", "Port", "Status", "HTTP Code", "Latency (ms)", "Endpoint", "Snippet")
_WORDS = ("OK", "BROKEN", "UNKNOWN")
_MARKS = {Health.UP: "✓", Health.DEGRADED: "⚠", Health.DOWN: "✗", Health.OFF: "-"}
# An underscore within a word marks nothing up, and names are to be found by searching for them.
_MARKUP = re.compile(r"[\\$`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def word(health: Health) -> str:
    """The report's word for a health: OK, BROKEN or UNKNOWN."""
    if health.is_healthy:
        return "OK"
    return "BROKEN" if health is Health.DOWN else "UNKNOWN"


def is_failure(view: ServiceView) -> bool:
    """Whether a service that should be on is broken; one that is off on purpose is not."""
    return view.health is Health.DOWN


async def run(config: Config, on_result: Callable[[ServiceView], None]) -> list[ServiceView]:
    """Ask the gateway and every service once, all at the same time.

    `on_result` gets each service as soon as all its addresses have answered or failed. The list has the gateway
    first, then the order of the configuration. The gateway is left out where its port is not known (0).
    """
    fleet = _with_gateway(config)
    board = Board(fleet, now=_utc_now)
    tasks = TaskGroup("truth")

    async def examine(service: Service, prober: Prober) -> None:
        if service.enabled:
            for result in await asyncio.gather(*(prober.probe(upstream) for upstream in service.upstreams)):
                board.record_probe(result)
        on_result(board.service(service.name))

    async with Prober(fleet, path_timeout=PATH_TIMEOUT) as prober:
        try:
            await asyncio.gather(
                *(tasks.start(examine(service, prober), service.name) for service in fleet.services.values())
            )
        finally:
            await tasks.close()
    return list(board.snapshot())


def line(view: ServiceView) -> str:
    """One service for the terminal: `✓ madre (8001)  OK  answered 200 in 4 ms at /health`."""
    place = f" at {view.endpoint}" if view.health.is_healthy and view.endpoint else ""
    return f"{_MARKS.get(view.health, '?')} {f'{view.name} ({view.port})':<24} {word(view.health):<8} {view.full_reason}{place}"


def summary(results: Sequence[ServiceView]) -> dict[str, int]:
    """How many services there are of each of the report's words."""
    words = [word(view.health) for view in results]
    return {name: words.count(name) for name in _WORDS}


def report(results: Sequence[ServiceView], at: datetime) -> str:
    """The report in Markdown, with the columns and the summary of version 7.0. `at` is timezone-aware.

    Text that comes from a service is escaped: in the report it is text and nothing else.
    """
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(_row(view) for view in results)]
    counts = summary(results)
    off = [view.name for view in results if view.health is Health.OFF]
    purpose = f" (off on purpose: {', '.join(map(_escape, off))})" if off else ""
    wrong = [view for view in results if view.health in (Health.DOWN, Health.DEGRADED)]
    lines = [
        "# VX11 runtime truth",
        "",
        f"**Date:** {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "## Summary",
        "",
        *(f"- **{name}:** {count} of {len(results)}" for name, count in counts.items()),
    ]
    lines[-1] += purpose
    if wrong:
        lines += ["", "## What is wrong", ""]
        lines += [f"- **{_escape(view.name)}** ({view.port}): {_escape(view.full_reason)}" for view in wrong]
    return "\n".join(lines) + "\n"


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


def _with_gateway(config: Config) -> Config:
    address = _own_address(config.server)
    if address is None or GATEWAY in config.services:
        return config
    gateway = Service(name=GATEWAY, aliases=("gateway",), url=address)
    return config.model_copy(update={"services": {GATEWAY: gateway, **config.services}})


def _own_address(server: Server) -> str | None:
    """Where this machine reaches the gateway, None where the port is left to chance."""
    host, port = server.host, str(server.port)
    if server.listen:
        host, _, port = server.listen[0].rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if port == "0":
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def _utc_now() -> datetime:
    return datetime.now(UTC)
