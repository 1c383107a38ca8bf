"""What hedging does to latencies at low and high load: the load balancer's rules before simulated servers.

A server does not notice that a connection was closed, and finishes what it has begun: a hedge costs its whole work. Arrivals
and service times are drawn with fixed seeds, so the figures are always the same.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from statistics import mean

import pytest

from tentaculo.config.limits import LimitSettings
from tentaculo.model.health import Endpoint, Outcome
from tentaculo.model.history import bucket
from tentaculo.telemetry.request_stats import RouteTimes
from tentaculo.upstream.load_balancer import EndpointState, Lease, LoadBalancer
from tentaculo.upstream.pool import Pool
from tests.upstream.test_load_balancer import Clock, Fuse

SECONDS = 30.0
TIMEOUT = 10.0
SEEDS, MANY_SEEDS = range(3), range(8)
OFF, RULES, NAIVE = "off", "rules", "naive"
"""Without hedges, by the gateway's rules, and every request that waits longer than the p95, wherever there is a replica."""


@dataclass(frozen=True)
class Server:
    """A replica: `slots` at once, each for an exponential time; a share of them is `tail` seconds longer."""

    seconds: float = 0.02
    slots: int = 4
    tail_share: float = 0.0
    tail: float = 0.0
    hangs_from: float = SECONDS * 100


@dataclass(eq=False)
class Request:
    began: float
    leases: list[Lease] = field(default_factory=list)
    is_done: bool = False


class Simulated:
    """Requests at `rate` a second, balanced among `servers`, hedged as `mode` says."""

    def __init__(self, servers: list[Server], rate: float, seed: int, mode: str) -> None:
        self._servers, self._rate, self._mode = servers, rate, mode
        self._random, self._clock, self._numbers = random.Random(seed), Clock(), count()
        self._clock.moment = 0.0
        pools = [Pool(Endpoint("s", "127.0.0.1", port), LimitSettings()) for port in range(len(servers))]
        self._endpoints = [EndpointState(pool, Fuse(), 100_000, clock=self._clock) for pool in pools]
        self.balancer = LoadBalancer(self._endpoints, 0)
        self._times = RouteTimes()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._busy = [0] * len(servers)
        self._queues = [deque[tuple[Request, Lease]]() for _ in servers]
        self._responded = [-1.0] * len(servers)
        # Places of first attempts that lost, held until the server responds to another, at most for `TIMEOUT`.
        self._held: list[list[Lease]] = [[] for _ in servers]
        self.latencies: list[float] = []

    def run(self) -> float:
        """The 99th percentile of the latencies, in seconds."""
        self._arrive_later()
        while self._events:
            self._clock.moment, _, do = heapq.heappop(self._events)
            do()
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]

    def _at(self, moment: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), do))

    def _arrive_later(self) -> None:
        at = self._clock.moment + self._random.expovariate(self._rate)
        if at < SECONDS:
            self._at(at, self._arrive)

    def _arrive(self) -> None:
        self._arrive_later()
        lease = self.balancer.acquire()
        assert lease is not None
        now = self._clock.moment
        request = Request(now)
        self._send(request, lease)
        self._at(now + TIMEOUT, lambda: self._finish(request, None))
        delay = self._times.first_byte_p95(now)
        if self._mode != OFF and delay is not None:
            self._at(now + delay, lambda: self._hedge(request))

    def _hedge(self, request: Request) -> None:
        if request.is_done:
            return
        first = request.leases[0].endpoint
        is_silent = self._responded[self._endpoints.index(first)] < request.began
        if self._mode == RULES:
            lease = self.balancer.acquire_hedge(first, is_silent=is_silent)
        else:
            lease = self.balancer.acquire((first,))
        if lease is not None:
            self._send(request, lease)

    def _send(self, request: Request, lease: Lease) -> None:
        request.leases.append(lease)
        number = self._endpoints.index(lease.endpoint)
        if self._busy[number] < self._servers[number].slots:
            self._serve(number, request, lease)
        else:
            self._queues[number].append((request, lease))

    def _serve(self, number: int, request: Request, lease: Lease) -> None:
        self._busy[number] += 1
        server = self._servers[number]
        seconds = self._random.expovariate(1 / server.seconds)
        if self._random.random() < server.tail_share:
            seconds += server.tail
        if self._clock.moment + seconds < server.hangs_from:
            self._at(self._clock.moment + seconds, lambda: self._served(number, request, lease))

    def _served(self, number: int, request: Request, lease: Lease) -> None:
        self._busy[number] -= 1
        self._responded[number] = self._clock.moment
        self._let_go(number, list(self._held[number]))
        self._finish(request, lease)
        if self._queues[number]:
            self._serve(number, *self._queues[number].popleft())

    def _finish(self, request: Request, winner: Lease | None) -> None:
        """The response of `winner` has come; the time limit has passed where there is none."""
        if request.is_done:
            return
        request.is_done = True
        now = self._clock.moment
        self.latencies.append(now - request.began)
        if winner is not None:
            self._times.plain[bucket(now - request.began)] += 1
        for lease in request.leases:
            if lease is winner and lease is request.leases[0]:
                lease.endpoint.note_latency(now - request.began)
            elif lease is request.leases[0] and winner is not None:
                lease.endpoint.note_silence(now - request.began)
                self._hold(self._endpoints.index(lease.endpoint), lease)
                continue
            lease.release(Outcome.SUCCESS if lease is winner else Outcome.NEUTRAL)

    def _hold(self, number: int, lease: Lease) -> None:
        self._held[number].append(lease)
        self._at(self._clock.moment + TIMEOUT, lambda: self._let_go(number, [lease]))

    def _let_go(self, number: int, leases: list[Lease]) -> None:
        for lease in leases:
            if lease in self._held[number]:
                self._held[number].remove(lease)
                lease.release(Outcome.NEUTRAL)


