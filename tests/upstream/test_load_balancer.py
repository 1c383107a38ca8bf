from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from tentaculo.config.limits import LimitSettings
from tentaculo.config.services import BreakerSettings
from tentaculo.model.health import BreakerState, BreakerView, Endpoint, Outcome
from tentaculo.model.text import utc_now
from tentaculo.tasks import TaskGroup
from tentaculo.upstream.circuit_breaker import CircuitBreaker
from tentaculo.upstream.concurrency_limit import ConcurrencyLimit
from tentaculo.upstream.load_balancer import EndpointState, Lease, LoadBalancer
from tentaculo.upstream.pool import Pool


class Fuse(CircuitBreaker):
    """A breaker whose state the test sets, and which counts how often it was asked."""

    def __init__(self, *, is_open: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(Endpoint("s", "h", 1), BreakerSettings(), clock=lambda: 0.0, now=utc_now)
        # As one that is not closed: it is asked each time.
        self.closed_ticket, self.is_watchful = 0, True
        self.is_open = is_open
        self.retry_after = retry_after
        self.asked = 0
        self.outcomes: list[Outcome] = []
        self.tickets: list[int] = []

    def try_acquire(self) -> int:
        self.asked += 1
        return 0 if self.is_open else self.asked

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        self.outcomes.append(outcome)
        self.tickets.append(ticket)

    def view(self) -> BreakerView:
        state = BreakerState.OPEN if self.is_open else BreakerState.CLOSED
        return BreakerView(state, 0, retry_after=self.retry_after)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


def balancer(
    *fuses: Fuse,
    limit: int = 100,
    queue: int = 10,
    clock: Clock | None = None,
    weights: Sequence[int] = (),
    in_turn: bool = False,
) -> LoadBalancer:
    pools = [Pool(Endpoint("s", "127.0.0.1", port), LimitSettings()) for port in range(1, len(fuses) + 1)]
    clock = clock or Clock()
    parts = zip(pools, fuses, weights or [1] * len(fuses), strict=True)
    endpoints = [EndpointState(pool, fuse, limit, weight=weight, clock=clock) for pool, fuse, weight in parts]
    return LoadBalancer(endpoints, queue, in_turn=in_turn)


def ports(of: LoadBalancer, count: int) -> list[int | None]:
    """The ports of `count` requests, one after the other."""
    found: list[int | None] = []
    for _ in range(count):
        lease = of.acquire()
        found.append(None if lease is None else lease.endpoint.pool.upstream.port)
        if lease is not None:
            lease.stop_counting()
    return found


def busy(of: LoadBalancer, number: int) -> Lease:
    """One more request in flight at the endpoint of that number."""
    return Lease(of, of.endpoints[number], 1)


class TestChoosing:
    def test_in_turn(self) -> None:
        assert ports(balancer(Fuse(), Fuse(), Fuse()), 7) == [1, 2, 3, 1, 2, 3, 1]

    def test_past_an_open_breaker(self) -> None:
        fuses = Fuse(), Fuse(is_open=True), Fuse()
        of = balancer(*fuses)
        assert ports(of, 4) == [1, 3, 1, 3]
        fuses[1].is_open = False
        assert ports(of, 3) == [2, 1, 3], "it has waited longest"

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_all_are_open(self, count: int) -> None:
        of = balancer(*(Fuse(is_open=True) for _ in range(count)))
        assert ports(of, 3) == [None] * 3

    def test_none_is_tried_twice(self) -> None:
        of = balancer(Fuse(), Fuse(), Fuse())
        tried: list[EndpointState] = []
        while (lease := of.acquire(tried)) is not None:
            tried.append(lease.endpoint)
        assert sorted(endpoint.pool.upstream.port for endpoint in tried) == [1, 2, 3]
        only = balancer(Fuse())
        assert only.acquire(only.endpoints) is None

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_breaker_that_is_asked_is_used(self, count: int) -> None:
        # A half-open breaker allows one trial, and the request that takes it must go there.
        fuses = [Fuse() for _ in range(count)]
        of = balancer(*fuses)
        for number in range(1, 5):
            lease = of.acquire()
            assert lease is not None
            lease.release(Outcome.NEUTRAL)
            fuse = fuses[of.endpoints.index(lease.endpoint)]
            assert fuse.tickets[-1] == fuse.asked
            assert sum(fuse.asked for fuse in fuses) == number

    def test_until_when_to_wait(self) -> None:
        fuses = Fuse(is_open=True, retry_after=7.5), Fuse(is_open=True, retry_after=2.5)
        assert balancer(*fuses).retry_after() == 2.5


class TestPreferring:
    def test_the_fewest_in_flight(self) -> None:
        of = balancer(Fuse(), Fuse(), Fuse())
        busy(of, 0)
        assert ports(of, 4) == [2, 3, 2, 3]
        busy(of, 1)
        busy(of, 2)
        busy(of, 2)
        assert ports(of, 4) == [1, 2, 1, 2]

    def test_one_that_hangs_gets_one_request(self) -> None:
        of = balancer(Fuse(), Fuse())
        for _ in range(100):
            lease = of.acquire()
            assert lease is not None
            if lease.endpoint is of.endpoints[1]:
                lease.release(Outcome.SUCCESS)
        assert of.endpoints[0].in_flight == 1

    def test_one_that_often_fails_is_passed_over_for_a_while(self) -> None:
        clock = Clock()
        of = balancer(Fuse(), Fuse(), clock=clock)
        for _ in range(10):
            busy(of, 0).release(Outcome.FAILURE)
            busy(of, 1).release(Outcome.SUCCESS)
        assert ports(of, 3) == [2, 2, 2]
        assert "ejected for 1.0 s" in repr(of.endpoints[0].outliers)
        clock.moment += 1
        assert ports(of, 3) == [1, 2, 1]

    def test_one_that_is_ill_by_its_probes_too(self) -> None:
        of = balancer(Fuse(), Fuse())
        of.endpoints[0].outliers.note_probe(is_healthy=False)
        assert ports(of, 3) == [2, 2, 2]
        of.endpoints[0].outliers.note_probe(is_healthy=True)
        assert ports(of, 3) == [1, 2, 1]

    def test_where_none_stands_well_all_are_tried(self) -> None:
        of = balancer(Fuse(), Fuse(), Fuse(is_open=True))
        for member in of.endpoints:
            member.outliers.note_probe(is_healthy=False)
        assert ports(of, 3) == [1, 2, 1]
        busy(of, 0)
        assert ports(of, 2) == [2, 2]

    def test_where_those_that_stand_well_are_full_or_tried_the_others_serve(self) -> None:
        of = balancer(Fuse(), Fuse(), limit=1)
        failing, preferred = of.endpoints
        failing.outliers.note_probe(is_healthy=False)
        lease = of.acquire([preferred])
        assert lease is not None
        assert lease.endpoint is failing
        lease.release(Outcome.NEUTRAL)
        busy(of, 1)
        assert ports(of, 1) == [1]

    def test_a_trial_goes_first(self) -> None:
        fuses = Fuse(), Fuse(is_open=True)
        of = balancer(*fuses)
        assert ports(of, 3) == [1, 1, 1]
        fuses[1].is_open = False
        assert ports(of, 1) == [2]

    def test_no_trial_where_probes_say_that_it_would_fail(self) -> None:
        fuses = Fuse(), Fuse()
        of = balancer(*fuses)
        of.endpoints[1].outliers.note_probe(is_healthy=False)
        assert ports(of, 3) == [1, 1, 1]
        assert fuses[1].asked == 0
        of.endpoints[0].outliers.note_probe(is_healthy=False)
        assert 2 in ports(of, 2), "but where none stands well it may be the one that has recovered"

    def test_an_outcome_is_reported_to_the_breaker_and_the_outlier_detector(self) -> None:
        fuses = Fuse(), Fuse()
        of = balancer(*fuses)
        busy(of, 0).release(Outcome.FAILURE)
        assert (fuses[0].outcomes, fuses[1].outcomes) == ([Outcome.FAILURE], [])
        assert of.endpoints[0].outliers.failing > of.endpoints[1].outliers.failing == 0

    def test_the_only_one_is_judged_by_its_breaker_alone(self) -> None:
        of = balancer(Fuse())
        busy(of, 0).release(Outcome.FAILURE)
        assert of.endpoints[0].outliers.failing == 0
        of.endpoints[0].outliers.note_probe(is_healthy=False)
        assert ports(of, 2) == [1, 1]


class TestLatency:
    def test_the_faster_one_takes_one_more_and_not_two(self) -> None:
        of = balancer(Fuse(), Fuse())
        of.endpoints[0].note_latency(0.1)
        of.endpoints[1].note_latency(0.01)
        assert ports(of, 3) == [2, 2, 2]
        busy(of, 1)
        assert ports(of, 3) == [2, 2, 2]
        busy(of, 1)
        assert ports(of, 3) == [1, 1, 1]

    def test_a_longer_one_counts_at_once_and_shorter_ones_little_by_little(self) -> None:
        clock = Clock()
        of = balancer(Fuse(), Fuse(), clock=clock)
        slow, fast = of.endpoints
        fast.note_latency(0.05)
        slow.note_latency(0.01)
        assert ports(of, 1) == [1]
        slow.note_latency(0.2)
        assert ports(of, 1) == [2]
        slow.note_latency(0.01)
        assert ports(of, 1) == [2]
        for _ in range(40):
            clock.moment += 0.5
            slow.note_latency(0.01)
            fast.note_latency(0.05)
        assert ports(of, 1) == [1]

    def test_what_was_slow_is_tried_again_unless_a_request_hangs_there(self) -> None:
        clock = Clock()
        of = balancer(Fuse(), Fuse(), clock=clock)
        slow, fast = of.endpoints
        slow.note_latency(1.0)
        fast.note_latency(0.1)
        assert ports(of, 1) == [2]
        clock.moment += 30
        fast.note_latency(0.1)
        assert ports(of, 1) == [1]
        slow.note_latency(1.0)
        busy(of, 0)
        busy(of, 1)
        clock.moment += 1000
        assert ports(of, 1) == [2]

    def test_one_that_is_not_measured_gets_one_request(self) -> None:
        of = balancer(Fuse(), Fuse())
        of.endpoints[0].note_latency(0.01)
        assert ports(of, 1) == [2]
        busy(of, 1)
        busy(of, 0)
        assert ports(of, 1) == [1]


class TestWeights:
    def test_each_has_as_many_in_flight_as_its_weight_says(self) -> None:
        of = balancer(Fuse(), Fuse(), weights=(3, 1))
        for _ in range(40):
            assert of.acquire() is not None
        assert [one.in_flight for one in of.endpoints] == [30, 10]

    def test_idle_ones_that_are_about_as_fast_take_turns_by_weight(self) -> None:
        clock = Clock()
        of = balancer(Fuse(), Fuse(), Fuse(), weights=(3, 1, 2), clock=clock)
        assert Counter(ports(of, 60)) == {1: 30, 2: 10, 3: 20}
        for one in of.endpoints:
            clock.moment += 0.01
            one.note_latency(0.0005)
        of.endpoints[1].note_latency(0.008)  # it had to be connected to
        assert Counter(ports(of, 60)) == {1: 30, 2: 10, 3: 20}
        for one, seconds in zip(of.endpoints, (0.1, 0.03, 0.05), strict=True):
            one.note_latency(seconds)
        assert Counter(ports(of, 30)) == {2: 10, 3: 20}, "one that takes three times as long is no equal"
        of.endpoints[1].note_latency(0.06)
        assert Counter(ports(of, 60)) == {1: 30, 2: 10, 3: 20}

    def test_in_turn_by_weight(self) -> None:
        of = balancer(Fuse(), Fuse(), weights=(3, 1), in_turn=True)
        assert Counter(ports(of, 40)) == {1: 30, 2: 10}
        even = balancer(Fuse(), Fuse(), Fuse(), in_turn=True)
        assert ports(even, 6) == [1, 2, 3, 1, 2, 3]
        busy(even, 0)
        assert ports(even, 3) == [1, 2, 3], "whatever is in flight"

    def test_one_that_was_away_has_no_turns_to_catch_up_with(self) -> None:
        fuses = Fuse(), Fuse(is_open=True)
        of = balancer(*fuses, in_turn=True)
        assert set(ports(of, 50)) == {1}
        fuses[1].is_open = False
        assert Counter(ports(of, 10)) == {1: 5, 2: 5}


class TestRoom:
    def test_a_full_one_is_passed_over_and_its_breaker_is_not_asked(self) -> None:
        fuses = Fuse(), Fuse()
        of = balancer(*fuses, limit=1)
        first, second = of.endpoints
        lease = busy(of, 0)
        assert first.is_full
        assert ports(of, 2) == [2, 2]
        assert fuses[0].asked == 0
        busy(of, 1)
        assert ports(of, 1) == [None]
        assert of.is_full([])
        assert of.is_full([first])
        assert not of.is_full([first, second])
        lease.release(Outcome.NEUTRAL)
        assert ports(of, 1) == [1]
        assert not of.is_full([second])

    def test_the_only_one(self) -> None:
        of = balancer(Fuse(), limit=1)
        lease = busy(of, 0)
        assert ports(of, 1) == [None]
        lease.release(Outcome.NEUTRAL)
        assert ports(of, 1) == [1]

    def test_a_tunnel_leaves_its_room_and_still_reports_its_outcome(self) -> None:
        fuse = Fuse()
        of = balancer(fuse, limit=1)
        lease = busy(of, 0)
        lease.stop_counting()
        assert of.endpoints[0].in_flight == 0
        assert ports(of, 1) == [1]
        lease.release(Outcome.SUCCESS)
        assert (of.endpoints[0].in_flight, fuse.outcomes) == (0, [Outcome.SUCCESS])

    async def test_who_leaves_wakes_who_has_waited_longest(self) -> None:
        of, order, tasks = balancer(Fuse(), limit=1), list[int](), TaskGroup("test")
        lease = busy(of, 0)

        async def wait(number: int) -> None:
            assert await of.wait_for_room(5)
            order.append(number)
            of.wake_next()

        waiting = [tasks.start(wait(number), str(number)) for number in range(3)]
        while "3 requests wait" not in repr(of):
            await asyncio.sleep(0)
        lease.release(Outcome.NEUTRAL)
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2]
        await tasks.close()

    async def test_a_place_that_came_back_is_used_though_requests_wait(self) -> None:
        fuses = Fuse(), Fuse()
        of, tasks = balancer(*fuses, limit=1), TaskGroup("test")
        busy(of, 0)
        busy(of, 1)
        waiting = [tasks.start(of.wait_for_room(5), "waits") for _ in range(2)]
        await asyncio.sleep(0)
        of.wake_if_room()
        assert len(of.waiting) == 2
        of.endpoints[1].limit = 2
        of.wake_if_room()
        assert await waiting[0]
        assert len(of.waiting) == 1
        await tasks.close()

    async def test_no_room_in_time(self) -> None:
        of = balancer(Fuse(), limit=1)
        busy(of, 0)
        assert not await of.wait_for_room(0.01)
        assert "0 requests wait" in repr(of)

    async def test_room_that_came_before_the_wait_began_is_used(self) -> None:
        """A request that finds no room waits in a task, which begins a turn of the event loop later."""
        of = balancer(Fuse(), limit=1)
        lease = busy(of, 0)
        assert of.acquire() is None
        lease.release(Outcome.NEUTRAL)
        assert await of.wait_for_room(1)
        # One that was woken for nothing waits for the next end of a request: else it would wake itself for ever.
        assert not await of.wait_for_room(0.01, is_first=False)

    async def test_the_queue_is_bounded(self) -> None:
        of, tasks = balancer(Fuse(), limit=1, queue=1), TaskGroup("test")
        lease = busy(of, 0)
        first = tasks.start(of.wait_for_room(5), "first")
        await asyncio.sleep(0)
        assert not await of.wait_for_room(5)
        lease.release(Outcome.NEUTRAL)
        assert await first

    async def test_who_gives_up_at_the_moment_of_being_woken_wakes_the_next(self) -> None:
        of, tasks = balancer(Fuse(), limit=1), TaskGroup("test")
        lease = busy(of, 0)
        first, second = tasks.start(of.wait_for_room(5), "first"), tasks.start(of.wait_for_room(5), "second")
        await asyncio.sleep(0)
        lease.release(Outcome.NEUTRAL)
        first.cancel()
        assert await second
        assert first.cancelled()

    async def test_who_has_given_up_is_not_woken(self) -> None:
        of, tasks = balancer(Fuse(), limit=1), TaskGroup("test")
        lease = busy(of, 0)
        first, second = tasks.start(of.wait_for_room(5), "first"), tasks.start(of.wait_for_room(5), "second")
        await asyncio.sleep(0)
        first.cancel()
        lease.release(Outcome.NEUTRAL)
        assert await second
        assert "0 requests wait" in repr(of)


