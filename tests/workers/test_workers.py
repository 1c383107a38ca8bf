"""Several workers as an operator starts them: `server.workers = 2`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionError, ClientSession, TCPConnector

from tests.cli.test_main import end, modules, run, start, write_config
from tests.support.gateway_process import TOKEN, Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import Reader, Upstream, Writer, ok, read_request, upstream

WAIT = 30.0
SECOND = '[database]\nauto_upgrade = false\n[services.madre]\nurl = "http://127.0.0.1:1"\n'


class Slow:
    """An upstream that is up, and whose `/madre/slow` waits for an event."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            request = await read_request(reader)
            state.requests.append(request)
            await state.note()
            if request.target == "/madre/slow":
                await self.go.wait()
            writer.write(ok(b"as it should be"))
            await writer.drain()


def config(port: int, workers: int) -> dict[str, Any]:
    return {
        "server": {"workers": workers, "grace": WAIT},
        "database": {"auto_upgrade": False},
        "services": {
            "madre": {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/madre"}], "probe": {"interval": 3600}}
        },
    }


def workers(gateway: Running) -> dict[int, int]:
    """Number and process of each worker that was started last."""
    return {entry["worker"]: entry["pid"] for entry in gateway.logged() if entry["event"] == "worker started"}


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def get(gateway: Running, target: str) -> tuple[int, str]:
    """One request on a connection of its own, which the kernel gives to any of the workers."""
    client = ClientSession(connector=TCPConnector(force_close=True), headers=gateway.headers)
    async with client, client.get(gateway.url + target) as response:
        return response.status, await response.text()


async def ready(gateway: Running, times: int) -> None:
    await eventually(lambda: sum(entry["event"] == "worker ready" for entry in gateway.logged()) == times)


async def spread(gateway: Running, target: str, events: str) -> list[Any]:
    """Ask until every worker has logged such a request; returns the responses.

    The workers accept from one queue, and an idle one is quick: only connections of one moment reach several.
    """
    responses: list[Any] = []
    async with asyncio.timeout(WAIT):
        while len({entry["worker"] for entry in gateway.logged() if entry.get("path") == events}) < 2:
            responses += await asyncio.gather(*(get(gateway, target) for _ in range(20)))
            await asyncio.sleep(0.06)
    return responses


async def test_they_share_a_port_replace_each_other_and_stop_together(tmp_path: Path) -> None:
    slow = Slow()
    async with upstream(slow.script) as up, running_gateway(config(up.port, 2)) as gateway:
        await ready(gateway, 2)
        said = gateway.output.read_text(encoding="utf-8")
        assert "serves 1 service, with 2 workers." in said
        assert "Warning: server.workers is 2: each worker has its own breakers" in said
        pids = workers(gateway)
        assert all(f"{gateway.process.pid}" == parent(pid) for pid in pids.values())

        # Both answer, by one port, and both know what one of them has found out.
        assert set(await spread(gateway, "/madre/x", "/madre/x")) == {(200, "as it should be")}
        for status, body in await spread(gateway, "/vx11/status", "/vx11/status"):
            assert (status, json.loads(body)["modules"]["madre"]["status"]) == (200, "ok")
        assert sum(request.target == "/health" for request in up.requests) == 1

        # A second gateway notices, whether it means to share or not.
        for more in ({}, {"TENTACULO_SERVER_WORKERS": "2"}):
            write_config(tmp_path, SECOND)
            second = await run(tmp_path, "serve", "--port", str(gateway.port), TENTACULO_TOKEN=TOKEN, **more)
            assert second.code == 3
            assert f"cannot listen on 127.0.0.1:{gateway.port}: Address already in use" in second.err

        # The leader dies; its successor probes in its place, and nobody has to wait for it.
        os.kill(pids[1], signal.SIGKILL)
        await eventually(lambda: not is_there(pids[1]))
        assert await get(gateway, "/madre/x") == (200, "as it should be")
        await ready(gateway, 3)
        await up.until(lambda: sum(request.target == "/health" for request in up.requests) == 2)
        successors = workers(gateway)
        assert (successors[2], successors[1] != pids[1]) == (pids[2], True)

        # A stop lets both finish what is in flight, and takes nothing new.
        async with ClientSession(connector=TCPConnector(limit=0, force_close=True), headers=gateway.headers) as client:

            async def call() -> tuple[int, str]:
                async with client.get(gateway.url + "/madre/slow") as response:
                    return response.status, await response.text()

            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(call()) for _ in range(40)]
                await up.until(lambda: sum(request.target == "/madre/slow" for request in up.requests) == 40)
                gateway.process.terminate()
                await eventually(lambda: sum("in_flight" in entry for entry in gateway.logged()) == 2)
                await refused(gateway)
                # As some do that stop a whole group of processes: it means no second, hurried stop.
                for pid in successors.values():
                    os.kill(pid, signal.SIGTERM)
                assert all(is_there(pid) for pid in successors.values())
                slow.go.set()
            assert {task.result() for task in calls} == {(200, "as it should be")}
        in_flight = [entry["in_flight"] for entry in gateway.logged() if "in_flight" in entry]
        assert sum(in_flight) == 40
        assert all(in_flight), "by a hash of the addresses: that one of two gets none of 40 happens once in 2^39"
        assert await asyncio.wait_for(gateway.process.wait(), WAIT) == 0
        assert not any(is_there(pid) for pid in successors.values())


