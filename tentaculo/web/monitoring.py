"""Endpoints for supervisors, load balancers, Prometheus and heartbeats: `/livez`, `/readyz`, `/metrics`, `/vx11/heartbeat`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from copy import copy
from itertools import chain
from typing import Any, NamedTuple, Protocol

import msgspec
from aiohttp import hdrs, web
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tentaculo import __version__
from tentaculo.model.endpoint import BreakerState
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Health, ServiceView
from tentaculo.server.listeners import Phase
from tentaculo.server.native_response import BodyResponse, Slices, json_response
from tentaculo.server.request_body import expect_later, read_body


def liveness_routes(
    *,
    phase: Callable[[], Phase],
    store_problem: Callable[[], str | None],
    services_problem: Callable[[], str | None],
) -> list[web.RouteDef]:
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

    return [web.get("/livez", livez), web.get("/readyz", readyz)]


def _check(problem: str | None) -> dict[str, str]:
    return {"status": "ok"} if problem is None else {"status": "failed", "problem": problem}


MAX_BYTES = 4096
"""Largest body of a heartbeat, in bytes."""
_EXPECTED = 'A heartbeat may say {"status": "ok", "message": "…"} and more, one JSON object, or nothing.'


class _HeartbeatBody(msgspec.Struct):
    status: str | None = None
    message: str | None = None


def heartbeat_routes(names: Mapping[str, str], beat: Callable[[str, bytes], None]) -> list[web.RouteDef]:
    """One route for each key of `names`, which maps a service's name and its aliases to its name.

    `beat` receives the service's name and the body: a JSON object, or empty.
    """

    def handler(service: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def take(request: web.Request) -> web.Response:
            beat(service, await _read_status(request))
            response: dict[str, Any] = {"status": "received", "service": service}
            return json_response(response)

        return take

    return [
        web.post(f"/vx11/heartbeat/{name}", handler(service), expect_handler=expect_later)
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


_CACHE_SECONDS = 1.0
"""How long the text of one scrape is reused. It limits the cost of frequent cache."""
_MAX_FORMATS = 4
_NO_REQUESTS = dict.fromkeys(("2xx", "3xx", "4xx", "5xx"), (0, 0.0))
_SAMPLES = 100
"""Samples rendered in one step."""
_END = b"# EOF\n"
"""How a text in the OpenMetrics format ends."""


class Load(NamedTuple):
    """What the gateway is serving at this moment."""

    connections: int
    """Client connections."""
    in_flight: int
    """Proxied requests, tunnels and event streams included."""
    tasks: int
    """The event loop's tasks: one for each connection, and a fixed few."""


class AlertStats(NamedTuple):
    """Open incidents, and alerts by channel."""

    open_incidents: int
    alerts: Mapping[str, tuple[int, int, int]]
    """By channel: messages delivered, failed after every attempt, and dropped (queue full, or channel closed by its receiver)."""


class Traffic(Protocol):
    """The proxied requests so far."""

    def __call__(self) -> Iterable[tuple[str, str, int, float]]:
        """Per service and status class: `(service, "2xx", requests, seconds in all)`; both only ever grow."""


class GatewayMetrics:
    """The gateway's own metrics, read when they are scraped. This class stores no value."""

    def __init__(
        self,
        *,
        views: Callable[[], Iterable[ServiceView]],
        store_problem: Callable[[], str | None],
        dropped: Callable[[], int],
        traffic: Traffic,
        load: Callable[[], Load],
        alert_stats: Callable[[], AlertStats],
    ) -> None:
        self._views = views
        self._store_problem = store_problem
        self._dropped = dropped
        self._traffic = traffic
        self._load = load
        self._alert_stats = alert_stats

    def families(self) -> Iterator[Metric | None]:
        """The metric families, and None after each step of a longer computation."""
        yield InfoMetricFamily("tentaculo_build", "The gateway's version.", value={"version": __version__})
        yield GaugeMetricFamily(
            "tentaculo_store_up", "Whether the database can be written.", value=float(self._store_problem() is None)
        )
        yield CounterMetricFamily(
            "tentaculo_store_dropped", "Rows that were not written to the database.", value=self._dropped()
        )
        yield from self._services()
        yield from self._load_metrics()
        yield from self._alert_metrics()

    def _services(self) -> Iterator[Metric | None]:
        health = GaugeMetricFamily(
            "tentaculo_service_health",
            "1 for the health that the service has, 0 for the others.",
            labels=("service", "health"),
        )
        latency = GaugeMetricFamily(
            "tentaculo_service_latency_seconds", "How long the last probe took.", labels=("service",)
        )
        opened = GaugeMetricFamily(
            "tentaculo_breaker_open", "1 while the service's breaker is open.", labels=("service",)
        )
        affected = GaugeMetricFamily(
            "tentaculo_service_affected",
            "1 while the failure of another service, the root, explains this one's.",
            labels=("service", "root"),
        )
        probes = CounterMetricFamily(
            "tentaculo_probes", "Probes of the service, by what they found.", labels=("service", "result")
        )
        upstream_requests = CounterMetricFamily(
            "tentaculo_upstream_requests",
            "Requests that the service was asked and that its breaker counted.",
            labels=("service", "result"),
        )
        totals: dict[str, dict[str, tuple[int, float]]] = {}
        for service, status_class, count, total in self._traffic():
            totals.setdefault(service, {})[status_class] = (count, total)
        requests = CounterMetricFamily(
            "tentaculo_requests", "Proxied requests that were answered.", labels=("service", "status_class")
        )
        seconds = CounterMetricFamily(
            "tentaculo_request_seconds",
            "Seconds that proxied requests took in all.",
            labels=("service", "status_class"),
        )
        # The empty service is that of requests which no route took.
        names = [""]
        for view in self._views():
            names.append(view.name)
            for family, counts in ((probes, view.probes), (upstream_requests, view.traffic)):
                family.add_metric((view.name, "ok"), counts.ok)
                family.add_metric((view.name, "failed"), counts.failed)
            if view.root is not None:
                affected.add_metric((view.name, view.root), 1.0)
            for state in Health:
                health.add_metric((view.name, state.value), float(view.health is state))
            if view.latency_ms is not None:
                latency.add_metric((view.name,), view.latency_ms / 1000)
            opened.add_metric((view.name,), float(view.breaker.state is BreakerState.OPEN))
            yield None
        for name in names:
            # Each series exists from the start: a counter that appears with its first event hides it from increase().
            for status_class, (count, total) in (_NO_REQUESTS | totals.get(name, {})).items():
                requests.add_metric((name, status_class), count)
                seconds.add_metric((name, status_class), total)
            yield None
        yield from (health, latency, opened, affected, probes, upstream_requests, requests, seconds)

    def _load_metrics(self) -> Iterator[Metric]:
        load = self._load()
        yield GaugeMetricFamily("tentaculo_connections_open", "Client connections.", value=load.connections)
        yield GaugeMetricFamily(
            "tentaculo_requests_in_flight",
            "Proxied requests under way, tunnels and event streams included.",
            value=load.in_flight,
        )
        yield GaugeMetricFamily(
            "tentaculo_tasks",
            "Tasks of the event loop. Without traffic it goes back to a fixed few.",
            value=load.tasks,
        )

    def _alert_metrics(self) -> Iterator[Metric]:
        alert_stats = self._alert_stats()
        yield GaugeMetricFamily("tentaculo_incidents_open", "Incidents that go on.", value=alert_stats.open_incidents)
        sent = CounterMetricFamily("tentaculo_alerts_sent", "Alerts that were delivered.", labels=("channel",))
        failed = CounterMetricFamily(
            "tentaculo_alerts_failed", "Alerts that were given up after every attempt.", labels=("channel",)
        )
        dropped = CounterMetricFamily(
            "tentaculo_alerts_dropped",
            "Alerts never tried: too many waited, or the receiver wants no more.",
            labels=("channel",),
        )
        for channel, counts in alert_stats.alerts.items():
            for family, count in zip((sent, failed, dropped), counts, strict=True):
                family.add_metric((channel,), count)
        yield from (sent, failed, dropped)


