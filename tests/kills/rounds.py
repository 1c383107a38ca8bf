"""Rounds of `kill -9` under load, with the clock set after each of them, and what is measured of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic

from tentaculo.store import migrate
from tests.kills.judge import Book, faults_of, read_log, times_set_back
from tests.kills.listeners import Listener
from tests.kills.producers import Producer
from tests.support.machines import Clock, Machine, running_machines
from tests.support.postgresql import Server, running_server
from tests.support.waits import eventually

SCENARIOS = ("worker, SQLite", "machine, SQLite", "worker, PostgreSQL", "machine, PostgreSQL", "PostgreSQL itself")
"""What is killed, and the database."""
WORKERS = 2
"""Of each machine."""
MACHINES = 2
"""Machines on one PostgreSQL; SQLite has one."""
BETWEEN = 60
"""Events that are acknowledged, and that each listener gets, between two kills at least."""
WAIT = 90.0
HOUR = 3600
LISTENERS = 2
"""Of each way to listen."""
_SOURCES = ("end", "bare", "key-1", "key-2", "batch")
_SETTINGS = {"fsync": "off", "max_wal_size": "128MB"}
"""SIGKILL does not need the disk: what a process has written, the system keeps."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the rounds of one scenario."""

    scenario: str
    rounds: int
    acknowledged: int
    duplicates: int
    unacknowledged: int
    deliveries: int
    """Events that listeners got."""
    connections: int
    """Times that a listener connected."""
    returns: Sequence[float]
    """Seconds after each kill until what was killed works again."""
    pauses: Sequence[float]
    """The longest time of each round without an acknowledged event, in seconds."""
    set_back: int
    """Times that the clock was set back by a minute or more."""
    faults: Sequence[str]


async def kill_repeatedly(scenario: str, rounds: int, folder: Path, *, seed: int = 1) -> Result:
    """Kill what `scenario` names so many times under load, and judge the log and what everybody saw."""
    with _database(scenario, folder) as (url, server):
        clock, random = Clock(folder), Random(seed)
        returns, pauses = list[float](), list[float]()
        number = 1 if server is None else MACHINES
        async with running_machines(number, WORKERS, folder, url, clock) as machines, asyncio.TaskGroup() as group:
            load = Load(machines, group)
            await load.progress()
            for _ in range(rounds):
                load.book.longest_pause, began = 0.0, monotonic()
                await _kill(scenario, random, machines, server)
                returns.append(monotonic() - began)
                clock.set(random.randrange(-HOUR, HOUR))
                await load.progress()
                pauses.append(load.book.longest_pause)
            await load.finish()
        log, set_back = await asyncio.to_thread(lambda: (read_log(url), times_set_back(url)))
    book = load.book
    return Result(
        scenario,
        rounds,
        len(book.acknowledged),
        book.duplicates,
        book.unacknowledged,
        sum(map(len, book.received.values())),
        sum(listener.connections for listener in load.listeners),
        returns,
        pauses,
        set_back,
        faults_of(book, log),
    )


@contextmanager
def _database(scenario: str, folder: Path) -> Iterator[tuple[str, Server | None]]:
    """The URL of a migrated database, and its server where it has one."""
    if "SQLite" in scenario:
        url = f"sqlite:///{folder / 'fleet.db'}"
        migrate.upgrade(url)
        yield url, None
        return
    with running_server(_SETTINGS) as server, server.database() as url:
        migrate.upgrade(url)
        yield url, server


async def _kill(scenario: str, random: Random, machines: Sequence[Machine], server: Server | None) -> None:
    """Kill one process, or one family of them; returns when it works again."""
    machine = random.choice(machines)
    if scenario.startswith("worker"):
        await machine.kill_worker(random.randint(1, WORKERS))
    elif scenario.startswith("machine"):
        await machine.kill()
        await machine.start()
    else:
        assert server is not None
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)


class Load:
    """Producers and listeners that go on through all rounds, as tasks of `group`."""

    def __init__(self, machines: Sequence[Machine], group: asyncio.TaskGroup) -> None:
        self.book = Book()
        self._is_over = False
        self._last: int | None = None
        self._end, bare, first, second, batch = (
            Producer(name, machines, self.book, lambda: self._is_over) for name in _SOURCES
        )
        work = (bare.without_key(), first.with_key(), second.with_key(), batch.in_batches())
        self._producing = [group.create_task(one) for one in work]
        self.listeners = [
            Listener(f"{way} {index}", machines, self.book, _SOURCES, lambda: self._last)
            for way in ("stream", "socket", "pages")
            for index in range(LISTENERS)
        ]
        ways = [Listener.by_stream, Listener.by_socket, Listener.by_pages]
        self._listening = [
            group.create_task(ways[index // LISTENERS](listener)) for index, listener in enumerate(self.listeners)
        ]

    async def progress(self) -> None:
        """Wait until there are more acknowledged events, and every listener has got more."""
        wanted = [count + BETWEEN for count in self._counts()]

        def is_reached() -> bool:
            return all(count >= least for count, least in zip(self._counts(), wanted, strict=True))

        await eventually(is_reached, "the progress between two kills", seconds=WAIT)

    async def finish(self) -> None:
        """End the producers, and then the listeners once they have got everything."""
        async with asyncio.timeout(WAIT):
            self._is_over = True
            await asyncio.wait(self._producing)
            self._last = await self._end.one()
            for listener, listening in zip(self.listeners, self._listening, strict=True):
                if listener.is_done:
                    # It got the last event before this was known to be the last, and would wait for another.
                    listening.cancel()
            await asyncio.wait(self._listening)

    def _counts(self) -> list[int]:
        received = (len(self.book.received.get(listener.name, ())) for listener in self.listeners)
        return [len(self.book.acknowledged), *received]
