from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Sequence

import pytest

from tentaculo.config.loader import load
from tentaculo.server.listeners import CannotListenError, Listeners
from tentaculo.workers.worker_process import ATTEMPTS, LAST_PAUSE, LASTING, RestartPolicy, WorkerSpec, open_sockets
from tests.support.gateway_process import ROOT

PATTERN = {"TENTACULO_SERVICES_MADRE_PROBE_MATCHES": "ok|well"}
"""Something that no process can hand to another as it is."""


def test_it_arrives_as_it_was_and_for_several_readers() -> None:
    environ = {"TENTACULO_TOKEN": "a-secret-token", "TENTACULO_SERVER_WORKERS": "3", "SHUB_ENABLED": "true", **PATTERN}
    config = load(ROOT / "docker" / "vx11.toml", environ).config
    job = WorkerSpec(config, ("sha256:" + "0" * 64,), "tentaculo-link-1")
    descriptor = job.write()
    try:
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")
        for _ in range(2):
            read = WorkerSpec.read(descriptor)
            assert read == job
            assert read.workers == 3
            assert read.config.plain_token is not None
            assert read.config.plain_token.reveal() == "a-secret-token"
            assert read.config.folder == config.folder
            pattern = read.config.services["madre"].probe.matches
            assert pattern is not None
            assert pattern.is_in("all is well")
            assert read.config.services.keys() == config.services.keys()
    finally:
        os.close(descriptor)


HERE = "127.0.0.1"


class Quiet(asyncio.Protocol):
    """Counts whose connection it was, and closes it."""

    def __init__(self, taken: Counter[str], name: str) -> None:
        self._taken = taken
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken[self._name] += 1
        transport.close()


async def _worker(sockets: Sequence[socket.socket], taken: Counter[str], name: str) -> Listeners:
    """As a worker has them: by descriptors of its own for the same sockets."""
    listeners = Listeners()
    await listeners.open(lambda: Quiet(taken, name), (), [sock.dup() for sock in sockets])
    return listeners


async def _connect(address: tuple[str, int]) -> None:
    reader, writer = await asyncio.open_connection(*address)
    assert await reader.read() == b""
    writer.close()


async def test_each_worker_gets_a_share_and_another_one_takes_over_what_waits() -> None:
    taken: Counter[str] = Counter()
    with open_sockets([(HERE, 0)], 2) as sockets:
        address = sockets[0][0].getsockname()
        first, second = [
            await _worker(own, taken, name) for own, name in zip(sockets, ("first", "second"), strict=True)
        ]
        for _ in range(100):
            await _connect(address)
        # By a hash of the addresses: that one of two gets none of 100 happens once in 2^99.
        assert set(taken) == {"first", "second"}
        await first.stop()
        taken.clear()
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(_connect(address)) for _ in range(100)]
            await asyncio.sleep(0.1)
            assert not all(one.done() for one in waiting), "what comes to the socket of the first waits"
            await second.adopt(1, sockets[0])
        assert taken == {"second": 100}
        successor = await _worker(sockets[0], taken, "successor")
        second.release(1)
        for _ in range(100):
            await _connect(address)
        assert taken["successor"] > 0
        assert sum(taken.values()) == 200
        for worker in (second, successor):
            await worker.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_a_worker_that_stops_takes_over_nothing_more() -> None:
    with open_sockets([(HERE, 0)], 2) as sockets:
        address = sockets[0][0].getsockname()
        second = await _worker(sockets[1], Counter(), "second")
        await second.stop()
        await second.adopt(1, sockets[0])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    # Nor is it an error where the process has closed the sockets already.
    await second.adopt(1, sockets[0])


@pytest.mark.parametrize("workers", [1, 2])
async def test_nobody_else_gets_in(workers: int) -> None:
    with open_sockets([(HERE, 0)], workers) as sockets:
        port = sockets[0][0].getsockname()[1]
        for others in (1, 2):
            with pytest.raises(CannotListenError) as caught, open_sockets([(HERE, 0), (HERE, port)], others):
                raise AssertionError("two groups on one port")
            assert caught.value.address == f"{HERE}:{port}"
            assert caught.value.strerror == "Address already in use"
        alone = Listeners()
        with pytest.raises(CannotListenError):
            await alone.open(asyncio.Protocol, [(HERE, port)])
    with open_sockets([(HERE, port)], workers):
        pass


@pytest.mark.parametrize("shares", [False, True])
async def test_a_port_that_somebody_has_is_named_even_where_it_is_shared(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind((HERE, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError) as caught, open_sockets([(HERE, 0), (HERE, port)], 2):
            raise AssertionError
    assert caught.value.address == f"{HERE}:{port}"


async def test_names_and_both_families() -> None:
    with open_sockets([("localhost", 0), ("::1", 0), ("::", 0), ("0.0.0.0", 0)], 2) as sockets:
        names = [[sock.getsockname()[:2] for sock in group] for group in sockets]
        assert {host for host, _ in names[0]} == {HERE, "::1", "::", "0.0.0.0"}
        assert names[1] == names[0]
        worker = await _worker(sockets[1], Counter(), "all")
        assert worker.bound == names[0]
        await worker.close()


async def test_all_of_ipv6_leaves_ipv4_alone() -> None:
    with open_sockets([("0.0.0.0", 0)], 1) as sockets, open_sockets([("::", sockets[0][0].getsockname()[1])], 1):
        pass


def test_those_that_end_at_once_come_back_later_and_later() -> None:
    revival = RestartPolicy()
    pauses = [revival.pause(0.5, was_ready=True, was_stopped=False) for _ in range(9)]
    assert pauses == [0, 1, 2, 4, 8, 16, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE]
    assert not revival.is_hopeless


def test_one_that_has_lasted_is_replaced_at_once_whatever_was_before() -> None:
    revival = RestartPolicy()
    for _ in range(4):
        revival.pause(0.5, was_ready=True, was_stopped=False)
    assert revival.pause(LASTING, was_ready=True, was_stopped=False) == 0
    assert revival.pause(LASTING - 1, was_ready=True, was_stopped=False) == 1


def test_one_that_was_stopped_to_end_is_no_failure() -> None:
    revival = RestartPolicy()
    assert [revival.pause(0.1, was_ready=True, was_stopped=True) for _ in range(5)] == [0] * 5
    assert revival.pause(0.1, was_ready=True, was_stopped=False) == 0, "the first failure of all"


@pytest.mark.parametrize("was_stopped", [False, True])
def test_a_place_whose_workers_never_take_requests_is_hopeless(was_stopped: bool) -> None:
    revival = RestartPolicy()
    for number in range(ATTEMPTS):
        assert not revival.is_hopeless
        assert revival.false_starts == number
        revival.pause(0.0, was_ready=False, was_stopped=was_stopped)
    assert revival.is_hopeless
    revival.pause(0.0, was_ready=True, was_stopped=False)
    assert not revival.is_hopeless
