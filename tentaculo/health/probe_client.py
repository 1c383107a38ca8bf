"""The connection of one probe, and one attempt on it: its input, its outcome, and the reason of a failure in words.

A response is read by the reader of `upstream/`, with the same limits. So a probe accepts a response exactly where the
proxy would pass it on. A reason never contains the text of an exception, which can hold an address or bytes of the
endpoint.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import structlog

from tentaculo.config.services import ServiceSettings
from tentaculo.model.clock import DateReading
from tentaculo.model.health import Certificate, Endpoint
from tentaculo.model.reason import because
from tentaculo.model.text import printable
from tentaculo.net.connecting import Addresses, LookUp, NoPortError, is_shortage
from tentaculo.net.http1 import Head, HeadTooLargeError, Http1Error
from tentaculo.net.resolving import look_up
from tentaculo.net.tcp import unread
from tentaculo.upstream.response_reader import ResponseHeadCache, ResponseReader

MAX_BODY = 64 * 1024
"""Bytes of a body that are read, before and after it is decompressed."""
_NAMES, _NAME = 8, 100
"""Names of a certificate that are kept, and characters of each."""
_ISSUER = ("commonName", "organizationName")
"""What is kept of the issuer of a certificate."""


class ResponseCutError(Exception):
    """The connection ended before the response was complete."""


class ProbeConnection(asyncio.Protocol):
    """A connection that carries one request at most."""

    def __init__(self, max_head: int) -> None:
        self._reader = ResponseReader("GET", max_head, ResponseHeadCache())
        self._body = bytearray()
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._is_asked = False
        self._early = b""
        self.transport: asyncio.Transport | None = None

    def __repr__(self) -> str:
        return f"<ProbeConnection {self._reader!r}>"

    def send(self, method: str, request: bytes) -> None:
        """Send a whole request."""
        self._reader.again(method)
        self._is_asked = True
        early, self._early = self._early, b""
        if early:
            # A server that speaks first is no HTTP server.
            self.data_received(early)
        if self.transport is not None:
            self.transport.write(request)

    async def head(self) -> Head:
        """The final head of the response. Raises Http1Error, ResponseCutError and OSError."""
        while (head := self._reader.head) is None:
            await self._wait()
        return head

    async def body(self) -> tuple[bytes, bool]:
        """The first `MAX_BODY` bytes of the body, and whether there is more. Raises the same errors."""
        while not self._reader.is_whole and len(self._body) <= MAX_BODY:
            await self._wait()
        return bytes(self._body[:MAX_BODY]), len(self._body) > MAX_BODY

    async def lost(self) -> None:
        """Wait until the endpoint has closed the connection. Raises OSError if it did so with an error."""
        while self.transport is not None:
            await self._wait_once()
        if isinstance(self._error, OSError):
            raise self._error

    def close(self) -> None:
        """Close at once. `transport.close` would wait for the endpoint's close_notify."""
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the endpoint."""
        if self._error is not None:
            return
        if not self._is_asked:
            self._early = (self._early + data)[:MAX_BODY]
            return
        try:
            for piece in self._reader.feed(data):
                self._body += piece
        except Exception as error:  # noqa: BLE001 - handed on to the probe that waits
            self._error = error
        self._reader.interim.clear()
        if self.transport is not None and (self._error is not None or len(self._body) > MAX_BODY):
            self.transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        """The endpoint has sent everything: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        transport, self.transport = self.transport, None
        if exc is not None and transport is not None and self._is_asked and (left := unread(transport, MAX_BODY)):
            self.data_received(left)
        reader = self._reader
        if self._is_asked and self._error is None and not reader.is_whole:
            if exc is not None:
                self._error = exc
            elif reader.head is None:
                self._error = ResponseCutError(because("closed_early"))
            else:
                try:
                    reader.end()
                except Exception:  # noqa: BLE001 - the reader's own words are for the proxy
                    self._error = ResponseCutError(because("ended_early"))
        elif not self._is_asked:
            self._error = exc
        self._changed.set()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        await self._wait_once()
        if self._error is not None:
            raise self._error

    async def _wait_once(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Connector:
    """Opens the connections of all probes. A name is looked up again after `ttl` seconds."""

    def __init__(self, max_head: int, ttl: float, *, look_up: LookUp = look_up) -> None:
        self._max_head = max_head
        self._ttl = ttl
        self._look_up = look_up
        self._names: dict[tuple[str, int], Addresses] = {}

    def __repr__(self) -> str:
        return f"<Connector: {len(self._names)} names>"

    async def connect(
        self, host: str, port: int, seconds: float, *, tls: ssl.SSLContext | None = None, server_name: str = ""
    ) -> ProbeConnection:
        """Connect to `host` for a probe of `seconds`, with TLS where `tls` is given.

        `server_name` is the name for TLS where it is not `host`. Raises OSError, ssl.SSLError among them.
        """
        addresses = self._names.get((host, port))
        if addresses is None:
            addresses = self._names[host, port] = Addresses(host, port, self._ttl, look_up=self._look_up)
        return await addresses.connect(
            lambda address: self._open(address, port, tls, server_name or host), ProbeConnection.close, seconds
        )

    def keep(self, places: Collection[tuple[str, int]]) -> None:
        """Forget the addresses of every host and port that is not among `places`."""
        self._names = {place: addresses for place, addresses in self._names.items() if place in places}

    def is_unresolved(self, host: str, port: int) -> bool:
        """Whether no address of `host` is known, and a look-up is under way."""
        addresses = self._names.get((host, port))
        return addresses is not None and addresses.is_unresolved

    async def _open(self, address: str, port: int, tls: ssl.SSLContext | None, server_name: str) -> ProbeConnection:
        loop = asyncio.get_running_loop()
        connection = ProbeConnection(self._max_head)
        try:
            await loop.create_connection(
                lambda: connection,
                address,
                port,
                ssl=tls,
                server_hostname=server_name if tls is not None else None,
            )
        except BaseException:
            connection.close()
            raise
        return connection


@dataclass(slots=True)
class ProbeAttempt:
    """One attempt of a probe, at one health path where the kind has any. The probe fills it in as it proceeds."""

    path: str
    connected: bool = False
    code: int | None = None
    """HTTP status, None until the head of a response has arrived."""
    latency_ms: int | None = None
    """From before connecting until the response was read; None where it was not."""
    body: bytes = b""
    """The first bytes of the response body, as they came."""
    content_type: str = ""
    content_encoding: str = ""
    problem: str | None = None
    """In words, why there is no complete response."""
    is_final: bool = False
    """Whether every other path of the endpoint would have the same outcome."""
    is_gateway_fault: bool = False
    """Whether the gateway itself could not send the probe, which says nothing about the service."""
    success: str | None = None
    """What succeeded, in words, where that is not a response with an expected status."""
    statuses: tuple[tuple[int, int], ...] = ((200, 200),)
    """The statuses, first and last of each range, that were expected."""
    is_cut: bool = False
    """Whether the body is longer than what was read."""
    certificate: Certificate | None = None
    """The endpoint's certificate, which was verified; None without TLS."""
    clock: DateReading | None = None
    """What the response says about the clock of the endpoint."""
    is_unresolved: bool = False
    """Whether its time ended while the host name was looked up."""

    @property
    def is_answered(self) -> bool:
        """Whether the attempt succeeded: a whole response with an expected status, or `success`."""
        if self.problem is not None:
            return False
        code = self.code
        if self.success is not None or code is None:
            return self.success is not None
        for low, high in self.statuses:  # noqa: SIM110 - each probe asks several times
            if low <= code <= high:
                return True
        return False

    @property
    def words(self) -> str:
        """What happened, in words, without the path."""
        return self.problem or self.success or because("answered", status=self.code)


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The input of the probes of one endpoint: what the configuration says of it, and what the request contains."""

    upstream: Endpoint
    service: ServiceSettings
    server_name: str
    """The name for TLS where it is not the host of the endpoint; else empty."""
    first_lines: str
    """The lines of a request that stand before those of its kind."""
    last_lines: str = field(repr=False)
    """Those behind them: the service's token and the configured headers."""
    replaced: frozenset[str]
    """The configured headers, in lower case: they replace those of the kind."""
    secrets: Mapping[str, str] = field(repr=False)
    """What is not shown of a body, with a name for each."""
    connector: Connector
    tls: ssl.SSLContext | None
    """None where no service needs TLS."""
    last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None
    """Seconds since a service's last heartbeat and its body; None where this process receives none."""


ProbeFunction = Callable[[ProbeTarget, ProbeAttempt], Awaitable[None]]


def milliseconds_since(start: float) -> int:
    """From `start` of `time.perf_counter`, at least 1. Not of the loop's clock: uvloop's stands still in callbacks."""
    return max(1, round((time.perf_counter() - start) * 1000))


def certificate_of(tls: ssl.SSLObject) -> Certificate | None:
    """The certificate of a verified chain; None where there is none, or Python cannot read it.

    Python 3.11 has the chain only in the object below its `SSLObject`.
    """
    chain = getattr(getattr(tls, "_sslobj", None), "get_verified_chain", None)
    certificates = [_read(one.get_info) for one in chain() or ()] if chain else [_read(tls.getpeercert)]
    own = certificates[0] if certificates else {}
    if "notAfter" not in own:
        return None
    ends = [_moment(one["notAfter"]) for one in certificates if "notAfter" in one]
    names = [value for kind, value in own.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    issuer = {key: value for part in own.get("issuer", ()) for key, value in part}
    return Certificate(
        names=tuple(printable(str(name), _NAME) for name in names[:_NAMES]),
        more_names=max(0, len(names) - _NAMES),
        issuer=printable(", ".join(str(issuer[key]) for key in _ISSUER if key in issuer), _NAME),
        begins=_moment(own["notBefore"]) if "notBefore" in own else None,
        ends=ends[0],
        chain_ends=min(ends),
    )


def _read(certificate: Callable[[], Any]) -> dict[str, Any]:
    """A certificate as Python reads it; empty where a name in it is no UTF-8, which is no fault of the connection."""
    try:
        return certificate() or {}
    except UnicodeDecodeError:
        return {}


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)


log = structlog.get_logger(__name__)

_OS_WORDS = {
    errno.ECONNREFUSED: because("connection_refused"),
    errno.ECONNRESET: because("connection_reset"),
    errno.EPIPE: because("connection_reset"),
    errno.ETIMEDOUT: because("connect_timed_out"),
    errno.EHOSTUNREACH: because("host_unreachable"),
    errno.ENETUNREACH: because("network_unreachable"),
    errno.EMFILE: "not sent: the gateway is out of file descriptors",
    errno.ENFILE: "not sent: the gateway's machine is out of file descriptors",
    errno.ENOBUFS: "not sent: the gateway's machine is out of memory",
    errno.ENOMEM: "not sent: the gateway's machine is out of memory",
}
# Parts of OpenSSL's reasons. TLS 1.2 has no alert of its own for a client certificate that is missing.
_TLS_WORDS = {
    "CERTIFICATE_REQUIRED": "it requires a client certificate",
    "ALERT_HANDSHAKE_FAILURE": "it refused the handshake; it may require a client certificate",
    "ALERT_BAD_CERTIFICATE": "it refused the handshake; it may require a client certificate",
    "UNRECOGNIZED_NAME": "it has no certificate for this name",
    "PROTOCOL_VERSION": "there is no common version of TLS",
    "UNSUPPORTED_PROTOCOL": "there is no common version of TLS",
    "WRONG_VERSION_NUMBER": "this is no TLS port",
    "RECORD_LAYER_FAILURE": "this is no TLS port",
    "HTTP_REQUEST": "this is no TLS port",
}


def note_timeout(attempt: ProbeAttempt, seconds: float) -> None:
    """Record in `attempt` how far it got within `seconds`."""
    attempt.is_final = not attempt.connected
    if attempt.is_unresolved:
        attempt.problem = because("name_server_silent")
    elif not attempt.connected:
        attempt.problem = because("no_connection_within", seconds=seconds)
    elif attempt.code is None:
        attempt.problem = because("no_response_within", seconds=seconds)
    else:
        attempt.problem = because("answered_unfinished", status=attempt.code, seconds=seconds)


def note_failure(attempt: ProbeAttempt, upstream: Endpoint, error: Exception) -> None:
    """Record in `attempt` why it failed. An unexpected error is logged."""
    attempt.is_final = not attempt.connected or isinstance(error, ssl.SSLError)
    attempt.is_gateway_fault = is_shortage(error)
    words = _words(error, is_connected=attempt.connected)
    if words is None:
        words = "the probe failed, see the log"
        log.warning("probe failed", service=upstream.service, exc_info=error)
    attempt.problem = words if attempt.code is None else because("answered_but", status=attempt.code, what=words)


def _words(error: Exception, *, is_connected: bool) -> str | None:
    match error:
        case MemoryError():
            return _OS_WORDS[errno.ENOMEM]
        case NoPortError():
            return "not sent: the gateway's machine has no port left"
        case socket.gaierror(errno=number):
            return because("name_server_silent" if number == socket.EAI_AGAIN else "name_not_found")
        case ssl.SSLCertVerificationError():
            return because("certificate_refused", what=error.verify_message)
        case ssl.SSLError():
            reason = error.reason or ""
            why = next((words for part, words in _TLS_WORDS.items() if part in reason), "")
            return because("tls_failed_because", what=why) if why else because("tls_failed")
        case ResponseCutError():
            words: str = error.args[0]
            return words
        case HeadTooLargeError():
            return because("head_too_large")
        case Http1Error():
            return because("invalid_http", what=str(error))
        case UnicodeError():
            return because("invalid_address")
        case ConnectionError(errno=None):
            return because("connection_reset" if is_connected else "tls_ended")
        case OSError(errno=int() as number):
            return _OS_WORDS.get(number) or os.strerror(number).lower()
        case OSError():
            return because("cannot_connect")
    return None
