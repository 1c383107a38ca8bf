"""Which failed attempt another one may follow, and the problems of requests that no endpoint serves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tentaculo.model.failure import Failure, Problem, UpstreamError
from tentaculo.upstream.concurrency_limit import ConcurrencyLimit

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
    return Problem(
        Failure.OVERLOADED, "Too many requests wait for the service.", {"service": service}, {"Retry-After": "1"}
    )


def over_limit(service: str, limit: ConcurrencyLimit) -> Problem:
    """The service has as many requests in flight as it may have."""
    number = int(limit.limit)
    return Problem(
        Failure.CONCURRENCY_LIMIT,
        f"{service} may have {number} requests in flight: {limit.why}.",
        {"service": service, "limit": number, "in_flight": limit.in_flight, "retry_after": 1},
        {"Retry-After": "1"},
        f"limit {number}: {limit.why}",
    )


def circuit_open(service: str, retry_after: float, why: Mapping[str, object]) -> Problem:
    """No endpoint of `service` takes a request; the first may in `retry_after` seconds."""
    seconds = max(1, math.ceil(retry_after))
    extra = {"service": service, "retry_after": seconds, **why}
    return Problem(Failure.CIRCUIT_OPEN, None, extra, {"Retry-After": str(seconds)})


def attempt_failed(service: str, error: UpstreamError, *, may_retry: bool = True) -> Problem:
    """The last attempt failed. `may_retry` is False where another one was possible and not allowed."""
    headers = {"Retry-After": "1"} if error.failure in (Failure.STOPPING, Failure.EXHAUSTED) else {}
    why = "" if may_retry else "; it was not repeated, since about a tenth of the requests may be"
    return Problem(error.failure, f"{service}: {error.detail}{why}", {"service": service}, headers)
