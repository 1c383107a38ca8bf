"""A gateway that was stopped and continues, as a virtual machine that was suspended: its own pause fails nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.certificates import self_signed
from tests.support.gateway_process import Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import Reader, Request, Upstream, Writer, answering, dial, ok, read_request, upstream

pytestmark = pytest.mark.command
PAUSE = 3.5
"""Seconds: longer than every time limit of the gateways here."""
REQUEST = b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n"
LIMITS = {"connect": 2, "first_byte": 2, "idle": 2, "head_time": 2, "body_idle": 2}


@asynccontextmanager
async def paused(running: Running) -> AsyncIterator[None]:
    """The gateway does not run within the context, nor for `PAUSE` seconds behind it."""
    os.kill(running.process.pid, signal.SIGSTOP)
    try:
        # What came before it has stopped would be read first.
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WNOWAIT)
        yield
        await asyncio.sleep(PAUSE)  # the pause itself
    finally:
        os.kill(running.process.pid, signal.SIGCONT)


async def test_a_connection_that_was_made_meanwhile_is_no_timeout(tmp_path: Path) -> None:
    """The handshake of a service with TLS ends in the pause."""
    certificate = self_signed(tmp_path, "IP:127.0.0.1")
    async with upstream(answering(ok(b"here")), tls=certificate.server_context()) as up:
        came, may_pass = asyncio.Event(), asyncio.Event()

        async def relay(reader: Reader, writer: Writer, _: Upstream) -> None:
            hello = await reader.read(65536)
            came.set()
            await may_pass.wait()
            async with dial(up.port) as inner:
                await inner.send(hello)

                async def back() -> None:
                    while data := await inner.reader.read(65536):
                        writer.write(data)

                async with asyncio.TaskGroup() as tasks:
                    task = tasks.create_task(back())
                    while data := await reader.read(65536):
                        inner.writer.write(data)
                    task.cancel()

        async with upstream(relay) as slow:
            service = {"url": f"https://127.0.0.1:{slow.port}", "probe": {"kind": "none"}}
            routes = [{"prefix": "/s", "strip": True, "auth": "none"}]
            config = {"limits": LIMITS, "services": {"s": {**service, "routes": routes}}}
            env = {"SSL_CERT_FILE": str(certificate.certificate)}
            async with running_gateway(config, env) as running, dial(running.port) as wire:
                await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
                await came.wait()
                async with paused(running):
                    may_pass.set()
                response = await wire.response()
    assert (response.status, response.body) == (200, b"here")


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        (b"", REQUEST),
        (b"GET /s/ HTTP/1.1\r\nHos", b"t: h\r\n\r\n"),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf", b"half"),
        (b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"4\r\nhalf\r\n0\r\n\r\n"),
    ],
)
async def test_what_a_client_sent_meanwhile_is_not_late(before: bytes, meanwhile: bytes) -> None:
    async with upstream(answering(ok())) as up:
        service = {"url": f"http://127.0.0.1:{up.port}"}
        routes = [{"prefix": "/s", "strip": True, "auth": "none"}]
        config = {"limits": LIMITS, "services": {"s": {**service, "routes": routes}}}
        async with running_gateway(config) as running, dial(running.port) as wire:
            await wire.send(before)
            await asyncio.sleep(0.3)
            async with paused(running):
                await wire.send(meanwhile)
            response = await wire.response()
    assert (response.status, response.body) == (200, b"ok")


@pytest.mark.parametrize("first", [REQUEST, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"])
async def test_a_request_that_came_meanwhile_on_an_idle_connection_is_served(first: bytes) -> None:
    async with upstream(answering(ok())) as up:
        service = {"url": f"http://127.0.0.1:{up.port}"}
        routes = [{"prefix": "/s", "strip": True, "auth": "none"}]
        config = {"server": {"keepalive": 2}, "services": {"s": {**service, "routes": routes}}}
        async with running_gateway(config) as running, dial(running.port) as wire:
            await wire.send(first)
            assert (await wire.response()).status == 200
            async with paused(running):
                await wire.send(REQUEST)
            assert (await wire.response()).body == b"ok"
            began = asyncio.get_running_loop().time()
            assert await wire.rest() == b""
            assert asyncio.get_running_loop().time() - began > 1


async def test_room_that_came_meanwhile_is_not_late() -> None:
    may_respond = asyncio.Event()

    async def answer(_: Request) -> bytes:
        await may_respond.wait()
        return ok()

    async with upstream(answering(answer)) as up:
        service = {"url": f"http://127.0.0.1:{up.port}", "probe": {"kind": "none"}}
        routes = [{"prefix": "/s", "strip": True, "auth": "none"}]
        config = {"limits": {**LIMITS, "in_flight": 1}, "services": {"s": {**service, "routes": routes}}}
        async with running_gateway(config) as running, dial(running.port) as first, dial(running.port) as second:
            await first.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await up.until(lambda: len(up.requests) == 1)
            await second.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            await asyncio.sleep(0.3)  # until it waits for room
            async with paused(running):
                may_respond.set()
            assert [(await wire.response()).status for wire in (first, second)] == [200, 200]


async def test_an_alert_that_was_taken_meanwhile_is_not_sent_again(refusing_port: int) -> None:
    came, may_respond = asyncio.Event(), asyncio.Event()

    async def receiver(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        came.set()
        await may_respond.wait()
        writer.write(ok())

    async with upstream(receiver) as up:
        webhook = {"url": f"http://127.0.0.1:{up.port}", "timeout": 2, "secrets": ["whsec_" + "A" * 32]}
        probe = {"interval": 0.1, "recheck": 0.1, "failures": 1}
        config = {
            "alerts": {"wait": 0, "webhooks": {"primary": webhook}},
            "services": {"s": {"url": f"http://127.0.0.1:{refusing_port}", "probe": probe}},
        }
        async with running_gateway(config) as running:
            await came.wait()
            async with paused(running):
                may_respond.set()
            await eventually(lambda: running.logged("alert sent") or running.logged("alert not sent yet"))
            assert running.logged("alert not sent yet") == []
    assert len(up.requests) == 1
