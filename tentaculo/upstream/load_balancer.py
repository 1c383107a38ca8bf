"""Which of a service's endpoints takes the next request, and what that request holds there until it ends.

Outlier detection makes a preference only. A circuit breaker judges one endpoint alone, and opens only when the endpoint
seems dead. With several endpoints less is needed: one whose requests fail much more often than those of the others is
ejected for a time, with a status of 500 or more as well, and so is one that its probes find down while no request shows
the opposite. If no endpoint is preferred, all are tried.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from tentaculo.model.health import BreakerState, Endpoint, Outcome
from tentaculo.net.tcp import time_limit
from tentaculo.upstream.circuit_breaker import CircuitBreaker
from tentaculo.upstream.concurrency_limit import ConcurrencyLimit
from tentaculo.upstream.outlier_detection import OutlierDetector
from tentaculo.upstream.pool import Pool
from tentaculo.upstream.retry_budget import HEDGE_SHARE, RetryBudget

_DECAY = 10.0
"""Seconds in which a measured latency loses two thirds of what it says, while it is not measured again."""

_NOTICEABLE = 0.002
"""Seconds of a latency that matters. Shorter ones count as equal, so that fast endpoints take turns."""

_SIMILAR, _SETUP = 2.0, 0.01
"""Idle endpoints of unequal weight are about equally fast within this factor, or within these seconds of a new connection."""

_SUCCESS = Outcome.SUCCESS


class EndpointState:
    """One endpoint: its connections, circuit breaker, outlier detector, latency, and the number of requests on it."""

    __slots__ = (
        "_latency",
        "_measured_at",
        "breaker",
        "clock",
        "in_flight",
        "last_chosen",
        "limit",
        "others",
        "outliers",
        "place",
        "pool",
        "weight",
    )

    def __init__(
        self,
        pool: Pool,
        breaker: CircuitBreaker,
        limit: int,
        *,
        weight: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` bounds the requests in flight; `weight` is its share; `clock` is monotonic, in seconds."""
        self.pool = pool
        self.weight = weight
        self.clock = clock
        self._latency = self._measured_at = 0.0
        self.place = 0.0
        """Where its next request stands in the sequence that every endpoint goes through at the pace of its weight."""
        self.breaker = breaker
        self.outliers = OutlierDetector(clock)
        self.others: tuple[OutlierDetector, ...] = ()
        """The outlier detectors of the service's other endpoints. A single endpoint is compared with none."""
        self.in_flight = 0
        self.last_chosen = 0
        """When it was last chosen, counted in choices of its load balancer."""
        self.limit = limit

    def __repr__(self) -> str:
        return f"<EndpointState {self.pool.upstream}: {self.in_flight} of {self.limit} in flight>"

    @property
    def is_full(self) -> bool:
        """Whether it takes no more requests now."""
        return self.in_flight >= self.limit

    def latency(self, moment: float) -> float:
        """Seconds of a response while it is idle, as far as is known at `moment`; 0 where nothing is."""
        return self._latency * math.exp((self._measured_at - moment) / _DECAY)

    def note_latency(self, seconds: float) -> None:
        """Take the time to the head of a response into account: a longer one at once, shorter ones little by little.

        This is the peak-sensitive moving average of Finagle's load balancer (`PeakEwma`).
        """
        moment, seconds = self.clock(), max(seconds, _NOTICEABLE)
        if seconds < self._latency:
            seconds += (self._latency - seconds) * math.exp((self._measured_at - moment) / _DECAY)
        self._latency, self._measured_at = seconds, moment

    def note_silence(self, seconds: float) -> None:
        """Take into account that a request has waited so many seconds for the head of its response, and waits no more."""
        if seconds > self._latency:
            self.note_latency(seconds)

    def expected_wait(self, moment: float) -> float:
        """Seconds times requests: what one more request would wait for, as far as is known at `moment`.

        What was measured is forgotten in time, so that an endpoint which was slow is tried again; but not while a request
        is in flight there, which may show that it hangs. One that is not measured yet gets one request.
        """
        known = self._latency
        if self.in_flight:
            return known * (self.in_flight + 1) / self.weight if known else math.inf
        return self.latency(moment) / self.weight


