"""Step 6 of `handler.py`: the response on its way to the client. It does no waiting."""

from __future__ import annotations

from enum import Enum

from tentaculo.model.failure import Failure
from tentaculo.model.health import Endpoint
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import Head, chunked
from tentaculo.net.response_bytes import date_line
from tentaculo.proxy.proxied_request import ProxiedRequest
from tentaculo.proxy.response_head import CachedResponseHead, trailer_lines
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.response_reader import ResponseReader


class Wait(Enum):
    """What an exchange waits for."""

    ROOM = "room at an endpoint"
    CONNECTION = "a new connection"
    UPSTREAM = "more of the response"
    CLIENT = "room in the client's send buffer"
    TUNNEL = "the end of the tunnel"


# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_UPSTREAM = Wait.UPSTREAM


class ResponseRelay(ProxiedRequest):
    """A request whose response is relayed: interim heads, the final head with the first bytes, then the body."""

    __slots__ = ("_is_chunked",)

    _is_chunked: bool
    """Whether the body is chunked for the client, once its head has been made."""

    def relay(self, connection: UpstreamConnection, upstream: Endpoint) -> Wait | None:
        """Relay what has arrived. Returns what to wait for, None once the whole response has been relayed.

        Raises `UpstreamError` for the upstream, `ConnectionError` for the client.
        """
        if self.is_started:
            return self._relay_body(connection)
        reader = connection.answer
        if reader.interim:
            self._relay_interim(connection, upstream)
        head, fields = reader.head, reader.fields
        if connection.error is not None and not connection.has_data:
            raise connection.error.copy()
        if head is None or fields is None:
            return _UPSTREAM if connection.is_reading else Wait.CLIENT
        if head.status == 101:
            return Wait.TUNNEL
        block, self._is_chunked = self._final_head(connection, upstream, head, fields)
        self.record.status = head.status
        if self.admitted.method != self.inbound.method:
            # The client asked with HEAD and the service was asked with GET. A body that is still to come is not awaited:
            # the connection is closed then.
            connection.take()
            self.write(block)
            return None
        if not reader.is_whole:
            self.write(block)
            if fields.is_event_stream:
                self._begin_stream(connection)
            return self._relay_body(connection)
        # The whole response in one write: what most responses are.
        data = connection.take()
        self.record.sent = len(data)
        if self._is_chunked:
            data = chunked(data, is_last=True, trailers=self._trailers(reader))
        self.write(block + data)
        return None

    def _begin_stream(self, connection: UpstreamConnection) -> None:
        """Nothing limits an event stream but its client, who ends it by closing even one half of the connection."""
        if self.request.protocol.has_ended:
            raise ConnectionResetError("the client has gone")
        self.shared.streams.add(connection)
        connection.unlimited()

    def _trailers(self, reader: ResponseReader) -> bytes:
        """The trailer lines of a whole body for a client that asked for them."""
        if not reader.trailers or not self.inbound.fields.te_trailers:
            return b""
        plan = self.admitted.plan
        return trailer_lines(reader.trailers, plan.response_rules if plan.alters_response else None)

    def _relay_interim(self, connection: UpstreamConnection, upstream: Endpoint) -> None:
        reader, plan = connection.answer, self.admitted.plan
        writer = self.response_writer(upstream)
        while reader.interim:
            head = reader.interim.pop(0)
            if self.inbound.minor == 1 and (head.status != 100 or self.inbound.fields.expect is not None):
                self.write(writer.interim(head))
        if connection.is_request_whole:
            # The upstream is at work (RFC 9110 section 15.2): the time limit begins again.
            connection.limit(plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
        if reader.head is None and self.request.protocol.writing_paused:
            connection.pause()

    def _final_head(
        self, connection: UpstreamConnection, upstream: Endpoint, head: Head, fields: ResponseHeaders
    ) -> tuple[bytes, bool]:
        """The client's head, and whether its body is to be chunked."""
        inbound, admitted = self.inbound, self.admitted
        plan = admitted.plan
        self.is_started = self.request.protocol.has_response = True
        if self.shared.is_draining or not connection.is_request_whole:
            self.keep_alive = False
        lines = admitted.cors_lines if fields.has_date else admitted.cors_lines + date_line()
        if fields.trailer is not None and inbound.fields.te_trailers and inbound.minor == 1 and fields.codings:
            lines += b"Trailer: %b\r\n" % fields.trailer
        known = fields.relayed
        if (
            type(known) is CachedResponseHead
            and not plan.alters_response
            and known.key == (plan, inbound.method, inbound.minor, self.keep_alive, admitted.cors_lines != b"")
        ):
            self.keep_alive = known.keep_alive
            return b"%b%b%b\r\n" % (known.head, self.id_lines, lines), known.is_chunked
        writer = self.response_writer(upstream, lines)
        block, is_chunked = writer.final(head, fields, False)
        self.keep_alive = writer.keep_alive
        return block, is_chunked

    def _relay_body(self, connection: UpstreamConnection) -> Wait | None:
        reader = connection.answer
        data = connection.take()
        self.record.sent += len(data)
        if self._is_chunked:
            data = chunked(data, is_last=reader.is_whole, trailers=self._trailers(reader))
        if data:
            self.write(data)
        if reader.is_whole:
            return None
        if connection.error is not None:
            raise connection.error.copy()
        if self.request.protocol.writing_paused:
            # The silence is the client's now, not the upstream's.
            connection.unlimited()
            return Wait.CLIENT
        if connection not in self.shared.streams:
            connection.limit(self.admitted.plan.idle, Failure.IDLE_TIMEOUT)
        connection.resume()
        return _UPSTREAM
