"""Probes one endpoint by the kind of its service: http, websocket, tls, tcp or heartbeat.

The outcome is always a value, whatever the endpoint does.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime

from tentaculo import __version__
from tentaculo.config.limits import LimitSettings
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.health.evaluation import evaluate
from tentaculo.health.probe_client import (
    Connector,
    ProbeAttempt,
    ProbeConnection,
    ProbeFunction,
    ProbeTarget,
    certificate_of,
    milliseconds_since,
    note_failure,
    note_timeout,
)
from tentaculo.health.steady_clock import PauseDetector, time_since_boot
from tentaculo.model.clock import DateReading, parse_http_date
from tentaculo.model.health import Endpoint, ProbeResult
from tentaculo.model.reason import because
from tentaculo.model.text import utc_now
from tentaculo.net.connecting import LookUp
from tentaculo.net.http1 import Head
from tentaculo.net.resolving import look_up

_BY_PATH = ("http", "websocket")
"""Kinds that probe health paths. The others probe the endpoint itself."""
_REPETITIONS = 3
"""Times that a probe is sent where this process pauses during each of them."""
_SECRET = 8
"""Characters from which on the value of a configured header is removed from a body that is shown."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_AFTER_HANDSHAKE = 0.1
"""Seconds in which a server of TLS 1.3 may still refuse the client's certificate: its handshake ends after the client's."""


async def _connect(target: ProbeTarget, attempt: ProbeAttempt, *, tls: bool) -> ProbeConnection:
    """Connect to the endpoint, and record its certificate."""
    upstream = target.upstream
    context = target.tls if tls else None
    try:
        connection = await target.connector.connect(
            upstream.host,
            upstream.port,
            target.service.probe.timeout,
            tls=context,
            server_name=target.server_name,
        )
    except asyncio.CancelledError:
        attempt.is_unresolved = target.connector.is_unresolved(upstream.host, upstream.port)
        raise
    attempt.connected = True
    if connection.transport is not None and (tls_object := connection.transport.get_extra_info("ssl_object")):
        attempt.certificate = certificate_of(tls_object)
    return connection


async def _http(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send one request. It follows no redirect and reads at most `MAX_BODY` bytes of the body."""
    method = target.service.probe.method
    attempt.statuses = target.service.probe.status
    headers = {"Accept-Encoding": "identity", "Connection": "close"}
    if method == "POST":
        headers["Content-Length"] = "0"
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=target.upstream.tls)
    try:
        head = await _exchange(connection, target, attempt, method, headers)
        attempt.body, attempt.is_cut = await connection.body()
        attempt.latency_ms = milliseconds_since(start)
        attempt.content_encoding = ", ".join(_values(head, b"content-encoding"))
        attempt.content_type = ", ".join(_values(head, b"content-type"))
    finally:
        connection.close()


async def _websocket(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Send the opening handshake (RFC 6455 section 4), check Sec-WebSocket-Accept of the 101, and close."""
    key = base64.b64encode(os.urandom(16))
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    attempt.statuses = ()
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=target.upstream.tls)
    try:
        head = await _exchange(connection, target, attempt, "GET", headers)
        attempt.latency_ms = milliseconds_since(start)
        if head.status == 101:
            # A server that sends 101 to every request does not compute the accept value.
            accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
            is_websocket = [value.lower() for value in _values(head, b"upgrade")] == ["websocket"]
            if is_websocket and _values(head, b"sec-websocket-accept") == [accept]:
                attempt.success = "opened a WebSocket"
            else:
                attempt.problem = because("no_websocket")
    finally:
        connection.close()


