"""The metrics of the gateway and of its process, as text for Prometheus.

This module is loaded at the first scrape: see `web/monitoring.py`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import accumulate, chain, islice

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from tentaculo import __version__
from tentaculo.model.health import BreakerState, ConcurrencyView, Health, ServiceView
from tentaculo.model.request_phases import BOUNDS, Phases
from tentaculo.model.target_group import GroupView
from tentaculo.server.content_negotiation import by_weight
from tentaculo.server.native_routes import Slices
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

_CACHE_SECONDS = 1.0
"""How long the text of one scrape is reused. It limits the cost of frequent scrapes."""
_MAX_FORMATS = 4
_NO_REQUESTS = dict.fromkeys(("2xx", "3xx", "4xx", "5xx"), (0, 0.0))
MOST_CALLERS = 100
"""Callers with a series of their own; the others are counted together, with an empty name."""
_SAMPLES = 100
"""Samples rendered in one step."""
_PLAIN = ("text/plain", "text/*", "*/*")
_END = b"# EOF\n"
"""How a text in the OpenMetrics format ends."""


class GatewayMetrics:
    """The gateway's own metrics, read when they are scraped. This class stores no value."""

    def __init__(
        self,
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
        lease: Callable[[], LeaseView] | None = None,
        concurrency: Callable[[str], ConcurrencyView | None] = lambda _: None,
        groups: Callable[[], Iterable[GroupView]] = tuple,
        callers: RequestsOfCallers = dict,
    ) -> None:
        self._views = views
        self._store_problem = store_problem
        self._dropped = dropped
        self._traffic = traffic
        self._phases = phases
        self._hedges = hedges
        self._limited = limited
        self._load = load
        self._alert_stats = alert_stats
        self._reload = reload
        self._lease = lease
        self._concurrency = concurrency
        self._groups = groups
        self._callers = callers

    def families(self) -> Iterator[Metric | None]:
        """The metric families, and None after each step of a longer computation."""
        yield InfoMetricFamily("tentaculo_build", "The gateway's version.", value={"version": __version__})
        yield GaugeMetricFamily(
            "tentaculo_store_up", "Whether the database can be written.", value=float(self._store_problem() is None)
        )
        yield CounterMetricFamily(
            "tentaculo_store_dropped", "Rows that were not written to the database.", value=self._dropped()
        )
        yield from _reload_metrics(self._reload())
        if self._lease is not None:
            yield from _lease_metrics(self._lease())
        yield from self._services()
        yield from self._concurrency_metrics()
        yield from self._request_phases()
        yield from _target_metrics(self._groups())
        yield self._hedge_metrics()
        yield self._caller_metrics()
        yield self._limit_metrics()
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

    def _concurrency_metrics(self) -> Iterator[Metric | None]:
        limit = GaugeMetricFamily(
            "tentaculo_concurrency_limit",
            "Requests of the service that may be in flight; +Inf while none is refused.",
            labels=("service",),
        )
        in_flight = GaugeMetricFamily(
            "tentaculo_concurrency_in_flight", "Requests of the service that count for its limit.", labels=("service",)
        )
        shed = CounterMetricFamily(
            "tentaculo_requests_shed", "Requests refused at the concurrency limit of the service.", labels=("service",)
        )
        for view in self._views():
            found = self._concurrency(view.name)
            if found is not None:
                limit.add_metric((view.name,), math.inf if found.limit is None else found.limit)
                in_flight.add_metric((view.name,), found.in_flight)
                shed.add_metric((view.name,), found.shed)
            yield None
        yield from (limit, in_flight, shed)

    def _request_phases(self) -> Iterator[Metric | None]:
        family = HistogramMetricFamily(
            "tentaculo_request_phase_seconds",
            "Seconds that each phase of proxied requests took; an empty route is that of all beyond the first hundred.",
            labels=("service", "route", "phase"),
        )
        bounds = [*map(str, BOUNDS), "+Inf"]
        for route, phases in self._phases():
            for name, counts in zip(Phases._fields, phases, strict=True):
                buckets = list(zip(bounds, accumulate(counts.buckets), strict=True))
                family.add_metric((*route, name), buckets, counts.seconds)
            yield None
        yield family

    def _hedge_metrics(self) -> Metric:
        family = CounterMetricFamily(
            "tentaculo_hedges",
            "Requests that were sent to a second endpoint too, by whether that responded first.",
            labels=("service", "result"),
        )
        for service, hedged, won in self._hedges():
            family.add_metric((service, "won"), won)
            family.add_metric((service, "lost"), hedged - won)
        return family

    def _caller_metrics(self) -> Metric:
        family = CounterMetricFamily(
            "tentaculo_caller_requests", "Requests of callers who are known by a token.", labels=("caller",)
        )
        counts = self._callers()
        named = dict(islice(counts.items(), MOST_CALLERS))
        if rest := sum(counts.values()) - sum(named.values()):
            named[""] = rest
        for name, count in named.items():
            family.add_metric((name,), count)
        return family

    def _limit_metrics(self) -> Metric:
        family = CounterMetricFamily(
            "tentaculo_requests_limited",
            "Requests that were refused for a limit of their route, or for the network of their client.",
            labels=("service", "route", "limit", "per"),
        )
        for names, refused in self._limited().items():
            family.add_metric(names, refused)
        return family

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
        yield GaugeMetricFamily("tentaculo_incidents_open", "Open incidents.", value=alert_stats.open_incidents)
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
        warnings = alert_stats.warnings
        yield GaugeMetricFamily("tentaculo_early_warnings_open", "Open early warnings.", value=warnings.open)
        yield CounterMetricFamily("tentaculo_early_warnings_opened", "Early warnings.", value=warnings.opened)
        ended = CounterMetricFamily(
            "tentaculo_early_warnings_ended", "Early warnings that are over, by outcome.", labels=("outcome",)
        )
        for outcome, count in warnings.ended.items():
            ended.add_metric((outcome,), count)
        yield ended


