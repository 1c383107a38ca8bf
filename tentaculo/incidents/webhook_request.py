"""One POST to the receiver of a webhook, and the head of its response.

Only the status and two header fields count, so the head is read leniently. Whatever comes behind it, broken or without
an end, cannot undo that the receiver has accepted the message: a message that is sent again is an alert too many.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple, cast

import structlog
from yarl import URL

from tentaculo.net.connecting import Addresses
from tentaculo.net.resolving import look_up
from tentaculo.net.tcp import time_limit, unread

log = structlog.get_logger(__name__)

MOST_READ = 16 * 1024
"""Bytes of the body of a response that are read."""
BODY_WAIT = 1.0
"""Seconds to wait for them."""
_MOST_HEAD = 64 * 1024
"""Bytes of all heads of a response."""
_BEGIN = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})[ \t\r\n]")
_END = re.compile(rb"\n\r?\n")
_LONGEST_END = 3
_NAME = re.compile(rb"[!-9;-~]+")
_PORTS = {"http": 80, "https": 443}


class ResponseHead(NamedTuple):
    """The final head of a response."""

    status: int
    fields: Mapping[str, str]
    """By name in small letters; of a name that is repeated the first."""


class NotHttpError(Exception):
    """What the receiver sent is no response."""


async def post(
    url: str, fields: Mapping[str, str], body: bytes, seconds: float, tls: ssl.SSLContext | None
) -> ResponseHead:
    """Post once to `url`, by way of no proxy, and return the head of the response.

    `tls` is for an `https` address, None for others. Raises `TimeoutError` where that head has not arrived within
    `seconds`, `OSError` (`ssl.SSLError` and `socket.gaierror` among them) and `NotHttpError`.
    """
    address = URL(url)
    host, port = address.raw_host or "", address.port or _PORTS[address.scheme]
    lines = {"Host": address.host_port_subcomponent or host, "Accept": "*/*", **fields}
    lines |= {"Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    request = f"POST {address.raw_path_qs} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
    connection: _Connection | None = None

    async def connect(address: str) -> _Connection:
        made = _Connection()
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: made, address, port, ssl=tls, server_hostname=None if tls is None else host
            )
        except BaseException:
            made.close()
            raise
        return made

    try:
        async with time_limit(seconds):
            connection = await Addresses(host, port, 0, look_up=look_up).connect(connect, _Connection.close, seconds)
            found = await connection.head_of_response_to(request)
        await connection.wait_body()
        return found
    finally:
        if connection is not None:
            connection.close()


class _Connection(asyncio.Protocol):
    """The connection of one request."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head_left = _MOST_HEAD
        self._left = MOST_READ
        self._head: asyncio.Future[ResponseHead] = loop.create_future()
        self._ended = asyncio.Event()

    async def head_of_response_to(self, request: bytes) -> ResponseHead:
        if self._transport is not None:
            self._transport.write(request)
        return await self._head

    async def wait_body(self) -> None:
        """Wait a little for the body: a close with unread bytes resets the connection, and the receiver logs it."""
        try:
            async with asyncio.timeout(BODY_WAIT):
                await self._ended.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self._head.cancel() and not self._head.cancelled():
            self._head.exception()  # asked for, or the event loop reports it as forgotten

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._head.done():
            start = max(0, len(self._received) - _LONGEST_END)
            self._received += data
            self._read_heads(start)
        else:
            self._count(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if (
            exc is not None
            and transport is not None
            and not self._head.done()
            and (data := unread(transport, MOST_READ))
        ):
            # It responded without reading the request, and closed.
            self.data_received(data)
        if not self._head.done():
            self._head.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError())
        self._ended.set()

    def _read_heads(self, start: int) -> None:
        received = self._received
        while (end := _END.search(received, start)) is not None:
            head = bytes(received[: end.end()])
            del received[: len(head)]
            self._head_left -= len(head)
            line = _STATUS_LINE.match(head)
            if line is None or self._head_left < 0:
                break
            status = int(line[1])
            if status >= 200 or status == 101:
                self._head.set_result(ResponseHead(status, _fields_of(head)))
                self._count(len(received))
                return
            start = 0
        if end is not None or len(received) > self._head_left or not _may_begin(received):
            self._head.set_exception(NotHttpError())

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left <= 0:
            if self._transport is not None:
                self._transport.pause_reading()
            self._ended.set()


def _may_begin(data: bytearray) -> bool:
    """Whether `data` can be the beginning of a response."""
    return data[: len(_BEGIN)] == _BEGIN[: len(data)]


def _fields_of(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head.split(b"\n"):
        name, colon, value = line.partition(b":")
        if colon and _NAME.fullmatch(name):
            found.setdefault(name.decode("ascii").lower(), value.strip(b" \t\r").decode("latin-1"))
    return found


def words_of(error: Exception) -> str:
    """Why a POST failed, for people. The text of an error may contain the address, so only its kind is shown."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not accepted"
    if isinstance(error, socket.gaierror):
        return "name not found"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError) and not isinstance(error, ssl.SSLError):
        return "closed the connection before it answered"
    if isinstance(error, OSError):
        return "cannot be reached"
    if isinstance(error, NotHttpError):
        return "its response is not valid HTTP"
    log.error("webhook failed", error=type(error).__name__)
    return f"failed ({type(error).__name__})"
