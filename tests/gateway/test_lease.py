"""Two machines on one PostgreSQL: one probes and alerts, the other shows the same, and takes over when it is lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import select

from tentaculo.gateway.lease_keeper import LENGTH
from tentaculo.model.event import EventFilter
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store import migrate
from tentaculo.store.event_queries import read_events
from tentaculo.store.lease import LeaseRow, read_lease
from tentaculo.store.tables import incidents
from tests.incidents.test_channels import SECRET
from tests.support.gateway_process import TOKEN
from tests.support.machines import Clock, Machine
from tests.support.postgresql import FAST, Server, running_server
from tests.support.processes import descendants
from tests.support.runtime_tables import opened
from tests.support.waits import eventually
from tests.support.webhook_receiver import Receiver, receiving
from tests.support.wire import Request, Upstream, answering, ok, upstream

NAMES = ("one", "two")
PROBED = re.compile(r"^tentaculo_probes_total\{.*\} (\d+)\.0$", re.MULTILINE)


@dataclass
class Fleet:
    """Two machines, their service, and what receives their alerts."""

    url: str
    machines: dict[str, Machine]
    service: Upstream
    receiver: Receiver
    health: dict[str, bytes] = field(default_factory=lambda: {"madre": b"200 OK"})

    def lease(self) -> LeaseRow | None:
        with opened(self.url) as connection:
            return read_lease(connection)

    def holder(self) -> str:
        row = self.lease()
        return row.fence.holder if row is not None and row.remaining > 0 else ""

    def events(self) -> list[dict[str, Any]]:
        """The gateways' own events with their types, the oldest first."""
        with opened(self.url) as connection:
            found = read_events(connection, EventFilter(sources=(GATEWAY_NAME,)), limit=500).events
        return [{**event.payload, "type": event.type} for event in found]

    def announced(self) -> list[str]:
        """What the database has of the messages about each incident."""
        with opened(self.url) as connection:
            return list(connection.scalars(select(incidents.c.told)))

    def alerts(self) -> list[str]:
        return [json.loads(post.body)["type"] for post in self.receiver.posts]

    async def get(self, name: str, target: str) -> Any:
        url = f"{self.machines[name].url}{target}"
        async with ClientSession(headers={"X-VX11-Token": TOKEN}) as session, session.get(url) as response:
            text = await response.text()
            return json.loads(text) if response.content_type == "application/json" else text

    async def madre(self, name: str, service: str = "madre") -> Any:
        return (await self.get(name, "/vx11/status"))["modules"][service]

    async def probes(self, name: str) -> int:
        """The probes that the worker which responds has recorded."""
        return sum(map(int, PROBED.findall(await self.get(name, "/metrics"))))

    async def shows(self, name: str, status: str, service: str = "madre") -> None:
        """Wait until a machine shows this status of its service, on two connections in a row."""
        async with asyncio.timeout(30):
            while {(await self.madre(name, service))["status"] for _ in range(2)} != {status}:
                await asyncio.sleep(0.02)

    def processes(self, name: str) -> list[int]:
        pid = self.machines[name].pid
        return [pid, *descendants(pid)]


@asynccontextmanager
async def fleet_on(url: str, folder: Path, workers: int = 1, **settings: Any) -> AsyncIterator[Fleet]:
    health = {"madre": b"200 OK"}

    def answer(request: Request) -> bytes:
        return ok(b"", status=health["madre"])

    async with upstream(answering(answer)) as service, receiving() as receiver, AsyncExitStack() as stack:
        clock = Clock(folder)
        machines = {}
        for name in NAMES:
            server = {"host": "127.0.0.1", "port": 0, "workers": workers, "grace": 20, "instance": name}
            tables = {
                "server": server,
                "incidents": {"settle": 1},
                "alerts": {"wait": 0, "webhooks": {"duty": {"url": receiver.url, "secrets": [SECRET]}}},
                "services": {
                    "madre": {
                        "url": f"http://127.0.0.1:{service.port}",
                        "probe": {"interval": 0.2, "recheck": 0.1},
                        "routes": [{"prefix": "/madre"}],
                    }
                },
                **settings,
            }
            machines[name] = Machine(folder / name, url, clock, workers, tables)
            stack.push_async_callback(machines[name].stop)
            await machines[name].start()
        fleet = Fleet(url, machines, service, receiver, health)
        await eventually(lambda: fleet.holder() == "one")
        await fleet.shows("two", "ok")
        yield fleet


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as made:
        yield made


@pytest.mark.parametrize("workers", [1, 2])
async def test_one_probes_and_alerts_and_the_next_one_continues_its_incident(
    url: str, tmp_path: Path, workers: int
) -> None:
    async with fleet_on(url, tmp_path, workers) as fleet:
        fleet.health["madre"] = b"503 No"
        await fleet.shows("one", "error")
        await fleet.shows("two", "error")
        first, second = await fleet.madre("one"), await fleet.madre("two")
        assert (second["since"], second["error"]) == (first["since"], first["error"])
        async with asyncio.timeout(20):
            # On two connections in a row, which may reach two workers.
            while {(await fleet.madre("two"))["code"] for _ in range(2)} != {503}:
                await asyncio.sleep(0.02)
        assert (await fleet.madre("two"))["checked_at"] is not None
        await fleet.receiver.has(1)
        await eventually(lambda: fleet.announced() == ["open"])
        (incident,) = (await fleet.get("two", "/vx11/incidents"))["incidents"]
        assert [await fleet.probes("two") for _ in range(4)] == [0] * 4
        assert await fleet.probes("one") > 0
        assert 'tentaculo_lease_held{instance_name="one"' in await fleet.get("one", "/metrics") or workers > 1

        await fleet.machines["one"].kill()
        row = fleet.lease()
        assert row is not None
        await eventually(lambda: fleet.holder() == "two", seconds=row.remaining + 5)
        before = len(fleet.service.requests)
        await eventually(lambda: len(fleet.service.requests) > before + 5)
        fleet.health["madre"] = b"200 OK"
        await fleet.shows("two", "ok")
        await fleet.receiver.has(2)
        (ended,) = (await fleet.get("two", "/vx11/incidents"))["incidents"]
        assert ended["id"] == incident["id"]
        assert ended["ended_at"] is not None
        assert fleet.alerts() == ["incident.opened", "incident.ended"]
        events = fleet.events()
        taken = [(one["instance"], one["epoch"]) for one in events if one["type"] == "gateway.lease.taken"]
        assert taken == [("one", 1), ("two", 2)]
        assert [one["instance"] for one in events if one["type"] == "gateway.incident.opened"] == ["one"]
        epochs = [one["epoch"] for one in events if one["type"] == "gateway.health.changed"]
        assert epochs == sorted(epochs)


