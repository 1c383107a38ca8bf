"""What clients get where a service has as many requests in flight as it may have, and what does not count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from tentaculo.model.health import BreakerState, ConcurrencyView, Endpoint
from tentaculo.upstream import concurrency_limit
from tests.conftest import Live, Start
from tests.support.reloading import serving
from tests.support.wire import (
    Reader,
    Request,
    Response,
    Upstream,
    Wire,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
GET = b"GET /s/work HTTP/1.1\r\nHost: h\r\n\r\n"


class Holding:
    """Answers when it may; `held` requests wait for that."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.held = 0

    async def answer(self, request: Request) -> bytes:
        if request.target.startswith("/work"):
            self.held += 1
            await self.may_answer.wait()
            self.held -= 1
        return ok()


@asynccontextmanager
async def waiting(port: int, count: int, request: bytes = GET) -> AsyncIterator[list[Wire]]:
    """`count` clients that have sent a request."""
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(port)) for _ in range(count)]
        for wire in wires:
            await wire.send(request)
        yield wires


async def ask(port: int, request: bytes = GET) -> Response:
    async with dial(port) as wire:
        await wire.send(request)
        return await wire.response()


def limit_of(live: Live) -> ConcurrencyView:
    found = live.gateway.proxy.concurrency("s")
    assert found is not None
    return found


async def test_a_configured_limit(start: Start, service: Service) -> None:
    holding = Holding()
    async with upstream(answering(holding.answer)) as up:
        live = await start(service(up.port, settings={"concurrency": 2}))
        with capture_logs() as logs:
            async with waiting(live.port, 2) as wires:
                await up.until(lambda: holding.held == 2)
                refused = [await ask(live.port) for _ in range(3)]
                holding.may_answer.set()
                assert [(await wire.response()).status for wire in wires] == [200, 200]
        assert (await ask(live.port)).status == 200
    assert [one.status for one in refused] == [503] * 3
    problem = json.loads(refused[0].body)
    assert problem["error"] == "concurrency_limit"
    assert (problem["limit"], problem["in_flight"]) == (2, 2)
    assert problem["detail"] == "s may have 2 requests in flight: it is configured."
    assert refused[0].get("Retry-After") == "1"
    assert 'error=connection_limit_reached; details="limit 2: it is configured"' in (
        refused[0].get("Proxy-Status") or ""
    )
    assert limit_of(live) == ConcurrencyView(2, 0, 3, 3)
    (line,) = [one for one in logs if one["event"] == "requests over the concurrency limit"]
    assert (line["service"], line["limit"], line["refused"]) == ("s", 2, 1), "one line a minute"


async def test_a_refused_request_is_no_failure_of_the_service(start: Start, service: Service) -> None:
    holding = Holding()
    async with upstream(answering(holding.answer)) as up:
        live = await start(service(up.port, settings={"concurrency": 1}, breaker={"failures": 2}))
        async with waiting(live.port, 1) as (wire,):
            await up.until(lambda: holding.held == 1)
            assert {(await ask(live.port)).status for _ in range(10)} == {503}
            holding.may_answer.set()
            await wire.response()
        endpoint = Endpoint("s", "127.0.0.1", up.port)
        assert live.gateway.health_service.breakers.view(endpoint).state is BreakerState.CLOSED
        (tally,) = live.gateway.proxy.traffic.drain().values()
        assert (tally.ok, tally.failed) == (1, 0)
        assert len(up.requests) == 1, "no refused request was sent"
        assert (await ask(live.port)).status == 200


async def test_health_and_native_paths_are_never_refused(start: Start, service: Service) -> None:
    holding = Holding()
    async with upstream(answering(holding.answer)) as up:
        live = await start(service(up.port, settings={"concurrency": 1}))
        async with waiting(live.port, 1):
            await up.until(lambda: holding.held == 1)
            assert (await ask(live.port)).status == 503
            for path in (b"/s/health", b"/livez", b"/vx11/status", b"/metrics"):
                request = b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n" % (path, live.auth)
                assert (await ask(live.port, request)).status == 200, path
            holding.may_answer.set()


async def test_off_and_a_long_timeout_limit_nothing(start: Start, service: Service) -> None:
    holding = Holding()
    async with upstream(answering(holding.answer)) as up:
        services = service(up.port, settings={"concurrency": "off"})
        patient = service(up.port, settings={"concurrency": 1}, timeout=61)["s"]
        services["patient"] = patient | {"routes": [{**patient["routes"][0], "prefix": "/patient"}]}
        live = await start(services)
        patiently = GET.replace(b"/s/", b"/patient/")
        async with waiting(live.port, 10), waiting(live.port, 10, patiently):
            await up.until(lambda: holding.held == 20)
            holding.may_answer.set()
        assert live.gateway.proxy.concurrency("s") is None
        assert live.gateway.proxy.concurrency("patient") == ConcurrencyView(1, 0, 0, 0)


