"""How one service of the demonstration is described, how a fleet of them is served, and what they respond.

A service is real: its own socket, its own aiohttp application, its own behaviour (token, latency, faults). Its behaviour
is deterministic: the same seed and the same moment give the same faults. The responses are canned JSON, an echo of the
request, an event stream, a chat by WebSocket, an upload and a long wait.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import blake2b, sha256
from typing import Any, NoReturn
from uuid import uuid4

from aiohttp import BodyPartReader, MultipartReader, WSMsgType, web

TOKEN_HEADER = "X-VX11-Token"  # noqa: S105  the name of a header
VERSION = "7.0"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NAME = web.AppKey("name", str)


class Ports(Enum):
    """The ports on which the services listen."""

    CANONICAL = "canonical"
    """Those of the contract. A port in use is an error."""
    PREFERRED = "preferred"
    """Those of the contract, and a free port in place of one in use."""
    FREE = "free"
    """Any free ports."""


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` only."""
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class DemoFault:
    """A fault that happens once in every period, at a moment that the seed decides."""

    every: float
    """Seconds of a period. Its first third has no fault, so that every service is up after a start."""
    lasts: float
    """Seconds of the fault, at most two thirds of `every`."""
    status: int | None = None
    """Status of every response during the fault; None for the usual responses."""
    delay: float = 0.0
    """Seconds by which every response is late during the fault."""

    def is_active(self, at: float, seed: str) -> bool:
        """Whether the fault is present `at` seconds after the start."""
        period, moment = divmod(at, self.every)
        calm = self.every / 3
        begins = calm + chance(seed, int(period)) * (self.every - calm - self.lasts)
        return begins <= moment < begins + self.lasts


@dataclass(frozen=True, slots=True)
class DemoService:
    """One service of the demonstration."""

    name: str
    port: int
    """Its port in the contract."""
    routes: tuple[web.RouteDef, ...]
    """Its paths, besides `/health`."""
    latency: float = 0.01
    """Seconds that a response takes, plus or minus half."""
    health_word: str = "ok"
    """The value of `status` at `/health`."""
    guards_health: bool = False
    """Whether `/health` requires the token, as every other path does."""
    fault: DemoFault | None = None
    off: bool = False
    """Off on purpose: it is started on request only."""


