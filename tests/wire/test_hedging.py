"""Hedged requests over real sockets: when a second endpoint is asked, who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tentaculo.model.health import BreakerState, Outcome
from tentaculo.telemetry.request_stats import RouteTimes
from tentaculo.upstream.load_balancer import Lease, LoadBalancer
from tests.conftest import Live, Start
from tests.support.wire import Reader, Upstream, Writer, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
GET = b"GET /s/work HTTP/1.1\r\nHost: h\r\n\r\n"
USUAL = 0.02
"""Seconds that stand for the route's p95."""


@pytest.fixture(autouse=True)
def _usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """The route has a p95 from the start."""
    monkeypatch.setattr(RouteTimes, "first_byte_p95", lambda *_: USUAL)


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0)


class Replica:
    """An endpoint: it answers at once, or when it is let."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.requests: list[bytes] = []
        self.gone = 0
        self.waits = False
        self.go = asyncio.Event()
        self.says: bytes | None = None
        """What it sends before it closes its connection, in place of a response."""
        self.interim = b""

    async def __call__(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        try:
            while True:
                request = await read_request(reader)
                self.requests.append(request.raw_head + request.body)
                if self.interim:
                    writer.write(self.interim)
                if self.waits:
                    while not (self.go.is_set() or reader.at_eof() or reader.exception()):
                        await asyncio.sleep(0.001)
                    if not self.go.is_set():
                        return
                if self.says is not None:
                    writer.write(self.says)
                    return
                writer.write(ok(self.name))
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.gone += 1
            writer.close()


@asynccontextmanager
async def replicas() -> AsyncIterator[tuple[Replica, Replica, tuple[int, int]]]:
    one, two = Replica(b"one"), Replica(b"two")
    async with upstream(one) as first, upstream(two) as second:
        yield one, two, (first.port, second.port)
        one.go.set()
        two.go.set()


def balancer_of(live: Live) -> LoadBalancer:
    balancer = live.gateway.proxy.routes[0].balancer
    assert balancer is not None
    return balancer


def allow(live: Live, hedges: int = 100) -> None:
    """A budget for so many hedges."""
    balancer_of(live)._hedge_budget._balance = float(hedges)


async def started(start: Start, service: Service, ports: tuple[int, ...], **route: Any) -> Live:
    live = await start(service(*ports, hedge=True, settings={"policy": "round_robin"}, **route))
    allow(live)
    return live


async def test_the_second_endpoint_wins_and_the_first_has_not_failed(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            response = await wire.response()
            assert response.body == b"two"
            assert "hedged, second" in (response.get("proxy-status") or "")
            await until(lambda: one.gone == 1)
            await until(lambda: live.records)
        balancer = balancer_of(live)
        assert (balancer.hedges, balancer.hedges_won) == (1, 1)
        assert live.records[0].hedge == "second"
        ids = [
            [line for line in seen.split(b"\r\n") if line.startswith(b"X-Request-ID")]
            for (seen,) in (one.requests, two.requests)
        ]
        assert ids[0] == ids[1]
        first = balancer.endpoints[0]
        view = first.breaker.view()
        assert (view.state, view.failure_count, first.breaker.traffic().total.failed) == (BreakerState.CLOSED, 0, 0)
        assert live.gateway.proxy.hedges() == [("s", 1, 1)]


async def test_the_first_endpoint_wins_and_the_second_is_dropped(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = two.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: two.requests)
            one.go.set()
            response = await wire.response()
            assert (response.body, live.records[0].hedge) == (b"one", "first")
            assert "hedged, first" in (response.get("proxy-status") or "")
            await until(lambda: two.gone == 1)
        assert [endpoint.in_flight for endpoint in balancer_of(live).endpoints] == [0, 0]
        assert balancer_of(live).hedges_won == 0


async def test_a_fast_response_is_not_hedged(start: Start, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RouteTimes, "first_byte_p95", lambda *_: 30.0)
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        async with dial(live.port) as wire:
            for body in (b"one", b"two"):
                await wire.send(GET)
                response = await wire.response()
                assert (response.body, response.get("proxy-status")) == (body, None)
        assert (len(one.requests), len(two.requests)) == (1, 1)
        assert [record.hedge for record in live.records] == [None, None]


def post(method: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join(
        (method + b" /s/work HTTP/1.1", b"Host: h", b"Content-Length: %d" % len(body), *lines, b"", body)
    )


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"POST", body=b"x"),
        post(b"PATCH", body=b"x"),
        post(b"PUT", body=b"x" * 70_000),
        post(b"PUT", b"Expect: 100-continue", body=b"x"),
        GET.replace(b"\r\n\r\n", b"\r\nAccept: text/event-stream\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nAuthorization: NTLM abc\r\n\r\n"),
    ],
    ids=["POST", "PATCH", "large body", "expect", "event stream", "upgrade", "bound connection"],
)
async def test_what_is_never_sent_twice(start: Start, service: Service, request_bytes: bytes) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(request_bytes)
            await until(lambda: one.requests)
            await asyncio.sleep(3 * USUAL)
            one.go.set()
            assert (await wire.response()).body == b"one"
        assert two.requests == []
        assert balancer_of(live).hedges == 0


async def test_a_small_body_is_sent_twice(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(post(b"PUT", body=b"x" * 1000))
            assert (await wire.response()).body == b"two"
        assert len(one.requests) == len(two.requests) == 1
        assert two.requests[0].endswith(b"\r\n\r\n" + b"x" * 1000)


async def test_without_a_budget_none_is_sent(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        allow(live, 0)
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: one.requests)
            await asyncio.sleep(3 * USUAL)
            one.go.set()
            assert (await wire.response()).body == b"one"
        assert two.requests == []


@pytest.mark.usefixtures("notices_soon")
async def test_a_client_that_leaves_ends_both(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = two.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: two.requests)
            wire.abort()
            await until(lambda: one.gone == two.gone == 1)
            await until(lambda: live.records)
        assert (live.records[0].status, live.records[0].hedge) == (499, "none")
        assert [endpoint.in_flight for endpoint in balancer_of(live).endpoints] == [0, 0]


async def test_a_client_that_closed_one_half_is_not_hedged(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            wire.writer.write_eof()
            await until(lambda: one.requests)
            await asyncio.sleep(3 * USUAL)
            one.go.set()
            assert (await wire.response()).body == b"one"
        assert two.requests == []


@pytest.mark.parametrize("says", [b"", b"nonsense\r\n\r\n"], ids=["closes", "nonsense"])
async def test_a_first_that_fails_leaves_the_second(start: Start, service: Service, says: bytes) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = two.waits = True
        one.says = says
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: two.requests)
            one.go.set()
            await until(lambda: one.gone == 1)
            two.go.set()
            assert (await wire.response()).body == b"two"
        first, second = balancer_of(live).endpoints
        assert first.breaker.traffic().total.failed == 1, "that was its own failure"
        assert (first.in_flight, second.in_flight) == (0, 0)
        assert len(two.requests) == 1


async def test_a_second_that_fails_leaves_the_first(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = two.waits = True
        two.says = b""
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: two.requests)
            two.go.set()
            await until(lambda: two.gone == 1)
            one.go.set()
            assert (await wire.response()).body == b"one"
        await until(lambda: live.records)
        assert live.records[0].hedge == "first"


async def test_a_second_that_cannot_be_reached_leaves_the_first(
    start: Start, service: Service, refusing_port: int
) -> None:
    async with replicas() as (one, _, ports):
        live = await started(start, service, (ports[0], refusing_port))
        one.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: balancer_of(live).endpoints[1].breaker.traffic().total.failed == 1)
            one.go.set()
            assert (await wire.response()).body == b"one"


async def test_the_time_limit_is_that_of_the_request(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports, timeout=0.3)
        one.waits = two.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            response = await wire.response()
            assert response.status == 504
        first, second = balancer_of(live).endpoints
        assert (first.breaker.traffic().total.failed, second.breaker.traffic().total.failed) == (1, 0)
        await until(lambda: one.gone == two.gone == 1)
        assert live.records[0].hedge == "none"


async def test_a_service_that_shows_it_is_at_work_is_not_hedged(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        one.interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        async with dial(live.port) as wire:
            await wire.send(GET)
            assert (await wire.head()).status == 103
            await asyncio.sleep(3 * USUAL)
            one.go.set()
            assert (await wire.response()).body == b"one"
        assert two.requests == []


async def test_an_interim_of_the_second_is_relayed_once_it_wins(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = True
        two.interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        async with dial(live.port) as wire:
            await wire.send(GET)
            assert (await wire.head()).status == 103
            assert (await wire.response()).body == b"two"


async def test_a_stale_connection_of_the_second_is_no_failure(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(GET)
                await wire.response()
            one.waits = two.waits = True
            two.says = b""
            await wire.send(GET)
            await until(lambda: len(two.requests) == 2)
            two.go.set()
            await until(lambda: two.gone == 1)
            one.go.set()
            assert (await wire.response()).body == b"one"
        assert balancer_of(live).endpoints[1].breaker.traffic().total.failed == 0


async def test_stopping_ends_both(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        one.waits = two.waits = True
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(lambda: two.requests)
            live.gateway.proxy.end_exchanges()
            response = await wire.response()
            assert (response.status, response.get("retry-after")) == (503, "1")
            await until(lambda: one.gone == two.gone == 1)


async def test_an_endpoint_that_hangs_does_not_look_idle(start: Start, service: Service) -> None:
    """What it was sent is likely still at work there: its place is held until it responds to something."""
    async with replicas() as (one, _, ports):
        live = await start(service(*ports, hedge=True))
        allow(live)
        one.waits = True
        async with dial(live.port) as wire:
            for _ in range(10):
                await wire.send(GET)
                assert (await wire.response()).body == b"two"
        first = balancer_of(live).endpoints[0]
        assert (len(one.requests), first.in_flight) == (1, 1)
        one.waits = False
        first.breaker.succeeded += 1
        await until(lambda: first.in_flight == 0)
        assert first.breaker.traffic().total.failed == 0


@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_second_endpoint_as_busy_is_asked_only_where_the_first_is_silent(
    is_silent: bool, start: Start, service: Service
) -> None:
    """More in flight than a hedge may meet otherwise: silence is the sign of a hang."""
    async with replicas() as (one, two, ports):
        live = await started(start, service, ports)
        balancer, one.waits = balancer_of(live), True
        first, second = balancer.endpoints
        leases = [Lease(balancer, endpoint, 1) for endpoint in (first, first, second, second)]
        asked = [0]
        acquire_hedge = LoadBalancer.acquire_hedge

        def counted(*of: Any, **how: Any) -> Lease | None:
            asked[0] += 1
            return acquire_hedge(*of, **how)

        async with dial(live.port) as wire:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(LoadBalancer, "acquire_hedge", counted)
                await wire.send(GET)
                await until(lambda: one.requests)
                if not is_silent:
                    first.breaker.succeeded += 1
                await until(lambda: two.requests if is_silent else asked[0])
            one.go.set()
            assert (await wire.response()).body in (b"one", b"two")
        for lease in leases:
            lease.release(Outcome.NEUTRAL)
        assert balancer.hedges == len(two.requests) == is_silent


async def test_a_route_without_hedge_and_a_single_endpoint_send_once(start: Start, service: Service) -> None:
    async with replicas() as (one, two, ports):
        plain = await start(service(*ports, settings={"policy": "round_robin"}))
        single = await start(service(ports[0], hedge=True))
        one.waits = True
        for live in (plain, single):
            async with dial(live.port) as wire:
                before = len(one.requests)
                await wire.send(GET)
                await until(lambda: len(one.requests) > before)  # noqa: B023 - awaited within the loop
                await asyncio.sleep(3 * USUAL)
                one.go.set()
                assert (await wire.response()).body == b"one"
        assert two.requests == []
        assert single.gateway.proxy.hedges() == []
