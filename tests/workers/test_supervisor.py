"""The supervisor over real processes that do what the test tells them: started, replaced, heard, stopped, given up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tentaculo.config.schema import Config
from tentaculo.tasks import TaskGroup
from tentaculo.workers import supervisor as module
from tentaculo.workers.channel import ALL, READY, SERVING, STOP, STOP_NOW, STOPPING
from tentaculo.workers.supervisor import Supervisor, WorkersFailed
from tentaculo.workers.worker_process import ATTEMPTS, RestartPolicy, WorkerSpec

WAIT = 30.0
# Says who it is, answers pings, tells what else it hears on its line, and does what it is told: `say` that on the
# line, be `mute`, or `exit`.
PUPPET = """
import os, select, socket, sys
port, number, job, line = map(int, sys.argv[1:])
line, test = socket.socket(fileno=line), socket.create_connection(("127.0.0.1", port))
test.sendall(b"%d %d\\n" % (number, os.getpid()))
is_mute = False
while True:
    for one in select.select([line, test], [], [])[0]:
        data = one.recv(65536)
        if not data:
            os._exit(99)
        if one is line:
            if data != b"\\xffping":
                test.sendall(data.hex().encode() + b"\\n")
            elif not is_mute:
                line.send(b"\\xffpong")
            continue
        for order in data.decode().split():
            what, _, how = order.partition("=")
            if what == "say":
                line.send(bytes.fromhex(how))
            elif what == "mute":
                is_mute = True
            else:
                os._exit(int(how))
"""


@dataclass
class Puppet:
    """A worker in the test's hand."""

    number: int
    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serving: list[int] = field(default_factory=list)

    def say(self, message: bytes) -> None:
        self.writer.write(f"say={message.hex()}\n".encode())

    def fall_silent(self) -> None:
        self.writer.write(b"mute\n")

    def exit(self, code: int) -> None:
        self.writer.write(f"exit={code}\n".encode())

    async def heard(self) -> bytes:
        """The next message that it got, but for how many workers serve; empty once it has ended."""
        while (message := await self._next()).startswith(SERVING):
            self.serving.append(message[-1])
        return message

    async def heard_serving(self) -> int:
        """The next number of workers that serve, where that is what it hears next."""
        message = await self._next()
        assert message[:-1] == SERVING
        return message[-1]

    async def _next(self) -> bytes:
        async with asyncio.timeout(WAIT):
            return bytes.fromhex((await self.reader.readline()).decode())


class Stage:
    """A supervisor, and the puppets that it has started."""

    def __init__(self, port: int, puppets: asyncio.Queue[Puppet], workers: int, grace: float) -> None:
        config = Config.of({"server": {"workers": workers, "grace": grace}})
        self.puppets = puppets
        self.ready = asyncio.Event()
        self.times_ready = 0
        command = (sys.executable, "-S", "-E", "-c", PUPPET, str(port))
        self.supervisor = Supervisor(WorkerSpec(config, (), "x"), self._note_ready, command)
        self._tasks = TaskGroup("stage")
        self.over = self._tasks.start(self.supervisor.run(), "supervisor")

    def _note_ready(self) -> None:
        self.times_ready += 1
        self.ready.set()

    async def next(self) -> Puppet:
        """The next one that has been started."""
        return await asyncio.wait_for(self.puppets.get(), WAIT)

    async def serving(self) -> tuple[Puppet, Puppet]:
        """Two that are ready."""
        two = sorted([await self.next(), await self.next()], key=lambda puppet: puppet.number)
        for puppet in two:
            puppet.say(READY)
        await asyncio.wait_for(self.ready.wait(), WAIT)
        return two[0], two[1]

    async def leave(self) -> None:
        """Whatever happened, leave no process."""
        while not self.puppets.empty():
            self.puppets.get_nowait().exit(0)
        if not self.over.done():
            self.supervisor.stop()
            self.supervisor._kill()
        await asyncio.wait([self.over], timeout=WAIT)
        await self._tasks.close()


