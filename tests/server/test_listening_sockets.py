"""The listening sockets of several workers: opened by them, by a service manager, or by a predecessor."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tentaculo.server.listeners import CannotListenError, Listeners
from tentaculo.server.listening_sockets import InheritedSockets, UnusableSocketError, open_sockets
from tentaculo.tasks import TaskGroup
from tests.support.needs import need_ipv6

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
    await listeners.open(lambda: Quiet(taken, name), (), [sock.dup() for sock in sockets], is_shared=True)
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


async def test_a_take_over_that_fails_leaves_nothing_and_may_follow_again() -> None:
    taken: Counter[str] = Counter()
    with open_sockets([(HERE, 0)], 2) as sockets:
        address = sockets[0][0].getsockname()
        second = await _worker(sockets[1], taken, "second")
        with socket.socket() as closed:
            pass
        with pytest.raises(OSError):
            await second.adopt(1, [*sockets[0], closed])
        assert second.bound == [address]
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(_connect(address)) for _ in range(100)]
            await asyncio.sleep(0.1)
            assert not all(one.done() for one in waiting), "what comes to the socket of the first waits"
            await second.adopt(1, sockets[0])
        assert taken == {"second": 100}
        await second.close()


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


@contextmanager
def _listening(port: int, workers: int) -> Iterator[list[socket.socket]]:
    """As a gateway with so many workers listens. One alone opens its socket itself."""
    if workers == 1:
        with socket.create_server((HERE, port)) as sock:
            yield [sock]
    else:
        with open_sockets([(HERE, port)], workers) as sockets:
            yield [sock for own in sockets for sock in own]


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("before", [1, 3])
def test_a_restart_with_any_number_of_workers_gets_its_port(before: int, after: int) -> None:
    """The process before has left connections in TIME_WAIT: it closed them first."""
    with _listening(0, before) as sockets:
        port = sockets[0].getsockname()[1]
        for _ in range(20):
            with socket.create_connection((HERE, port)) as client:
                (ready, *_), _, _ = select.select(sockets, [], [], 10)
                ready.accept()[0].close()
                assert client.recv(1) == b""
    with _listening(port, after) as sockets:
        assert [sock.getsockname()[1] for sock in sockets] == [port] * after


async def test_names_and_both_families() -> None:
    need_ipv6()
    with open_sockets([("localhost", 0), ("::1", 0), ("::", 0), ("0.0.0.0", 0)], 2) as sockets:
        names = [[sock.getsockname()[:2] for sock in group] for group in sockets]
        assert {host for host, _ in names[0]} == {HERE, "::1", "::", "0.0.0.0"}
        assert names[1] == names[0]
        worker = await _worker(sockets[1], Counter(), "all")
        assert worker.bound == names[0]
        await worker.close()


async def test_all_of_ipv6_leaves_ipv4_alone() -> None:
    need_ipv6()
    with open_sockets([("0.0.0.0", 0)], 1) as sockets, open_sockets([("::", sockets[0][0].getsockname()[1])], 1):
        pass


class TestInherited:
    """Sockets that were open before."""

    @pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 3), (2, 2), (3, 2), (4, 1)])
    async def test_each_socket_has_a_worker_and_each_worker_a_socket(self, before: int, after: int) -> None:
        with open_sockets([(HERE, 0)], before) as old:
            address = old[0][0].getsockname()
            handed = InheritedSockets(tuple(sock.dup() for group in old for sock in group))
            with open_sockets([address], after, handed) as sockets:
                inodes = {_inode(sock) for group in old for sock in group}
                assert len(sockets) == after
                assert all(sockets)
                assert {_inode(sock) for group in sockets for sock in group} == inodes
                taken: Counter[str] = Counter()
                workers = [await _worker(group, taken, str(number)) for number, group in enumerate(sockets)]
                async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                    for _ in range(50):
                        tasks.create_task(_connect(address))
                assert taken.total() == 50
                for worker in workers:
                    await worker.close()
            assert all(sock.fileno() == -1 for sock in handed.sockets), "closed with the context"

    async def test_what_waits_in_the_queue_is_accepted(self) -> None:
        with open_sockets([(HERE, 0)], 1) as old:
            address = old[0][0].getsockname()
            handed = InheritedSockets((old[0][0].dup(),))
            tasks = TaskGroup("clients")
            waiting = [tasks.start(_connect(address), "client") for _ in range(20)]
            await asyncio.sleep(0.05)
        with open_sockets([address], 1, handed) as sockets:
            taken: Counter[str] = Counter()
            worker = await _worker(sockets[0], taken, "successor")
            await asyncio.wait_for(asyncio.gather(*waiting), 10)
            await worker.close()
        assert taken == {"successor": 20}

    def test_other_addresses_are_opened_and_closed_as_configured(self) -> None:
        need_ipv6()
        with open_sockets([(HERE, 0), ("::1", 0)], 1) as old:
            (kept, left) = old[0]
            handed = InheritedSockets((kept.dup(), left.dup()))
            with open_sockets([kept.getsockname(), ("127.0.0.2", 0)], 1, handed) as sockets:
                assert _inode(sockets[0][0]) == _inode(kept)
                assert sockets[0][1].getsockname()[0] == "127.0.0.2"
                assert len(sockets[0]) == 2
                assert handed.sockets[1].fileno() == -1

    def test_port_0_keeps_the_port(self) -> None:
        with (
            open_sockets([(HERE, 0)], 1) as old,
            open_sockets([(HERE, 0)], 1, InheritedSockets((old[0][0].dup(),))) as sockets,
        ):
            assert sockets[0][0].getsockname() == old[0][0].getsockname()

    def test_those_of_a_service_manager_replace_the_configured_ones(self) -> None:
        with open_sockets([(HERE, 0), ("127.0.0.2", 0)], 1) as old:
            inherited = InheritedSockets.activated([sock.dup().detach() for sock in old[0]])
            with open_sockets([("127.0.0.3", 1)], 2, inherited) as sockets:
                names = [[sock.getsockname() for sock in group] for group in sockets]
                assert names == [[sock.getsockname() for sock in old[0]]] * 2

    def test_a_descriptor_of_another_kind_is_named(self) -> None:
        with socket.socket() as silent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for sock in (silent, datagrams):
                descriptor = sock.dup().detach()
                with pytest.raises(UnusableSocketError, match=f"{descriptor} does not listen for TCP connections"):
                    InheritedSockets.activated([descriptor])


def _inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino
