"""A gateway that is replaced by a successor, or started by a service manager, as processes under load."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.security.tokens import hash_token
from tests.support.constant_load import Load
from tests.support.gateway_process import ROOT, TOKEN, Running, clean_environment, running_gateway, to_toml
from tests.support.waits import eventually, free_port
from tests.support.wire import Reader, Upstream, Writer, dial, ok, read_request, upstream

UPGRADE = b"GET /up/tunnel HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Service:
    """A service with quick calls, a call that waits, a tunnel that echoes, and a stream of events."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request = await read_request(reader)
            state.requests.append(request)
            await state.note()
            if request.target == "/up/slow":
                await self.go.wait()
            if request.target == "/up/events":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                while not self.go.is_set():
                    writer.write(b"data: 1\n\n")
                    await writer.drain()
                    await asyncio.sleep(0.02)
                return
            if request.get("upgrade"):
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                while data := await reader.read(1000):
                    writer.write(data)
                return
            writer.write(ok(b"as it should be"))
            await writer.drain()


def config(upstream_port: int, workers: int, **server: Any) -> dict[str, Any]:
    service = {"url": f"http://127.0.0.1:{upstream_port}", "routes": [{"prefix": "/up", "auth": "none"}]}
    return {
        "server": {"workers": workers, **server},
        "log": {"access": False},
        "services": {"up": service},
    }


