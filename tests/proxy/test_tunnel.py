"""A tunnel between two connections of the kernel: what order its ends may end in. Its bytes are in `wire/test_upgrades`."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.tunnel import Tunnel

Side = tuple[asyncio.Transport, socket.socket]
RESET = struct.pack("ii", 1, 0)


async def connected() -> Side:
    """A connection as the gateway holds it, which accepts it itself, and its peer's socket."""
    loop = asyncio.get_running_loop()
    accepted = loop.create_future()

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.get_extra_info("socket")  # the event loop keeps what it has shown, as it does for the gateway
            accepted.set_result(transport)

    async with await loop.create_server(Accepting, "127.0.0.1", 0) as server:
        peer = socket.create_connection(server.sockets[0].getsockname())
        return await accepted, peer


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, Side]]:
    both = await connected(), await connected()
    yield both
    for transport, peer in both:
        transport.abort()
        peer.close()


async def test_a_reset_of_the_service_behind_the_clients_end_touches_no_closed_socket(
    sides: tuple[Side, Side],
) -> None:
    (client, client_peer), (upstream, upstream_peer) = sides
    errors: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    tunnel = Tunnel(TurnScheduler(), client, upstream)
    tunnel.open(b"")
    while not upstream.get_write_buffer_size():
        upstream.write(bytes(4096))

    client_peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client_peer.close()
    await asyncio.wait_for(tunnel.wait(), 5)
    assert upstream.get_write_buffer_size()  # so its transport is still open
    upstream_peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    upstream_peer.close()
    async with asyncio.timeout(5):
        while upstream.get_write_buffer_size():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert errors == []
