"""Machines for tests: gateways of one or several workers that can be killed and started again, and their clock."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.gateway_process import ROOT, TOKEN, Running, clean_environment, running_process, to_toml
from tests.support.processes import kill_family
from tests.support.waits import eventually

START_WAIT = 60.0
_CLOCK = Path(__file__).with_name("clock")


class Clock:
    """The clock of all machines, which a test can set."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.set(0)

    def set(self, ahead: int) -> None:
        """Set it to `ahead` seconds from the true time, which may be negative; running processes notice at once."""
        if not self.file.exists():
            self.file.write_bytes(bytes(8))
        # In place: the processes have mapped this file.
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", ahead))


class Machine:
    """One machine: a supervisor and its workers. It has another port after each start."""

    def __init__(self, folder: Path, url: str, clock: Clock, workers: int, settings: Mapping[str, Any]) -> None:
        """`url` is its database, `settings` are further sections of its configuration."""
        folder.mkdir()
        self._folder = folder
        self.workers = workers
        self._stack = AsyncExitStack()
        self._running: Running | None = None
        tables = {
            "server": {"host": "127.0.0.1", "port": 0, "workers": workers, "grace": 1},
            "database": {"url": url, "auto_upgrade": False},
            "log": {"format": "json", "access": False},
            "services": {"madre": {"url": "http://127.0.0.1:1", "probe": {"interval": 3600}}},
            **settings,
        }
        (folder / "gateway.toml").write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items()))
        path = os.pathsep.join((str(_CLOCK), str(ROOT)))
        self._env = clean_environment({"PYTHONPATH": path, "TENTACULO_TOKEN": TOKEN, "TEST_CLOCK": str(clock.file)})

    @property
    def url(self) -> str | None:
        """Its origin, None while it is down."""
        return None if self._running is None else self._running.url

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._running is not None
        return self._running.process.pid

    def output(self) -> str:
        """What it has printed and logged."""
        assert self._running is not None
        return self._running.output.read_text(encoding="utf-8", errors="replace")

    async def start(self) -> None:
        """Start it; returns when all its workers take requests."""
        command = (sys.executable, "-m", "tentaculo", "serve", "-c", str(self._folder / "gateway.toml"))
        # The line with the address is printed when all are ready.
        self._running = await self._stack.enter_async_context(running_process(command, self._folder, self._env))

    async def stop(self) -> None:
        """End it in order, if it runs."""
        self._running = None
        await self._stack.aclose()

    async def kill(self) -> None:
        """SIGKILL to the supervisor and all workers at once."""
        assert self._running is not None
        process, self._running = self._running.process, None
        await asyncio.to_thread(kill_family, process.pid)
        await self._stack.aclose()

    async def kill_worker(self, number: int) -> None:
        """SIGKILL to one worker; returns when its successor takes requests."""
        pid = self._workers("worker started")[number]
        os.kill(pid, signal.SIGKILL)
        await eventually(
            lambda: self._workers("worker ready")[number] != pid, f"the successor of {pid}", seconds=START_WAIT
        )

    def _workers(self, event: str) -> dict[int, int]:
        """The last process of each worker that has such a line in the log."""
        assert self._running is not None
        lines = self._running.output.read_text(encoding="utf-8").split("\n")[:-1]
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return {entry["worker"]: entry["pid"] for entry in entries if entry["event"] == event}


@asynccontextmanager
async def running_machines(
    number: int, workers: int, folder: Path, url: str, clock: Clock, **settings: Mapping[str, Any]
) -> AsyncIterator[Sequence[Machine]]:
    """So many machines on one database, each with so many workers."""
    made = [Machine(folder / f"machine-{index}", url, clock, workers, settings) for index in range(1, number + 1)]
    try:
        async with asyncio.TaskGroup() as group:
            for machine in made:
                group.create_task(machine.start())
        yield made
    finally:
        for machine in made:
            await machine.stop()
