"""Bounded bodies of native requests: the limits, and when `100 Continue` is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web

from tentaculo.model import access
from tentaculo.server import request_body
from tentaculo.server.native_routes import NativeRoute
from tentaculo.server.request_body import read_body, read_json_body
from tests.support.server import serving_application

JSON = "Content-Type: application/json\r\n"
EXPECT = "Expect: 100-continue\r\n"


class _Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def raw(request: web.Request) -> web.Response:
        return web.Response(body=await read_body(request, 100))

    async def note(request: web.Request) -> web.Response:
        return web.Response(text=(await read_json_body(request, _Note)).text)

    app = web.Application()
    app.add_routes(
        [
            NativeRoute("POST", "/raw", raw, access.EVERY_TOKEN, None),
            NativeRoute("POST", "/note", note, access.EVERY_TOKEN, None),
            NativeRoute("GET", "/raw", raw, access.EVERY_TOKEN, None),
        ]
    )
    async with serving_application(app, token="t") as server:
        yield server.port


async def exchange(
    port: int, path: str, headers: str, body: bytes = b"", *, accepted: bool = False, method: str = "POST"
) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: h\r\nX-VX11-Token: t\r\nConnection: close\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    try:
        # The server keeps a refused connection open for a while to read the rest of the body.
        return await asyncio.wait_for(reader.readuntil(b" 200 OK\r\n") if accepted else reader.readline(), 5)
    finally:
        writer.close()


async def test_a_refused_request_gets_no_100_continue(port: int) -> None:
    response = await exchange(port, "/raw", f"{EXPECT}Content-Length: 101\r\n")
    assert response.startswith(b"HTTP/1.1 413 ")
    response = await exchange(port, "/note", f"{EXPECT}Content-Type: text/plain\r\nContent-Length: 2\r\n")
    assert response.startswith(b"HTTP/1.1 415 ")
    response = await exchange(port, "/note", f"{EXPECT}{JSON}Content-Length: {request_body.MAX_JSON_BYTES + 1}\r\n")
    assert response.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(("path", "body"), [("/raw", b"x" * 100), ("/note", b'{"text": "x"}')])
async def test_an_accepted_request_gets_one_100_continue(port: int, path: str, body: bytes) -> None:
    response = await exchange(port, path, f"{EXPECT}{JSON}Content-Length: {len(body)}\r\n", body, accepted=True)
    assert response.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"x")])
async def test_an_expectation_that_is_not_known_has_no_effect(port: int, method: str, body: bytes) -> None:
    headers = f"Expect: a-miracle\r\nContent-Length: {len(body)}\r\n"
    response = await exchange(port, "/raw", headers, body, accepted=True, method=method)
    assert response == b"HTTP/1.1 200 OK\r\n"


async def test_a_chunked_body_is_refused_when_it_passes_the_limit(port: int) -> None:
    response = await exchange(port, "/raw", "Transfer-Encoding: chunked\r\n", b"65\r\n" + b"x" * 101 + b"\r\n")
    assert response.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_arrive_is_408(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "READ_SECONDS", 0.05)
    assert (await exchange(port, "/note", f"{JSON}Content-Length: 10\r\n", b"{")).startswith(b"HTTP/1.1 408 ")


async def test_a_compressed_json_body_is_415(port: int) -> None:
    response = await exchange(port, "/note", f"{JSON}Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}")
    assert response.startswith(b"HTTP/1.1 415 ")
