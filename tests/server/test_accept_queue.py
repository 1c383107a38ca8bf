"""The queue of a listening socket: what waits in it is accepted before the socket closes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tentaculo.server import listeners
from tests.support.needs import need
from tests.support.waits import eventually


@pytest.fixture(autouse=True)
def _as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "QUEUE_EMPTY_FOR", 0.05)


@pytest.fixture
def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    sock.setblocking(False)
    return sock


async def _dial(listener: socket.socket) -> socket.socket:
    client = socket.socket()
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, listener.getsockname())
    return client


async def test_what_waits_is_counted_and_waited_for(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with listener:
        assert listeners.queued(listener) == 0
        clients = [await _dial(listener) for _ in range(5)]
        await eventually(lambda: listeners.queued(listener) == 5)
        async with asyncio.TaskGroup() as tasks:
            emptied = tasks.create_task(listeners.empty_queues([listener]))
            await asyncio.sleep(2 * listeners.QUEUE_EMPTY_FOR)
            assert not emptied.done()
            for _ in clients:
                (await loop.sock_accept(listener))[0].close()
        assert listeners.queued(listener) == 0
        for client in clients:
            client.close()


async def test_no_handshake_begins_and_connections_live(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with listener, await _dial(listener) as before:
        need(listeners.refuse_new(listener), "the right to filter what arrives at a listening socket")
        with socket.socket() as late:
            late.setblocking(False)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_connect(late, listener.getsockname()), 0.3)
        accepted, _ = await loop.sock_accept(listener)
        with accepted:
            await loop.sock_sendall(before, b"ping")
            assert await loop.sock_recv(accepted, 10) == b"ping"
            await loop.sock_sendall(accepted, b"pong")
            assert await loop.sock_recv(before, 10) == b"pong"


async def test_a_queue_that_nobody_empties_is_given_up(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "QUEUE_LONGEST", 0.1)
    with listener, await _dial(listener):
        await eventually(lambda: listeners.queued(listener) == 1)
        await listeners.empty_queues([listener])
        assert listeners.queued(listener) == 1
