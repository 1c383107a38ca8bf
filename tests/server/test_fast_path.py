"""Serving without a task: what is offered, in which order, and what it may not change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.server.fast_path import BufferedRequest, RepeatedHead
from tests.support.server import fine, serving
from tests.support.waits import eventually
from tests.support.wire import Wire, dial

Done = Callable[[bool], None]
HEAD = b"Host: h\r\nA: b\r\n\r\n"


@dataclass
class Visit:
    """One request that was taken."""

    arrival: BufferedRequest
    done: Done
    has_left: bool = False
    is_over: bool = False

    def client_closed(self) -> None:
        self.has_left = True

    def answer(self, body: bytes = b"", *, stays: bool = True) -> None:
        self.arrival.protocol.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        self.is_over = True
        self.done(stays)


@dataclass
class Waiter:
    """Takes every request but those to /slow…, and answers when it is told to, or at once."""

    at_once: bool = False
    visits: list[Visit] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def serve(self, arrival: BufferedRequest, done: Done) -> Visit | None:
        if arrival.raw_path.startswith("/slow"):
            return None
        visit = Visit(arrival, done)
        self.visits.append(visit)
        self.came.set()
        if self.at_once:
            visit.answer(arrival.raw_path.encode() + b" " + arrival.content.read_nowait())
        return visit

    async def next(self) -> Visit:
        async with asyncio.timeout(10):
            while not self.visits:
                self.came.clear()
                await self.came.wait()
        return self.visits[-1]


async def silent(wire: Wire, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await wire.reader.read(1)


async def slowly(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=f"slowly {request.raw_path} {(await request.read()).decode()}")


async def test_what_is_taken_and_what_is_not_come_in_order_on_one_connection() -> None:
    waiter = Waiter(at_once=True)
    async with serving(slowly, serve=waiter.serve) as served, dial(served.port) as wire:
        for path in ("/a", "/a", "/slow", "/a", "/b", "/slow", "/b"):
            await wire.send(f"GET {path} HTTP/1.1\r\n".encode() + HEAD)
            body = (await wire.response()).body.decode().rstrip()
            assert body == (f"slowly {path}" if path == "/slow" else path)
    assert [visit.arrival.raw_path for visit in waiter.visits] == ["/a", "/a", "/a", "/b", "/b"]


async def test_the_same_bytes_are_the_same_request() -> None:
    waiter = Waiter(at_once=True)
    async with serving(fine, serve=waiter.serve) as served, dial(served.port) as wire:
        for method in ("GET", "GET", "HEAD", "GET"):
            await wire.send(f"{method} /a HTTP/1.1\r\n".encode() + HEAD)
            await wire.response("GET")
    first, again, other, last = (visit.arrival for visit in waiter.visits)
    assert again is first
    assert (other.method, other.raw_headers) == ("HEAD", first.raw_headers)
    assert (last.method, last.remembered) == ("GET", None)


async def test_a_body_is_another_one_each_time() -> None:
    waiter = Waiter(at_once=True)
    async with serving(slowly, serve=waiter.serve) as served, dial(served.port) as wire:
        for body in (b"one", b"two", b"six"):
            await wire.send(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n" + HEAD + body)
            assert (await wire.response()).body == b"/a " + body
        await wire.send(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n" + HEAD + b"in")
        await wire.send(b"!")
        # In pieces it goes the ordinary way, unless they arrive as one after all.
        assert (await wire.response()).body in (b"slowly /a in!", b"/a in!")
        await wire.send(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n" + HEAD + b"end")
        assert (await wire.response()).body == b"/a end"


async def test_requests_that_follow_closely_wait_for_their_turn() -> None:
    waiter = Waiter()
    async with serving(slowly, serve=waiter.serve) as served, dial(served.port) as wire:
        await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
        visit = await waiter.next()
        await wire.send(b"GET /slow/1 HTTP/1.1\r\n" + HEAD + b"GET /slow/2 HTTP/1.1\r\n" + HEAD)
        # It is on its way through this same event loop, and nothing of it may be served yet.
        await silent(wire, 0.05)
        visit.answer(b"first")
        assert [(await wire.response()).body for _ in range(3)] == [b"first", b"slowly /slow/1 ", b"slowly /slow/2 "]


async def test_small_pieces_behind_a_request_are_counted_until_its_response() -> None:
    waiter, pieces = Waiter(), [b"GET /slow HTTP/1.1\r\n", b"X: %b\r\n" % (b"x" * 400), HEAD]
    async with serving(slowly, serve=waiter.serve) as served, dial(served.port) as wire:
        await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
        visit = await waiter.next()
        memory = served.connections[0].memory
        assert memory.held == 0
        for piece in pieces:
            await wire.send(piece)
        await eventually(lambda: memory.held == sum(map(len, pieces)))
        visit.answer()
        assert [(await wire.response()).body for _ in range(2)] == [b"", b"slowly /slow "]
        assert memory.held == 0


async def test_a_client_that_leaves_is_told_of_once() -> None:
    waiter = Waiter()
    async with serving(fine, serve=waiter.serve) as served:
        async with dial(served.port) as wire:
            await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
            visit = await waiter.next()
            wire.reset()
        async with asyncio.timeout(10):
            while not visit.has_left:
                await asyncio.sleep(0)
    assert len(waiter.visits) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_connection_ends_where_the_answer_says_so(*, at_once: bool) -> None:
    waiter = Waiter()

    def serve(arrival: BufferedRequest, done: Done) -> Visit:
        visit = Visit(arrival, done)
        if at_once:
            visit.answer(b"bye", stays=False)
        else:
            waiter.visits.append(visit)
            waiter.came.set()
        return visit

    async with serving(fine, serve=serve) as served, dial(served.port) as wire:
        await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
        if not at_once:
            (await waiter.next()).answer(b"bye", stays=False)
        assert (await wire.response()).body == b"bye"
        assert await wire.rest() == b""


async def test_a_request_under_way_is_not_idle() -> None:
    waiter = Waiter()
    async with serving(fine, serve=waiter.serve, keepalive=0.05) as served, dial(served.port) as wire:
        await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
        visit = await waiter.next()
        await silent(wire, 0.2)
        assert not visit.has_left
        visit.answer(b"at last")
        assert (await wire.response()).body == b"at last"
        assert await wire.rest() == b"", "and idle is what it is afterwards"


async def test_a_head_that_stays_away_behind_a_request_is_answered_408() -> None:
    waiter = Waiter(at_once=True)
    async with serving(fine, serve=waiter.serve, head_time=0.3) as served, dial(served.port) as wire:
        for _ in range(2):
            await wire.send(b"GET /a HTTP/1.1\r\n" + HEAD)
            await wire.response()
        await silent(wire, 0.4)
        await wire.send(b"GET /a HT")
        assert (await wire.response()).status == 408


UPGRADE = b"Connection: upgrade\r\nUpgrade: x\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /a HTTP/1.1\r\n" + UPGRADE + HEAD,
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"1\r\nx\r\n0\r\n\r\n",
        b"GET /a HTTP/1.0\r\n" + HEAD,
        b"\r\nGET /a HTTP/1.1\r\n" + HEAD,
    ],
)
async def test_the_unusual_is_parsed_each_time(request_: bytes) -> None:
    waiter = Waiter(at_once=True)
    async with serving(slowly, serve=waiter.serve) as served:
        for _ in range(2):
            async with dial(served.port) as wire:
                await wire.send(request_)
                assert (await wire.response()).status == 200
    arrivals = [visit.arrival for visit in waiter.visits]
    assert len({id(arrival) for arrival in arrivals}) == len(arrivals)


def known(data: bytes, length: int = 0) -> RepeatedHead | None:
    """What is learnt from `data`, read as a GET of /a."""
    arrival = BufferedRequest("GET", "/a", (1, 1), [(b"Host", b"h")], Nothing(), None, keep_alive=True)  # type: ignore[arg-type]
    return RepeatedHead.learn(data, arrival, length)


class Nothing:
    """An empty body."""


FIRST = b"GET /a HTTP/1.1\r\n" + HEAD


@pytest.mark.parametrize(
    "data",
    [
        FIRST + b"x",
        FIRST + FIRST,
        FIRST[:-2],
        b"GET  /a HTTP/1.1\r\n" + HEAD,
        b"GET /a  HTTP/1.1\r\n" + HEAD,
        b"GET /a b HTTP/1.1\r\n" + HEAD,
        b"GET /\xc3\xa9 HTTP/1.1\r\n" + HEAD,
        b"GET a HTTP/1.1\r\n" + HEAD,
        b"GET http://h/a HTTP/1.1\r\n" + HEAD,
        b"GET * HTTP/1.1\r\n" + HEAD,
        b"get /a HTTP/1.1\r\n" + HEAD,
        b"OPTIONS /a HTTP/1.1\r\n" + HEAD,
        b"CONNECT /a HTTP/1.1\r\n" + HEAD,
        b"GET /a HTTP/1.0\r\n" + HEAD,
        b"GET /a HTTP/1.1\n" + HEAD,
        b"GET /a HTTP/1.1\r\nX: y\r\n" + HEAD,
        b"GET /a HTTP/1.1\r\n" + HEAD.replace(b"b", b"c"),
        b"GET /a HTTP/1.1\r\n" + HEAD.replace(b"\r\n", b"\n"),
    ],
)
def test_what_only_looks_alike_is_left_to_the_parser(data: bytes) -> None:
    first = known(FIRST)
    assert first is not None
    assert first.read(data) is None


@given(st.binary(max_size=40), st.binary(min_size=4, max_size=4))
def test_a_request_with_a_body_is_taken_only_whole(noise: bytes, body: bytes) -> None:
    head = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
    arrival = BufferedRequest("POST", "/a", (1, 1), [(b"Host", b"h")], Nothing(), None, keep_alive=True)  # type: ignore[arg-type]
    first = RepeatedHead.learn(head + b"once", arrival, 4)
    assert first is not None
    for target, line in ((b"/a", head), (b"/b?c", head.replace(b"/a", b"/b?c"))):
        again = first.read(line + body)
        assert again is not None
        assert (again.method, again.raw_path.encode(), again.content.read_nowait()) == ("POST", target, body)
    cut = head.replace(b"/a", b"/b")
    for data in (noise + b"\n" + cut + body, cut + body + b"x", cut + body[1:], cut, body, head):
        assert first.read(data) is None


@pytest.mark.parametrize("data", [b"GET /a HTTP/1.1\r\nA: " + b"b" * 5000 + b"\r\n\r\n", FIRST + b"x", b"\r\n" + FIRST])
def test_what_cannot_be_learnt(data: bytes) -> None:
    assert known(data) is None


@given(st.binary(max_size=60))
def test_nothing_is_taken_for_a_request_but_one(noise: bytes) -> None:
    first = known(FIRST)
    assert first is not None
    for data in (noise, noise + FIRST, FIRST + noise, noise + HEAD, b"GET /" + noise + b" HTTP/1.1\r\n" + HEAD):
        arrival = first.read(data)
        if arrival is not None:
            target = data.removeprefix(b"GET ").removesuffix(b" HTTP/1.1\r\n" + HEAD)
            assert arrival.raw_path.encode() == target
            assert target.startswith(b"/")
            assert all(0x21 <= byte <= 0x7E for byte in target)
