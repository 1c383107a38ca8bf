"""A `websockets` server behind the gateway: every kind of message, and how a connection ends, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.support.gateway_process import Running, running_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")
LARGE = 5_000_000


@dataclass(slots=True)
class Echo:
    """An echo server that keeps what it sees."""

    fragments: list[str | bytes] = field(default_factory=list)
    """Of the last message, as they arrived."""
    closed: asyncio.Queue[tuple[int, str]] = field(default_factory=asyncio.Queue)
    """How each connection ended."""

    async def handle(self, connection: ServerConnection) -> None:
        try:
            while True:
                self.fragments = [fragment async for fragment in connection.recv_streaming()]
                if self.fragments[0] == "please close":
                    await connection.close(4321, "as you wish")
                elif len(self.fragments) > 1:
                    await connection.send(self.fragments)
                else:
                    await connection.send(self.fragments[0])
        except ConnectionClosed as closed:
            if closed.rcvd is not None:
                await self.closed.put((closed.rcvd.code, closed.rcvd.reason))


@dataclass(frozen=True, slots=True)
class Behind:
    """The echo server, and the gateway before it."""

    echo: Echo
    gateway: Running

    def connect(self, **options: object) -> connect:
        url = self.gateway.url.replace("http://", "ws://") + "/echo/room?name=%2F+x"
        settings: dict[str, object] = {"max_size": None, "additional_headers": self.gateway.headers, "proxy": None}
        return connect(url, **{**settings, **options})  # type: ignore[arg-type]


def _last(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[-1] if offered else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind() -> AsyncIterator[Behind]:
    echo = Echo()
    async with serve(echo.handle, "127.0.0.1", 0, max_size=None, select_subprotocol=_last) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        service = {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/echo"}]}
        async with running_gateway({"services": {"echo": service}}) as gateway:
            yield Behind(echo, gateway)


async def _echoed(socket: ClientConnection, message: str | bytes) -> str | bytes:
    await socket.send(message)
    return await asyncio.wait_for(socket.recv(), 10)


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_text_and_bytes_come_back_as_they_went(behind: Behind, compression: str | None) -> None:
    messages: tuple[str | bytes, ...] = ("hola", "", "ñandú \U0001f419", b"\0\xff\xfe", b"")
    async with behind.connect(compression=compression) as socket:
        for message in messages:
            assert await _echoed(socket, message) == message


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_message_may_be_large(behind: Behind, compression: str | None) -> None:
    message = Random(3).randbytes(LARGE)
    async with behind.connect(compression=compression) as socket:
        assert await _echoed(socket, message) == message
        text = "á" * (LARGE // 2)
        assert await _echoed(socket, text) == text


async def test_fragments_stay_fragments_both_ways(behind: Behind) -> None:
    parts = ["one ", "two ", "three"]
    async with behind.connect(compression=None) as socket:
        await socket.send(parts)
        back = [fragment async for fragment in socket.recv_streaming()]
    # The library ends a message with an empty last frame.
    assert [part for part in behind.echo.fragments if part] == parts
    assert [part for part in back if part] == parts


async def test_pings_are_answered(behind: Behind) -> None:
    async with behind.connect() as socket:
        # Done only by a pong of the same bytes.
        pong = await socket.ping(b"are you there")
        await asyncio.wait_for(pong, 10)


async def test_the_clients_close_code_and_reason_arrive(behind: Behind) -> None:
    async with behind.connect() as socket:
        assert await _echoed(socket, "x") == "x"
        while not behind.echo.closed.empty():
            behind.echo.closed.get_nowait()
        await socket.close(4123, "ya basta")
    assert await asyncio.wait_for(behind.echo.closed.get(), 10) == (4123, "ya basta")


async def test_the_servers_close_code_and_reason_arrive(behind: Behind) -> None:
    async with behind.connect() as socket:
        await socket.send("please close")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")


async def test_the_far_end_chooses_the_subprotocol(behind: Behind) -> None:
    async with behind.connect(subprotocols=[Subprotocol("chat.v2"), Subprotocol("chat.v1")]) as socket:
        assert socket.subprotocol == "chat.v1"


async def test_without_a_token_nobody_gets_through(behind: Behind) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with behind.connect(additional_headers={}):
            pass
    assert refused.value.response.status_code == 401
