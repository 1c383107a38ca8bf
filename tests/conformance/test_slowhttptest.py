"""slowhttptest: 500 connections that are as slow as they can be, while good requests are served as usual.

Slow heads are cut by their limit, so the tool runs out of connections before its time is up. Slow bodies are cut while
they take more than half of the connections, so that good requests always find one. Slow readers are held back for as
long as they like: each may cost only a bounded piece of memory.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import psutil
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.support.gateway_process import Running, running_gateway
from tests.support.needs import need
from tests.support.wire import Reader, Upstream, Writer, ok, read_request, upstream

pytestmark = pytest.mark.timeout(120)
CONNECTIONS = 500
PLACES = 700
"""Connections of the gateway. While more than half of them are in use, a body must arrive at a least rate."""
LIMITS = {"head_time": 5, "body_idle": 5, "connections": PLACES}
PIECE = bytes(65536)
PIECES = 160
"""Of a large answer: more than the buffers on its way hold."""
PACE = 0.1
"""Seconds between two pieces. Filling 500 connections' buffers at once would be a test of the machine's memory bus."""
PAUSE = 0.02
ADDED = 0.05
"""Seconds that half of the good requests may take at most beyond what they take without the gateway, asked in turn."""
LATE = 10.0
"""Seconds after which a good request is given up as starved; the attacks last longer than that."""
PER_READER = 512 * 1024
"""Bytes that one slow reader may cost, whatever the size of its answer."""
SPARE = 20
"""Descriptors that may be more after an attack: idle connections to the upstream."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass
class Good:
    """What well-behaved clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Through the gateway."""
    directly: list[float] = field(default_factory=list)
    """To its upstream, which the machine slows as much as the gateway."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Attack:
    """One run of the tool."""

    said: str
    good: Good
    memory: int
    """Bytes of resident memory that the gateway had at most beyond what it began with."""


async def _serve(reader: Reader, writer: Writer, state: Upstream) -> None:
    while True:
        request = await read_request(reader)
        if request.target != "/large":
            writer.write(ok(b"good"))
            continue
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * PIECES))
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
            await asyncio.sleep(PACE)


@asynccontextmanager
async def _gateway() -> AsyncIterator[tuple[Running, str]]:
    """A gateway, and the address of its upstream."""
    need(shutil.which("slowhttptest"), "slowhttptest (Debian: slowhttptest)")
    async with upstream(_serve) as server:
        service: dict[str, Any] = {
            "url": f"http://127.0.0.1:{server.port}",
            "probe": {"interval": 86400},
            "routes": [{"prefix": "/", "auth": "none"}],
        }
        async with running_gateway({"services": {"site": service}, "limits": LIMITS}) as gateway:
            yield gateway, service["url"]


async def _ask(session: ClientSession, url: str, seconds: list[float], faults: list[str]) -> None:
    started = perf_counter()
    try:
        async with session.get(url) as response:
            body = await response.read()
            if (response.status, body) != (200, b"good"):
                faults.append(f"{response.status} {body[:80]!r}")
    except (ClientError, TimeoutError) as error:
        faults.append(repr(error))
    seconds.append(perf_counter() - started)


async def _attack(gateway: Running, upstream: str, path: str, *arguments: str) -> Attack:
    process = psutil.Process(gateway.process.pid)
    good, memory, over = Good(), [process.memory_info().rss], asyncio.Event()
    tool = await asyncio.create_subprocess_exec(
        *("slowhttptest", *arguments, "-u", f"{gateway.url}{path}"),
        *("-c", str(CONNECTIONS), "-r", "200", "-p", "3", "-v", "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )

    async def listen() -> bytes:
        try:
            return (await tool.communicate())[0]
        finally:
            over.set()

    async def be_good() -> None:
        async with ClientSession(timeout=ClientTimeout(total=LATE)) as session:
            while not over.is_set():
                await _ask(session, f"{gateway.url}/good", good.seconds, good.faults)
                await _ask(session, f"{upstream}/good", good.directly, good.faults)
                memory.append(process.memory_info().rss)
                await asyncio.sleep(PAUSE)

    try:
        output, _ = await asyncio.gather(listen(), be_good())
    finally:
        if tool.returncode is None:
            tool.kill()
    return Attack(_COLOUR.sub("", output.decode(errors="replace")), good, max(memory) - memory[0])


def _assert_good_requests_went_on(attack: Attack) -> None:
    assert attack.good.faults == []
    assert len(attack.good.seconds) > 50
    assert median(attack.good.seconds) < median(attack.good.directly) + ADDED
    assert set(re.findall(r"service available:\s*(\w+)", attack.said)) == {"YES"}
    # The tool did hold as many connections as it was told to.
    assert str(CONNECTIONS) in re.findall(r"connected:\s*(\d+)", attack.said)


async def _assert_nothing_is_left(gateway: Running, before: int) -> None:
    process = psutil.Process(gateway.process.pid)
    async with asyncio.timeout(10):
        while process.num_fds() > before + SPARE:
            await asyncio.sleep(0.05)


SLOW_SENDERS = {
    "heads": ("-H", "-x", "24"),
    "bodies": ("-B", "-x", "10", "-s", "8192"),
}


@pytest.mark.parametrize("mode", SLOW_SENDERS)
async def test_slow_senders_are_cut_and_slow_nobody(mode: str) -> None:
    async with _gateway() as (gateway, server):
        before = psutil.Process(gateway.process.pid).num_fds()
        attack = await _attack(gateway, server, "/", *SLOW_SENDERS[mode], "-i", "1", "-l", "40")
        _assert_good_requests_went_on(attack)
        # Bodies are cut as long as they take more than half of the places: all of them, where they are late at once.
        is_rid = "No open connections left" in attack.said
        if mode == "bodies":
            is_rid = is_rid or int(re.findall(r"connected:\s*(\d+)", attack.said)[-1]) <= PLACES / 2
        assert is_rid, attack.said[-500:]
        await _assert_nothing_is_left(gateway, before)


async def test_slow_readers_cost_little_and_slow_nobody() -> None:
    async with _gateway() as (gateway, server):
        before = psutil.Process(gateway.process.pid).num_fds()
        # 32 bytes of a small window in 5 s, of three answers of 10 MB each.
        slowly = ("-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3")
        attack = await _attack(gateway, server, "/large", "-X", *slowly, "-l", "25")
        _assert_good_requests_went_on(attack)
        assert attack.memory < CONNECTIONS * PER_READER
        await _assert_nothing_is_left(gateway, before)
