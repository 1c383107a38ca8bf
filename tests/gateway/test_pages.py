"""The status pages of a whole gateway: what follows them when it stops."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import ClientSession

from tests.gateway.test_gateway import entered, leaving, port_of, services
from tests.support.waits import eventually


async def test_a_stop_ends_the_streams_of_the_pages_at_once(tmp_path: Path) -> None:
    gateway = await entered(services(9), tmp_path, grace=60)
    url = f"http://127.0.0.1:{port_of(gateway)}/status"
    async with (
        ClientSession() as client,
        client.get(url, headers={"Accept": "text/event-stream"}) as overview,
        client.get(f"{url}/services/madre", headers={"Accept": "text/event-stream"}) as service,
    ):
        for stream in (overview, service):
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert b"<h1>" in await stream.content.readuntil(b"\n\n")
        async with leaving(gateway) as task, asyncio.timeout(10):
            for stream in (overview, service):
                assert (await stream.content.read()).endswith(b"event: end\ndata: {}\n\n")
            await task
    await eventually(lambda: not gateway._tasks)
