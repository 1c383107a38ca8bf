"""Which of several addresses is asked: what `docs/health.md` says of it, seen from both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest

from tentaculo.model.health import Endpoint, Health, ProbeResult
from tentaculo.upstream.load_balancer import EndpointState
from tests.conftest import Live, Start
from tests.support.wire import (
    Reader,
    Request,
    Response,
    Script,
    Wire,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)
from tests.support.wire import Upstream as Server
from tests.wire.conftest import Service

IN_TURN = {"policy": "round_robin"}
GET = b"GET /s/work HTTP/1.1\r\nHost: h\r\n\r\n"


class Moody:
    """What an address answers; it may keep requests waiting."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.status = self.health = b"200 OK"
        self.holds = False
        self.may_go_on = asyncio.Event()

    async def answer(self, request: Request) -> bytes:
        if request.target == "/health":
            return ok(status=self.health)
        if self.holds:
            await self.may_go_on.wait()
        return ok(self.name, status=self.status)


@asynccontextmanager
async def address(name: bytes) -> AsyncIterator[tuple[Moody, Server]]:
    moody = Moody(name)
    async with upstream(answering(moody.answer)) as up:
        yield moody, up
        moody.may_go_on.set()


async def bodies(wire: Wire, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        await wire.send(GET)
        found.append((await wire.response()).body)
    return found


def asked(up: Server) -> int:
    return sum(request.target == "/work" for request in up.requests)


async def probed(live: Live, port: int) -> None:
    """Wait for a probe of the address at `port`."""
    heard = asyncio.Event()

    def hear(result: ProbeResult) -> None:
        if result.upstream.port == port:
            heard.set()

    live.gateway.health_service.on_probe.append(hear)
    await asyncio.wait_for(heard.wait(), 20)


async def test_one_that_hangs_gets_one_request(start: Start, service: Service) -> None:
    async with address(b"one") as (one, first), address(b"two") as (_, second):
        one.holds = True
        live = await start(service(first.port, second.port))
        async with dial(live.port) as waiting, dial(live.port) as wire:
            await waiting.send(GET)
            await first.until(lambda: asked(first) == 1)
            assert await bodies(wire, 10) == [b"two"] * 10
            one.may_go_on.set()
            assert (await waiting.response()).body == b"one"
            assert await bodies(wire, 1) == [b"two"], "the other took longer than all ten"


async def test_what_counts_is_the_time_to_the_head(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that takes long says nothing of the endpoint."""
    measured: list[float] = []
    monkeypatch.setattr(EndpointState, "note_latency", lambda _, seconds: measured.append(seconds))
    heads, rest = asyncio.Event(), asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Server) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await heads.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        await rest.wait()
        writer.write(b"end")

    async with upstream(script) as first, upstream(script) as second:
        live = await start(service(first.port, second.port))
        async with dial(live.port) as wire:
            began = perf_counter()
            await wire.send(GET)
            await asyncio.sleep(0.05)
            heads.set()
            await wire.head()
            until_head = perf_counter() - began
            await asyncio.sleep(0.05)
            rest.set()
            assert await wire.reader.readexactly(3) == b"end"
    assert 0.04 < measured[0] < until_head


async def test_the_pace_of_an_upload_is_not_that_of_the_endpoint(start: Start, service: Service) -> None:
    """A client that took long to send its body kept the others away from the endpoint for a minute and more."""
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port))
        async with dial(live.port) as wire:
            await wire.send(b"PUT /s/work HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nsl")
            await first.until(lambda: first.connections == 1)
            await asyncio.sleep(0.3)
            await wire.send(b"ow")
            assert (await wire.response()).body == b"one"
            # The second one is measured then, and the first one is not.
            assert await bodies(wire, 2) == [b"two", b"one"]


@pytest.mark.parametrize("policy", ["round_robin", "least_requests"])
async def test_requests_are_shared_by_weight(
    start: Start, service: Service, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that takes much longer for a moment, as on a busy machine, is no equal.
    monkeypatch.setattr(EndpointState, "note_latency", lambda *_: None)
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port, settings={"policy": policy, "weights": [3, 1]}))
        async with dial(live.port) as wire:
            assert sorted(await bodies(wire, 20)) == [b"one"] * 15 + [b"two"] * 5


async def test_one_that_fails_now_and_then_is_passed_over_while_the_other_does_not(
    start: Start, service: Service
) -> None:
    async with address(b"one") as (one, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port, settings=IN_TURN))
        async with dial(live.port) as wire:
            for number in range(100):
                one.status = b"200 OK" if number % 4 < 2 else b"500 Oh"
                await bodies(wire, 1)
            assert 10 < asked(first) < 40
            assert await bodies(wire, 20) == [b"two"] * 20


async def test_one_that_fails_as_much_as_the_other_keeps_its_share(start: Start, service: Service) -> None:
    async with address(b"one") as (one, first), address(b"two") as (two, second):
        one.status = two.status = b"500 Oh"
        breaker = {"failures": 1000, "requests": 1000}
        live = await start(service(first.port, second.port, breaker=breaker, settings=IN_TURN))
        async with dial(live.port) as wire:
            await bodies(wire, 100)
    assert (asked(first), asked(second)) == (50, 50)


async def test_one_that_is_down_by_its_probes_is_asked_only_where_no_other_can_be(
    start: Start, service: Service
) -> None:
    async with address(b"one") as (one, first), address(b"two") as (two, second):
        one.health = b"503 Not me"
        services = service(first.port, second.port)
        services["s"]["probe"] = {"interval": 0.05}
        live = await start(services, probes=True, limits={"in_flight": 1})
        await probed(live, first.port)
        async with dial(live.port) as waiting, dial(live.port) as wire:
            assert await bodies(wire, 3) == [b"two"] * 3
            two.holds = True
            await waiting.send(GET)
            await second.until(lambda: asked(second) == 4)
            assert await bodies(wire, 1) == [b"one"], "the other has no room"


async def test_one_that_works_is_asked_whatever_its_probes_say(start: Start, service: Service) -> None:
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port, settings=IN_TURN))
        async with dial(live.port) as wire:
            for _ in range(3):
                assert sorted(await bodies(wire, 2)) == [b"one", b"two"]
                live.gateway.proxy.outliers.note_probe(Endpoint("s", "127.0.0.1", first.port), Health.DOWN)
            live.gateway.proxy.outliers.note_probe(Endpoint("s", "127.0.0.1", first.port), Health.DOWN)
            assert await bodies(wire, 2) == [b"two"] * 2, "nothing has shown that it works since the last one"


def session(response: Response) -> bytes:
    """The cookie that a response sets, as a browser sends it back; empty where it sets none."""
    return (response.get("set-cookie") or "").partition(";")[0].encode()


def work(cookie: bytes) -> bytes:
    return GET.replace(b"\r\n\r\n", b"\r\nCookie: theme=dark; %b\r\n\r\n" % cookie)


async def test_a_sticky_client_stays_with_one_on_every_connection_and_process(start: Start, service: Service) -> None:
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        services = service(first.port, second.port, settings={**IN_TURN, "sticky": True})
        lives = [await start(services), await start(services)]
        for _ in range(4):
            async with dial(lives[0].port) as wire:
                await wire.send(GET)
                response = await wire.response()
                assert session(response).startswith(b"tentaculo-endpoint-s=")
            for live in lives:
                async with dial(live.port) as wire:
                    for _ in range(4):
                        await wire.send(work(session(response)))
                        again = await wire.response()
                        assert (again.body, session(again)) == (response.body, b"")


async def test_a_sticky_client_moves_when_its_endpoint_fails_and_stays_there(start: Start, service: Service) -> None:
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port, settings={**IN_TURN, "sticky": True}))
        async with dial(live.port) as wire:
            await wire.send(GET)
            before = await wire.response()
            port = first.port if before.body == b"one" else second.port
            live.gateway.proxy.outliers.note_probe(Endpoint("s", "127.0.0.1", port), Health.DOWN)
            live.gateway.proxy.outliers.note_probe(Endpoint("s", "127.0.0.1", port), Health.DOWN)
            await wire.send(work(session(before)))
            moved = await wire.response()
            assert moved.body != before.body
            assert session(moved) not in (b"", session(before))
            live.gateway.proxy.outliers.note_probe(Endpoint("s", "127.0.0.1", port), Health.UP)
            for _ in range(4):
                await wire.send(work(session(moved)))
                again = await wire.response()
                assert (again.body, session(again)) == (moved.body, b"")


async def test_a_sticky_client_returns_to_an_endpoint_that_was_full(start: Start, service: Service) -> None:
    """It got a new cookie, and its session in the memory of the application was lost for good."""
    async with address(b"one") as first, address(b"two") as second:
        services = service(first[1].port, second[1].port, settings={"sticky": True})
        live = await start(services, limits={"in_flight": 1})
        async with dial(live.port) as wire, dial(live.port) as waiting:
            await wire.send(GET)
            before = await wire.response()
            moody, up = first if before.body == b"one" else second
            moody.holds = True
            await waiting.send(work(session(before)))
            await up.until(lambda: asked(up) >= 2)
            for _ in range(3):
                await wire.send(work(session(before)))
                elsewhere = await wire.response()
                assert elsewhere.body != before.body
                assert session(elsewhere) == b""
            moody.may_go_on.set()
            assert (await waiting.response()).body == before.body
            await wire.send(work(session(before)))
            again = await wire.response()
            assert (again.body, session(again)) == (before.body, b"")


async def test_a_sticky_upgrade_goes_where_the_page_came_from(start: Start, service: Service) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    def named(name: bytes) -> Script:
        async def script(reader: Reader, writer: Writer, state: Server) -> None:
            while b"Upgrade" not in await reader.readuntil(b"\r\n\r\n"):
                writer.write(ok(name))
            writer.write(switch + name)
            await reader.read(1)

        return script

    upgrade = b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with upstream(named(b"one")) as first, upstream(named(b"two")) as second:
        live = await start(service(first.port, second.port, settings={**IN_TURN, "sticky": True}))
        for _ in range(4):
            async with dial(live.port) as wire:
                await wire.send(GET)
                response = await wire.response()
                await wire.send(work(session(response)).replace(b"\r\n\r\n", upgrade))
                assert session(await wire.head()) == b""
                assert await wire.reader.readexactly(3) == response.body
        async with dial(live.port) as wire:
            await wire.send(GET.replace(b"\r\n\r\n", upgrade))
            head = await wire.head()
            assert (head.status, session(head)[:21]) == (101, b"tentaculo-endpoint-s=")


async def test_a_tenth_of_the_requests_is_repeated_and_ten_at_once(start: Start, service: Service) -> None:
    seen = 0

    async def every_second(reader: Reader, writer: Writer, _: Server) -> None:
        nonlocal seen
        await read_request(reader)
        seen += 1
        if seen % 2 == 0:
            # A connection that is kept would be repeated for free when it breaks.
            writer.write(ok(b"", b"Connection: close"))

    breaker = {"failures": 1000, "rate": 1.0, "requests": 1000}
    async with upstream(every_second) as first, upstream(every_second) as second:
        live = await start(service(first.port, second.port, breaker=breaker))
        began = perf_counter()

        async def ask(request: bytes) -> Response:
            async with dial(live.port) as wire:
                await wire.send(request)
                return await wire.response()

        found = [await ask(GET) for _ in range(100)]
        repeated, before = seen - 100, seen
        # Ten at once, one a second, and one for each ten that were sent.
        assert 10 <= repeated <= 10 + seen / 10 + perf_counter() - began + 1
        refused = [one for one in found if one.status != 200]
        assert {one.status for one in refused} == {502}
        assert b"it was not repeated, since about a tenth of the requests may be" in refused[-1].body
        posted = [(await ask(GET.replace(b"GET", b"POST"))).status for _ in range(20)]
        assert (seen - before, set(posted)) == (20, {200, 502}), "no POST is sent twice"


async def test_a_retry_is_counted_only_where_an_endpoint_is_left(start: Start, service: Service) -> None:
    """A request that all endpoints had failed took one more from the retries of the others."""
    seen = 0

    async def breaks(reader: Reader, _writer: Writer, _: Server) -> None:
        nonlocal seen
        await read_request(reader)
        seen += 1

    breaker = {"failures": 1000, "rate": 1.0, "requests": 1000}
    async with upstream(breaks) as first, upstream(breaks) as second:
        live = await start(service(first.port, second.port, breaker=breaker))
        for _ in range(10):
            async with dial(live.port) as wire:
                await wire.send(GET)
                found = await wire.response()
            assert found.status == 502
            assert b"it was not repeated" not in found.body
        assert seen == 20
