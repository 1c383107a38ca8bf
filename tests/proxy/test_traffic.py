from __future__ import annotations

import asyncio

from tentaculo.proxy.traffic import Record, Traffic
from tentaculo.tasks import TaskGroup


def record(status: int = 200, service: str | None = "madre", seconds: float = 0.5) -> Record:
    return Record("GET", "/", status, seconds, "127.0.0.1", "id", service)


def test_totals_by_service_and_class_of_status() -> None:
    traffic = Traffic()
    for done in (
        record(200),
        record(204),
        record(404),
        record(499),
        record(101),
        record(404, None),
        record(200, "mcp"),
    ):
        traffic.begin()
        traffic.end(done)
    assert traffic.in_flight == 0
    assert sorted(traffic.totals()) == [
        ("", "4xx", 1, 0.5),
        ("madre", "1xx", 1, 0.5),
        ("madre", "2xx", 2, 1.0),
        ("madre", "4xx", 2, 1.0),
        ("mcp", "2xx", 1, 0.5),
    ]


def test_in_flight() -> None:
    traffic = Traffic()
    traffic.begin()
    traffic.begin()
    traffic.end(record())
    assert repr(traffic) == "<Traffic: 1 in flight>"


async def test_idle_at_once() -> None:
    async with asyncio.timeout(1):
        await Traffic().idle()


async def test_everybody_hears_when_nothing_is_in_flight() -> None:
    traffic, tasks = Traffic(), TaskGroup("test")
    for _ in range(2):  # and again after it has been idle
        traffic.begin()
        traffic.begin()
        waiting = [tasks.start(traffic.idle(), str(number)) for number in range(2)]
        await asyncio.sleep(0)
        traffic.end(record())
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        traffic.end(record())
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)
