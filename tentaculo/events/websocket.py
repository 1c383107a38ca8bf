"""The WebSocket /ws: echo to the sender, canonical events to everybody else, and on request what a client missed.

    client ── text ──▶ reader ── echo, errors ──────────────▶ client
                         │
                         └─ canonical ─▶ pipeline ─▶ hub ─▶ queue ─ writer ─▶ every other client

Reader and writer wait for their own client only. When the hub ends a subscription (the client is too slow, or the
gateway stops), both are cancelled, and the socket is closed within `CLOSE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11, WSCloseCode, WSMsgType

from tentaculo.events.hub import CONTROL, End, Hub, Subscriber, encode_broadcast
from tentaculo.events.pipeline import EventPipeline
from tentaculo.events.query import SINCE, Position, cursor, find_position, values, values_parameter
from tentaculo.events.replay import LogReader
from tentaculo.events.schemas import (
    NAME_LENGTH,
    Envelope,
    JsonError,
    Schema,
    canonical_type,
    is_source,
    listed,
    parse_json,
    severity_of,
    stated_ms,
    validate,
)
from tentaculo.model.event import Event, EventFilter
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.scopes import EVENTS_READ, EVENTS_WRITE
from tentaculo.server.caller import may, when_signed_out
from tentaculo.server.connection import ClientConnection
from tentaculo.server.query_parameters import TICKET, Parameter
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 30.0
"""Seconds without data before a ping. A client that does not answer within half that time is disconnected."""
CLOSE_SECONDS = 1.0
"""Seconds that a client has to answer a close frame."""
REFUSABLE = 2
"""A message up to this many times the limit gets an error frame. A larger one closes the connection unread."""

WRITER_LIMIT = 1024 * 1024
"""Bytes after which aiohttp itself would wait for the client. `_SocketClient` waits after each message, for a send buffer
of 8 KiB."""
ANONYMOUS = "anonymous"
"""The id of a client that has given none."""
SHARE = 8
"""Messages of one client that are handled in one turn of the event loop."""

PARAMETERS = (
    Parameter("channel", "There is one channel; any value is accepted.", {"type": "string"}),
    Parameter("client_id", f"A label. Only its first {NAME_LENGTH} printable characters count.", {"type": "string"}),
    SINCE._replace(description="Send what the client missed since this cursor or `event_id`, then live broadcasts."),
    values_parameter("types", "types"),
    values_parameter("sources", "sources"),
    TICKET,
)
"""What the handler reads. Other parameters are ignored, as version 7.0 did."""
ERRORS = (
    *("not_text", "not_json", "not_an_object", "message_too_large"),
    *(Failure.INVALID_EVENT.error, Failure.STORE_UNAVAILABLE.error, Failure.MISSING_SCOPE.error),
)
"""What the member `error` of the gateway's own messages may be."""

_NO_PAST = "The token does not have the scope events:read, which `since` needs."
_CLOSE_CODES = {
    End.TOO_SLOW: WSCloseCode.TRY_AGAIN_LATER,
    End.STOPPING: WSCloseCode.GOING_AWAY,
    End.SIGNED_OUT: WSCloseCode.POLICY_VIOLATION,
}


def clean_client_id(raw: str) -> str:
    """`raw` without unprintable characters and cut to `NAME_LENGTH`; `anonymous` when nothing is left."""
    return "".join(character for character in raw if character.isprintable())[:NAME_LENGTH].strip() or ANONYMOUS


def _control(type_: str, **members: Any) -> bytes:
    return msgspec.json.encode({"channel": CONTROL, "type": type_, **members})


def _error(error: str, detail: str, **members: Any) -> bytes:
    return _control("error", error=error, detail=detail, **members)


