"""The JSON shapes that VX11's own callers know from the 7.0 gateway, and only here.

Every response is made from the board's memory; none waits for a service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from tentaculo.model import access
from tentaculo.model.health import GATEWAY_NAME, BreakerState, Health, ServiceView, words_of
from tentaculo.server.native_routes import BodyResponse, NativeRoute, Slices, json_response, raw_json

VERSION = "7.0"
"""The version of these shapes, which old checks compare; not the version of the product."""

LARGE = 100
"""Services beyond which a response about all of them is reused."""
REUSED = 0.25
"""Seconds for which it is reused."""

_HEALTHY = frozenset({"ok", "degraded"})
_FAILED = frozenset({"error", "circuit_open"})


def word(view: ServiceView) -> str:
    """A service's status in the words of VX11 7.0. `off` and `maintenance` take precedence over an open breaker."""
    if view.breaker.state is BreakerState.OPEN and view.health not in (Health.OFF, Health.MAINTENANCE):
        return "circuit_open"
    return words_of(view.health).vx11


def module(view: ServiceView) -> dict[str, Any]:
    """One service as `/vx11/status` shows it; `error` is there only when it failed."""
    status = word(view)
    shape: dict[str, Any] = {
        "status": status,
        "code": view.code,
        "latency_ms": view.latency_ms,
        "endpoint": view.endpoint,
        "checked_at": view.checked_at,
        "since": view.since,
    }
    if status in _FAILED:
        shape["error"] = (view.breaker.reason if status == "circuit_open" else None) or view.full_reason
    return shape


def module_in_full(view: ServiceView) -> dict[str, Any]:
    """One service as `/vx11/overview` shows it: as above, with the reason and the counts of probes and requests since the start."""
    return {
        **module(view),
        "reason": view.reason,
        "root": view.root,
        "last_seen_well": view.last_seen_well,
        "probes": {"ok": view.probes.ok, "failed": view.probes.failed},
        "requests": {"ok": view.traffic.ok, "failed": view.traffic.failed},
    }


def health_shape() -> dict[str, str]:
    """`/health`: three keys and no more, so that old checks pass."""
    return {"status": "ok", "module": GATEWAY_NAME, "version": VERSION}


class _Entry(NamedTuple):
    """One service, as far as the shapes of all services need it."""

    name: str
    port: int
    is_healthy: bool
    is_counted: bool
    body: msgspec.Raw


def _entries(services: Iterable[ServiceView], body: Callable[[ServiceView], dict[str, Any]]) -> Iterator[_Entry]:
    for view in services:
        yield _Entry(view.name, view.port, word(view) in _HEALTHY, view.health.is_counted, raw_json(body(view)))


def status_shape(services: Sequence[_Entry], port: int, now: datetime) -> dict[str, Any]:
    """`/vx11/status`. The gateway itself is among the ports, and not among the modules."""
    healthy, total = _count(services)
    ok = healthy == total
    return {
        "ok": ok,
        "status": "ok" if ok else "error",
        "module": GATEWAY_NAME,
        "version": VERSION,
        "timestamp": now,
        "ports": {GATEWAY_NAME: port, **{entry.name: entry.port for entry in services}},
        "modules": {entry.name: entry.body for entry in services},
        "summary": {"healthy_modules": healthy, "total_modules": total, "all_healthy": ok},
    }


def overview_shape(services: Sequence[_Entry]) -> dict[str, Any]:
    """`/vx11/overview`."""
    healthy, total = _count(services)
    return {
        "status": "ok" if healthy == total else "error",
        "gateway": GATEWAY_NAME,
        "version": VERSION,
        "modules_health": {entry.name: entry.body for entry in services},
        "summary": {"total_modules": total, "healthy": healthy, "unhealthy": total - healthy},
    }


def breaker_shape(view: ServiceView) -> dict[str, Any]:
    """One service as `/vx11/circuit-breaker/status` shows it."""
    breaker = view.breaker
    return {
        "state": breaker.state.value,
        "failure_count": breaker.failure_count,
        "last_failure": breaker.last_failure,
    }


def _count(services: Sequence[_Entry]) -> tuple[int, int]:
    """How many services are healthy, and how many count."""
    counted = [entry.is_healthy for entry in services if entry.is_counted]
    return sum(counted), len(counted)


class _SharedBody:
    """The body of a response about all services, built once for all clients that wait for it.

    That of a large fleet is reused for `REUSED` seconds, since it takes long to build and needs no token.
    """

    def __init__(
        self,
        entries: Callable[[], Iterator[_Entry]],
        whole: Callable[[Sequence[_Entry]], object],
        slices: Slices,
        clock: Callable[[], float],
    ) -> None:
        self._entries = entries
        self._whole = whole
        self._slices = slices
        self._clock = clock
        self._building = asyncio.Lock()
        self._body = b""
        self._until = float("-inf")

    async def respond(self, request: web.Request) -> web.Response:
        """The handler."""
        async with self._building:
            if self._clock() >= self._until:
                entries = await self._slices.collect(self._entries())
                self._body = msgspec.json.encode(self._whole(entries))
                if len(entries) > LARGE:
                    self._until = self._clock() + REUSED
        return BodyResponse(body=self._body, content_type="application/json")


def routes(
    *,
    views: Callable[[], Iterable[ServiceView]],
    port: Callable[[], int],
    now: Callable[[], datetime],
    slices: Slices,
    clock: Callable[[], float] = time.monotonic,
) -> list[NativeRoute]:
    """The routes of these shapes; each answers GET and HEAD.

    `views` gives every service, one after the other; `port` is the gateway's own, `now` the time in UTC. `clock` is
    monotonic.
    """

    def shared(
        part: Callable[[ServiceView], dict[str, Any]], whole: Callable[[Sequence[_Entry]], object]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        return _SharedBody(lambda: _entries(views(), part), whole, slices, clock).respond

    async def health(request: web.Request) -> web.Response:
        return json_response(health_shape())

    def status(entries: Sequence[_Entry]) -> dict[str, Any]:
        return status_shape(entries, port(), now())

    def breakers(entries: Sequence[_Entry]) -> dict[str, Any]:
        return {"status": "ok", "breakers": {entry.name: entry.body for entry in entries}, "timestamp": now()}

    return [
        NativeRoute("GET", "/health", health, access.EVERYBODY, None),
        NativeRoute("GET", "/vx11/status", shared(module, status), access.EVERYBODY, None),
        NativeRoute("GET", "/vx11/overview", shared(module_in_full, overview_shape), access.STATUS, None),
        NativeRoute("GET", "/vx11/circuit-breaker/status", shared(breaker_shape, breakers), access.STATUS, None),
    ]
