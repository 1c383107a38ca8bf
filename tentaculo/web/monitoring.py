"""Endpoints for supervisors, load balancers, Prometheus and heartbeats: `/livez`, `/readyz`, `/metrics`, `/vx11/heartbeat`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import hdrs, web

from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import ConcurrencyView, ServiceView
from tentaculo.model.target_group import GroupView
from tentaculo.server.listeners import Phase
from tentaculo.server.native_routes import BodyResponse, NativeRoute, Slices, json_response
from tentaculo.server.request_body import read_body
from tentaculo.web.metrics_sources import (
    AlertStats,
    HedgesOfServices,
    LeaseView,
    LimitedRequests,
    Load,
    PhasesOfRoutes,
    ReloadView,
    RequestsOfCallers,
    Traffic,
)

if TYPE_CHECKING:
    from tentaculo.web.metrics import MetricsCache


def liveness_routes(
    *,
    phase: Callable[[], Phase],
    store_problem: Callable[[], str | None],
    services_problem: Callable[[], str | None],
) -> list[NativeRoute]:
    """The routes `/livez` and `/readyz`.

    `/livez` always responds 200. `/readyz` responds 200 when `phase` is `READY`, else 503. `store_problem` returns None
    while the database can be written, else the reason why not; `services_problem` does so for the table of services.
    The reasons are shown but do not change the status.
    """

    async def livez(request: web.Request) -> web.Response:
        return json_response({"status": "alive"}, 200)

    async def readyz(request: web.Request) -> web.Response:
        now = phase()
        checks = {
            "process": {"status": "ok" if now is Phase.READY else now.value},
            "database": _check(store_problem()),
            "runtime_table": _check(services_problem()),
        }
        return json_response({"status": now.value, "checks": checks}, 200 if now is Phase.READY else 503)

    return [
        NativeRoute("GET", "/livez", livez, access.EVERYBODY, None),
        NativeRoute("GET", "/readyz", readyz, access.EVERYBODY, None),
    ]


def _check(problem: str | None) -> dict[str, str]:
    return {"status": "ok"} if problem is None else {"status": "failed", "problem": problem}


MAX_BYTES = 4096
"""Largest body of a heartbeat, in bytes."""
_EXPECTED = 'A heartbeat may say {"status": "ok", "message": "…"} and more, one JSON object, or nothing.'


class _HeartbeatBody(msgspec.Struct):
    status: str | None = None
    message: str | None = None


def heartbeat_routes(names: Mapping[str, str], beat: Callable[[str, bytes], bool]) -> list[NativeRoute]:
    """One route for each key of `names`, which maps a service's name and its aliases to its name.

    `beat` receives the service's name and the body: a JSON object, or empty. It returns False where the service is off:
    what sends heartbeats need not know that, so that the response is no error.
    """

    def handler(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def take(request: web.Request) -> web.Response:
            is_recorded = beat(service, await _read_status(request))
            response: dict[str, Any] = {"status": "received" if is_recorded else "ignored", "service": service}
            return json_response(response)

        return take

    return [
        NativeRoute("POST", f"/vx11/heartbeat/{name}", handler(service), access.heartbeat(service), None)
        for name, service in names.items()
    ]


async def _read_status(request: web.Request) -> bytes:
    """The body of a heartbeat. Raises `Problem` unless it is empty or a small JSON object."""
    body = await read_body(request, MAX_BYTES)
    if not body:
        return b""
    if request.content_type != "application/json":
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, f"{_EXPECTED} Its media type is application/json.")
    try:
        msgspec.json.decode(body, type=_HeartbeatBody)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Problem(Failure.BAD_REQUEST, _EXPECTED) from None
    return body


def metrics_routes(
    *,
    views: Callable[[], Iterable[ServiceView]],
    store_problem: Callable[[], str | None],
    dropped: Callable[[], int],
    traffic: Traffic,
    phases: PhasesOfRoutes,
    hedges: HedgesOfServices,
    limited: LimitedRequests = dict,
    load: Callable[[], Load],
    alert_stats: Callable[[], AlertStats],
    reload: Callable[[], ReloadView],
    slices: Slices,
    worker: int | None = None,
    lease: Callable[[], LeaseView] | None = None,
    concurrency: Callable[[str], ConcurrencyView | None] = lambda _: None,
    groups: Callable[[], Iterable[GroupView]] = tuple,
    callers: RequestsOfCallers = dict,
) -> list[NativeRoute]:
    """The route `/metrics`.

    `store_problem` returns None while the database can be written, else the reason why not. `dropped` counts the rows
    that were not written. `worker` is the number of this process when there are several. `lease` gives the lease, where
    there may be several machines, and `concurrency` how the requests of a service in flight are limited.
    """

    def make() -> MetricsCache:
        # prometheus_client takes 1 MB, which a gateway that nothing scrapes does not need.
        from tentaculo.web.metrics import GatewayMetrics, metrics_cache

        gateway = GatewayMetrics(
            views=views,
            store_problem=store_problem,
            dropped=dropped,
            traffic=traffic,
            phases=phases,
            hedges=hedges,
            limited=limited,
            load=load,
            alert_stats=alert_stats,
            reload=reload,
            lease=lease,
            concurrency=concurrency,
            groups=groups,
            callers=callers,
        )
        return metrics_cache(gateway, slices, worker=worker)

    cache: MetricsCache | None = None

    async def metrics(request: web.Request) -> web.Response:
        nonlocal cache
        if cache is None:
            # In a thread: the modules take 30 ms to load.
            made = await asyncio.to_thread(make)
            cache = cache or made
        text, content_type = await cache.text(",".join(request.headers.getall(hdrs.ACCEPT, ())))
        return BodyResponse(body=text, headers={hdrs.CONTENT_TYPE: content_type, hdrs.VARY: hdrs.ACCEPT})

    return [NativeRoute("GET", "/metrics", metrics, access.EVERYBODY, None)]
