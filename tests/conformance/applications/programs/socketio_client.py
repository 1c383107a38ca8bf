"""Two clients of a Socket.IO server: socketio_client.py ORIGIN PATH. A fault ends it with a traceback."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import socketio

TRANSPORTS = (["polling"], ["websocket"], ["polling", "websocket"])
SMALL: tuple[Any, ...] = ("ñandú", {"n": 1}, b"\x00\xff" * 1000)
LARGE: tuple[Any, ...] = (b"\x00\xff" * 50_000, "x" * 100_000)


async def main() -> None:
    """Exchange messages by each transport, long polling and WebSocket, and by the change from one to the other."""
    origin, path = sys.argv[1:]
    for transports in TRANSPORTS:
        heard: asyncio.Queue[Any] = asyncio.Queue()
        async with socketio.AsyncSimpleClient() as sender:
            listener = socketio.AsyncClient()
            listener.on("said", heard.put)
            await listener.connect(origin, transports=transports, socketio_path=path)
            await sender.connect(origin, transports=transports, socketio_path=path)
            # Of a POST the server of python-engineio 4.15 reads only what has arrived of its body when it looks.
            for message in SMALL if transports == ["polling"] else SMALL + LARGE:
                assert await sender.call("say", message, timeout=20) == message
                assert await asyncio.wait_for(heard.get(), 20) == message
            transport = listener.transport()
            assert transport == transports[-1], transport
            await listener.disconnect()
    print("ok")


asyncio.run(main())
