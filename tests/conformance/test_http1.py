"""What a server of HTTP/1.1 owes to any client, before an upstream that echoes at `/` (RFC 9110, 9112).

It asks for everything that uNetworking's h1spec asks for in its 33 cases, and then some. That tester is in no package
registry and has no licence, so this is a table of our own: heads that are not complete yet are waited for, at whatever
byte they stop; clear requests are answered; the others are refused, and no upstream hears of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.support.gateway_process import running_gateway
from tests.support.wire import Upstream, Wire, answering, dial, ok, upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE = 1.0
"""Seconds without an answer that count as waiting."""
HOST = b"Host: here.example\r\n"
WHOLE = b"PUT /a/path?and=query HTTP/1.1\r\n" + HOST + b"X-Note: one, two\r\nContent-Length: 4\r\n\r\nbody"


@dataclass(frozen=True, slots=True)
class Echo:
    upstream: Upstream
    port: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echo() -> AsyncIterator[Echo]:
    async with upstream(answering(lambda request: ok(request.body))) as server:
        service = {
            "url": f"http://127.0.0.1:{server.port}",
            "health": ["/probe"],
            "routes": [{"prefix": "/", "auth": "none"}],
        }
        async with running_gateway({"services": {"echo": service}}) as gateway:
            yield Echo(server, gateway.port)


async def _waits(wire: Wire) -> bool:
    try:
        await asyncio.wait_for(wire.reader.read(1), PATIENCE)
    except TimeoutError:
        return True
    return False


async def test_an_unfinished_request_is_waited_for_wherever_it_stops(echo: Echo) -> None:
    async def is_patient(cut: int) -> bool:
        async with dial(echo.port) as wire:
            await wire.send(WHOLE[:cut])
            if not await _waits(wire):
                return False
            await wire.send(WHOLE[cut:])
            response = await wire.response()
            return (response.status, response.body) == (200, b"body")

    cuts = range(len(WHOLE))
    patient = await asyncio.gather(*map(is_patient, cuts))
    assert [WHOLE[:cut] for cut, good in zip(cuts, patient, strict=True) if not good] == []


CLEAR = {
    "nothing but a host": (b"GET / HTTP/1.1\r\n" + HOST, b"", b""),
    "field names in any case": (b"GET / HTTP/1.1\r\nhOST: here.example\r\n", b"", b""),
    "a tab before a value": (b"GET / HTTP/1.1\r\nHost:\there.example\r\n", b"", b""),
    "no space before a value": (b"GET / HTTP/1.1\r\nHost:here.example\r\n", b"", b""),
    "an empty value": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Nothing:\r\n", b"", b""),
    "a value of spaces": (b"GET / HTTP/1.1\r\n" + HOST + b"X-Nothing:  \t \r\n", b"", b""),
    "every character of a name": (b"GET / HTTP/1.1\r\n" + HOST + b"x!#$%&'*+-.^_`|~09: y\r\n", b"", b""),
    "an empty line before the request": (b"\r\nGET / HTTP/1.1\r\n" + HOST, b"", b""),
    "an expectation without a body": (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n", b"", b""),
    "the absolute form": (b"GET http://here.example/ HTTP/1.1\r\n" + HOST, b"", b""),
    "a body by its length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 7\r\n", b"by size", b"by size"),
    "a body of no bytes": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n", b"", b""),
    "a body on GET": (b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n", b"odd", b"odd"),
    "a body in one chunk": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
        b"A\r\nten bytes!\r\n0\r\n\r\n",
        b"ten bytes!",
    ),
    "chunks with leading zeros, extensions and trailers": (
        b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: Chunked\r\n",
        b'002;a;b="c"\r\nin\r\n0005\r\nparts\r\n0\r\nX-Sum: 1\r\n\r\n',
        b"inparts",
    ),
    "chunks with no bytes at all": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"",
    ),
}


@pytest.mark.parametrize("name", CLEAR)
async def test_a_clear_request_is_answered_and_the_connection_goes_on(echo: Echo, name: str) -> None:
    head, body, expected = CLEAR[name]
    async with dial(echo.port) as wire:
        for _ in range(2):
            await wire.send(head + b"\r\n" + body)
            response = await wire.response()
            assert (response.status, response.body) == (200, expected)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
BAD = {
    # The request line
    "no version": b"GET /refused \r\n\r\n",
    "no version and no space": b"GET /refused\r\n\r\n",
    "a version of one digit": b"GET /refused HTTP/1\r\n" + HOST,
    "a version from elsewhere": b"GET /refused HTTP/9.9\r\n" + HOST,
    "a version in small letters": b"GET /refused http/1.1\r\n" + HOST,
    "two words before the target": b"Some thing/GET /refused HTTP/1.1\r\n" + HOST,
    "a space in the target": b"GET /ref used HTTP/1.1\r\n" + HOST,
    "a method that is no token": b"G{ET /refused HTTP/1.1\r\n" + HOST,
    "no target": b"GET  HTTP/1.1\r\n" + HOST,
    "a target that starts with nothing known": b"GET refused HTTP/1.1\r\n" + HOST,
    # Host
    "no host": b"GET /refused HTTP/1.1\r\nContent-Length: 0\r\n",
    "two hosts": b"GET /refused HTTP/1.1\r\n" + HOST + b"Host: there.example\r\n",
    "one host twice": b"GET /refused HTTP/1.1\r\n" + HOST + HOST,
    # Fields
    "a name with brackets": b"GET /refused HTTP/1.1\r\n" + HOST + b"X[0]: one\r\n",
    "a name with a space": b"GET /refused HTTP/1.1\r\n" + HOST + b"X Y: one\r\n",
    "a space before the colon": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y : one\r\n",
    "no name": b"GET /refused HTTP/1.1\r\n" + HOST + b": one\r\n",
    "no colon": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y one\r\n",
    "a bell in a value": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y: o\x07ne\r\n",
    "a NUL in a value": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y: o\x00ne\r\n",
    "a bare CR in a value": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y: o\rne\r\n",
    "a bare CR before a name": b"GET /refused HTTP/1.1\r\n" + HOST + b"\rX-Y: one\r\n",
    "a bare LF as line end": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y: one\nX-Z: two\r\n",
    "a folded value": b"GET /refused HTTP/1.1\r\n" + HOST + b"X-Y: one\r\n two\r\n",
    # Framing
    "a negative length": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: -7\r\n",
    "a negative length beyond 64 bits": b"POST /refused HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: -"
    + b"9" * 30
    + b"\r\n",
    "a length beyond 64 bits": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n",
    "a length in words": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: seven\r\n",
    "a length with a plus": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: +7\r\n",
    "a length in hex": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: 0x7\r\n",
    "an empty length": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n",
    "two lengths": b"POST /refused HTTP/1.1\r\n" + HOST + b"Content-Length: 7\r\nContent-Length: 8\r\n",
    "a length and chunks": b"POST /refused HTTP/1.1\r\n"
    + HOST
    + b"conTent-lengTH: 5\r\ntransfer-ENCODING: chunked\r\n",
    "chunks and a length": b"POST /refused HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 5\r\n",
    "an unknown coding": b"POST /refused HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: zip\r\n",
    "chunked and then another coding": b"POST /refused HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n",
    "chunked twice": b"POST /refused HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED,
    "chunks in HTTP/1.0": b"POST /refused HTTP/1.0\r\n" + HOST + CHUNKED,
}


@pytest.mark.parametrize("name", BAD)
async def test_an_unclear_request_is_refused_and_goes_nowhere(echo: Echo, name: str) -> None:
    async with dial(echo.port) as wire:
        await wire.send(BAD[name] + b"\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n")
        response = await wire.response()
        assert 400 <= response.status < 500 or response.status in (501, 505)
        assert await wire.rest() == b""
    reached = [request.target for request in echo.upstream.requests]
    assert [target for target in reached if "refused" in target or "smuggled" in target] == []
