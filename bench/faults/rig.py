"""One row behind one proxy, in a process and a network of its own.

    python -m bench.faults.rig PEER ROW SECONDS_OF_THE_FAULT SECONDS_AFTER PROBE_PHASE

1. Replicas and the proxy start, while no other rig starts, and the load begins.
2. After a while without faults the first replica breaks, and at the end it is up again. The fault begins at the same
   distance from a probe for every proxy, so that none is luckier than another.
3. What was seen is printed as one line of JSON, a `Trace`.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from bench import process, traffic
from bench.faults import network
from bench.faults.catalogue import BY_NAME, CALM, PROBE_INTERVAL, Behaviour, Row
from bench.faults.load import PATH, Load
from bench.faults.peers import FaultPeer, Place, named
from bench.faults.trace import Request, Trace
from bench.peers.peer import ROOT
from bench.process import BenchError

_TICK = 0.02
"""Seconds between two looks at the kernel's count of refused connections."""
_LOOK = 0.1
"""Seconds between two looks at what the proxy shows."""
_START = 20.0
KEPT = ROOT / "build" / "faults"
"""Where each rig leaves what it saw last."""


class ReplicaProcess:
    """A replica, seen from outside."""

    def __init__(self, port: int, control: int, folder: Path) -> None:
        self._argv = [sys.executable, "-m", "bench.faults.replica", str(port), str(control)]
        self._control = control
        self._folder = folder
        self._process: process.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.arrivals: list[float] = []
        self.probed: float | None = None
        """When its health was last asked for, at the last command."""

    async def start(self) -> None:
        """Start it; it answers when this returns. Raises `BenchError`."""
        name, env = f"replica-{self._control}", {"PYTHONPATH": str(ROOT)}
        self._process = process.start(self._argv, core=None, folder=self._folder, name=name, env=env)
        deadline = time.monotonic() + _START
        while True:
            try:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control)
                return
            except OSError:
                if self._process.popen.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(f"a replica did not start: {self._process.said()}") from None
                await asyncio.sleep(0.01)

    async def command(self, behaviour: Behaviour | None) -> None:
        """Let it behave so from now on; None only asks for what has arrived."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(json.dumps(behaviour and asdict(behaviour)).encode() + b"\n")
        arrivals, self.probed = json.loads(await self._reader.readline())
        self.arrivals += arrivals

    async def kill(self) -> None:
        """As a crash does."""
        assert self._process is not None
        assert self._writer is not None
        await self.command(None)
        self._writer.close()
        self._process.popen.kill()
        self._process.popen.wait()

    def stop(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.stop()


class Rig:
    """Replicas, a proxy, a load, and who watches them."""

    def __init__(self, peer: FaultPeer, row: Row, folder: Path, *, calm: float = CALM) -> None:
        ports: Iterator[int] = process.free_ports()
        self._peer = peer
        self._row = row
        self._calm = calm
        self._place = Place(next(ports), next(ports), list(islice(ports, row.replicas)), folder)
        self._replicas = [ReplicaProcess(port, next(ports), folder) for port in self._place.replicas]
        self._proxy: process.Process | None = None
        self._refusals: list[float] = []
        self._shown: list[tuple[float, bool]] = []

    async def run(self, lasts: float, after: float, phase: float) -> Trace:
        """Break the first replica for `lasts` seconds, and look on for `after` more.

        The fault begins `phase` of an interval after a probe, 0 to 1; behind a proxy that does not probe, at once.
        """
        try:
            with _alone():
                await self._start()
            load = Load(self._place.port, self._row.fault.rate)
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(self._count_refusals()), tasks.create_task(self._watch_state())]
                asking = tasks.create_task(load.run())
                await asyncio.sleep(self._calm)
                await self._await_phase(phase)
                began = time.monotonic()
                await self._break(began + lasts)
                ended = time.monotonic()
                await asyncio.sleep(after)
                finished = time.monotonic()
                load.stop()
                await asking
                for watcher in watching:
                    watcher.cancel()
            for replica in self._replicas:
                await replica.command(None)
        finally:
            self._stop()
        return self._trace(load, began, ended, finished)

    async def _start(self) -> None:
        for replica in self._replicas:
            await replica.start()
            await replica.command(self._row.fault.well)
        command = self._peer.prepare(self._place)
        folder, name = self._place.folder, self._peer.name
        self._proxy = process.start(command.argv, core=None, folder=folder, name=name, env=command.env)
        await asyncio.to_thread(process.first_answer, self._proxy, self._place.port, traffic.head("GET", PATH))

    def _stop(self) -> None:
        if self._proxy is not None:
            self._proxy.stop()
        for replica in self._replicas:
            replica.stop()

    async def _await_phase(self, phase: float) -> None:
        """Return `phase` of an interval after a probe; a proxy may probe more often at first."""
        if self._peer.is_ill is None:
            return
        first, before, deadline = self._replicas[0], None, time.monotonic() + _START
        while True:
            await first.command(None)
            if first.probed is not None and first.probed != before:
                if before is not None and first.probed - before > 0.75 * PROBE_INTERVAL:
                    break
                before = first.probed
            if time.monotonic() > deadline:
                raise BenchError(f"{self._peer.name} does not probe every {PROBE_INTERVAL:g} s")
            await asyncio.sleep(_TICK)
        await asyncio.sleep(first.probed + phase * PROBE_INTERVAL - time.monotonic())

    async def _break(self, until: float) -> None:
        """The fault, from now to `until`; the replica is up when this returns."""
        fault, first = self._row.fault, self._replicas[0]
        if fault.kills:
            await first.kill()
            await asyncio.sleep(until - time.monotonic())
            await first.start()
            await first.command(fault.well)
            return
        behaviour = fault.broken
        while time.monotonic() < until:
            await first.command(behaviour)
            wait = until - time.monotonic()
            await asyncio.sleep(min(fault.flaps, wait) if fault.flaps else wait)
            behaviour = fault.well if behaviour is fault.broken else fault.broken
        await first.command(fault.well)

    async def _count_refusals(self) -> None:
        before = network.refused()
        while True:
            await asyncio.sleep(_TICK)
            now = network.refused()
            self._refusals += [time.monotonic()] * (now - before)
            before = now

    async def _watch_state(self) -> None:
        if self._peer.is_ill is None:
            return
        while True:
            with suppress(OSError):
                is_wrong = await self._peer.is_ill(self._place)
                # The moment of the response, since a request may be under way when the fault begins.
                self._shown.append((time.monotonic(), is_wrong))
            await asyncio.sleep(_LOOK)

    def _trace(self, load: Load, began: float, ended: float, finished: float) -> Trace:
        first, others = self._replicas[0], self._replicas[1:]
        return Trace(
            self._row.fault.rate,
            self._row.replicas,
            ended - began,
            finished - began,
            [Request(request.due - began, request.seconds, request.status) for request in load.requests],
            [moment - began for moment in sorted([*first.arrivals, *self._refusals])],
            [moment - began for replica in others for moment in replica.arrivals],
            _first_shown(self._shown, began),
            load.lag,
            self._peer.is_ill is not None,
        )


def _first_shown(looks: Iterable[tuple[float, bool]], began: float) -> float | None:
    """Seconds from `began` to the first look that shows something wrong; what was shown before does not count."""
    was_wrong = False
    for moment, is_wrong in looks:
        if moment >= began and is_wrong and not was_wrong:
            return moment - began
        was_wrong = is_wrong
    return None


@contextmanager
def _alone() -> Iterator[None]:
    """While no other rig starts: several gateways that start at once would take the processors from those under load."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "starting").open("w") as file:
        # The event loop has nothing else to do yet.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def measure(peer: str, row: str, lasts: float, after: float, phase: float) -> Trace:
    """Run one rig in a folder of its own."""
    folder = Path(mkdtemp(prefix="tentaculo-faults-"))
    folder.chmod(0o755)
    try:
        return asyncio.run(Rig(named(peer), BY_NAME[row], folder).run(lasts, after, phase))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    # So that the proxy and the replicas end with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    network.isolate()
    try:
        print(measure(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:])).to_json())
    except BenchError as error:
        sys.exit(f"{error}")