def _target_metrics(groups: Iterable[GroupView]) -> Iterator[Metric]:
    labels = ("service", "route", "target")
    requests = CounterMetricFamily("tentaculo_target_requests", "Requests that went to the target.", labels=labels)
    learned = CounterMetricFamily("tentaculo_target_learned", "Requests that taught something.", labels=labels)
    rewards = CounterMetricFamily("tentaculo_target_reward", "Their rewards, added up.", labels=labels)
    probability = GaugeMetricFamily(
        "tentaculo_target_probability", "With which the next request goes to the target.", labels=labels
    )
    for group in groups:
        for target in group.targets:
            values = (group.service, group.route, target.name)
            requests.add_metric(values, target.calls)
            learned.add_metric(values, target.learned)
            rewards.add_metric(values, target.rewards)
            probability.add_metric(values, target.probability)
    yield from (requests, learned, rewards, probability)


def _reload_metrics(reload: ReloadView) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "tentaculo_config_generation",
        "Number of the configuration that is served; that of the start is 1.",
        value=float(reload.generation),
    )
    yield GaugeMetricFamily(
        "tentaculo_config_last_reload_successful",
        "Whether the last reload of the configuration was accepted.",
        value=float(reload.is_successful),
    )
    yield GaugeMetricFamily(
        "tentaculo_config_last_reload_timestamp_seconds",
        "When the configuration was last read, accepted or not.",
        value=reload.at,
    )


def _lease_metrics(lease: LeaseView) -> Iterator[Metric]:
    held = GaugeMetricFamily(
        "tentaculo_lease_held",
        "Whether this machine holds the lease, so that it probes and alerts for all.",
        labels=("instance_name",),
    )
    held.add_metric((lease.instance,), float(lease.is_held))
    yield held
    yield GaugeMetricFamily(
        "tentaculo_lease_epoch",
        "How often the lease was taken; 0 where this machine does not hold it.",
        value=lease.epoch,
    )


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
    # The library takes the first range that it knows. Any text in the usual format is a plain one.
    wanted = by_weight(accept)
    plain = next((number for number, one in enumerate(wanted, 1) if one.name in _PLAIN), None)
    try:
        encode, content_type = choose_encoder(",".join(one.text for one in wanted[:plain]))
    except (TypeError, ValueError):
        # The library fails on a version that is not a number.
        return choose_encoder("")
    return (encode, content_type) if content_type.isascii() and content_type.isprintable() else choose_encoder("")


def metrics_cache(gateway: GatewayMetrics, slices: Slices, *, worker: int | None) -> MetricsCache:
    """The metrics of `gateway` and of this process; `worker` is its number when there are several."""
    process = ProcessCollector(registry=None)
    return MetricsCache(lambda: chain(process.collect(), gateway.families()), slices, worker=worker)
