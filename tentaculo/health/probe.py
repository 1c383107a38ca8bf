"""Probes: one question to one upstream, answered by a value, whatever the upstream does."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Self

import aiohttp
import structlog
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from tentaculo import __version__
from tentaculo.config.schema import Config
from tentaculo.config.services import Service
from tentaculo.health.verdict import Attempt, judge
from tentaculo.model import ProbeResult, Upstream

log = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024
"""Bytes of an answer's body that are read."""
MAX_HEADER = 8190
"""Bytes of one header, or of the status line."""
MAX_HEADERS = 100
"""Headers of one answer."""

# asyncio and the operating system are waited for by our own time limit only, so that the reason can say how far it got.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

_OS_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "could not connect in time",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EMFILE: "not asked: the gateway is out of file descriptors",
    errno.ENFILE: "not asked: the gateway's machine is out of file descriptors",
}
_OURS = (errno.EMFILE, errno.ENFILE)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Prober:
    """Asks upstreams for their health by HTTP. Use it as an async context manager: it owns its connections.

    Every probe connects anew, since connecting is part of what it tests. It follows no redirect, keeps no cookie and
    uses no proxy from the environment.

    A probe may take `probe.timeout` seconds of its service for all health paths together; with `path_timeout` each
    path has that many seconds of its own instead. `now` gives the time of day in UTC.
    """

    def __init__(
        self, config: Config, *, path_timeout: float | None = None, now: Callable[[], datetime] = _utc_now
    ) -> None:
        self._services = config.services
        self._name_ttl = config.limits.resolve
        self._path_timeout = path_timeout
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, ttl_dns_cache=max(1, round(self._name_ttl))),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_NO_TIMEOUT,
            headers={"User-Agent": f"tentaculo-link/{__version__}", "Accept-Encoding": "identity"},
            # What is encoded all the same is not decoded: a few bytes could become gigabytes.
            auto_decompress=False,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            trace_configs=[trace],
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def probe(self, upstream: Upstream) -> ProbeResult:
        """Ask `upstream` at its service's health paths, in order, until one answers 200.

        Never raises for anything that the upstream does; only cancellation passes.
        """
        if self._session is None:
            raise RuntimeError("the prober is not open")
        service = self._services[upstream.service]
        secret = service.token.get_secret_value() if service.token else ""
        attempts: list[Attempt] = []
        try:
            async with asyncio.timeout(None if self._path_timeout else service.probe.timeout):
                for path in service.health:
                    attempts.append(attempt := Attempt(path))
                    await self._ask(self._session, upstream, service, secret, attempt)
                    if attempt.is_final or attempt.is_answered:
                        break
        except TimeoutError:
            _note_timeout(attempts[-1], service.probe.timeout)
        return judge(upstream, attempts, self._now(), secret)

    async def _ask(
        self, session: aiohttp.ClientSession, upstream: Upstream, service: Service, secret: str, attempt: Attempt
    ) -> None:
        """One request; what came of it is written into `attempt`."""
        headers = {"X-VX11-Token": secret} if secret else {}
        if service.host:
            headers["Host"] = service.host
        # Not the loop's clock: uvloop's stands still while callbacks run.
        start = time.perf_counter()
        try:
            url = URL(f"{upstream}{attempt.path}")
            async with (
                asyncio.timeout(self._path_timeout),
                session.get(url, headers=headers, allow_redirects=False, trace_request_ctx=attempt) as response,
            ):
                attempt.code = response.status
                body = await _first_bytes(response.content)
                attempt.latency_ms = max(1, round((time.perf_counter() - start) * 1000))
                if response.headers.get("Content-Encoding", "identity").lower() == "identity":
                    attempt.body = body
        except TimeoutError:
            _note_timeout(attempt, self._path_timeout or service.probe.timeout)
        # The boundary to whatever an upstream, a resolver or a configured value can do: a probe returns a value.
        except Exception as error:  # noqa: BLE001
            _note_failure(attempt, upstream, error)


async def _note_connected(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: aiohttp.TraceConnectionCreateEndParams
) -> None:
    context.trace_request_ctx.connected = True


async def _first_bytes(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < MAX_BODY and (chunk := await content.read(MAX_BODY - len(body))):
        body += chunk
    return bytes(body)


def _note_timeout(attempt: Attempt, seconds: float) -> None:
    attempt.is_final = not attempt.connected
    if not attempt.connected:
        attempt.problem = f"could not connect within {seconds:g} s"
    elif attempt.code is None:
        attempt.problem = f"no answer within {seconds:g} s"
    else:
        attempt.problem = f"answered {attempt.code}, but did not finish within {seconds:g} s"


def _note_failure(attempt: Attempt, upstream: Upstream, error: Exception) -> None:
    """Write into `attempt` why it failed. Never the text of `error`: it can hold an address or an upstream's bytes."""
    os_error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = os_error.errno if isinstance(os_error, OSError) else None
    attempt.is_final = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    attempt.is_ours = number in _OURS
    words = _failure_words(error, number)
    if words is None:
        words = "the probe failed, see the log"
        log.warning("probe failed", service=upstream.service, exc_info=error)
    attempt.problem = words if attempt.code is None else f"answered {attempt.code}, but {words}"


def _failure_words(error: Exception, number: int | None) -> str | None:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "name not found" + (": the name server did not answer" if number == socket.EAI_AGAIN else "")
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as cause):
            return f"its certificate is not accepted: {cause.verify_message}"
        case aiohttp.ClientSSLError():
            return "the secure connection failed"
        case aiohttp.ServerDisconnectedError():
            return "closed the connection before it answered"
        case aiohttp.ClientPayloadError():
            return "the answer ended too soon"
        case aiohttp.ClientResponseError():
            return _bad_answer_words(error)
        case aiohttp.InvalidURL():
            return "its address is not valid"
        case OSError() if number is not None:
            return _OS_WORDS.get(number) or os.strerror(number).lower()
        case OSError():
            return "could not connect"
    return None


def _bad_answer_words(error: aiohttp.ClientResponseError) -> str:
    # aiohttp keeps what its parser said two causes deep.
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, LineTooLong):
        cause = cause.__cause__
    is_too_large = cause is not None or error.message.startswith("Too many headers")
    return "the head of its answer is too large" if is_too_large else "its answer is not valid HTTP"
