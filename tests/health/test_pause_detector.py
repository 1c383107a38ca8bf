"""Pauses of the gateway itself: noticed, and never a failure of a service."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from aiohttp import ClientSession

from tentaculo.health.pause_detector import PauseDetector, time_since_boot
from tentaculo.health.prober import Prober
from tentaculo.model.health import Health
from tests.support.gateway_process import Running, running_gateway
from tests.support.health import Clock, Serve, answer, fleet
from tests.support.waits import eventually


async def test_a_gap_is_a_pause() -> None:
    clock, lengths = Clock(), list[float]()
    pauses = PauseDetector(clock)
    pauses.on_pause.append(lengths.append)
    clock.seconds += 100
    assert pauses.check() == 0, "it is not started"
    pauses.start()
    for step, count in ((0, 0), (0.25, 0), (1.2, 0), (1.25, 1), (0.1, 1), (600, 2)):
        clock.seconds += step
        assert pauses.check() == count
    pauses.stop()
    clock.seconds += 100
    assert pauses.check() == 2
    assert lengths == [1.0, 599.75]
    assert repr(pauses) == "<PauseDetector: 2 pauses>"


async def test_the_timer_notices_a_blocked_loop() -> None:
    pauses = PauseDetector()
    pauses.start()
    before = pauses.check()
    time.sleep(1.3)
    await eventually(lambda: pauses.count > before)
    pauses.stop()


def test_the_clock_does_not_go_back() -> None:
    assert time_since_boot() <= time_since_boot()


async def test_a_probe_that_fell_into_a_pause_is_repeated(serve: Serve) -> None:
    clock = Clock()
    pauses = PauseDetector(clock)
    asked = 0

    async def pause_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        if asked == 1:
            clock.seconds += 60
            writer.transport.abort()
        else:
            writer.write(answer())

    config = fleet(madre={"url": f"http://127.0.0.1:{await serve(pause_at_first)}", "probe": {"timeout": 10}})
    pauses.start()
    result = await Prober(config, pauses=pauses).probe(config.services["madre"].upstreams[0])
    pauses.stop()
    assert (result.health, asked) == (Health.UP, 2)


async def test_a_gateway_that_pauses_all_the_time_does_not_know(serve: Serve) -> None:
    clock = Clock()
    pauses = PauseDetector(clock)

    async def pause(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        clock.seconds += 60
        writer.transport.abort()

    config = fleet(madre={"url": f"http://127.0.0.1:{await serve(pause)}", "probe": {"timeout": 10}})
    pauses.start()
    result = await Prober(config, pauses=pauses).probe(config.services["madre"].upstreams[0])
    pauses.stop()
    assert (result.health, pauses.count) == (Health.UNKNOWN, 3)
    assert result.reason.startswith("not sent: the gateway was paused")


async def _modules(running: Running, session: ClientSession) -> dict[str, Any]:
    async with session.get(f"{running.url}/vx11/status") as response:
        modules: dict[str, Any] = (await response.json())["modules"]
    return modules


async def test_a_stopped_process_blames_no_service(serve: Serve) -> None:
    """SIGSTOP for longer than the time limit of a probe that is under way, and than a silence."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.sleep(0.3)
        writer.write(answer())

    asked = asyncio.Event()
    at_once = {"failures": 1, "successes": 1, "interval": 0.1}
    services = {
        "slow": {"url": f"http://127.0.0.1:{await serve(slow)}", "probe": {**at_once, "timeout": 2}},
        "cron": {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 2.5, "interval": 0.1}},
    }
    async with running_gateway({"services": services}) as running, ClientSession(headers=running.headers) as session:

        async def beat() -> None:
            async with session.post(f"{running.url}/vx11/heartbeat/cron") as response:
                assert response.status < 300

        async def are_up() -> bool:
            return all(one["status"] == "ok" for one in (await _modules(running, session)).values())

        await beat()
        async with asyncio.timeout(20):
            while not await are_up():
                await beat()
                await asyncio.sleep(0.05)
        before = await _modules(running, session)
        asked.clear()
        await asked.wait()
        os.kill(running.process.pid, signal.SIGSTOP)
        await asyncio.sleep(4)  # the pause itself
        os.kill(running.process.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while "process paused" not in running.output.read_text():
                await asyncio.sleep(0.05)
            await beat()
            later = await _modules(running, session)
            while later["slow"]["checked_at"] <= before["slow"]["checked_at"]:
                await asyncio.sleep(0.05)
                later = await _modules(running, session)
    assert {name: (one["status"], one["since"]) for name, one in later.items()} == {
        name: (one["status"], one["since"]) for name, one in before.items()
    }
