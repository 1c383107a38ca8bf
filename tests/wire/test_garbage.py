"""What goes wrong leaves no cycles: memory is free again at once, not when the garbage collector comes by.

An error that is kept, with a traceback whose frames hold its keeper, would hold the whole exchange.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from tentaculo.proxy.handler import DrivenExchange
from tentaculo.proxy.proxied_request import ProxiedRequest
from tentaculo.server.connection import ClientConnection
from tentaculo.upstream.connection import UpstreamConnection
from tests.conftest import Start
from tests.support.wire import Reader, Upstream, Writer, dial, ok, read_request, upstream

TIMES = 20
OURS = (ClientConnection, DrivenExchange, UpstreamConnection, ProxiedRequest)
Ask = Callable[[int], Awaitable[None]]


async def service(reader: Reader, writer: Writer, state: Upstream) -> None:
    """Does what the target says."""
    while True:
        target = (await read_request(reader)).target
        if target == "/hangs":
            await reader.read(-1)
        elif target == "/cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc")
            await writer.drain()
            return
        elif target == "/nonsense":
            writer.write(b"nonsense\r\n\r\n")
        elif target == "/streams":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await reader.read(-1)
        elif target == "/switches":
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            await reader.read(1)
            return
        else:
            writer.write(ok(b"hello"))
        await writer.drain()


def asked(target: str, *, lines: bytes = b"", body: bytes = b"", method: bytes = b"GET") -> bytes:
    return method + b" /s" + target.encode() + b" HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n" + body


def answered(data: bytes, *statuses: int) -> Ask:
    """Ask, and have an answer with one of `statuses`."""

    async def ask(port: int) -> None:
        async with dial(port) as wire:
            await wire.send(data)
            assert (await wire.head()).status in statuses
            if 101 not in statuses:
                await wire.rest() if b"close" in data else None

    return ask


def left(data: bytes) -> Ask:
    """Ask, and leave before there is an answer."""

    async def ask(port: int) -> None:
        async with dial(port) as wire:
            await wire.send(data)
            await asyncio.sleep(0.03)

    return ask


UPLOAD = b"Content-Length: 100\r\n"
KINDS: dict[str, Ask] = {
    "good": answered(asked("/"), 200),
    "good, with a body": answered(asked("/", method=b"POST", lines=b"Content-Length: 3\r\n", body=b"abc"), 200),
    "malformed": answered(b"GET / HTTP/9\r\nnonsense\r\n\r\n", 400, 505),
    "head too large": answered(asked("/", lines=b"X: " + b"x" * 70_000 + b"\r\n"), 431),
    "no such route": answered(asked("/").replace(b"/s/", b"/none/"), 404),
    "refused": answered(asked("/").replace(b"/s/", b"/gone/"), 502),
    "cut": answered(asked("/cut"), 200),
    "not HTTP": answered(asked("/nonsense"), 502),
    "late": answered(asked("/hangs").replace(b"/s/", b"/late/"), 504),
    "too large": answered(asked("/", method=b"POST", lines=UPLOAD, body=bytes(100)).replace(b"/s/", b"/small/"), 413),
    "tunnel": answered(asked("/switches", lines=b"Connection: upgrade\r\nUpgrade: websocket\r\n"), 101),
    "left while it waited": left(asked("/hangs")),
    "left an event stream": answered(asked("/streams"), 200),
    "left an upload": left(asked("/", method=b"POST", lines=UPLOAD, body=b"abc")),
    "left a chunked upload": left(
        asked("/", method=b"POST", lines=b"Transfer-Encoding: chunked\r\n", body=b"3\r\nabc\r\n")
    ),
    "broken chunks": answered(asked("/", method=b"POST", lines=b"Transfer-Encoding: chunked\r\n", body=b"zz\r\n"), 400),
}


@contextmanager
def collected() -> Iterator[Counter[str]]:
    """What of ours only the garbage collector could free of that which was made within; filled on leaving."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(item).__name__ for item in gc.garbage if isinstance(item, OURS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("ask", KINDS.values(), ids=KINDS.keys())
async def test_an_exchange_leaves_no_cycles(start: Start, refusing_port: int, ask: Ask) -> None:
    async with upstream(service) as up:
        route = {"auth": "none", "strip": True}
        breaker = {"failures": 1_000_000, "rate": 1.0}
        live = await start(
            {
                "s": {
                    "url": f"http://127.0.0.1:{up.port}",
                    "routes": [
                        {"prefix": "/s", **route},
                        {"prefix": "/late", "timeout": 0.02, **route},
                        {"prefix": "/small", "max_body": 10, **route},
                    ],
                    "breaker": breaker,
                },
                "gone": {
                    "url": f"http://127.0.0.1:{refusing_port}",
                    "routes": [{"prefix": "/gone", **route}],
                    "breaker": breaker,
                },
            }
        )
        await ask(live.port)
        with collected() as found:
            for _ in range(TIMES):
                await ask(live.port)
            while live.gateway.proxy.traffic.in_flight:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
        assert not found
