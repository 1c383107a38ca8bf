"""A Socket.IO server that returns each message and sends it to all in its room: socketio_server.py PORT."""

from __future__ import annotations

import sys
from typing import Any

import socketio
from aiohttp import web

# A client of long polling that leaves waits for its last poll, which the server ends after ping_timeout seconds.
server = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*", ping_interval=2, ping_timeout=2)


async def say(client: str, message: Any) -> Any:
    """Send the message to all clients, and return it to its sender as the acknowledgement."""
    del client
    await server.emit("said", message)
    return message


def main() -> None:
    """Listen until the process is ended."""
    server.on("say", say)
    application = web.Application()
    server.attach(application)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
