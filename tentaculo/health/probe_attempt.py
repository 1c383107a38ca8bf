"""One attempt of a probe: its input, its outcome, and the reason of a failure in words.

A reason never contains the text of an exception, which can hold an address or bytes of the endpoint.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import structlog
from aiohttp.http_exceptions import LineTooLong

from tentaculo.config.services import ServiceSettings
from tentaculo.model.endpoint import Endpoint


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
    """The first bytes of the response body; empty where it has a content coding."""
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
    certificate_ends: datetime | None = None
    """Until when the endpoint's certificate is valid."""

    @property
    def is_answered(self) -> bool:
        """Whether the attempt succeeded: a whole response with an expected status, or `success`."""
        if self.problem is not None:
            return False
        code = self.code
        return self.success is not None or (
            code is not None and any(low <= code <= high for low, high in self.statuses)
        )

    @property
    def words(self) -> str:
        """What happened, in words, without the path."""
        return self.problem or self.success or f"answered {self.code}"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """The input of a probe: the endpoint, and what the request contains."""

    upstream: Endpoint
    service: ServiceSettings
    secret: str
    """The service's token, empty where there is none."""
    session: aiohttp.ClientSession
    tls: ssl.SSLContext | None
    """For connections outside the session; None where no service needs TLS."""
    last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None
    """Seconds since a service's last heartbeat and its body; None where this process receives none."""

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every HTTP request of a probe."""
        headers = {"X-VX11-Token": self.secret} if self.secret else {}
        if self.service.host:
            headers["Host"] = self.service.host
        return headers


ProbeFunction = Callable[[ProbeTarget, ProbeAttempt], Awaitable[None]]


def milliseconds_since(start: float) -> int:
    """From `start` of `time.perf_counter`, at least 1. Not of the loop's clock: uvloop's stands still in callbacks."""
    return max(1, round((time.perf_counter() - start) * 1000))


def end_of(certificate: Any) -> datetime | None:
    """Until when a certificate holds, as `SSLSocket.getpeercert` describes one; None where there is none."""
    ends = certificate.get("notAfter") if isinstance(certificate, dict) else None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC) if ends else None


log = structlog.get_logger(__name__)

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
_GATEWAY_FAULTS = (errno.EMFILE, errno.ENFILE)


def note_timeout(attempt: ProbeAttempt, seconds: float) -> None:
    """Write into `attempt` how far it got within `seconds`."""
    attempt.is_final = not attempt.connected
    if not attempt.connected:
        attempt.problem = f"could not connect within {seconds:g} s"
    elif attempt.code is None:
        attempt.problem = f"no answer within {seconds:g} s"
    else:
        attempt.problem = f"answered {attempt.code}, but did not finish within {seconds:g} s"


def note_failure(attempt: ProbeAttempt, upstream: Endpoint, error: Exception) -> None:
    """Write into `attempt` why it failed. An unexpected error is logged."""
    os_error = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = os_error.errno if isinstance(os_error, OSError) else None
    attempt.is_final = attempt.is_final or isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
    attempt.is_gateway_fault = number in _GATEWAY_FAULTS
    words = _words(error, number)
    if words is None:
        words = "the probe failed, see the log"
        log.warning("probe failed", service=upstream.service, exc_info=error)
    attempt.problem = words if attempt.code is None else f"answered {attempt.code}, but {words}"


def _words(error: Exception, number: int | None) -> str | None:
    match error:
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            return "name not found" + (": the name server did not answer" if number == socket.EAI_AGAIN else "")
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as cause) | (
            ssl.SSLCertVerificationError() as cause
        ):
            return f"its certificate is not accepted: {cause.verify_message}"
        case aiohttp.ClientSSLError() | ssl.SSLError():
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