@asynccontextmanager
async def stage(workers: int = 2, grace: float = 60) -> AsyncIterator[Stage]:
    puppets: asyncio.Queue[Puppet] = asyncio.Queue()
    writers = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, pid = map(int, (await reader.readline()).split())
        writers.append(writer)
        puppets.put_nowait(Puppet(number, pid, reader, writer))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    made = Stage(server.sockets[0].getsockname()[1], puppets, workers, grace)
    try:
        yield made
    finally:
        await made.leave()
        for writer in writers:
            writer.close()
        server.close()


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_ready_when_all_are_and_replaces_whoever_ends() -> None:
    async with stage() as here:
        first, second = await here.next(), await here.next()
        assert {first.number, second.number} == {1, 2}
        assert os.getpgid(first.pid) == first.pid, "the terminal's Ctrl-C is not for it"
        first.say(READY)
        assert await nothing(here.ready)
        second.say(READY)
        await asyncio.wait_for(here.ready.wait(), WAIT)

        os.kill(second.pid, signal.SIGKILL)
        third = await here.next()
        assert (third.number, third.pid != second.pid) == (second.number, True)
        assert not is_there(second.pid), "waited for"
        third.say(READY)
        third.say(ALL + b"heard by the first")
        assert await first.heard() == ALL + b"heard by the first"
        third.exit(0)
        assert (await here.next()).number == third.number, "a worker that was stopped by a signal is replaced too"
        assert here.times_ready == 1


async def nothing(event: asyncio.Event) -> bool:
    """Whether `event` is not set by what is under way already."""
    for _ in range(100):
        await asyncio.sleep(0)
    return not event.is_set()


async def test_one_whose_loop_hangs_is_killed_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PING_EVERY", 0.02)
    # The others answer in time on the slowest machine; that it is a row that counts is seen by their staying.
    monkeypatch.setattr(module, "MOST_UNANSWERED", 50)
    async with stage() as here:
        one, two = await here.next(), await here.next()
        one.say(READY)
        one.fall_silent()
        successor = await here.next()
        assert (successor.number, is_there(one.pid)) == (one.number, False)
        successor.say(READY)
        two.say(READY)
        await asyncio.wait_for(here.ready.wait(), WAIT)
        assert here.puppets.empty()


async def test_many_ends_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestartPolicy, "pause", lambda *_, **__: 0.0)
    async with stage() as here:
        one, two = await here.serving()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            os.kill(two.pid, signal.SIGKILL)
            assert await two.heard() == b""
            two.writer.close()
            gone, two = two, await here.next()
            assert not is_there(gone.pid)
        two.say(b"\1done")
        assert await one.heard() == b"\1done"
        assert len(os.listdir("/proc/self/fd")) <= before + 2, "a connection of the test's own may not be closed yet"


async def test_it_passes_on_what_they_say() -> None:
    async with stage(workers=3) as here:
        puppets = {puppet.number: puppet for puppet in [await here.next() for _ in range(3)]}
        puppets[2].say(ALL + b"to all")
        assert await puppets[1].heard() == await puppets[3].heard() == ALL + b"to all"
        puppets[3].say(b"\2to the second")
        assert await puppets[2].heard() == b"\2to the second"
        puppets[2].say(b"\2to itself")
        assert await puppets[2].heard() == b"\2to itself"
        puppets[2].say(b"\x09to nobody")
        puppets[2].say(b"\1to the first")
        assert await puppets[1].heard() == b"\1to the first"


