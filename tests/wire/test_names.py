"""A service behind a name whose addresses change, as a container that is made again."""

from __future__ import annotations

import asyncio
from functools import partialmethod

import pytest

from tentaculo.upstream.pool import Pool
from tests.conftest import Start
from tests.support.addresses import Names
from tests.support.wire import answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")


async def test_the_next_request_reaches_a_service_that_moved(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(["127.0.0.2"], ["127.0.0.3"])
    monkeypatch.setattr("tentaculo.upstream.pool.Pool.__init__", partialmethod(Pool.__init__, look_up=names))
    async with upstream(answering(ok(b"new")), "127.0.0.3") as after:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ok(b"old", b"Connection: close"))
            writer.close()

        before = await asyncio.start_server(serve, "127.0.0.2", after.port)
        route = {"prefix": "/s", "strip": True, "auth": "none"}
        live = await start({"s": {"url": f"http://svc.test:{after.port}", "routes": [route]}})
        async with dial(live.port) as wire:
            for expected in (b"old", b"new", b"new"):
                await wire.send(b"GET /s/x HTTP/1.1\r\nHost: h\r\n\r\n")
                response = await wire.response()
                assert (response.status, response.body) == (200, expected)
                before.close()
        assert len(names.asked) == 2
