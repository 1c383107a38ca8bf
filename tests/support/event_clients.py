"""Clients of /ws: made by hand from a plain socket, and the messages that tests send and expect."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import ClientResponse, ClientSession, ClientWebSocketResponse

from tests.events.conftest import DEADLINE, Gateway

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


async def raw_socket(gateway: Gateway, path: str = "/ws", *, buffer: int = 0) -> socket.socket:
    """A client made of a plain socket that has upgraded and read its first message; `buffer` is its receive buffer."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    gateway.raw.append(client)
    client.setblocking(False)
    await loop.sock_connect(client, ("127.0.0.1", gateway.port))
    await loop.sock_sendall(client, HANDSHAKE.format(path=path).encode())
    got = b""
    while b'"client_id"' not in got:
        chunk = await asyncio.wait_for(loop.sock_recv(client, 4096), DEADLINE)
        assert chunk, got
        got += chunk
    return client


def text_frame(text: bytes) -> bytes:
    """A masked text frame of up to 64 KB; the mask is zero."""
    length = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + length + b"\0\0\0\0" + text


def ping_frame(data: bytes) -> bytes:
    """A masked ping of up to 125 bytes; the mask is zero."""
    return bytes([0x89, 0x80 | len(data)]) + b"\0\0\0\0" + data


async def error_of(client: ClientWebSocketResponse) -> dict[str, Any]:
    message: dict[str, Any] = await client.receive_json(timeout=DEADLINE)
    assert (message["channel"], message["type"]) == ("control", "error")
    assert message["detail"]
    return message


def alert_text(alert: dict[str, Any], **more: Any) -> str:
    return json.dumps({"type": "system.alert", **alert, **more})


class Frame(NamedTuple):
    """One frame of an event stream."""

    id: str | None
    name: str | None
    data: Any
    """Parsed; None without data."""
    comment: str | None
    retry: str | None

    @property
    def event_id(self) -> int:
        """Of an event."""
        found: int = self.data["event_id"]
        return found


class EventStream:
    """A client of `/events/stream` that reads frame by frame, as the specification of EventSource says."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self.last_id = ""
        self.first: Frame | None = None
        """The frame that says where it begins."""

    async def frame(self) -> Frame | None:
        """The next frame; None at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    break
                name, _, value = line.rstrip("\n").partition(":")
                assert name not in fields, "one line of each field"
                fields[name] = value.removeprefix(" ")
            else:
                return None
        self.last_id = fields.get("id", self.last_id)
        data = json.loads(fields["data"]) if "data" in fields else None
        return Frame(fields.get("id"), fields.get("event"), data, fields.get(""), fields.get("retry"))

    async def events(self, number: int) -> list[Frame]:
        """The next events."""
        found = list[Frame]()
        while len(found) < number:
            frame = await self.frame()
            assert frame is not None, "the stream ended"
            if frame.data is not None:
                found.append(frame)
        return found

    async def rest(self) -> list[Frame]:
        """All frames until the end."""
        found = list[Frame]()
        while (frame := await self.frame()) is not None:
            found.append(frame)
        return found


@asynccontextmanager
async def event_stream(session: ClientSession, url: str, query: str = "", **headers: str) -> AsyncIterator[EventStream]:
    """A stream whose beginning has been read."""
    options: Any = {"headers": {name.replace("_", "-"): value for name, value in headers.items()}}
    async with session.get(f"{url}/events/stream{query}", **options) as response:
        assert response.status == 200, await response.text()
        stream = EventStream(response)
        first, second = await stream.frame(), await stream.frame()
        assert first is not None
        assert first.retry == "3000"
        assert second is not None
        assert second.id is not None
        stream.first = second
        yield stream