async def _tls(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect, complete the TLS handshake, record the certificate, and close."""
    attempt.is_final = True
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=True)
    attempt.latency_ms = milliseconds_since(start)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_AFTER_HANDSHAKE, target.service.probe.timeout / 4)):
                await connection.lost()
    finally:
        connection.close()
    attempt.success = "completed the TLS handshake"


async def _tcp(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Connect and close at once. No byte is sent or read."""
    attempt.is_final = True
    start = time.perf_counter()
    connection = await _connect(target, attempt, tls=False)
    attempt.latency_ms = milliseconds_since(start)
    attempt.success = "connected"
    if connection.transport is not None:
        connection.transport.close()


async def _heartbeat(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """Check the time of the last heartbeat. Its body is evaluated like the body of a response."""
    attempt.is_final = True
    if target.last_heartbeat is None:
        attempt.is_gateway_fault, attempt.problem = True, "it sends heartbeats, which only the running gateway receives"
        return
    last = target.last_heartbeat(target.service.name)
    silence = target.service.probe.silence
    if last is None:
        attempt.is_gateway_fault, attempt.problem = True, "waits for its first heartbeat"
        return
    seconds, attempt.body = last
    if seconds < silence:
        attempt.success = f"its last heartbeat came {seconds:.0f} s ago"
    else:
        attempt.problem = because("no_heartbeat_for", seconds=round(seconds))


async def _exchange(
    connection: ProbeConnection, target: ProbeTarget, attempt: ProbeAttempt, method: str, headers: dict[str, str]
) -> Head:
    """Send the request, and record the status and the clock of the response."""
    sent = time_since_boot()
    connection.send(method, _request_head(target, method, attempt.path, headers))
    head = await connection.head()
    attempt.code = head.status
    dates = _values(head, b"date")
    # A response with an Age comes from a cache: it was written before the request was sent.
    if len(dates) == 1 and not _values(head, b"age") and (date_ms := parse_http_date(dates[0])) is not None:
        attempt.clock = DateReading(date_ms, sent, time_since_boot())
    return head


def _request_head(target: ProbeTarget, method: str, path: str, headers: dict[str, str]) -> bytes:
    """The head of a request: what HTTP needs, then the service's token, then the configured headers."""
    lines = f"{target.first_lines}{_lines(headers, target.replaced)}{target.last_lines}"
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def _lines(headers: Mapping[str, str], replaced: Collection[str] = ()) -> str:
    """Header lines, without those whose name in lower case is in `replaced`."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() not in replaced])


def _values(head: Head, name: bytes) -> list[str]:
    return [line.partition(b":")[2].strip().decode("latin-1") for line, field in head.fields if field.lower() == name]


KINDS: dict[str, ProbeFunction] = {
    "http": _http,
    "websocket": _websocket,
    "tls": _tls,
    "tcp": _tcp,
    "heartbeat": _heartbeat,
}
"""The kinds of probes by the name in `config/probes.py`.

A kind is one function. It sends one probe and records the outcome in the attempt. It may raise any network error: the
prober turns it into a reason, limits the time, and evaluates the attempt.
"""


class Prober:
    """Probes endpoints.

    Every probe opens a new connection, since connecting is part of the test. A probe follows no redirect, keeps no
    cookie and uses no proxy from the environment.

    A probe may take `probe.timeout` seconds of its service for all health paths together; with `path_timeout` each
    path has that many seconds of its own instead. `last_heartbeat` returns the seconds since a service's last heartbeat
    and its body; None where this process receives no heartbeats. `now` gives the time of day in UTC. `pauses` counts the
    pauses of this process: a probe during which one fell is repeated.
    """

    def __init__(
        self,
        config: Config,
        *,
        path_timeout: float | None = None,
        last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None = None,
        now: Callable[[], datetime] = utc_now,
        look_up: LookUp = look_up,
        pauses: PauseDetector | None = None,
    ) -> None:
        self._look_up = look_up
        self._path_timeout = path_timeout
        self._last_heartbeat = last_heartbeat
        self._now = now
        self._pauses = pauses or PauseDetector()
        self._tls: ssl.SSLContext | None = None
        self._limits: LimitSettings | None = None
        self._connector: Connector
        self.prepare(config)()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make what the probes of a configuration need; the result puts it in place. May run in a thread."""
        services, limits, tls = config.services, config.limits, self._tls
        places = {(upstream.host, upstream.port) for service in services.values() for upstream in service.upstreams}
        connector: Connector | None = None
        if self._limits is None or (limits.headers, limits.resolve) != (self._limits.headers, self._limits.resolve):
            connector = Connector(limits.headers, limits.resolve, look_up=self._look_up)
        if tls is None and any(
            service.probe.kind == "tls" or any(upstream.tls for upstream in service.upstreams)
            for service in services.values()
        ):
            # Loading the trust store takes milliseconds: not while requests are served.
            tls = ssl.create_default_context()
        used = connector or self._connector
        targets = {
            upstream: self._target(upstream, service, used, tls)
            for service in services.values()
            for upstream in service.upstreams
        }

        def use() -> None:
            self._targets, self._limits, self._tls = targets, limits, tls
            if connector is not None:
                self._connector = connector
            else:
                self._connector.keep(places)

        return use

    def _target(
        self, upstream: Endpoint, service: ServiceSettings, connector: Connector, tls: ssl.SSLContext | None
    ) -> ProbeTarget:
        configured = service.probe_headers
        replaced = frozenset(name.lower() for name in configured)
        token = service.token.reveal() if service.token else ""
        is_default = upstream.port == (443 if upstream.tls else 80)
        first = {
            "Host": service.host or (upstream.authority.rpartition(":")[0] if is_default else upstream.authority),
            "User-Agent": f"tentaculo-link/{__version__}",
            "Accept": "*/*",
        }
        last = {"X-VX11-Token": token} if token else {}
        secrets = {value: name for name, value in configured.items() if len(value) >= _SECRET}
        secrets |= {value.rpartition(" ")[2]: name for value, name in secrets.items() if " " in value}
        return ProbeTarget(
            upstream,
            service,
            service.name_for_tls,
            _lines(first, replaced),
            _lines(last, replaced) + _lines(configured),
            replaced,
            {**secrets, token: "token"} if token else secrets,
            connector,
            tls,
            self._last_heartbeat,
        )

    async def probe(self, upstream: Endpoint) -> ProbeResult:
        """Probe one endpoint in the way its service is configured: its health paths in order, until one succeeds.

        Raises nothing for anything that the endpoint does. Cancellation passes through.
        """
        target = self._targets[upstream]
        for _ in range(_REPETITIONS):
            pauses, started = self._pauses.check(), time.monotonic()
            attempts = await self._attempts(target)
            if self._pauses.check() == pauses:
                break
        else:
            attempts[-1].latency_ms = None
            if not attempts[-1].is_answered:
                attempts[-1].is_gateway_fault, attempts[-1].problem = True, "not sent: the gateway was paused"
        took = time.monotonic() - started
        return evaluate(upstream, attempts, self._now(), target.secrets, target.service.probe, took)

    async def _attempts(self, target: ProbeTarget) -> list[ProbeAttempt]:
        """Probe the health paths until one succeeds, or the endpoint itself."""
        probe = target.service.probe
        attempts: list[ProbeAttempt] = []
        try:
            async with asyncio.timeout(None if self._path_timeout else probe.timeout):
                for path in target.service.health if probe.kind in _BY_PATH else ("",):
                    attempts.append(attempt := ProbeAttempt(path))
                    await self._attempt(KINDS[probe.kind], target, attempt)
                    if attempt.is_final or attempt.is_answered:
                        break
        except TimeoutError:
            note_timeout(attempts[-1], probe.timeout)
        return attempts

    async def _attempt(self, run: ProbeFunction, target: ProbeTarget, attempt: ProbeAttempt) -> None:
        """Run one attempt. Its outcome is in `attempt`."""
        try:
            async with asyncio.timeout(self._path_timeout):
                await run(target, attempt)
        except TimeoutError:
            note_timeout(attempt, self._path_timeout or target.service.probe.timeout)
        # An endpoint, a resolver or a configured value can cause any error here, and a probe must return a value.
        except Exception as error:  # noqa: BLE001
            note_failure(attempt, target.upstream, error)
