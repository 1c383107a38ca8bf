"""The facts of one request that the access log and the counters read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class RequestRecord:
    """One proxied request, as it is logged in one line. Text from the client is unescaped here; the log escapes it."""

    method: str
    target: str
    """Raw, without its query: queries hold secrets."""
    status: int
    """What the client got; 499 if it left, 101 for a tunnel."""
    seconds: float
    peer: str
    request_id: str
    service: str | None = None
    error: str | None = None
    """The failure's word, if the gateway answered or cut the exchange."""
    detail: str | None = None
    received: int = 0
    """Bytes of the request's body."""
    sent: int = 0
    """Bytes of the answer's body."""
    is_own: bool = False
    """Whether the gateway answered in the service's place, without any failure: a preflight, a trace."""
    started: float = 0.0
    """Time of `time.perf_counter` at which the request arrived."""


LogRecord = Callable[[RequestRecord], None]