async def test_tunnels_and_event_streams_do_not_count(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, up: Upstream) -> None:
        request = await read_request(reader)
        if request.get("Upgrade"):
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        elif request.target == "/stream":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        else:
            writer.write(ok())
            return
        await reader.read()

    upgrade = b"GET /s/ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with upstream(script) as up:
        live = await start(service(up.port, settings={"concurrency": 1}))
        async with waiting(live.port, 1, upgrade) as (tunnel,):
            assert (await tunnel.head()).status == 101
            assert limit_of(live).in_flight == 0
            async with waiting(live.port, 1, GET.replace(b"work", b"stream")) as (stream,):
                assert (await stream.head()).status == 200
                assert limit_of(live).in_flight == 0
                assert (await ask(live.port)).status == 200


async def test_a_repeated_attempt_takes_a_place_and_gives_it_back(start: Start, service: Service) -> None:
    async def hang_up(reader: Reader, writer: Writer, up: Upstream) -> None:
        await read_request(reader)

    async with upstream(hang_up) as broken, upstream(answering(ok())) as up:
        live = await start(service(broken.port, up.port, settings={"concurrency": 1, "policy": "round_robin"}))
        for _ in range(4):
            assert (await ask(live.port)).status == 200
        assert broken.connections, "no attempt failed"
        assert limit_of(live) == ConcurrencyView(1, 0, 0, 0)


async def test_clients_that_leave_make_room(start: Start, service: Service) -> None:
    holding = Holding()
    async with upstream(answering(holding.answer)) as up:
        live = await start(service(up.port, settings={"concurrency": 2}))
        async with waiting(live.port, 2) as wires:
            await up.until(lambda: holding.held == 2)
            wires[0].reset()
            async with asyncio.timeout(10):
                while limit_of(live).in_flight == 2:
                    await asyncio.sleep(0.01)
            holding.may_answer.set()
            assert (await ask(live.port)).status == 200


async def test_a_client_that_reads_slowly_holds_no_place_of_a_learned_limit(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, up: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
        await reader.read()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with waiting(live.port, 1) as (wire,):
            assert (await wire.head()).status == 200
            assert limit_of(live) == ConcurrencyView(None, 0, 0, 0)


class Worker:
    """Serves one request after the other, each for `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.002
        self._is_free = asyncio.Lock()
        self.served = 0

    async def answer(self, request: Request) -> bytes:
        async with self._is_free:
            await asyncio.sleep(self.seconds)
        self.served += 1
        return ok()


async def test_an_overloaded_service_is_limited_until_it_recovers(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limit is learned from real responses; only the number of responses that are enough is made smaller."""
    monkeypatch.setattr(concurrency_limit, "_RESPONSES", 8)
    worker = Worker()
    async with upstream(answering(worker.answer)) as up, AsyncExitStack() as stack:
        live = await start(service(up.port, slow=0.05))
        for _ in range(25):
            assert (await ask(live.port)).status == 200
        assert limit_of(live) == ConcurrencyView(None, 0, 0, 0)
        worker.seconds = 0.02
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        statuses: list[int] = []

        async def one() -> None:
            response = await ask(live.port)
            statuses.append(response.status)
            if response.status == 503 and "longer than 0.05 s" in response.body.decode():
                worker.seconds = 0.0

        until = perf_counter() + 30
        while worker.seconds and perf_counter() < until:
            tasks.create_task(one())
            await asyncio.sleep(0.005)
        assert not worker.seconds, "no request was refused"
        async with asyncio.timeout(30):
            # It serves again at once: the limit ends after a calm second.
            while limit_of(live).limit is not None or limit_of(live).in_flight:
                await asyncio.sleep(0.2)
                await ask(live.port)
        for _ in range(25):
            assert (await ask(live.port)).status == 200
    assert 503 in statuses
    assert limit_of(live).shed == statuses.count(503)


@pytest.mark.parametrize(("number", "more"), [(1, 0), (2, 0), (3, 1)])
async def test_a_reload_with_another_number_counts_what_is_in_flight(tmp_path: Path, number: int, more: int) -> None:
    def services(port: int, **settings: Any) -> dict[str, Any]:
        route = {"prefix": "/s", "strip": True, "auth": "none"}
        return {"s": {"url": f"http://127.0.0.1:{port}", "routes": [route], **settings}}

    holding = Holding()
    async with upstream(answering(holding.answer)) as up, serving(tmp_path, services(up.port, concurrency=2)) as served:
        async with waiting(served.port, 2) as wires:
            await up.until(lambda: holding.held == 2)
            await served.reload(services=services(up.port, concurrency=number, warn=True))
            async with waiting(served.port, more) as others:
                await up.until(lambda: holding.held == 2 + more)
                refused = await ask(served.port)
                assert (refused.status, json.loads(refused.body)["in_flight"]) == (503, 2 + more)
                assert json.loads(refused.body)["limit"] == number
                holding.may_answer.set()
                assert [(await wire.response()).status for wire in [*wires, *others]] == [200] * (2 + more)
        assert served.gateway.proxy.concurrency("s") == ConcurrencyView(number, 0, 1, 1)
        assert (await ask(served.port)).status == 200
