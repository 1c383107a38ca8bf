"""What the choice among endpoints does to latencies: the load balancer before simulated servers. `seconds` are simulated.

Arrivals and service times are drawn from exponential distributions with fixed seeds, so the figures are always the same.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from itertools import count
from statistics import mean
from typing import NamedTuple

import pytest

from tentaculo.config.limits import LimitSettings
from tentaculo.model.health import Endpoint, Outcome
from tentaculo.upstream.load_balancer import EndpointState, Lease, LoadBalancer
from tentaculo.upstream.pool import Pool
from tests.upstream.test_load_balancer import Clock, Fuse

SECONDS = 30.0
SEEDS = range(3)


class Server(NamedTuple):
    """One replica: mean seconds of a request that is served, and how many it serves at once; others wait there."""

    seconds: float
    slots: int = 4
    hangs_from: float = SECONDS * 100


class Simulated:
    """Requests at `rate` a second, balanced among `servers`."""

    def __init__(self, servers: list[Server], rate: float, seed: int, *, learns: bool) -> None:
        self._servers, self._rate, self._learns = servers, rate, learns
        self._random, self._clock, self._numbers = random.Random(seed), Clock(), count()
        self._clock.moment = 0.0
        pools = [Pool(Endpoint("s", "127.0.0.1", port), LimitSettings()) for port in range(len(servers))]
        self._endpoints = [EndpointState(pool, Fuse(), 4096, clock=self._clock) for pool in pools]
        self._balancer = LoadBalancer(self._endpoints, 0)
        self._events: list[tuple[float, int, int, float, Lease | None]] = []
        self._busy = [0] * len(servers)
        self._queues = [deque[tuple[float, Lease]]() for _ in servers]
        self.latencies: list[float] = []

    def run(self) -> float:
        """The 99th percentile of the latencies, in seconds."""
        self._arrive_later()
        while self._events:
            self._clock.moment, _, number, began, lease = heapq.heappop(self._events)
            if lease is None:
                self._arrive()
            else:
                self._finish(number, began, lease)
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]

    def _arrive_later(self) -> None:
        at = self._clock.moment + self._random.expovariate(self._rate)
        if at < SECONDS:
            heapq.heappush(self._events, (at, next(self._numbers), 0, at, None))

    def _arrive(self) -> None:
        self._arrive_later()
        lease = self._balancer.acquire()
        assert lease is not None
        number = self._endpoints.index(lease.endpoint)
        if self._busy[number] < self._servers[number].slots:
            self._serve(number, self._clock.moment, lease)
        else:
            self._queues[number].append((self._clock.moment, lease))

    def _serve(self, number: int, began: float, lease: Lease) -> None:
        self._busy[number] += 1
        at = self._clock.moment + self._random.expovariate(1 / self._servers[number].seconds)
        if at < self._servers[number].hangs_from:
            heapq.heappush(self._events, (at, next(self._numbers), number, began, lease))

    def _finish(self, number: int, began: float, lease: Lease) -> None:
        self._busy[number] -= 1
        self.latencies.append(self._clock.moment - began)
        if self._learns:
            lease.endpoint.note_latency(self.latencies[-1])
        lease.release(Outcome.SUCCESS)
        if self._queues[number]:
            self._serve(number, *self._queues[number].popleft())


def change(servers: list[Server], rate: float) -> float:
    """The 99th percentile with latencies, divided by that without them: means over the seeds."""
    with_them, without = (
        mean(Simulated(servers, rate, seed, learns=learns).run() for seed in SEEDS) for learns in (True, False)
    )
    return with_them / without


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("servers", "rate", "most"),
    [
        ([Server(0.02), Server(0.04)], 210, 0.98),
        ([Server(0.01), Server(0.03), Server(0.03)], 400, 0.95),
        ([Server(0.01), Server(0.05)], 144, 0.85),
        ([Server(0.01), Server(0.05)], 10, 0.6),
        ([Server(0.02, 8), Server(0.02, 2)], 350, 0.95),
    ],
    ids=["half as fast", "two of three slower", "a fifth as fast", "at low load", "fewer slots"],
)
def test_unequal_replicas_are_slow_less_often(servers: list[Server], rate: float, most: float) -> None:
    assert change(servers, rate) < most


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("servers", "rate"),
    [
        ([Server(0.02)] * 3, 420),
        ([Server(0.02)] * 3, 180),
        ([Server(0.02)] * 3, 5),
        ([Server(0.02), Server(0.02, hangs_from=SECONDS / 3), Server(0.02)], 200),
        ([Server(0.02), Server(0.02, hangs_from=SECONDS / 3)], 120),
    ],
    ids=["busy", "half busy", "at low load", "one of three hangs", "one of two hangs"],
)
def test_equal_replicas_and_one_that_hangs_lose_nothing(servers: list[Server], rate: float) -> None:
    assert change(servers, rate) < 1.03
