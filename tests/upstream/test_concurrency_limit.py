"""What the learned limit does for simulated services. `seconds` are simulated, and the seeds fixed: the figures are always
the same.

Requests come at their times whatever becomes of those before them, as they do from many clients.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from statistics import mean
from typing import Any

import pytest

from tentaculo.model.health import Outcome
from tentaculo.upstream.concurrency_limit import ConcurrencyLimit, LearnedLimit, RouteDeadline

SEEDS = range(3)
OFTEN = 8
"""Seeds of a healthy service: one refusal in any of them is one too many."""
DEADLINE = 0.3
"""Seconds: five times the 95th percentile of a service that takes 20 ms, exponentially distributed."""

At = Callable[[float], float]


def always(value: float) -> At:
    return lambda _: value


def exponential(seconds: At) -> Callable[[float, Random], float]:
    return lambda at, random: random.expovariate(1 / seconds(at))


_USUAL, _EIGHT = exponential(always(0.02)), always(8)


@dataclass
class Service:
    """Requests and the service that they are sent to. Each function is given the moment."""

    rate: At
    """Requests a second."""
    serve: Callable[[float, Random], float] = _USUAL
    """How long the service works on one request."""
    slots: At = _EIGHT
    """Requests that each endpoint works on at once; others wait there."""
    endpoints: int = 1
    hangs_from: float = inf
    """When the first endpoint takes requests and serves them no more."""
    bursts: Iterable[tuple[float, int]] = ()
    """Requests that come at one moment besides."""
    patience: float = inf
    """Seconds after which a client leaves."""
    until: float = 100.0


@dataclass
class Simulated:
    service: Service
    seed: int
    limit: ConcurrencyLimit = field(default_factory=LearnedLimit)

    def __post_init__(self) -> None:
        self.random, self.numbers = Random(self.seed), count()
        self.route = RouteDeadline(self.limit)
        self.events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.queues = [deque[tuple[object, float]]() for _ in range(self.service.endpoints)]
        self.busy, self.held = [0] * self.service.endpoints, [0] * self.service.endpoints
        self.sent = 0
        self.latencies: list[tuple[float, float]] = []
        """When each request that was served had come, and how long that took."""

    def later(self, at: float, step: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self.events, (at, next(self.numbers), step, arguments))

    def run(self) -> Simulated:
        self.later(0.0, self.arrive, 0.0)
        for at, requests in self.service.bursts:
            for _ in range(requests):
                self.later(at, self.ask, at)
        while self.events and self.events[0][0] < self.service.until:
            at, _, step, arguments = heapq.heappop(self.events)
            step(*arguments)
        return self

    def in_time(self, seconds: float = DEADLINE) -> float:
        """The share of the requests that were served within `seconds`."""
        return sum(latency <= seconds for _, latency in self.latencies) / self.sent

    def arrive(self, now: float) -> None:
        rate = self.service.rate(now)
        again = now + (self.random.expovariate(rate) if rate else 0.1)
        self.later(again, self.arrive, again)
        if rate:
            self.ask(now)

    def ask(self, now: float) -> None:
        self.sent += 1
        if self.limit.in_flight >= self.limit.limit and not self.limit.may_enter(now):
            return
        request = object()
        self.limit.enter(request, now)
        number = min(range(len(self.held)), key=lambda one: (self.held[one], self.random.random()))
        self.held[number] += 1
        self.queues[number].append((request, now))
        if self.service.patience < inf:
            self.later(now + self.service.patience, self.leave, request, now + self.service.patience)
        self.work(number, now)

    def leave(self, request: object, now: float) -> None:
        self.limit.note_end(request, self.route, now, Outcome.NEUTRAL)

    def work(self, number: int, now: float) -> None:
        queue = self.queues[number]
        hangs = number == 0 and now >= self.service.hangs_from
        while queue and self.busy[number] < self.service.slots(now) and not hangs:
            request, began = queue.popleft()
            self.busy[number] += 1
            ends = now + self.service.serve(now, self.random)
            self.later(ends, self.finish, number, request, began, ends)
        if queue and not self.busy[number] and not hangs:
            self.later(now + 0.1, self.work, number, now + 0.1)

    def finish(self, number: int, request: object, began: float, now: float) -> None:
        self.busy[number] -= 1
        if number == 0 and now >= self.service.hangs_from:
            return
        self.held[number] -= 1
        self.limit.note_end(request, self.route, now, Outcome.SUCCESS)
        self.latencies.append((began, now - began))
        self.work(number, now)


class Unlimited(ConcurrencyLimit):
    """A limit so large that it protects nobody, as that of an endpoint (4,096) is."""

    def __init__(self) -> None:
        super().__init__(4096)


def halved(rate: float, **more: Any) -> Service:
    """A service of which half stops working for 20 of 100 seconds."""
    return Service(always(rate), slots=lambda now: 4 if 20 <= now < 40 else 8, **more)


@pytest.mark.thorough
def test_most_is_served_in_time_when_capacity_halves() -> None:
    """What is possible: the service can serve 400 a second, then 200, and gets 300: 93 % of all."""
    fixed = mean(Simulated(halved(300), seed, Unlimited()).run().in_time() for seed in SEEDS)
    learned = mean(Simulated(halved(300), seed).run().in_time() for seed in SEEDS)
    assert 0.55 < fixed < 0.7, "the fixed limit of today protects nobody"
    assert learned > 0.9


@pytest.mark.thorough
@pytest.mark.parametrize(("rate", "least"), [(220, 0.92), (240, 0.92), (280, 0.9), (360, 0.88)])
def test_it_is_so_at_every_load(rate: float, least: float) -> None:
    """Of what is possible with 20 seconds of 200 requests a second: the loads are 110 to 180 % of that."""
    possible = 0.8 + 0.2 * min(1, 200 / rate)
    assert mean(Simulated(halved(rate), seed).run().in_time() for seed in SEEDS) > least * possible


def test_clients_that_leave_do_not_hide_an_overload() -> None:
    one = Simulated(halved(300, patience=1.0), 1).run()
    assert one.limit.shed
    assert one.in_time() > 0.85


def test_the_limit_ends_with_the_overload() -> None:
    one = Simulated(halved(300), 1).run()
    assert one.limit.shed
    assert one.limit.view(100.0).limit is None
    later = [latency for began, latency in one.latencies if began > 45]
    assert mean(latency <= DEADLINE for latency in later) > 0.999


@pytest.mark.parametrize("own", [0.0, 0.9])
def test_a_service_is_not_limited_for_the_time_that_the_gateway_takes(own: float) -> None:
    """Four thousand clients that send without a pause keep the gateway busy, and wait for it, not for the service."""
    limit = LearnedLimit()
    route = RouteDeadline(limit)
    now = 0.0
    for number in range(100):
        limit.enter(number, now)
        now += 0.01
        limit.note_end(number, route, now, Outcome.SUCCESS)
    waiting = deque[int]()
    for number in range(100, 4000):
        limit.enter(number, now)
        waiting.append(number)
        now += 0.0005
        if number % 4 == 0:
            request = waiting.popleft()
            limit._pending[request] = now - 0.91
            limit.note_end(request, route, now, Outcome.SUCCESS, own)
    assert (limit.limit < inf) is (own == 0.0)


def test_requests_at_an_endpoint_that_hangs_hold_no_place_for_long() -> None:
    """Those that hang count no more after a second, while the limit acts; their responses count when they come."""
    limit = LearnedLimit()
    route = RouteDeadline(limit, 0.01)
    limit.limit = 4
    for number in range(4):
        limit.enter(number, 10.0)
    limit._calm_at = 20.0
    assert not limit.may_enter(10.5)
    assert limit.may_enter(11.5)
    assert limit.in_flight == 3, "room was made for one"
    limit.enter("new", 11.5)
    limit.note_end(0, route, 12.0, Outcome.SUCCESS)
    limit.leave(0)
    assert limit.in_flight == 4, "it was not counted any more"


def test_refusals_of_the_last_five_minutes_are_counted_and_noted_once_a_minute() -> None:
    noted: list[int] = []
    limit = ConcurrencyLimit(0, lambda _, refused: noted.append(refused))
    for now in (0.0, 1.0, 59.0, 61.0, 400.0):
        assert not limit.may_enter(now)
    assert noted == [1, 3, 1]
    assert (limit.view(400.0).shed, limit.view(400.0).recently_shed) == (5, 1)
    assert limit.view(1000.0).recently_shed == 0


def slower_from(deploy: float, before: float, after: float) -> At:
    return lambda now: before if now < deploy else after


HEALTHY: dict[str, Service] = {
    "half busy": Service(always(200)),
    "very busy": Service(always(340)),
    "seldom asked": Service(always(3), until=1500),
    "bursts": Service(always(100), bursts=[(at, 300) for at in range(10, 100, 7)]),
    "growing bursts": Service(always(100), bursts=[(at, 5 * at) for at in range(10, 100, 7)]),
    "a burst at first": Service(always(100), bursts=[(0.001, 500)]),
    "sudden traffic": Service(lambda now: 10 if now < 50 else 300),
    "slow start after idle": Service(
        lambda now: 0 if 20 < now < 60 else 200, exponential(lambda now: 0.06 if 60 <= now < 61 else 0.02)
    ),
    "a slow deploy": Service(always(100), exponential(slower_from(50, 0.02, 0.12)), always(999)),
    "a very slow deploy": Service(always(100), exponential(slower_from(50, 0.02, 2)), always(9999)),
    "a slow deploy, all alike": Service(always(100), lambda now, _: 0.02 if now < 50 else 2, always(9999)),
    "a slow deploy with little traffic": Service(
        always(5), exponential(slower_from(300, 0.02, 0.6)), always(999), until=900
    ),
    "a slow deploy and more traffic": Service(
        lambda now: 100 + now, exponential(slower_from(50, 0.02, 0.4)), always(999), until=200
    ),
    "few slow requests": Service(
        always(100), lambda _, r: 2.0 if r.random() < 0.045 else r.expovariate(100), always(999)
    ),
    "many slow requests": Service(
        always(100), lambda _, r: 2.0 if r.random() < 0.4 else r.expovariate(100), always(999)
    ),
    "a long tail": Service(always(100), lambda _, r: 0.01 * r.paretovariate(1.1), always(999)),
    "pauses": Service(always(100), slots=lambda now: 0 if now % 10 < 1 else 8),
    "one endpoint of two hangs": Service(always(200), endpoints=2, hangs_from=50),
}


@pytest.mark.simulation
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_service_is_never_limited(name: str) -> None:
    for seed in range(OFTEN):
        one = Simulated(HEALTHY[name], seed).run()
        assert one.latencies, "it served nothing"
        assert not one.limit.shed, f"{one.limit.shed} of {one.sent} requests refused with seed {seed}: {one.route}"
