"""Clients of /ws: made by hand from a plain socket, and the messages that tests send and expect."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from aiohttp import ClientWebSocketResponse

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


async def error_of(client: ClientWebSocketResponse) -> dict[str, Any]:
    message: dict[str, Any] = await client.receive_json(timeout=DEADLINE)
    assert (message["channel"], message["type"]) == ("control", "error")
    assert message["detail"]
    return message


def alert_text(alert: dict[str, Any], **more: Any) -> str:
    return json.dumps({"type": "system.alert", **alert, **more})