class TestHedging:
    """A second place for a request that waits."""

    def hedged(self, of: LoadBalancer, first: int = 0, *, is_silent: bool = False) -> int | None:
        """The number of the endpoint that a request at `first` is sent to as well."""
        of._choices += 1000
        lease = of.acquire_hedge(of.endpoints[first], is_silent=is_silent)
        return None if lease is None else of.endpoints.index(lease.endpoint)

    @pytest.mark.parametrize(("counts", "may"), [((2, 2, 2), True), ((9, 5, 9), True), ((2, 3, 3), False)])
    def test_one_no_busier_than_the_others_where_the_first_is_silent(
        self, counts: tuple[int, int, int], may: bool
    ) -> None:
        one = balancer(Fuse(), Fuse(), Fuse())
        for number, count in enumerate(counts):
            for _ in range(count):
                busy(one, number)
        assert self.hedged(one) is None
        assert (self.hedged(one, is_silent=True) is not None) is may

    def test_the_idle_one(self) -> None:
        one = balancer(Fuse(), Fuse(), Fuse())
        for number in (0, 1):
            busy(one, number)
        assert self.hedged(one) == 2
        assert one.hedges == 1

    @pytest.mark.parametrize(
        ("first", "second", "third", "may"),
        [
            (1, 1, 1, True),
            (1, 1, 9, True),
            (9, 2, 2, True),
            (2, 2, 2, False),
            (9, 4, 9, True),
            (9, 5, 9, False),
            (4, 2, 4, True),
        ],
    )
    def test_none_that_has_as_much_to_do_as_the_others(self, first: int, second: int, third: int, may: bool) -> None:
        one = balancer(Fuse(), Fuse(), Fuse())
        for number, count in enumerate((first, second, third)):
            for _ in range(count):
                busy(one, number)
        assert (self.hedged(one) is not None) is may

    async def test_none_while_a_request_waits_for_room(self) -> None:
        one = balancer(Fuse(), Fuse())
        busy(one, 0)
        one.waiting.append(asyncio.get_running_loop().create_future())
        assert self.hedged(one) is None

    def test_none_near_the_limit_of_the_service(self) -> None:
        one = balancer(Fuse(), Fuse())
        busy(one, 0)
        one.concurrency = ConcurrencyLimit(4)
        one.concurrency.in_flight = 3
        assert self.hedged(one) is None
        one.concurrency.in_flight = 2
        assert self.hedged(one) == 1

    def test_none_that_is_full_ejected_or_has_no_closed_breaker(self) -> None:
        full = balancer(Fuse(), Fuse(), limit=1)
        busy(full, 0)
        busy(full, 1)
        ejected, broken = balancer(Fuse(), Fuse()), balancer(Fuse(), Fuse())
        ejected.endpoints[1].outliers.note_probe(is_healthy=False)
        broken.endpoints[1].breaker._state = BreakerState.HALF_OPEN
        for one in (full, ejected, broken, balancer(Fuse())):
            busy(one, 0)
            assert self.hedged(one) is None
            assert one.hedges == 0

    def test_a_twentieth_of_the_requests(self) -> None:
        one = balancer(Fuse(), Fuse())
        busy(one, 0)
        assert one.acquire_hedge(one.endpoints[0]) is None, "no request has been sent"
        for _ in range(20):
            lease = one.acquire()
            assert lease is not None
            lease.release(Outcome.SUCCESS)
        lease = one.acquire_hedge(one.endpoints[0])
        assert lease is not None
        lease.release(Outcome.NEUTRAL)
        assert one.acquire_hedge(one.endpoints[0]) is None