class PortTakenError(Exception):
    """The port of a service is in use."""

    def __init__(self, service: str, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is taken, so {service} cannot start")


class Service:
    """One running service.

    `token` is the token that callers must send; None if the service requires none. `clock` returns monotonic seconds.
    """

    def __init__(
        self, blueprint: DemoService, *, token: str | None, seed: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.blueprint = blueprint
        self._token = token
        self._seed = f"{seed}:{blueprint.name}"
        self._clock = clock
        self._started = clock()
        self._served = 0
        app = web.Application(middlewares=[self._middleware])
        app[NAME] = blueprint.name
        app.add_routes([web.get("/health", self._health), *blueprint.routes])
        # A stream ends at once when its client leaves. A stream that still runs at the stop has half a second.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)

    def __repr__(self) -> str:
        return f"<Service {self.blueprint.name}: {self._served} requests>"

    async def start(self, host: str, ports: Ports) -> int:
        """Listen, and return the port.

        Raises PortTakenError if the port is in use and no other port is allowed.
        """
        await self._runner.setup()
        wanted = 0 if ports is Ports.FREE else self.blueprint.port
        try:
            await web.TCPSite(self._runner, host, wanted).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if ports is not Ports.PREFERRED:
                raise PortTakenError(self.blueprint.name, host, wanted) from error
            await web.TCPSite(self._runner, host, 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop listening, and end the requests that still run."""
        await self._runner.cleanup()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Apply the token, the fault and the latency before the handler. Errors become JSON, as callers expect."""
        if not self._may_call(request):
            return self._error(request, 401, "auth_required")
        self._served += 1
        fault = self.blueprint.fault
        active = fault if fault and fault.is_active(self._clock() - self._started, self._seed) else None
        if active is not None and active.status is not None:
            return self._error(request, active.status, "the demonstration's planned fault, over in a few seconds")
        pause = self.blueprint.latency * (0.5 + chance(self._seed, self._served))
        await asyncio.sleep(pause + (active.delay if active else 0.0))
        try:
            return await handler(request)
        except web.HTTPClientError as error:
            return self._error(request, error.status, error.text or error.reason)

    def _may_call(self, request: web.Request) -> bool:
        if self._token is None or (request.path == "/health" and not self.blueprint.guards_health):
            return True
        sent = request.headers.get(TOKEN_HEADER, "").encode("utf-8", "surrogateescape")
        return hmac.compare_digest(sent, self._token.encode())

    def _error(self, request: web.Request, status: int, detail: str) -> web.Response:
        content = {"detail": detail, "service": self.blueprint.name, "path": request.path}
        return web.json_response(content, status=status)

    async def _health(self, request: web.Request) -> web.Response:
        content = {"status": self.blueprint.health_word, "module": self.blueprint.name, "version": VERSION}
        return web.json_response(content)


class DemoServices:
    """The services of one process."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = tuple(services)

    async def start(self, host: str, ports: Ports) -> dict[str, int]:
        """Start every service and return the ports by name. If one fails, all are stopped. Raises OSError and PortTakenError."""
        taken: dict[str, int] = {}
        try:
            for service in self._services:
                taken[service.blueprint.name] = await service.start(host, ports)
        except (OSError, PortTakenError):
            await self.close()
            raise
        return taken

    async def close(self) -> None:
        """Stop all services at the same time."""
        await asyncio.gather(*(service.close() for service in self._services))


ECHO_TEXT = 4096
"""Largest body, in bytes, that the echo repeats as text."""

Reply = Callable[[web.Request, Any], Mapping[str, Any]]
"""Makes the content of a response from a request and its JSON body (None if there is none)."""


def moment() -> str:
    """The current time as ISO 8601, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def new_id(kind: str) -> str:
    """A new id, such as `task-1f2e3d4c`."""
    return f"{kind}-{uuid4().hex[:8]}"


def canned(replies: Mapping[str, Mapping[str, Any] | Reply], *, status: int = 200) -> tuple[web.RouteDef, ...]:
    """Routes from a table that maps `"GET /tasks"` to the content of the response, or to a function that makes it."""
    return tuple(
        web.get(path, _replying(reply, status))
        if method == "GET"
        else web.route(method, path, _replying(reply, status))
        for (method, path), reply in ((key.split(" ", 1), reply) for key, reply in replies.items())
    )


def _replying(reply: Mapping[str, Any] | Reply, status: int) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await _json(request)
        content = reply(request, body) if callable(reply) else reply
        return web.json_response({"service": request.app[NAME], **content}, status=status)

    return handle


async def _json(request: web.Request) -> Any:
    if request.content_type != "application/json" or not request.can_read_body:
        return None
    try:
        return await request.json()
    except (ValueError, RecursionError, LookupError):  # LookupError: a charset that does not exist
        _refuse("the body is not JSON")


def _refuse(why: str) -> NoReturn:
    raise web.HTTPBadRequest(text=why)


def text_of(body: Any, key: str, default: str) -> str:
    """`body[key]` where that is text, else `default`."""
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, str) else default


async def echo(request: web.Request) -> web.Response:
    """Respond with the request as it arrived: the raw target, every header in order, the body's size and digest.

    Only the token is not repeated.
    """
    digest, size, start = sha256(), 0, b""
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        size += len(chunk)
        start += chunk[: max(0, ECHO_TEXT + 1 - len(start))]
    hidden = TOKEN_HEADER.lower()
    content = {
        "service": request.app[NAME],
        "method": request.method,
        "target": request.raw_path,
        "path": request.path,
        "query": [list(pair) for pair in request.query.items()],
        "headers": [[k, "(present)" if k.lower() == hidden else v] for k, v in request.headers.items()],
        "body": {"bytes": size, "sha256": digest.hexdigest()},
    }
    if 0 < size <= ECHO_TEXT:
        content["body"] = {**content["body"], "text": start.decode(errors="replace")}  # type: ignore[dict-item]
    return web.json_response(content, dumps=lambda value: json.dumps(value, indent=1))


def echoes(*paths: str) -> tuple[web.RouteDef, ...]:
    """Routes of the echo at each path, for every method."""
    return tuple(web.route("*", path, echo) for path in paths)


LONGEST_WAIT = 300.0
LARGEST_MESSAGE = 16 * 1024 * 1024


def _number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """A query parameter as a number within bounds; 400 for anything else."""
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise web.HTTPBadRequest(text=f"{name} must be a number from {low:g} to {high:g}")
    return value


async def wait(request: web.Request) -> web.Response:
    """Respond after `?seconds=` (0 to 300, default 1): a request that the gateway must not interrupt."""
    seconds = _number(request, "seconds", 1, 0, LONGEST_WAIT)
    await asyncio.sleep(seconds)
    return web.json_response(
        {"service": request.app[NAME], "daughter": request.match_info["id"], "status": "done", "waited": seconds}
    )


async def stream(request: web.Request) -> web.StreamResponse:
    """Send one event every `?every=` seconds (default 1), `?count=` events in all (default 0: without end).

    With `Last-Event-ID` the events continue after that id.
    """
    every = _number(request, "every", 1, 0, 60)
    count = int(_number(request, "count", 0, 0, 1_000_000))
    last = request.headers.get("Last-Event-ID", "")
    first = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 16 else 1
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    number = first
    while count == 0 or number < first + count:
        data = json.dumps({"tool": "search", "step": number, "at": moment()})
        await response.write(f"id: {number}\nevent: tool.step\ndata: {data}\n\n".encode())
        number += 1
        await asyncio.sleep(every)
    await response.write_eof()
    return response


async def chat(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket that sends every message back: text as JSON with the session, bytes unchanged."""
    session = request.match_info["session_id"]
    socket = web.WebSocketResponse(max_msg_size=LARGEST_MESSAGE)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_json({"session_id": session, "role": "assistant", "echo": message.data, "at": moment()})
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def _measure(part: BodyPartReader | web.Request) -> dict[str, object]:
    """Size and digest of a body, which is read in pieces and not stored."""
    digest, size = sha256(), 0
    read = part.read_chunk if isinstance(part, BodyPartReader) else part.content.readany
    while chunk := await read():
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


async def upload(request: web.Request) -> web.Response:
    """Accept a body of any size, multipart or plain, and respond with the size and the SHA-256 of each file."""
    files: list[dict[str, object]] = []
    if request.content_type.startswith("multipart/"):
        try:
            reader: MultipartReader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader):
                    raise web.HTTPBadRequest(text="nested parts are not supported")
                files.append({"field": part.name, "filename": part.filename, **await _measure(part)})
        except ValueError as error:
            raise web.HTTPBadRequest(text="the body is not multipart") from error
    else:
        files.append({"field": None, "filename": None, **await _measure(request)})
    return web.json_response({"service": request.app[NAME], "files": files}, status=201)
