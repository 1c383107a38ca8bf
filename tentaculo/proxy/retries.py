"""Whether a failed attempt is followed by another one, and the problems that the client gets where none is. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tentaculo.model.failure import Failure, Problem, UpstreamError

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Methods of requests that may be sent twice (RFC 9110 section 9.2.2)."""


def may_follow(error: UpstreamError, method: str) -> bool:
    """Whether another attempt may follow `error`, while the client has no response yet and the body can be sent again.

    It may if the upstream received nothing, or if it answered nothing and twice does no harm.
    """
    # Every other failure of an untouched connection came before anything was sent.
    return error.untouched and (error.failure is not Failure.CONNECTION_LOST or error.untaken or method in IDEMPOTENT)


def overloaded(service: str) -> Problem:
    """No endpoint of `service` had room in time."""
    return Problem(Failure.OVERLOADED, None, {"service": service}, {"Retry-After": "1"})


def circuit_open(service: str, retry_after: float, why: Mapping[str, object]) -> Problem:
    """No endpoint of `service` takes a request; the first may in `retry_after` seconds."""
    seconds = max(1, math.ceil(retry_after))
    extra = {"service": service, "retry_after": seconds, **why}
    return Problem(Failure.CIRCUIT_OPEN, None, extra, {"Retry-After": str(seconds)})


def attempt_failed(service: str, error: UpstreamError) -> Problem:
    """The last attempt failed."""
    headers = {"Retry-After": "1"} if error.failure in (Failure.STOPPING, Failure.EXHAUSTED) else {}
    return Problem(error.failure, f"{service}: {error.detail}", {"service": service}, headers)