class Lease(msgspec.Struct, eq=False):
    """One request's place at an endpoint. `release` it once, in any case."""

    balancer: LoadBalancer
    endpoint: EndpointState
    ticket: int
    """What the circuit breaker gave for this request."""
    is_counted: bool = True
    """Whether it takes room at the endpoint."""

    def __post_init__(self) -> None:
        # Counted before anything is waited for: until then the next request would be let through as well.
        self.endpoint.in_flight += 1

    def __repr__(self) -> str:
        return f"<Lease of {self.endpoint!r}>"

    def stop_counting(self) -> None:
        """Make room for another request while this one, a tunnel, continues. The second call does nothing."""
        if self.is_counted:
            self.is_counted = False
            self.endpoint.in_flight -= 1
            if self.balancer.waiting:
                self.balancer.wake_next()

    def release(self, outcome: Outcome, reason: str = "") -> None:
        """End the request and report its outcome to the circuit breaker and the outlier detector.

        `reason` says in words why it failed.
        """
        endpoint = self.endpoint
        if self.is_counted:
            self.is_counted = False
            endpoint.in_flight -= 1
            if self.balancer.waiting:
                self.balancer.wake_next()
        if endpoint.others:
            outliers = endpoint.outliers
            if outcome is _SUCCESS and not outliers.failing and not outliers.probe_failing:
                outliers.has_worked = True
            else:
                outliers.note_outcome(outcome, endpoint.others)
        breaker = endpoint.breaker
        if outcome is _SUCCESS and not breaker.is_watchful:
            breaker.succeeded += 1  # `record`, without a call
        else:
            breaker.record(self.ticket, outcome, reason)