class MetricsCache:
    """The text of `/metrics`, rendered at most once a second in each format, for a limited number of formats.

    `families` gives the metric families, and None after a step of a longer computation. Where there is a `worker`, each
    sample has a label of that name: the next scrape may reach another worker.
    """

    def __init__(
        self,
        families: Callable[[], Iterable[Metric | None]],
        slices: Slices,
        *,
        worker: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._families = families
        self._slices = slices
        self._labels = {} if worker is None else {"worker": str(worker)}
        self._clock = clock
        self._texts: dict[str, bytes] = {}
        self._rendered_at = float("-inf")
        self._rendering = asyncio.Lock()

    async def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, in the format that the Accept value asks for."""
        async with self._rendering:
            now = self._clock()
            if now - self._rendered_at >= _CACHE_SECONDS:
                self._texts.clear()
                self._rendered_at = now
            encode, content_type = _encoder(accept)
            if content_type not in self._texts and len(self._texts) >= _MAX_FORMATS:
                # The client names the version, so the number of possible formats has no limit.
                encode, content_type = choose_encoder("")
            if content_type not in self._texts:
                self._texts[content_type] = b"".join(await self._slices.collect(self._render(encode)))
            return self._texts[content_type], content_type

    def _render(self, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
        end = b""
        for family in self._families():
            if family is None:
                yield b""
                continue
            for start in range(0, max(1, len(family.samples)), _SAMPLES):
                part = copy(family)
                part.samples = [
                    sample._replace(labels={**sample.labels, **self._labels})
                    for sample in family.samples[start : start + _SAMPLES]
                ]
                text = encode(_OneFamily(part))
                if text.endswith(_END):
                    text, end = text[: -len(_END)], _END
                while start and text.startswith(b"#"):
                    text = text.partition(b"\n")[2]
                yield text
        yield end


class _OneFamily(Collector):
    """A part of one metric family, as an encoder takes it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # The library fails on a version that is not a number.
        return choose_encoder("")
    return (encode, content_type) if content_type.isascii() and content_type.isprintable() else choose_encoder("")


def metrics_routes(
    *,
    views: Callable[[], Iterable[ServiceView]],
    store_problem: Callable[[], str | None],
    dropped: Callable[[], int],
    traffic: Traffic,
    load: Callable[[], Load],
    alert_stats: Callable[[], AlertStats],
    slices: Slices,
    worker: int | None = None,
) -> list[web.RouteDef]:
    """The route `/metrics`.

    `store_problem` returns None while the database can be written, else the reason why not. `dropped` counts the rows
    that were not written. `worker` is the number of this process when there are several.
    """
    process = ProcessCollector(registry=None)
    gateway = GatewayMetrics(
        views=views,
        store_problem=store_problem,
        dropped=dropped,
        traffic=traffic,
        load=load,
        alert_stats=alert_stats,
    )
    cache = MetricsCache(lambda: chain(process.collect(), gateway.families()), slices, worker=worker)

    async def metrics(request: web.Request) -> web.Response:
        text, content_type = await cache.text(request.headers.get(hdrs.ACCEPT, ""))
        return BodyResponse(body=text, headers={hdrs.CONTENT_TYPE: content_type, hdrs.VARY: hdrs.ACCEPT})

    return [web.get("/metrics", metrics)]