class EventSocketHandler:
    """The handler of /ws. The dispatcher has checked the Origin."""

    def __init__(
        self,
        hub: Hub,
        pipeline: EventPipeline,
        reader: LogReader,
        *,
        limit: int,
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        """A message may have `limit` bytes. `turn` waits for a later turn of the event loop."""
        self._hub = hub
        self._reader = reader
        self._pipeline = pipeline
        self._limit = limit
        self._turn = turn

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one client until the connection ends. Raises `Problem` before the upgrade: 400, 426, 503."""
        # Compression would cost a deflate per subscriber and event, and some 300 KB for each connection.
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            autoping=False,
            compress=False,
            max_msg_size=self._limit * REFUSABLE,
            timeout=CLOSE_SECONDS,
            writer_limit=WRITER_LIMIT,
        )
        _check_handshake(request, socket)
        query = request.query
        position = find_position(query, "since")
        wanted = EventFilter(types=values(query, "types"), sources=values(query, "sources"), is_broadcast=True)
        client_id = clean_client_id(query.get("client_id", ""))
        may_read, may_write = may(request, EVENTS_READ), may(request, EVENTS_WRITE)
        if position is not None and not may_read:
            raise Problem(Failure.MISSING_SCOPE, _NO_PAST, {"scope": EVENTS_READ[0]})
        # One that only sends holds a place, and gets no event.
        subscriber = self._hub.subscribe(client_id, wanted, encode_frame, is_live=may_read and position is None)
        client = _SocketClient(socket, cast(ClientConnection, request.protocol), may_write=may_write)
        transport = request.transport
        needs = [need for need, has in ((EVENTS_READ, may_read), (EVENTS_WRITE, may_write)) if has]
        forget = when_signed_out(request, lambda: subscriber.finish(End.SIGNED_OUT), *needs)
        try:
            await socket.prepare(request)
            log.debug("subscriber connected", client_id=subscriber.client_id)
            await self._serve(client, subscriber, position)
        except ConnectionError:
            log.debug("subscriber disconnected without a close frame", client_id=subscriber.client_id)
        finally:
            forget()
            self._hub.unsubscribe(subscriber)
            if transport is not None:
                # A close waits until the peer has read the buffered bytes. A stalled peer never does.
                asyncio.get_running_loop().call_later(CLOSE_SECONDS, transport.abort)
                if transport.is_closing() and socket.prepared:
                    # The timer of the heartbeat would keep the socket in memory for half a minute.
                    await socket.close()
        return socket

    async def _serve(self, client: _SocketClient, subscriber: Subscriber, position: Position | None) -> None:
        loop, tasks = asyncio.get_running_loop(), TaskGroup("ws")
        try:
            async with asyncio.timeout(None) as scope:
                subscriber.when_ended(lambda: scope.reschedule(loop.time()))
                await client.send_text(_control("connected", client_id=subscriber.client_id))
                tasks.start(self._write(client, subscriber, position), "writer")
                await self._read(client, subscriber)
        except TimeoutError:
            pass  # The hub ended the subscription; the scope has no other limit.
        finally:
            subscriber.when_ended(None)
            await tasks.close()
        if subscriber.end is not None:
            await _close(client.socket, subscriber.end)

    async def _write(self, client: _SocketClient, subscriber: Subscriber, position: Position | None) -> None:
        try:
            if position is not None:
                begin = await self._reader.begin(position, subscriber.wanted, client)
                if begin.reset is not None:
                    at = cursor(begin.name, begin.after)
                    await client.send_text(_control("reset", detail=begin.reset, name=begin.name, position=at))
                await self._reader.replay(subscriber, begin.after, client)
            subscriber.attach(client)
            while True:
                await subscriber.wait_stalled()
                await client.wait_writable()
                subscriber.flush()
        except ConnectionError:
            return  # The client has disconnected; the reader notices it and ends.

    async def _read(self, client: _SocketClient, subscriber: Subscriber) -> None:
        for count in itertools.count(1):
            message = await client.socket.receive()
            if message.type is WSMsgType.TEXT:
                await self._take(client, subscriber, message.data.encode())
            elif message.type is WSMsgType.BINARY:
                await client.send_text(_error("not_text", "Messages are JSON objects in text frames."))
            elif message.type is WSMsgType.PING:
                await client.socket.pong(message.data)
                await client.wait_writable()
            elif message.type is not WSMsgType.PONG:
                return
            if count % SHARE == 0:
                # Neither `receive` nor `send` waits where messages and room are there.
                await self._turn()

    async def _take(self, client: _SocketClient, subscriber: Subscriber, text: bytes) -> None:
        if len(text) > self._limit:
            detail = f"The message is {len(text)} bytes; {self._limit} are allowed."
            return await client.send_text(_error("message_too_large", detail))
        try:
            value = parse_json(text)
        except JsonError as reason:
            return await client.send_text(_error("not_json", f"The message {reason}."))
        if not isinstance(value, dict):
            return await client.send_text(_error("not_an_object", "The message is JSON, but not an object."))
        await client.send_text(text)
        if (schema := canonical_type(value.get("type"))) is not None:
            await self._accept(client, subscriber, schema, value)
        return None

    async def _accept(
        self, client: _SocketClient, subscriber: Subscriber, schema: Schema, fields: dict[str, Any]
    ) -> None:
        if not client.may_write:
            detail = f"The token does not have the scope {EVENTS_WRITE[0]}: the event was neither stored nor broadcast."
            await client.send_text(_error(Failure.MISSING_SCOPE.error, detail, scope=EVENTS_WRITE[0]))
            return
        filled, faults = validate(schema, fields, now_ms=self._pipeline.receive().ms, whole="event")
        if faults:
            log.info("event rejected", by="websocket", client_id=subscriber.client_id, fields=[f.field for f in faults])
            detail = "The event does not fit its schema; it was neither stored nor broadcast."
            await client.send_text(_error(Failure.INVALID_EVENT.error, detail, errors=listed(faults)))
            return
        sources: list[Any] = [fields.get("source"), subscriber.client_id]
        source = next((one for one in sources if is_source(one)), ANONYMOUS)
        payload = {name: value for name, value in filled.items() if name not in ("type", "source")}
        try:
            sent = Envelope(
                source=source,
                type=schema.type,
                payload=payload,
                canonical=True,
                broadcast=True,
                severity=severity_of(fields, {}),
                stated_ms=stated_ms(fields.get("timestamp")),
            )
            await self._pipeline.accept([self._pipeline.event(sent, self._pipeline.receive())], sender=subscriber)
        except Problem as problem:
            detail = f"{problem.failure.title}: the event was neither stored nor broadcast."
            await client.send_text(_error(problem.failure.error, detail))


def _check_handshake(request: web.Request, socket: web.WebSocketResponse) -> None:
    # aiohttp also accepts drafts of the protocol, and HTTP/1.0, which has no upgrade (RFC 9110 section 7.8).
    is_spoken = request.version >= HttpVersion11 and request.headers.get(hdrs.SEC_WEBSOCKET_VERSION) == "13"
    if is_spoken and socket.can_prepare(request):
        return
    if is_spoken and request.headers.get(hdrs.UPGRADE, "").strip().lower() == "websocket":
        raise Problem(Failure.BAD_REQUEST, "The WebSocket handshake is malformed.")
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    raise Problem(Failure.UPGRADE_REQUIRED, "Connect to this path with a WebSocket.", headers=headers)


def encode_frame(event: Event) -> bytes:
    """`event` as one text frame of a server (RFC 6455 section 5.2), which has no mask."""
    text = encode_broadcast(event)
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    head = b"\x81\x7e" + size.to_bytes(2) if size < 1 << 16 else b"\x81\x7f" + size.to_bytes(8)
    return head + text


class _SocketClient:
    """The connection of one client."""

    def __init__(self, socket: web.WebSocketResponse, connection: ClientConnection, *, may_write: bool) -> None:
        self.socket = socket
        self.may_write = may_write
        """Whether its events are taken."""
        self._connection = connection

    @property
    def is_paused(self) -> bool:
        """Whether the send buffer is full."""
        return self._connection.is_writing_paused

    def send(self, frames: bytes) -> None:
        """Send whole frames now. Behind a close frame nothing is sent."""
        transport = self._connection.transport
        if transport is not None and not transport.is_closing() and not self.socket.closed:
            transport.write(frames)

    async def write(self, frame: bytes) -> None:
        """Send a whole frame, without waiting until the client takes it."""
        self.send(frame)

    async def send_text(self, text: bytes) -> None:
        """Send a message, and wait until the send buffer has room."""
        await self.socket.send_frame(text, WSMsgType.TEXT)
        await self._connection.wait_writable()

    async def wait_writable(self) -> None:
        """Wait until the send buffer has room."""
        await self._connection.wait_writable()

    async def idle(self) -> None:
        """Nothing is to be done: pings are sent by aiohttp."""


async def _close(socket: web.WebSocketResponse, end: End) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code=_CLOSE_CODES[end], message=end.value.encode())
    except (TimeoutError, ConnectionError):
        pass  # The caller aborts the connection.