class LoadBalancer:
    """Chooses among the endpoints that have room and whose circuit breaker lets a request through.

    1. The endpoint with the fewest requests in flight for its weight. One that hangs or is slow then gets almost no
       requests, long before a probe or a time limit says why. Among those with at most one more, the one with the least
       `expected_wait`; among equals the one that was chosen longest ago. One whose breaker is due for its trial has none
       in flight. Where weights differ, those that are idle and about equally fast take turns by weight, or the heaviest
       would take every request of a quiet time. With `in_turn` the endpoints take turns instead, each as often as its weight says.
    2. An ejected endpoint is passed over while another is preferred, so no request is the trial of an endpoint that its
       probes find down while there is a choice.
    3. If none is preferred, all are tried by the first rule.

    A request may be hedged: sent to a second endpoint while the first has not responded (`acquire_hedge`).

    If only room is missing, requests wait in the order of their arrival, at most `queue` of them.
    """

    __slots__ = (
        *("_choices", "_hedge_budget", "_in_turn", "_is_weighted", "_only", "_place", "_queue", "_retries"),
        *("concurrency", "endpoints", "hedges", "hedges_won", "is_joined", "waiting"),
    )

    def __init__(
        self,
        endpoints: Sequence[EndpointState],
        queue: int,
        *,
        in_turn: bool = False,
        concurrency: ConcurrencyLimit | None = None,
        is_joined: bool = True,
    ) -> None:
        """One that is not joined, of a generation that is being prepared, is used after its `join`."""
        self.endpoints = tuple(endpoints)
        self._in_turn = in_turn
        self.concurrency = concurrency
        """Limits the requests of the service in flight; None where nothing does."""
        self._place = 0.0
        self._only = self.endpoints[0] if len(self.endpoints) == 1 else None
        self._choices = 0
        self._queue = queue
        self._retries = RetryBudget(self.endpoints[0].clock)
        self._hedge_budget = RetryBudget(self.endpoints[0].clock, share=HEDGE_SHARE, reserve=0.0)
        self.hedges = self.hedges_won = 0
        """Requests that were hedged, and those of them to which the second endpoint responded first."""
        self.waiting: deque[asyncio.Future[None]] = deque()
        """Requests that wait for room; new ones queue behind them."""
        self.is_joined = self._is_weighted = False
        if is_joined:
            self.join()

    def __repr__(self) -> str:
        return f"<LoadBalancer: {len(self.endpoints)} endpoints, {len(self.waiting)} requests wait>"

    def join(self) -> None:
        """Compare the endpoints with each other from now on. They have their weights."""
        self.is_joined = True
        self._is_weighted = len({endpoint.weight for endpoint in self.endpoints}) > 1
        for endpoint in self.endpoints:
            endpoint.others = tuple(other.outliers for other in self.endpoints if other is not endpoint)

    def continue_from(self, before: LoadBalancer) -> None:
        """Continue what `before` did for the same service.

        Its requests share the queue: whichever endpoint has room, the one that has waited longest tries again.
        """
        self.waiting, self._choices, self._place = before.waiting, before._choices, before._place
        self._retries, self._hedge_budget = before._retries, before._hedge_budget
        self.hedges, self.hedges_won = before.hedges, before.hedges_won

    def acquire(self, tried: Sequence[EndpointState] = ()) -> Lease | None:
        """A place at the next endpoint that is not in `tried`, or None if none takes a request now."""
        only = self._only
        if only is not None:
            if tried or only.in_flight >= only.limit:
                return None
            ticket = only.breaker.closed_ticket or only.breaker.try_acquire()
            return Lease(self, only, ticket) if ticket else None
        preferred = [
            endpoint
            for endpoint in self.endpoints
            if (endpoint.outliers.is_preferred or endpoint.outliers.refresh())
            and endpoint.in_flight < endpoint.limit
            and endpoint not in tried
        ]
        # The second look is for when a breaker refuses, or none is preferred.
        return (preferred and self._take(self._best(preferred))) or self._try_each(tried)

    def _best(self, endpoints: Sequence[EndpointState]) -> EndpointState:
        """The one that takes the next request by the first rule."""
        if self._in_turn:
            return min(endpoints, key=self._turn)
        most = min((endpoint.in_flight + 1) / endpoint.weight for endpoint in endpoints)
        near = [endpoint for endpoint in endpoints if endpoint.in_flight <= most * endpoint.weight]
        moment = near[0].clock()
        if self._is_weighted and not any(one.in_flight for one in near):
            latencies = [one.latency(moment) for one in near]
            most = max(_SIMILAR * min(latencies), min(latencies) + _SETUP)
            return min((one for one, known in zip(near, latencies, strict=True) if known <= most), key=self._turn)
        return min(near, key=lambda one: (one.expected_wait(moment), (one.in_flight + 1) / one.weight, one.last_chosen))

    def _turn(self, endpoint: EndpointState) -> tuple[float, int]:
        # One that took no requests for a time has no turns to catch up with.
        return max(endpoint.place, self._place), endpoint.last_chosen

    def acquire_at(self, endpoint: EndpointState) -> Lease | None:
        """A place at `endpoint` and at no other."""
        return None if endpoint.is_full else self._take(endpoint)

    def acquire_sticky(self, upstream: Endpoint, tried: Sequence[EndpointState]) -> Lease | None:
        """A place at `upstream`, to which a sticky session leads; None while it is avoided, or was tried."""
        for endpoint in self.endpoints:
            if endpoint.pool.upstream == upstream and endpoint not in tried and endpoint.outliers.refresh():
                return self.acquire_at(endpoint)
        return None

    def lacks_room_at(self, upstream: Endpoint, tried: Sequence[EndpointState]) -> bool:
        """Whether `acquire_sticky` gave no place only since `upstream` is full, for a moment."""
        return any(
            one.pool.upstream == upstream and one.is_full and one.breaker.would_admit() and one.outliers.refresh()
            for one in self.endpoints
            if one not in tried
        )

    def _try_each(self, tried: Sequence[EndpointState]) -> Lease | None:
        """By all rules, until a breaker lets the request through."""
        left = [endpoint for endpoint in self.endpoints if not endpoint.is_full and endpoint not in tried]
        while left:
            endpoint = self._best([one for one in left if one.outliers.is_preferred] or left)
            if lease := self._take(endpoint):
                return lease
            left.remove(endpoint)
        return None

    def _take(self, endpoint: EndpointState) -> Lease | None:
        ticket = endpoint.breaker.closed_ticket or endpoint.breaker.try_acquire()
        if not ticket:
            return None
        self._choices += 1
        endpoint.last_chosen = self._choices
        if self._in_turn or self._is_weighted:
            self._place = max(endpoint.place, self._place)
            endpoint.place = self._place + 1 / endpoint.weight
        return Lease(self, endpoint, ticket)

    def wake_next(self) -> None:
        """Let the request that has waited longest try again."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_if_room(self) -> None:
        """Let one more request that waits try if there is room: each that ends makes room for one only.

        So a limit that was raised, and an endpoint that came back, are used although requests wait.
        """
        if self.waiting and any(not one.is_full and one.breaker.would_admit() for one in self.endpoints):
            self.wake_next()

    def may_retry(self, tried: Sequence[EndpointState]) -> bool:
        """Whether the budget allows to send one more request to an endpoint that is not in `tried`.

        Where none is left that would take it, nothing is taken from the budget.
        """
        is_left = any(one not in tried and one.breaker.would_admit() for one in self.endpoints)
        return not is_left or self._retries.take(self._choices)

    def acquire_hedge(self, first: EndpointState, *, is_silent: bool = False) -> Lease | None:
        """A place for a request that waits at `first` already, or None where another request would pay for it.

        It would while one waits for room, near the limit of the service, or where the endpoint is busier than the others.
        So it must have at most one request in flight, or half of what the median of the others has: with more, hedges at
        high load made the p99 two times as long in simulation. Where `first` has responded to no request since it got
        this one (`is_silent`), it may hang, and the endpoint must only not be busier than the median: at high load an
        endpoint that works is hardly ever so silent. One that is ejected, or whose circuit breaker is not closed, is no
        choice. A twentieth of the requests may be hedged.
        """
        others = [one for one in self.endpoints if one is not first and not one.is_full and one.breaker.is_closed]
        idle, limit = [one for one in others if one.outliers.refresh()], self.concurrency
        if self.waiting or not idle or (limit is not None and 2 * limit.in_flight > limit.limit):
            return None
        chosen = self._best(idle)
        loads = sorted(other.in_flight / other.weight for other in self.endpoints if other is not chosen)
        half = len(loads) // 2
        median = (loads[half] + loads[~half]) / 2
        most = median if is_silent else min(median, max(1.0, median / 2))
        if chosen.in_flight / chosen.weight > most:
            return None
        if not self._hedge_budget.take(self._choices - self.hedges):
            return None
        self.hedges += 1
        return self._take(chosen)

    def is_full(self, tried: Sequence[EndpointState]) -> bool:
        """Whether an endpoint that has not been tried lacks nothing but room."""
        return any(
            endpoint.is_full and endpoint not in tried and endpoint.breaker.view().state is not BreakerState.OPEN
            for endpoint in self.endpoints
        )

    async def wait_for_room(self, seconds: float, *, is_first: bool = True) -> bool:
        """Wait for room. False if there is none in `seconds`, or the queue is full.

        `is_first` is whether the request has not waited before. It may have found no room in an earlier turn of the loop.
        """
        if len(self.waiting) >= self._queue:
            return False
        waiter = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        if is_first:
            # The last request in flight may have ended since, when nobody waited yet.
            self.wake_if_room()
        try:
            async with time_limit(seconds):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter in self.waiting:
                self.waiting.remove(waiter)
            elif not waiter.cancelled():
                self.wake_next()  # this one was woken, and gives up: the next must not sleep through it
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def retry_after(self) -> float:
        """Seconds until the first of the endpoints may be tried again."""
        return min(endpoint.breaker.view().retry_after for endpoint in self.endpoints)
