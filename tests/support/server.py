"""A server in this process whose connections are those of production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from tentaculo.config.reader import read
from tentaculo.config.schema import LimitSettings
from tentaculo.server import problems
from tentaculo.server.connection import ClientConnection
from tentaculo.server.connection_limits import ConnectionLimits
from tentaculo.server.fast_path import TryServe
from tentaculo.server.request_scheduler import RequestScheduler

MAX_HEAD = 4096
GET = b"GET / HTTP/1.1\r\nHost: h\r\n"

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def fine(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="fine")


class Served:
    """A server, and every connection it has taken."""

    def __init__(self) -> None:
        self.port = 0
        self.admission = ConnectionLimits(0, 0)
        self.connections: list[ClientConnection] = []


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    keepalive: float = 75,
    connections: int = 0,
    per_address: int = 0,
    serve: TryServe | None = None,
    **limits: float,
) -> AsyncIterator[Served]:
    """`handler` on a free port, behind the protocol of production, and behind `serve` where one is given."""
    loop = asyncio.get_running_loop()
    served = Served()
    admission = served.admission = ConnectionLimits(connections, per_address)
    bounds = read(LimitSettings, {"headers": MAX_HEAD, **limits})

    async def front(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        finally:
            cast(ClientConnection, request.protocol).answered()

    server = web.Server(front, handler_cancellation=True)
    turns = RequestScheduler(loop)

    def connect() -> ClientConnection:
        connection = ClientConnection(
            server,
            loop=loop,
            limits=bounds,
            keepalive=keepalive,
            render=problems.render,
            admission=admission,
            turns=turns,
            name="front",
            serve=serve,
        )
        served.connections.append(connection)
        return connection

    listener = await loop.create_server(connect, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listener.close()
        await server.shutdown(1)
