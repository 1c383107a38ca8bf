"""`GET /events/stream`: the log as Server-Sent Events, from any position of it and then live.

retry: 3000                   the client reconnects after 3 s

id: 3f9a0c52d1e8-1764         where the stream begins; a client that reconnects sends the last id that it got

id: 3f9a0c52d1e8-1765         each event
event: spawn_success
data: {"event_id":1765,…}
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from tentaculo.events.history import event_shape
from tentaculo.events.hub import WRITE_BYTES, Encode, End, Hub, Subscriber, to_json
from tentaculo.events.query import FILTER, SINCE, Position, cursor, find_position, parse_filter, parse_position
from tentaculo.events.replay import Beginning, LogReader
from tentaculo.model.event import Event
from tentaculo.model.scopes import EVENTS_READ
from tentaculo.server.caller import when_signed_out
from tentaculo.server.event_stream import StreamConnection, stream_response
from tentaculo.server.query_parameters import TICKET, check_names

HEARTBEAT_SECONDS = 15.0
"""A comment is sent after this time without an event."""
RETRY = b"retry: 3000\n\n"
RESERVED = frozenset(("end", "error", "message", "open", "reset", "start"))
"""Names that EventSource or this stream uses itself. An event of such a type has no name and arrives as `message`."""
_MOST_NAME = 256
PARAMETERS = (
    *FILTER,
    SINCE._replace(
        description="Where the stream begins: after this cursor or `event_id`. `Last-Event-ID` counts more."
    ),
    TICKET,
)


class EventStream:
    """The handler."""

    def __init__(self, hub: Hub, reader: LogReader) -> None:
        self._hub = hub
        self._reader = reader
        self._encoders: dict[str, Encode] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client until the connection ends. Raises `Problem` before the response: 400, 503."""
        check_names(request.query, PARAMETERS)
        wanted, position = parse_filter(request.query), _position(request)
        response = stream_response()
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        subscriber, now = self._hub.subscribe("stream", wanted, is_live=False), self._reader.now()
        forget = when_signed_out(request, lambda: subscriber.finish(End.SIGNED_OUT), EVENTS_READ)
        try:
            async with StreamConnection.open(request, response) as connection:
                client = _StreamClient(connection, subscriber)
                try:
                    if not connection.has_left:
                        await self._serve(client, position, now)
                finally:
                    client.close()
        finally:
            forget()
            self._hub.unsubscribe(subscriber)
        return response

    async def _serve(self, client: _StreamClient, position: Position | None, now: int | None) -> None:
        subscriber, loop = client.subscriber, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as scope:
                subscriber.when_ended(lambda: scope.reschedule(loop.time()))
                await self._send(client, position, now)
        except TimeoutError:
            pass  # The hub ended the subscription; the scope has no other limit.
        finally:
            subscriber.when_ended(None)
        assert subscriber.end is not None
        await client.connection.end(_control("end", {"reason": subscriber.end.value}))

    async def _send(self, client: _StreamClient, position: Position | None, now: int | None) -> None:
        subscriber = client.subscriber
        await client.write(RETRY)
        client.start_heartbeat()
        begin = await self._reader.begin(position, subscriber.wanted, client, now)
        subscriber.encode = self._encoder(begin.name)
        client.position = lambda: cursor(begin.name, max(self._reader.mark, subscriber.after))
        await client.write(_first(begin))
        await self._reader.replay(subscriber, begin.after, client)
        subscriber.attach(client)
        while True:
            await subscriber.wait_stalled()
            await client.wait_writable()
            subscriber.flush()

    def _encoder(self, name: str) -> Encode:
        """The form of events in the log `name`. All streams have the same one, so that each event is encoded once."""
        if name not in self._encoders:
            self._encoders = {name: lambda event: encode_frame(name, event)}
        return self._encoders[name]


class _StreamClient:
    """One client, its subscription and its heartbeat."""

    def __init__(self, connection: StreamConnection, subscriber: Subscriber) -> None:
        self.connection = connection
        self.subscriber = subscriber
        self.position: Callable[[], str] | None = None
        """The position that the client has reached when its queue is empty; None before the beginning is known."""
        self.write, self.send, self.wait_writable = connection.write, connection.send, connection.wait_writable
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the send buffer is full."""
        return self.connection.is_paused

    async def idle(self) -> None:
        """Send the heartbeat, if it is due: before the stream is live the queue has nothing else."""
        if (waiting := self.subscriber.take(WRITE_BYTES)) and not self.is_paused:
            await self.write(waiting)

    def start_heartbeat(self) -> None:
        """Look again when the next heartbeat may be due."""
        loop = asyncio.get_running_loop()
        connection = self.connection
        due = connection.written_at + HEARTBEAT_SECONDS
        if loop.time() >= due:
            connection.written_at = loop.time()
            due = connection.written_at + HEARTBEAT_SECONDS
            if not self.subscriber.waiting and not self.is_paused and self.subscriber.end is None:
                self.subscriber.offer(self._heartbeat())
                self.subscriber.flush()
        self._timer = loop.call_at(due, self.start_heartbeat)

    def close(self) -> None:
        """No heartbeat any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _heartbeat(self) -> bytes:
        if self.position is None or not self.subscriber.is_live:
            return b": heartbeat\n\n"
        # With a filter the position moves on though no event is sent.
        return f": heartbeat\nid: {self.position()}\n\n".encode()


def encode_frame(name: str, event: Event) -> bytes:
    """`event` of the log `name` as a frame of an event stream."""
    # Only rows of other programs have such types. A line break would end the field.
    type_ = "".join(c if c.isprintable() else " " for c in event.type[:_MOST_NAME])
    field = "" if event.type in RESERVED else f"event: {type_}\n"
    head = f"id: {cursor(name, event.id)}\n{field}data: ".encode("utf-8", "replace")
    return head + to_json(event_shape(event)) + b"\n\n"


def _first(begin: Beginning) -> bytes:
    """Says where the stream begins, so that a client can resume before its first event."""
    position = cursor(begin.name, begin.after)
    members = {"name": begin.name, "position": position}
    frame = _control("start", members) if begin.reset is None else _control("reset", {"reason": begin.reset, **members})
    return f"id: {position}\n".encode() + frame


def _control(name: str, members: dict[str, str]) -> bytes:
    return f"event: {name}\ndata: ".encode() + to_json(members) + b"\n\n"


def _position(request: web.Request) -> Position | None:
    """`Last-Event-ID`, which a client that reconnects sends, counts more than the query that it began with."""
    text = request.headers.get("Last-Event-ID", "").strip()
    return parse_position(text, "Last-Event-ID") if text else find_position(request.query, "since")
