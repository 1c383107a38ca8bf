"""Which of several addresses is asked: what `docs/health.md` says of it, seen from both sides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tentaculo.model.health import Endpoint, Health, ProbeResult
from tests.conftest import Live, Start
from tests.support.wire import Reader, Request, Wire, Writer, answering, dial, ok, upstream
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
            assert await bodies(wire, 10) == [b"two"] * 10, "the other has been slow"


async def test_the_slower_one_gets_fewer_requests_however_long_its_bodies_take(start: Start, service: Service) -> None:
    """A body that takes long says nothing of the endpoint: what counts is the time to the head."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"

    async def slow_head(reader: Reader, writer: Writer, state: Server) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(head + b"one")

    async def slow_body(reader: Reader, writer: Writer, state: Server) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            await asyncio.sleep(0.2)
            writer.write(b"two")

    async with upstream(slow_head) as first, upstream(slow_body) as second:
        live = await start(service(first.port, second.port))
        async with dial(live.port) as wire:
            assert await bodies(wire, 6) == [b"one", b"two", b"two", b"two", b"two", b"two"]


async def test_requests_are_shared_by_weight(start: Start, service: Service) -> None:
    async with address(b"one") as (_, first), address(b"two") as (_, second):
        live = await start(service(first.port, second.port, settings={**IN_TURN, "weights": [3, 1]}))
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
                live.gateway.proxy.note_health(Endpoint("s", "127.0.0.1", first.port), Health.DOWN)
            live.gateway.proxy.note_health(Endpoint("s", "127.0.0.1", first.port), Health.DOWN)
            assert await bodies(wire, 2) == [b"two"] * 2, "nothing has shown that it works since the last one"
