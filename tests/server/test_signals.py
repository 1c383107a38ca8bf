"""Signals, as a shell and systemd send them to the process and to its supervisor."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.gateway_process import ROOT, clean_environment, running_gateway
from tests.support.service_manager import service_manager
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream


def _service(port: int) -> dict[str, object]:
    return {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/s", "auth": "none"}], "probe": {"kind": "tcp"}}


async def _get(session: ClientSession) -> tuple[int, bytes]:
    async with session.get("/s/x") as response:
        return response.status, await response.read()


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_hangup_cuts_nothing(workers: int) -> None:
    go = asyncio.Event()

    async def late() -> bytes:
        await go.wait()
        return ok(b"late")

    async with (
        upstream(answering(lambda _: late())) as up,
        running_gateway({"server": {"workers": workers}, "services": {"s": _service(up.port)}}) as gateway,
        ClientSession(gateway.url) as session,
        asyncio.TaskGroup() as tasks,
    ):
        under_way = tasks.create_task(_get(session))
        await eventually(lambda: up.requests)
        for _ in range(3):
            gateway.process.send_signal(signal.SIGHUP)
        await eventually(lambda: "configuration reloaded" in gateway.output.read_text())
        go.set()
        assert await under_way == (200, b"late")
        async with session.get("/livez") as response:
            assert response.status == 200
        assert gateway.process.returncode is None
        assert await gateway.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_service_manager_learns_of_the_start_and_of_the_stop(workers: int) -> None:
    with service_manager() as manager:
        async with running_gateway(
            {"server": {"workers": workers}, "services": {"s": _service(1)}}, {"NOTIFY_SOCKET": manager.address}
        ) as gateway:
            await eventually(lambda: manager.states == ["READY"])
            assert manager.reports == [{"READY": "1", "STATUS": f"serves 1 service at {gateway.url}"}]
            for worker in _children(gateway.process.pid):
                assert b"NOTIFY_SOCKET" not in Path(f"/proc/{worker}/environ").read_bytes()
            assert await gateway.stop() == 0
        assert manager.states == ["READY", "STOPPING"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_sigterm_is_heard_while_it_starts(tmp_path: Path) -> None:
    """The first process of a container gets no signal that it has no handler for."""
    program = (
        "import sys, time; from tentaculo import __main__; from tentaculo.cli import serve;"
        "serve.ConfigurationSource.load = lambda *_: (print('starting', flush=True), time.sleep(60));"
        "sys.argv = ['tentaculo', 'serve']; __main__.main()"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=tmp_path,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"starting\n"
        for number in (signal.SIGHUP, signal.SIGUSR2):
            process.send_signal(number)
        await asyncio.sleep(0.2)
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 128 + signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