async def refused(gateway: Running) -> None:
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await get(gateway, "/livez")
            except ClientConnectionError:
                return


def parent(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


async def test_without_their_supervisor_they_stop(tmp_path: Path) -> None:
    slow = Slow()
    async with upstream(slow.script) as up, running_gateway(config(up.port, 2)) as gateway:
        await ready(gateway, 2)
        pids = workers(gateway)
        gateway.process.kill()
        await gateway.process.wait()
        await eventually(lambda: not any(is_there(pid) for pid in pids.values()))
        with socket.create_server(("127.0.0.1", gateway.port)):
            pass


async def test_one_is_no_more_than_the_gateway_itself() -> None:
    slow = Slow()
    async with upstream(slow.script) as up, running_gateway(config(up.port, 1)) as gateway:
        assert await get(gateway, "/madre/x") == (200, "as it should be")
        assert Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text() == ""
        said = gateway.output.read_text(encoding="utf-8")
        await eventually(lambda: any(entry["event"] == "request" for entry in gateway.logged()))
        assert "worker" not in said
        assert 'worker="' not in (await get(gateway, "/metrics"))[1]


async def test_workers_that_cannot_be_started_end_it_with_3_and_say_why(tmp_path: Path) -> None:
    write_config(tmp_path, SECOND)
    program = (
        "import sys; from tentaculo.workers.supervisor import Supervisor; from tentaculo.__main__ import main;"
        "command = (sys.executable, '-S', '-c', 'raise SystemExit(7)');"
        "Supervisor.__init__.__defaults__ = (command, *Supervisor.__init__.__defaults__[1:]);"
        "sys.argv[1:] = ['serve', '--port', '0']; main()"
    )
    done = await end(await start(tmp_path, "-c", program, TENTACULO_TOKEN=TOKEN, TENTACULO_SERVER_WORKERS="2"))
    assert (done.code, done.out) == (3, "")
    said = done.err.splitlines()[-1]
    assert said.startswith("Error: the workers cannot be started: worker ")
    assert said.endswith(" ended 3 times before it took requests, at last with exit code 7")


async def test_the_supervisor_is_small_and_a_single_gateway_knows_nothing_of_it(tmp_path: Path) -> None:
    large = {"aiohttp", "sqlalchemy", "uvloop", "alembic", "jinja2", "prometheus_client"}
    loaded = await modules(tmp_path, "import tentaculo.cli.serve, tentaculo.workers.supervisor")
    assert "tentaculo.config.schema" in loaded
    assert {name.split(".")[0] for name in loaded} & large == set()
    alone = await modules(tmp_path, "import tentaculo.cli.serve, tentaculo.gateway.process")
    assert "tentaculo.gateway.gateway" in alone
    assert [name for name in alone if name.startswith("tentaculo.workers")] == []
