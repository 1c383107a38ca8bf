"""A replica that breaks, a load that continues, and one small rig."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from bench import process
from bench.faults import network
from bench.faults.catalogue import BY_NAME, WELL, Behaviour
from bench.faults.load import Load, request, status_of
from bench.faults.measures import measure
from bench.faults.peers import OURS
from bench.faults.rig import ReplicaProcess, Rig, _first_shown
from tests.support.gateway_process import ROOT


class Asked:
    """A replica, and how it answers."""

    def __init__(self, port: int, replica: ReplicaProcess) -> None:
        self.port = port
        self.replica = replica

    async def status(self, head: bytes, seconds: float = 10.0) -> int:
        """0 where it refuses, cuts, or does not answer in time."""
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(head)
                    return int((await reader.readuntil(b"\r\n\r\n"))[9:12])
                finally:
                    writer.close()
        return 0


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[Asked]:
    ports = process.free_ports()
    port = next(ports)
    replica = ReplicaProcess(port, next(ports), tmp_path)
    await replica.start()
    yield Asked(port, replica)
    replica.stop()


TRAFFIC, HEALTH = request(0), b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_replica_breaks_as_it_is_told(asked: Asked) -> None:
    replica = asked.replica
    assert [await asked.status(TRAFFIC), await asked.status(HEALTH)] == [200, 200]
    await replica.command(Behaviour(failing=1.0))
    assert [await asked.status(TRAFFIC), await asked.status(HEALTH)] == [500, 200]
    await replica.command(Behaviour(failing_health=1.0))
    assert [await asked.status(TRAFFIC), await asked.status(HEALTH)] == [200, 500]
    await replica.command(Behaviour(hangs=True))
    assert await asked.status(TRAFFIC, 0.2) == 0
    waiting = asyncio.get_running_loop().create_task(asked.status(TRAFFIC))
    while len(replica.arrivals) < 5:
        await replica.command(None)
    await replica.command(WELL)
    assert await waiting == 0, "it is cut, as by a restart"
    await replica.command(Behaviour(closed=True))
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", asked.port)
    await replica.command(WELL)
    assert await asked.status(TRAFFIC) == 200
    await replica.command(None)
    assert len(replica.arrivals) == 6, "its health path and what was refused are no traffic that came"
    assert all(earlier < later for earlier, later in pairwise(replica.arrivals))


async def test_a_replica_says_when_it_was_probed(asked: Asked) -> None:
    await asked.status(TRAFFIC)
    await asked.replica.command(None)
    assert asked.replica.probed is None
    before = time.monotonic()
    await asked.status(HEALTH)
    await asked.replica.command(None)
    probed = asked.replica.probed
    assert probed is not None
    assert before < probed < time.monotonic()


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([(9.0, False), (11.0, False), (12.0, True)], 2.0),
        ([(9.0, True), (11.0, True), (12.0, False), (13.0, True)], 3.0),
        ([(9.0, True), (11.0, True)], None),
        ([], None),
    ],
)
def test_what_was_wrong_before_the_fault_does_not_show_it(
    looks: list[tuple[float, bool]], seconds: float | None
) -> None:
    assert _first_shown(looks, 10.0) == seconds


async def test_a_killed_one_comes_back(asked: Asked) -> None:
    await asked.status(TRAFFIC)
    await asked.replica.kill()
    assert await asked.status(TRAFFIC) == 0
    await asked.replica.start()
    assert await asked.status(TRAFFIC) == 200
    assert len(asked.replica.arrivals) == 1, "what came before is not forgotten"


async def test_the_load_keeps_to_its_schedule_and_counts_every_kind_of_end(asked: Asked) -> None:
    load = Load(asked.port, 200.0)
    running = asyncio.get_running_loop().create_task(load.run())
    while len(load.requests) < 20:
        await asyncio.sleep(0.01)
    await asked.replica.command(Behaviour(closed=True))
    while load.requests[-1].status != 0:
        await asyncio.sleep(0.01)
    load.stop()
    await running
    dues = sorted(asked.due for asked in load.requests)
    assert all(later - earlier == pytest.approx(0.005) for earlier, later in pairwise(dues))
    assert {asked.status for asked in load.requests} == {0, 200}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 0),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n<html>", 503),
        (b"HTTP/1.1 200 OK\r\nContent-Le", 0),
        (b"", 0),
    ],
)
def test_only_a_whole_answer_counts(answer: bytes, status: int) -> None:
    assert status_of(answer) == status


_REFUSED = """
import socket
from bench.faults import network
if network.isolate():
    before = network.refused()
    for _ in range(3):
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", 9))
    print(network.refused() - before)
"""


async def test_in_a_network_of_its_own_every_refusal_is_counted() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _REFUSED, cwd=ROOT, stdout=-1)
    out, _ = await process.communicate()
    if not out.strip():
        pytest.skip("this system gives no network of one's own")
    assert int(out) == 3


async def test_a_small_rig(tmp_path: Path) -> None:
    before = network.refused()
    seen = await Rig(OURS, BY_NAME["crash"], tmp_path, calm=1.0).run(1.5, 1.0, 0.5)
    numbers = measure(seen, BY_NAME["crash"])
    assert numbers["asked"] == sum(asked.due >= 0 for asked in seen.requests) > 100
    assert numbers["failed"] == 0, "whatever may be repeated was, and nothing had been sent of the rest"
    assert -seen.requests[0].due >= 1.0, "the fault waits for its distance from a probe"
    assert any(moment < 0 for moment in seen.broken), "it was used while it was well"
    assert network.refused() > before
    assert any(0 < moment < seen.ended for moment in seen.broken), "it was tried when it was gone"
    assert any(moment < 0 for moment in seen.well)
    assert any(0 < moment < seen.ended for moment in seen.well)
    assert _mentioned(str(tmp_path)) == [], "all that was started has ended"


def _mentioned(text: str) -> list[str]:
    """Command lines of processes that still run with `text` in them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if text in (line := file.read_text().replace("\0", " ")):
                found.append(line)
    return found
