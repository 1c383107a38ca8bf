"""Which connections end because their peer takes nothing. The bytes are those of the kernel; the looks are made by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tentaculo.net.stalls import LOOKS, StallWatch
from tests.support.waits import eventually


class Accepted(asyncio.Protocol):
    """The gateway's side of a connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True


KERNEL = 64 * 1024
"""Bytes that the kernel of either side keeps, about."""
Sides = tuple[StallWatch, Accepted, asyncio.Transport, socket.socket]


@pytest.fixture
async def watched() -> AsyncIterator[Sides]:
    """A watch that looks when it is asked to, and the two sides of a connection that it watches."""
    accepted, watch = Accepted(), StallWatch(3600)
    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: accepted, "127.0.0.1", 0) as server:
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            await eventually(lambda: accepted.transport)
            assert accepted.transport is not None
            # Kernels give a connection more and more memory, in the end for all that these tests send.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
            accepted.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL)
            watch.add(accepted.transport)
            yield watch, accepted, accepted.transport, peer
            watch.discard(accepted.transport)
            accepted.transport.abort()


async def fill(transport: asyncio.Transport, peer: socket.socket) -> None:
    """Send until the kernels of both sides take no more."""
    transport.write(bytes(16 * 2**20))
    seen = -1
    while seen != (seen := transport.get_write_buffer_size()):
        peer.send(b".")
        await asyncio.sleep(0.2)


def read_all(peer: socket.socket) -> None:
    """Read until the connection ends."""
    while peer.recv(65536):
        pass


async def test_one_whose_peer_takes_nothing_ends_although_it_sends(watched: Sides) -> None:
    watch, accepted, transport, peer = watched
    await fill(transport, peer)
    for _ in range(LOOKS):
        watch.look()
        peer.send(b".")
    await asyncio.sleep(0)
    assert not accepted.is_lost
    watch.look()
    await eventually(lambda: accepted.is_lost)
    peer.settimeout(5)
    with pytest.raises(ConnectionResetError):
        read_all(peer)


async def test_one_that_is_being_closed_ends_as_well(watched: Sides) -> None:
    watch, accepted, transport, peer = watched
    await fill(transport, peer)
    transport.close()
    for _ in range(LOOKS + 1):
        watch.look()
    await eventually(lambda: accepted.is_lost)


async def test_one_whose_peer_takes_some_each_time_stays(watched: Sides) -> None:
    watch, accepted, transport, peer = watched
    await fill(transport, peer)
    peer.setblocking(False)
    for _ in range(3):
        for _ in range(LOOKS):
            watch.look()
        before = transport.get_write_buffer_size()
        while transport.get_write_buffer_size() == before:
            try:
                assert peer.recv(2**20)
            except BlockingIOError:
                await asyncio.sleep(0.005)
    assert not accepted.is_lost


async def test_one_that_waits_for_nothing_stays(watched: Sides) -> None:
    watch, accepted, transport, _ = watched
    transport.write(b"all of it")
    await eventually(lambda: not transport.get_write_buffer_size())
    for _ in range(LOOKS + 1):
        watch.look()
    await asyncio.sleep(0)
    assert not accepted.is_lost


async def test_the_timer_looks_at_what_a_new_limit_says(watched: Sides) -> None:
    watch, accepted, transport, peer = watched
    await fill(transport, peer)
    watch.use(0.1)
    await eventually(lambda: accepted.is_lost)
