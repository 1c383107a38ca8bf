"""Serving at once: a request that has been read goes to its server in the same call, without a task of its own.

aiohttp's server starts a task for each request and builds request and response objects, which costs more than
forwarding the request does. So what arrives whole while the connection is idle is offered to `serve` first, by way of
aiohttp's own parser; what that does not take goes the ordinary way, and so does everything that follows closely upon
another request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from aiohttp.http import RawRequestMessage

from tentaculo.server.buffered_request import BufferedRequest, RepeatedHead
from tentaculo.server.request_receiver import RequestReceiver

MAX_LATER = 8 * 1024
"""Bytes that a client may send on while it waits for its answer, before it is no longer read."""


class ActiveRequest(Protocol):
    """A request that is being served."""

    def client_closed(self) -> None:
        """The client has closed its connection."""


TryServe = Callable[[BufferedRequest, Callable[[bool], None]], ActiveRequest | None]
"""Takes a request, and a callback that gets whether the connection stays. None: it needs the ordinary path."""


class FastPathConnection(RequestReceiver):
    """A client connection that serves at once what it can.

    What begins like the last request of the connection is not parsed again.
    """

    __slots__ = (
        "_answered",
        "_guest",
        "_is_serving",
        "_known",
        "_later",
        "_serve",
        "counted",
        "has_ended",
        "has_response",
    )

    def __init__(self, *arguments: Any, serve: TryServe | None, **named: Any) -> None:
        """`serve` is None where everything is to go the ordinary way; the other arguments are aiohttp's."""
        super().__init__(*arguments, **named)
        self._serve = serve
        self._is_serving = False
        self._guest: ActiveRequest | None = None
        self._later = b""
        self._answered = 0
        self._known: RepeatedHead | None = None
        self.counted = 0
        """Bytes that are counted for heads which wait, or whose requests are being served."""
        self.has_ended = False
        """Whether the client has closed its sending half."""
        self.has_response: bool | None = None
        """Whether the response to the proxied request has begun; None where no such request of HTTP/1.1 waits."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._guest is not None:
            self._keep(data)
            return
        waiter, serve = self.request_waiter, self._serve
        if serve is None or waiter is None or waiter.done() or self.messages or self.is_writing_paused:
            super().data_received(data)
            return
        is_start = self._boundaries.is_at_start and not self._held
        if is_start and not self.close_requested and self._known is not None:
            arrival = self._known.read(data)
            if arrival is not None:
                self.request_count += 1
                if self._start(serve, arrival):
                    return
                self.request_count -= 1
        # aiohttp's task waits for a request, and is not to be woken for one that is served here.
        self.request_waiter = None
        try:
            super().data_received(data)
        finally:
            self.request_waiter = waiter
        if self.messages and not self._offer(serve, data if is_start else b"") and not waiter.done():
            waiter.set_result(None)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp's own never keeps the transport open
        """The client has closed its sending half. Requests that have arrived whole are still answered.

        A client does so behind its request. Where the response has begun before, it has left.
        """
        waits = self.request_count > self._answered and not self.has_response and not self.close_requested
        is_whole = self._body is None or self._body.is_eof()
        if not waits or not is_whole or self.payload_parser is not None:
            return False  # the transport closes itself
        self.has_ended = True
        return True

    @property
    def is_done(self) -> bool:
        """Whether the client has closed its sending half, and no request of it is left to be begun."""
        return self.has_ended and self._guest is None and not self.messages and not self._held

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone."""
        guest, self._guest, self._later = self._guest, None, b""
        if guest is not None:
            guest.client_closed()
        self._known = None
        super().connection_lost(exc)

    def _offer(self, serve: TryServe, data: bytes) -> bool:
        """Have the one request that has arrived served; `data` is what it came in, empty where other bytes did as well.

        False where it is to go the ordinary way.
        """
        message, body = self.messages[0]
        parser = self.request_parser
        if len(self.messages) > 1 or not isinstance(message, RawRequestMessage) or message.upgrade:
            return False
        if not body.is_eof() or body.exception() is not None or not self._boundaries.is_at_start or self._held:
            return False
        if parser is None:
            return False
        arrival = BufferedRequest(
            *(message.method, message.path, message.version, message.raw_headers, body, self),
            keep_alive=not message.should_close,
        )
        if not self._start(serve, arrival):
            return False
        self.messages.popleft()
        parser.message_consumed()
        self._known = None if message.chunked else RepeatedHead.learn(data, arrival, body.total_bytes)
        return True

    def _start(self, serve: TryServe, arrival: BufferedRequest) -> bool:
        self._is_serving = True
        guest = serve(arrival, self._served)
        if guest is None:
            self._is_serving = False
            return False
        if self._is_serving:
            self._guest = guest
        return True

    def _served(self, stays: bool) -> None:
        self._guest, self._is_serving = None, False
        self._answered += 1
        if self.counted:
            self.uncount()
        if not stays:
            self.close()
            if self.transport is not None:
                self.transport.close()
            return
        self.keepalive_deadline = self.event_loop.time() + self.keepalive_seconds
        if self._later and self.transport is not None:
            later, self._later = self._later, b""
            if len(later) > MAX_LATER:
                self.transport.resume_reading()
            self.data_received(later)
        if self.has_ended and self.is_done:
            self.close()
            if self.transport is not None:
                self.transport.close()

    def uncount(self) -> None:
        """A request has been answered: what is counted for heads may have gone."""

    def _keep(self, data: bytes) -> None:
        """Keep what the client sends on until it has its answer."""
        self._later += data
        if len(self._later) > MAX_LATER and self.transport is not None:
            self.transport.pause_reading()

    @property
    def is_full(self) -> bool:
        """Whether the client has sent enough behind the request that is being served."""
        return len(self._later) > MAX_LATER

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served without a task."""
        return self._guest is not None
