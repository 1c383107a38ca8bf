"""How soon an event that one process has received reaches the listeners of this process and of the other one.

    .venv/bin/python -m bench.delivery [--rate 50] [--seconds 20]

Two workers on SQLite, and two machines on PostgreSQL, as the tests start them. The time is from the moment before the
request is sent until the event has been read from `/events/stream`: receiving, storing and delivering it. The sender
and the listeners are one process beside the gateways.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic

import uvloop
from aiohttp import ClientSession, TCPConnector

from bench.stats import percentile
from tentaculo.store import migrate
from tests.support.event_clients import event_stream
from tests.support.gateway_process import TOKEN
from tests.support.machines import Clock, running_machines
from tests.support.postgresql import running_server

_SETTINGS = {"synchronous_commit": "on"}


async def measure(urls: Sequence[str], rate: float, seconds: float) -> list[tuple[str, list[float]]]:
    """Milliseconds of each event, for the listeners of the process that received it and of the other one."""
    sent, here, there = dict[int, tuple[float, int]](), list[float](), list[float]()
    total = int(rate * seconds)
    connector = TCPConnector(limit=0, force_close=True)
    async with ClientSession(headers={"X-VX11-Token": TOKEN}, connector=connector) as session:

        async def listen(index: int) -> None:
            async with event_stream(session, urls[index], "?source=bench") as stream:
                ready.release()
                for _ in range(total):
                    (frame,) = await stream.events(1)
                    began, receiver = sent[frame.data["payload"]["number"]]
                    (here if receiver == index else there).append((monotonic() - began) * 1000)

        async def send(number: int) -> None:
            sent[number] = (monotonic(), number % len(urls))
            body = {"source": "bench", "type": "t", "payload": {"number": number}}
            async with session.post(f"{urls[number % len(urls)]}/events/ingest", json=body) as response:
                assert response.status == 201, await response.text()

        ready = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            for index in range(len(urls)):
                group.create_task(listen(index))
            for _ in urls:
                await ready.acquire()
            began = monotonic()
            for number in itertools.count():
                if number == total:
                    break
                await asyncio.sleep(began + number / rate - monotonic())
                group.create_task(send(number))
    return [("received it", here), ("other", there)]


@asynccontextmanager
async def two_machines(folder: Path) -> AsyncIterator[list[str]]:
    """The origins of two machines on PostgreSQL."""
    with running_server(_SETTINGS) as server, server.database() as url:
        migrate.upgrade(url)
        async with running_machines(2, 1, folder, url, Clock(folder)) as machines:
            yield [str(machine.url) for machine in machines]


@asynccontextmanager
async def two_workers(folder: Path) -> AsyncIterator[list[str]]:
    """The origin of one machine with two workers on SQLite: any of them receives an event and serves a listener."""
    url = f"sqlite:///{folder / 'fleet.db'}"
    migrate.upgrade(url)
    async with running_machines(1, 2, folder, url, Clock(folder)) as (machine,):
        yield [str(machine.url)] * 2


async def run(rate: float, seconds: float) -> None:
    """Measure both, and print a table."""
    print("| | listener at the process that | events | median | p99 | most |", "|---|---|---|---|---|---|", sep="\n")
    for name, start in (("two machines, PostgreSQL", two_machines), ("two workers, SQLite", two_workers)):
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="delivery-")))
            found = await measure(await stack.enter_async_context(start(folder)), rate, seconds)
        if start is two_workers:
            found = [("any", [delay for _, delays in found for delay in delays])]
        for which, delays in found:
            numbers = (percentile(delays, 50), percentile(delays, 99), max(delays))
            print(f"| {name} | {which} | {len(delays):,} |", " | ".join(f"{number:.1f} ms" for number in numbers), "|")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.delivery", description="Measure how soon events arrive.")
    parser.add_argument("--rate", type=float, default=50, help="events per second (default 50)")
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement (default 20)")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(arguments.rate, arguments.seconds))


if __name__ == "__main__":
    main()