async def test_what_a_suspended_holder_writes_later_is_refused(url: str, tmp_path: Path) -> None:
    async with fleet_on(url, tmp_path) as fleet:
        stopped = fleet.processes("one")
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            await eventually(lambda: fleet.holder() == "two", seconds=LENGTH + 5)
            fleet.health["madre"] = b"503 No"
            await fleet.shows("two", "error")
            await fleet.receiver.has(1)
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
        await eventually(lambda: "lease lost" in fleet.machines["one"].output())
        await fleet.shows("one", "error")
        before = await fleet.probes("one")
        fleet.health["madre"] = b"200 OK"
        await fleet.shows("one", "ok")
        await fleet.receiver.has(2)
        assert await fleet.probes("one") == before
        events = fleet.events()
        two = next(number for number, one in enumerate(events) if one.get("epoch") == 2)
        assert {one["instance"] for one in events[two:] if "epoch" in one} == {"two"}
        assert fleet.alerts() == ["incident.opened", "incident.ended"]
        assert fleet.holder() == "two"


async def test_a_machine_that_stops_hands_over_before_its_requests_have_finished(url: str, tmp_path: Path) -> None:
    async def never(_: Request) -> bytes:
        return await asyncio.sleep(3600, b"")

    async with upstream(answering(never)) as slow:
        services = {
            "slow": {
                "url": f"http://127.0.0.1:{slow.port}",
                "probe": {"kind": "none"},
                "routes": [{"prefix": "/slow"}],
            },
            "madre": {"url": "http://127.0.0.1:1", "probe": {"kind": "none"}},
        }
        async with fleet_on(url, tmp_path, services=services) as fleet, asyncio.TaskGroup() as group:
            waiting = group.create_task(fleet.get("one", "/slow/x"))
            await slow.until(lambda: len(slow.requests) == 1)
            os.kill(fleet.machines["one"].pid, signal.SIGTERM)
            # Its lease has seconds left, which nobody waits for.
            await eventually(lambda: fleet.holder() == "two", seconds=LENGTH / 2)
            assert not waiting.done()
            await eventually(lambda: "lease released" in fleet.machines["one"].output())
            waiting.cancel()


async def test_without_the_database_both_probe_and_one_of_them_alerts(tmp_path: Path) -> None:
    with running_server(FAST) as server, server.database(server.template("migrated", migrate.upgrade)) as url:
        async with fleet_on(url, tmp_path) as fleet:
            assert await fleet.probes("two") == 0
            await asyncio.to_thread(server.kill)
            try:
                outputs = [machine.output for machine in fleet.machines.values()]
                await eventually(lambda: all("lease unknown" in output() for output in outputs), seconds=30)
                fleet.health["madre"] = b"503 No"
                await fleet.shows("one", "error")
                await fleet.shows("two", "error")
                assert await fleet.probes("two") > 0
                await fleet.receiver.has(1)
            finally:
                await asyncio.to_thread(server.start)
            await eventually(lambda: fleet.holder() == "one", seconds=30)
            async with asyncio.timeout(30):
                before = -1
                while (now := await fleet.probes("two")) != before:
                    before = now
                    await asyncio.sleep(1)
            fleet.health["madre"] = b"200 OK"
            await fleet.shows("one", "ok")
            await fleet.shows("two", "ok")
            await fleet.receiver.has(2)
            assert await fleet.probes("two") == before
            assert fleet.alerts() == ["incident.opened", "incident.ended"]
            opened_ = [one for one in fleet.events() if one["type"] == "gateway.incident.opened"]
            assert [one["instance"] for one in opened_] == ["one"]
            (incident,) = (await fleet.get("two", "/vx11/incidents"))["incidents"]
            assert incident["ended_at"] is not None


async def test_a_heartbeat_and_a_maintenance_window_may_come_to_the_other_machine(url: str, tmp_path: Path) -> None:
    job = {"url": "http://127.0.0.1:1", "probe": {"kind": "heartbeat", "silence": 3600}}
    services = {"job": job, "madre": {"url": "http://127.0.0.1:1", "probe": {"kind": "none"}}}
    async with fleet_on(url, tmp_path, services=services) as fleet:
        two = fleet.machines["two"].url
        async with ClientSession(headers={"X-VX11-Token": TOKEN}) as session:
            async with session.post(f"{two}/vx11/heartbeat/job") as response:
                assert response.status == 200
            for name in NAMES:
                await fleet.shows(name, "ok", "job")
            window = {"services": ["madre"], "minutes": 5, "reason": "a new disk"}
            async with session.post(f"{two}/vx11/maintenance", json=window) as response:
                assert response.status == 201, await response.text()
        for name in NAMES:
            await fleet.shows(name, "maintenance")
