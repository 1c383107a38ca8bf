"""Why a probe failed, in words. Never the text of an error: it can hold an address or an upstream's bytes."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import aiohttp
import structlog
from aiohttp.http_exceptions import LineTooLong

from tentaculo.health.probes.attempt import ProbeAttempt
from tentaculo.model.endpoint import Endpoint

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