def p99(servers: list[Server], rate: float, mode: str, seeds: range = SEEDS) -> float:
    """The mean over the seeds, in seconds."""
    return mean(Simulated(servers, rate, seed, mode).run() for seed in seeds)


TAIL = Server(tail_share=0.02, tail=0.5)
ONE_SLOT = Server(slots=1)


@pytest.mark.parametrize(
    ("servers", "rate", "most"),
    [
        ([TAIL] * 3, 30, 0.4),
        ([TAIL] * 2, 20, 0.4),
        ([Server(slots=1, tail_share=0.02, tail=0.3)] * 3, 15, 0.5),
        ([Server(), Server(0.06)], 20, 0.9),
    ],
    ids=["three replicas", "two replicas", "one slot", "a slower one"],
)
def test_at_low_load_the_tail_is_cut(servers: list[Server], rate: float, most: float) -> None:
    assert p99(servers, rate, RULES) < most * p99(servers, rate, OFF)


def share_above(seconds: float, servers: list[Server], rate: float, mode: str) -> float:
    """The part of the requests that take longer, over many seeds."""
    found: list[float] = []
    for seed in MANY_SEEDS:
        simulated = Simulated(servers, rate, seed, mode)
        simulated.run()
        found += simulated.latencies
    return sum(one > seconds for one in found) / len(found)


def test_at_a_third_of_the_load_half_of_the_tail_is_cut() -> None:
    assert share_above(0.4, [TAIL] * 3, 180, RULES) < 0.6 * share_above(0.4, [TAIL] * 3, 180, OFF)


@pytest.mark.parametrize(
    ("servers", "rate"),
    [([Server()] * 3, 540), ([Server()] * 3, 570), ([Server()] * 2, 375), ([ONE_SLOT] * 3, 135), ([TAIL] * 3, 420)],
    ids=["at 90 %", "at 95 %", "two replicas", "one slot", "with a tail"],
)
def test_at_high_load_it_costs_nothing_where_naive_hedging_does(servers: list[Server], rate: float) -> None:
    """It costs 0.93 to 1.10 times the p99 without; without the rules hedges multiply the load, and so the latencies."""
    off = p99(servers, rate, OFF, MANY_SEEDS)
    assert p99(servers, rate, RULES, MANY_SEEDS) < 1.12 * off
    assert Simulated(servers, rate, 0, NAIVE).run() > 3 * off


@pytest.mark.parametrize(
    ("replicas", "rate"), [(3, 60), (3, 200), (3, 330), (2, 60), (2, 120)], ids=lambda value: f"{value}"
)
def test_a_replica_that_hangs_costs_no_more_than_without(replicas: int, rate: float) -> None:
    servers = [Server(hangs_from=SECONDS / 3), *[Server()] * (replicas - 1)]
    assert p99(servers, rate, RULES) <= p99(servers, rate, OFF)


@pytest.mark.parametrize(("replicas", "rate"), [(3, 200), (3, 330)])
def test_hardly_a_request_waits_for_a_replica_that_hangs(replicas: int, rate: float) -> None:
    """An endpoint that is silent may hang: another one is asked, though it has as much to do as the rest."""
    servers = [Server(hangs_from=SECONDS / 3), *[Server()] * (replicas - 1)]
    assert share_above(1.0, servers, rate, RULES) < 0.25 * share_above(1.0, servers, rate, OFF)


@pytest.mark.parametrize("rate", [30, 540])
def test_at_most_a_twentieth_is_hedged(rate: float) -> None:
    simulated = Simulated([TAIL] * 3, rate, 1, RULES)
    simulated.run()
    assert simulated.balancer.hedges <= 0.05 * len(simulated.latencies)
    assert (simulated.balancer.hedges > 0.01 * len(simulated.latencies)) is (rate == 30)