def is_gone(pid: int) -> bool:
    """Whether a process has ended, which need not be a child of this one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@asynccontextmanager
async def replaceable(config: dict[str, Any], env: dict[str, str] | None = None) -> AsyncIterator[Running]:
    """A gateway whose successors end with the context."""
    async with running_gateway(config, env) as gateway:
        try:
            yield gateway
        finally:
            pids = [entry["pid"] for entry in gateway.logged("successor started")]
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            await eventually(lambda: all(map(is_gone, pids)), "the end of the successors")


async def replace(gateway: Running, pid: int) -> int:
    """Have the process `pid` replaced; returns its successor, which is ready."""
    before = len(gateway.logged("successor ready"))
    os.kill(pid, signal.SIGUSR2)
    await eventually(lambda: len(gateway.logged("successor ready")) > before, "a successor", seconds=40)
    successor: int = gateway.logged("successor ready")[-1]["pid"]
    return successor


@pytest.mark.parametrize("workers", [1, 2])
async def test_nothing_is_lost_under_load(workers: int) -> None:
    """Three successors in a row, with new and kept connections, a slow call, a tunnel and a stream of events."""
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, workers)) as gateway:
        load = Load(gateway.port)
        async with (
            asyncio.TaskGroup() as tasks,
            dial(gateway.port) as slow,
            dial(gateway.port) as tunnel,
            dial(gateway.port) as events,
        ):
            for _ in range(8):
                tasks.create_task(load.run())
            for pause in (0.0, 0.0, 0.05, 0.3):
                tasks.create_task(load.run_kept(pause))
            await slow.send(b"GET /up/slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await tunnel.send(UPGRADE)
            assert b" 101 " in await tunnel.reader.readuntil(b"\r\n\r\n")
            await events.send(b"GET /up/events HTTP/1.1\r\nHost: h\r\n\r\n")
            await events.reader.readuntil(b"data: 1\n\n")
            pids = [gateway.process.pid]
            for _ in range(3):
                pids.append(await replace(gateway, pids[-1]))
                await load.proceed(200)
            await tunnel.send(b"still here")
            assert await asyncio.wait_for(tunnel.reader.readexactly(10), 10) == b"still here"
            assert not is_gone(pids[0]), "the first one keeps its tunnel"
            await eventually(lambda: is_gone(pids[1]), "the end of one that has nothing open")
            service.go.set()
            assert (await slow.response()).body == b"as it should be"
            await asyncio.wait_for(events.reader.readuntil(b"\r\n0\r\n\r\n"), 10)
            load.stop()
        await eventually(lambda: gateway.process.returncode is not None, "the end of the first process")
        assert load.unanswered == []
        assert set(load.outcomes) == {"200"}
        assert not is_gone(pids[-1])
        async with ClientSession(headers=gateway.headers) as session, asyncio.timeout(20):
            status = "unknown"
            while status == "unknown":  # until the last one has probed
                async with session.get(f"{gateway.url}/vx11/status") as response:
                    status = (await response.json())["modules"]["up"]["status"]
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_successor_that_cannot_start_changes_nothing(workers: int) -> None:
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, workers)) as gateway:
        (gateway.folder / "gateway.toml").write_text("[server]\nport = true\n")
        os.kill(gateway.process.pid, signal.SIGUSR2)
        await eventually(lambda: gateway.logged("successor failed"))
        assert "exit code 2" in gateway.logged("successor failed")[0]["reason"]
        assert "server.port" in gateway.output.read_text(), "the successor says why"
        async with dial(gateway.port) as wire:
            await wire.send(b"GET /up/x HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).status == 200
        assert await gateway.stop() == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_stop_ends_a_successor_that_is_not_ready(workers: int) -> None:
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, workers)) as gateway:
        os.kill(gateway.process.pid, signal.SIGUSR2)
        await eventually(lambda: gateway.logged("successor started"))
        assert await gateway.stop() == 0
        await eventually(lambda: is_gone(gateway.logged("successor started")[0]["pid"]))


async def test_a_retired_gateway_obeys_sigterm() -> None:
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, 1)) as gateway, dial(gateway.port) as tunnel:
        await tunnel.send(UPGRADE)
        await tunnel.reader.readuntil(b"\r\n\r\n")
        await replace(gateway, gateway.process.pid)
        assert gateway.process.returncode is None
        assert await gateway.stop() == 0
        assert await tunnel.rest() == b""


async def test_a_tunnel_ends_with_the_grace() -> None:
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, 1, handover_grace=1)) as gateway:
        async with dial(gateway.port) as tunnel:
            await tunnel.send(UPGRADE)
            await tunnel.reader.readuntil(b"\r\n\r\n")
            await replace(gateway, gateway.process.pid)
            assert await asyncio.wait_for(tunnel.rest(), 20) == b""
        await eventually(lambda: gateway.process.returncode == 0)


async def test_systemd_learns_of_the_successor(tmp_path: Path) -> None:
    service, address = Service(), str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        loop = asyncio.get_running_loop()

        async def report() -> str:
            return (await asyncio.wait_for(loop.sock_recv(manager, 1000), 30)).decode()

        async with upstream(service.script) as up:
            environment = {"NOTIFY_SOCKET": address}
            async with replaceable(config(up.port, 1), environment) as gateway:
                assert "READY=1" in await report()
                pid = await replace(gateway, gateway.process.pid)
                reports = {await report(), await report()}
                assert f"MAINPID={pid}" in reports
                assert any("READY=1" in text for text in reports), "the successor's, which systemd takes from now on"
                await eventually(lambda: gateway.process.returncode == 0)
                with pytest.raises(BlockingIOError):
                    manager.recv(1000)  # the gateway does not stop


@pytest.mark.parametrize("workers", [1, 2])
async def test_only_the_successor_reloads(workers: int) -> None:
    service = Service()
    async with upstream(service.script) as up:
        tables = config(up.port, workers, host="127.0.0.1", port=0) | {"reload": {"watch": True}}
        async with replaceable(tables) as gateway, dial(gateway.port) as tunnel:
            await tunnel.send(UPGRADE)
            await tunnel.reader.readuntil(b"\r\n\r\n")
            await replace(gateway, gateway.process.pid)
            tables["limits"] = {"body": 7000}
            file = gateway.folder / "gateway.toml"
            file.write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items()))
            await eventually(lambda: len(gateway.logged("configuration reloaded")) == workers)
            await asyncio.sleep(3)  # in which the first one would look at the file too
            assert len(gateway.logged("configuration reloaded")) == workers
            assert gateway.process.returncode is None, "it keeps the tunnel"


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_asked_for_during_a_handover_is_not_lost(workers: int) -> None:
    """A change that the predecessor made after its successor has read the configuration would be gone with it."""
    service, admin = Service(), "a-token-of-an-administrator"
    async with upstream(service.script) as up:
        tables = config(up.port, workers) | {
            "auth": {"tokens": [{"hash": hash_token(admin), "scopes": ["admin"], "name": "adm"}]}
        }
        async with replaceable(tables) as gateway, ClientSession(headers={"X-VX11-Token": admin}) as session:
            url = f"{gateway.url}/tentaculo/admin"

            async def change() -> tuple[int, str | None]:
                async with session.post(
                    f"{url}/services/up/disable", json={"for": "1h"}, headers={"If-Match": "*"}
                ) as response:
                    return response.status, (await response.json()).get("error")

            os.kill(gateway.process.pid, signal.SIGUSR2)
            await eventually(lambda: gateway.logged("successor started"))
            successor = gateway.logged("successor started")[0]["pid"]
            os.kill(successor, signal.SIGSTOP)
            async with asyncio.TaskGroup() as tasks:
                asked = tasks.create_task(change())
                os.kill(gateway.process.pid, signal.SIGHUP)
                async with session.get(f"{gateway.url}/livez") as response:
                    assert response.status == 200
                os.kill(successor, signal.SIGCONT)
            assert asked.result() == (503, "stopping")
            await eventually(lambda: gateway.process.returncode is not None)
            async with session.get(f"{url}/reload") as response:
                report = await response.json()
            while report["by"] != "SIGHUP":
                await asyncio.sleep(0.05)
                async with session.get(f"{url}/reload") as response:
                    report = await response.json()
            assert await change() == (200, None)


async def test_the_number_of_workers_may_change() -> None:
    service = Service()
    async with upstream(service.script) as up, replaceable(config(up.port, 1)) as gateway:
        load, pid = Load(gateway.port), gateway.process.pid
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(load.run())
            for workers in (3, 2, 1):
                tables = config(up.port, workers, host="127.0.0.1", port=0)
                text = "".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items())
                (gateway.folder / "gateway.toml").write_text(text)
                old = pid
                pid = await replace(gateway, pid)
                await load.proceed(100)
                await eventually(partial(is_gone, old))
            load.stop()
        assert set(load.outcomes) == {"200"}


@asynccontextmanager
async def activated(folder: Path, sock: socket.socket, workers: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway that a service manager starts with `sock`, as sd_listen_fds(3) says."""
    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    command = ("-m", "tentaculo", "serve", "-c", str(folder / "gateway.toml"))
    with (folder / "output.txt").open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(sock.fileno()), *command),
            cwd=folder,
            env=clean_environment({"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN}),
            stdout=sink,
            stderr=sink,
            pass_fds=(sock.fileno(),),
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_restart_keeps_the_socket_of_the_service_manager(tmp_path: Path, workers: int) -> None:
    service = Service()
    async with upstream(service.script) as up:
        tables = config(up.port, workers, port=free_port())
        (tmp_path / "gateway.toml").write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items()))
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
            load = Load(sock.getsockname()[1], patience=60)  # the first of them waits for the start
            async with asyncio.TaskGroup() as tasks:
                for _ in range(8):
                    tasks.create_task(load.run())
                for _ in range(3):
                    async with activated(tmp_path, sock, workers) as process:
                        await load.proceed(100)
                    assert process.returncode == 0
                async with activated(tmp_path, sock, workers):
                    load.stop()
                    await eventually(lambda: load.running == 0)
        assert load.unanswered == []
        assert set(load.outcomes) == {"200"}


async def test_descriptors_of_another_process_are_left_alone(tmp_path: Path) -> None:
    service = Service()
    async with (
        upstream(service.script) as up,
        running_gateway(config(up.port, 1), {"LISTEN_FDS": "1", "LISTEN_PID": "1"}) as gateway,
        dial(gateway.port) as wire,
    ):
        await wire.send(b"GET /up/x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.response()).status == 200
