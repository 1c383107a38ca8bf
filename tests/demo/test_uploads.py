"""An upload through the gateway's process to the service that takes uploads."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import psutil
from aiohttp import ClientSession

from tentaculo.demo.process import Demo
from tentaculo.demo.services import Ports
from tests.support.gateway_process import running_gateway

MIB = 1024 * 1024
SIZE = 96
BOUNDARY = "upload"


async def test_the_gateways_memory_does_not_depend_on_the_size() -> None:
    async with Demo(ports=Ports.FREE) as demo, running_gateway(demo.config_data) as gateway, ClientSession() as session:
        process = psutil.Process(gateway.process.pid)
        before = process.memory_info().rss
        block, digest, peak = bytes(range(256)) * (MIB // 256), hashlib.sha256(), 0

        async def form() -> AsyncIterator[bytes]:
            nonlocal peak
            yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'.encode()
            for _ in range(SIZE):
                digest.update(block)
                yield block
                peak = max(peak, process.memory_info().rss)
            yield f"\r\n--{BOUNDARY}--\r\n".encode()

        headers = {**gateway.headers, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        async with session.post(f"{gateway.url}/hermes/waveform", data=form(), headers=headers) as response:
            (file,) = (await response.json())["files"]
    assert (file["bytes"], file["sha256"]) == (SIZE * MIB, digest.hexdigest())
    assert peak - before < SIZE * MIB // 4
