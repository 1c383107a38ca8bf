"""A server in this process whose connections are those of production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, cast

from aiohttp import web

from tentaculo.config.accepted_tokens import AuthSettings, TokenSettings
from tentaculo.config.limits import LimitSettings
from tentaculo.config.reader import read
from tentaculo.config.schema import Config, CorsSettings
from tentaculo.gateway.target_rotation import learning
from tentaculo.model.text import utc_now
from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.handler import Proxy
from tentaculo.proxy.state import ProxyDependencies
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.sessions import Sessions
from tentaculo.security.tickets import Tickets
from tentaculo.security.tokens import Tokens, hash_token
from tentaculo.server.access_control import AccessControl
from tentaculo.server.connection import ClientConnection, ClientSocket
from tentaculo.server.dispatcher import Dispatcher
from tentaculo.server.fast_path import TryServe
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits
from tentaculo.server.native_routes import NativeRoutes, set_headers
from tentaculo.server.route_table import RouteTable
from tentaculo.server.rules import RequestRules
from tentaculo.telemetry.request_log import RequestLog
from tentaculo.upstream.circuit_breaker import CircuitBreakers

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
    turns = TurnScheduler()
    responses, requests = GatewayResponses("front", CorsPolicy(CorsSettings())), RequestLog(None)

    def connect() -> ClientSocket:
        connection = ClientConnection(
            server,
            loop=loop,
            limits=bounds,
            keepalive=keepalive,
            responses=responses,
            requests=requests,
            admission=admission,
            serve=serve,
        )
        served.connections.append(connection)
        return ClientSocket(turns, connection)

    listener = await loop.create_server(connect, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        listener.close()
        await server.shutdown(1)


class NoTicketStore:
    """A store of tickets that is away."""

    async def add(self, digest: str, issuer: str, token: str, lifetime: int) -> bool:
        return False

    async def take(self, digest: str) -> str | None:
        return None

    async def remove(self, digests: Sequence[str]) -> bool:
        return False

    async def unused(self, issuer: str) -> set[str] | None:
        return None


class NoSessionStore:
    """A store of sessions that is away."""

    async def add(self, digest: str, token: str, lifetime: int) -> bool:
        return False

    async def read(self, digests: Sequence[str]) -> Mapping[str, tuple[str, int, int]] | None:
        return None

    async def mark(self, digests: Sequence[str]) -> bool:
        return False

    async def remove(self, digests: Sequence[str]) -> bool:
        return False


class NativeServer(NamedTuple):
    """A native application that is being served."""

    host: str
    port: int
    server: web.Server
    stop: Callable[[], Awaitable[None]]
    """Stops it before its context ends."""


@asynccontextmanager
async def serving_application(
    app: web.Application,
    *,
    token: str = "",
    scopes: tuple[str, ...] | None = None,
    auth: AuthSettings | None = None,
    cors: CorsSettings | None = None,
    shutdown: float = 1,
    fast_path: bool = True,
    names: Mapping[str, str] | None = None,
) -> AsyncIterator[NativeServer]:
    """The native application `app` behind the dispatcher of production, and no service.

    With an empty `token` every request is allowed. It has `scopes`, all but `admin` without them. `fast_path` serves
    without a task what can be. `names` has names and aliases of the services that have a page and a history.
    """
    loop, config, policy = asyncio.get_running_loop(), Config.of({}), CorsPolicy(cors or CorsSettings())
    turns = TurnScheduler()
    tokens = Tokens([TokenSettings(hash=hash_token(token), scopes=scopes)], enabled=bool(token))
    sessions = Sessions(NoSessionStore(), tokens.has_fingerprint)
    access = AccessControl(tokens, policy, Tickets(NoTicketStore(), enabled=bool(token)), sessions)
    requests, responses = RequestLog(None), GatewayResponses("front", policy)
    set_headers(app, policy)
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, auto_decompress=False, shutdown_timeout=shutdown
    )
    await runner.setup()
    server = cast(web.Server, runner.server)
    proxy = Proxy(
        config,
        CircuitBreakers(config, loop.time, utc_now),
        ProxyDependencies(
            responses=responses,
            requests=requests,
            why_off=str,
            why_open=lambda name: {},
            name="front",
            turns=turns,
            learning=learning,
        ),
    )
    dispatcher = Dispatcher(
        RequestRules(
            server.request_handler,
            RouteTable(config, NativeRoutes(app, auth or AuthSettings(), names).find, (), {}, str),
            access,
            is_trusted=lambda peer: False,
            max_head=config.limits.headers,
        ),
        proxy,
        responses=responses,
        requests=requests,
        memory=turns.memory,
    )
    server.request_handler = dispatcher.handle
    admission = ConnectionLimits(0, 0)
    listener = await loop.create_server(
        lambda: ClientSocket(
            turns,
            ClientConnection(
                server,
                loop=loop,
                limits=config.limits,
                keepalive=75,
                responses=responses,
                requests=requests,
                admission=admission,
                serve=dispatcher.try_serve if fast_path else None,
            ),
        ),
        "127.0.0.1",
        0,
    )
    try:
        host, port = listener.sockets[0].getsockname()[:2]
        yield NativeServer(host, port, server, runner.cleanup)
    finally:
        listener.close()
        await proxy.close()
        await runner.cleanup()