async def test_it_says_how_many_of_them_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the limits of requests: each has a part of them, while all others serve too."""
    monkeypatch.setattr(RestartPolicy, "pause", lambda *_, **__: 0.0)
    async with stage(workers=3) as here:
        puppets = {puppet.number: puppet for puppet in [await here.next() for _ in range(3)]}
        for puppet in puppets.values():
            puppet.say(READY)
        await asyncio.wait_for(here.ready.wait(), WAIT)
        os.kill(puppets[2].pid, signal.SIGKILL)
        assert await puppets[1].heard_serving() == await puppets[3].heard_serving() == 2
        successor = await here.next()
        successor.say(READY)
        assert await puppets[1].heard_serving() == await puppets[3].heard_serving() == 3
        assert await successor.heard_serving() == 3
        puppets[3].say(STOPPING)
        assert await puppets[1].heard_serving() == await successor.heard_serving() == 2
        puppets[3].exit(0)
        last = await here.next()
        last.say(READY)
        assert await puppets[1].heard_serving() == 3, "one that was stopping did not count when it ended"


async def test_a_stop_waits_for_each_and_a_second_one_hurries() -> None:
    async with stage() as here:
        one, two = await here.serving()
        here.supervisor.stop()
        assert await one.heard() == await two.heard() == STOP
        one.exit(0)
        assert await one.heard() == b""
        here.supervisor.stop()
        assert await two.heard() == STOP_NOW
        assert not here.over.done()
        two.exit(0)
        await asyncio.wait_for(here.over, WAIT)
        assert here.puppets.empty(), "nobody is replaced"


async def test_a_signal_stops() -> None:
    async with stage() as here:
        one, two = await here.serving()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await one.heard() == await two.heard() == STOP
        os.kill(os.getpid(), signal.SIGINT)
        assert await one.heard() == await two.heard() == STOP_NOW


async def test_who_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER", 0.05)
    async with stage(grace=0.05) as here:
        one, two = await here.serving()
        here.supervisor.stop()
        await asyncio.wait_for(here.over, WAIT)
        assert [is_there(puppet.pid) for puppet in (one, two)] == [False, False]


async def test_a_stop_during_the_start_reaches_those_that_are_not_ready() -> None:
    async with stage() as here:
        one, two = await here.next(), await here.next()
        here.supervisor.stop()
        assert await one.heard() == await two.heard() == STOP
        for puppet in (one, two):
            puppet.say(READY)
            puppet.exit(0)
        await asyncio.wait_for(here.over, WAIT)
        assert not here.ready.is_set(), "too late to be told of"


async def test_it_gives_up_where_one_never_starts() -> None:
    async with stage() as here:
        ended = 0
        while ended < ATTEMPTS:
            puppet = await here.next()
            if puppet.number == 2:
                puppet.exit(7)
                ended += 1
            else:
                other = puppet
        assert await other.heard() == STOP
        other.exit(0)
        with pytest.raises(WorkersFailed) as caught:
            await asyncio.wait_for(here.over, WAIT)
        assert str(caught.value) == "worker 2 ended 3 times before it took requests, at last with exit code 7"


async def test_it_gives_up_where_the_program_is_not_there() -> None:
    supervisor = Supervisor(WorkerSpec(Config.of({"server": {"workers": 2}}), (), "x"), lambda: None, ["/nowhere"])
    with pytest.raises(WorkersFailed) as caught:
        await asyncio.wait_for(supervisor.run(), WAIT)
    assert "No such file" in str(caught.value)


async def test_once_it_serves_one_hopeless_place_ends_nobody_and_all_of_them_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pause = RestartPolicy.pause
    monkeypatch.setattr(RestartPolicy, "pause", lambda *told, **how: 0 * pause(*told, **how))
    async with stage() as here:
        one, two = await here.serving()
        os.kill(two.pid, signal.SIGKILL)
        for _ in range(ATTEMPTS + 2):
            (await here.next()).exit(1)
        last = await here.next()
        last.say(b"\1still here")
        assert await one.heard() == b"\1still here"
        os.kill(one.pid, signal.SIGKILL)
        for _ in range(ATTEMPTS):
            puppet = await here.next()
            assert puppet.number == 1
            puppet.exit(1)
        # The second one has not begun to serve either.
        assert await last.heard() == STOP
        last.exit(0)
        with pytest.raises(WorkersFailed, match="worker 1 ended 3 times"):
            await asyncio.wait_for(here.over, WAIT)
