"""What the machinery around the gateway asks: is the process alive, is it ready, and how is everything in numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tentaculo import __version__
from tentaculo.model.endpoint import BreakerState
from tentaculo.model.health import Health, ServiceView
from tentaculo.server.lifecycle import Phase

_KEPT = 1.0
"""Seconds for which one scrape's text serves the next, which bounds what a flood can cost."""
_MOST_FORMATS = 4


class Load(NamedTuple):
    """What is under way at this moment."""

    connections: int
    """Client connections."""
    in_flight: int
    """Proxied requests, tunnels and event streams included."""
    tasks: int
    """The event loop's tasks: one for each connection, and a fixed few."""


class AlertStats(NamedTuple):
    """What the operator is told of."""

    open_incidents: int
    alerts: Mapping[str, tuple[int, int, int]]
    """By channel: messages delivered, given up, and dropped because too many waited or the receiver wants none."""


class Traffic(Protocol):
    """The proxied requests so far."""

    def __call__(self) -> Iterable[tuple[str, str, int, float]]:
        """Per service and status class: `(service, "2xx", requests, seconds in all)`; both only ever grow."""


class GatewayCollector(Collector):
    """The gateway's own metrics, read at the moment of the scrape; nothing is counted twice or kept here."""

    def __init__(
        self,
        *,
        snapshot: Callable[[], Sequence[ServiceView]],
        store_problem: Callable[[], str | None],
        dropped: Callable[[], int],
        traffic: Traffic,
        load: Callable[[], Load],
        duty: Callable[[], AlertStats],
    ) -> None:
        self._snapshot = snapshot
        self._store_problem = store_problem
        self._dropped = dropped
        self._traffic = traffic
        self._load = load
        self._duty = duty

    def collect(self) -> Iterator[Metric]:
        """The metric families, for the registry."""
        yield InfoMetricFamily("tentaculo_build", "The gateway's version.", value={"version": __version__})
        yield from self._services()
        yield GaugeMetricFamily(
            "tentaculo_store_up", "Whether the database can be written.", value=float(self._store_problem() is None)
        )
        yield CounterMetricFamily(
            "tentaculo_store_dropped", "Rows that were not written to the database.", value=self._dropped()
        )
        yield from self._requests()
        yield from self._under_way()
        yield from self._told()

    def _services(self) -> Iterator[Metric]:
        health = GaugeMetricFamily(
            "tentaculo_service_health",
            "1 for the health that the service has, 0 for the others.",
            labels=("service", "health"),
        )
        latency = GaugeMetricFamily(
            "tentaculo_service_latency_ms", "How long the last probe took, in milliseconds.", labels=("service",)
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
        met = CounterMetricFamily(
            "tentaculo_upstream_requests",
            "Requests that the service was asked and that its breaker counted.",
            labels=("service", "result"),
        )
        for view in self._snapshot():
            for family, counts in ((probes, view.probes), (met, view.traffic)):
                family.add_metric((view.name, "ok"), counts.ok)
                family.add_metric((view.name, "failed"), counts.failed)
            if view.root is not None:
                affected.add_metric((view.name, view.root), 1.0)
            for one in Health:
                health.add_metric((view.name, one.value), float(view.health is one))
            if view.latency_ms is not None:
                latency.add_metric((view.name,), view.latency_ms)
            opened.add_metric((view.name,), float(view.breaker.state is BreakerState.OPEN))
        yield from (health, latency, opened, affected, probes, met)

    def _requests(self) -> Iterator[Metric]:
        labels = ("service", "status_class")
        requests = CounterMetricFamily("tentaculo_requests", "Proxied requests that were answered.", labels=labels)
        seconds = CounterMetricFamily(
            "tentaculo_request_seconds", "Seconds that proxied requests took in all.", labels=labels
        )
        for service, status_class, count, total in self._traffic():
            requests.add_metric((service, status_class), count)
            seconds.add_metric((service, status_class), total)
        yield from (requests, seconds)

    def _under_way(self) -> Iterator[Metric]:
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

    def _told(self) -> Iterator[Metric]:
        duty = self._duty()
        yield GaugeMetricFamily("tentaculo_incidents_open", "Incidents that go on.", value=duty.open_incidents)
        sent = CounterMetricFamily("tentaculo_alerts_sent", "Alerts that were delivered.", labels=("channel",))
        failed = CounterMetricFamily(
            "tentaculo_alerts_failed", "Alerts that were given up after every attempt.", labels=("channel",)
        )
        dropped = CounterMetricFamily(
            "tentaculo_alerts_dropped",
            "Alerts never tried: too many waited, or the receiver wants no more.",
            labels=("channel",),
        )
        for channel, counts in duty.alerts.items():
            for family, count in zip((sent, failed, dropped), counts, strict=True):
                family.add_metric((channel,), count)
        yield from (sent, failed, dropped)


class OfWorker(Collector):
    """The metrics of a registry, each labelled with the worker whose they are: the next scrape may meet another one."""

    def __init__(self, registry: Collector, worker: int) -> None:
        self._registry = registry
        self._label = {"worker": str(worker)}

    def collect(self) -> Iterator[Metric]:
        """The metric families, for an encoder."""
        for metric in self._registry.collect():
            metric.samples = [sample._replace(labels={**sample.labels, **self._label}) for sample in metric.samples]
            yield metric


class MetricsCache:
    """The text of `/metrics`, made at most once a second in each format, and in a few formats at most."""

    def __init__(self, registry: Collector, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._clock = clock
        self._texts: dict[str, bytes] = {}
        self._made = float("-inf")

    def text(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their content type, in the format that the Accept value asks for."""
        now = self._clock()
        if now - self._made >= _KEPT:
            self._texts.clear()
            self._made = now
        encode, content_type = _encoder(accept)
        if content_type not in self._texts and len(self._texts) >= _MOST_FORMATS:
            # The asker names the version, so there is no end to the formats that could be asked for.
            encode, content_type = choose_encoder("")
        if content_type not in self._texts:
            self._texts[content_type] = encode(self._registry)
        return self._texts[content_type], content_type


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # The library compares version numbers and trips over one that is none.
        return choose_encoder("")
    return (encode, content_type) if content_type.isascii() and content_type.isprintable() else choose_encoder("")


def routes(
    *,
    phase: Callable[[], Phase],
    snapshot: Callable[[], Sequence[ServiceView]],
    store_problem: Callable[[], str | None],
    dropped: Callable[[], int],
    traffic: Traffic,
    load: Callable[[], Load],
    duty: Callable[[], AlertStats],
    worker: int | None = None,
) -> list[web.RouteDef]:
    """The routes `/livez`, `/readyz` and `/metrics`.

    `store_problem` is None while the database is well, `dropped` counts what was not written to it. `worker` is this
    process's number where there are several.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(
        GatewayCollector(
            snapshot=snapshot, store_problem=store_problem, dropped=dropped, traffic=traffic, load=load, duty=duty
        )
    )
    scrapes = MetricsCache(registry if worker is None else OfWorker(registry, worker))

    async def livez(request: web.Request) -> web.Response:
        return _json({"status": "alive"}, 200)

    async def readyz(request: web.Request) -> web.Response:
        now, problem = phase(), store_problem()
        database = {"status": "ok"} if problem is None else {"status": "failed", "problem": problem}
        checks = {"process": {"status": "ok" if now is Phase.READY else now.value}, "database": database}
        return _json({"status": now.value, "checks": checks}, 200 if now is Phase.READY else 503)

    async def metrics(request: web.Request) -> web.Response:
        text, content_type = scrapes.text(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: content_type, hdrs.VARY: hdrs.ACCEPT})

    return [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]


def _json(shape: object, status: int) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(shape), content_type="application/json")
