"""What every kind of probe is asked with, and what it writes its answer into."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tentaculo.config.services import ServiceSettings
from tentaculo.model.endpoint import Endpoint


@dataclass(slots=True)
class ProbeAttempt:
    """One attempt of a probe, at one health path where the kind has any. The probe fills it in as it proceeds."""

    path: str
    connected: bool = False
    code: int | None = None
    """HTTP status, None until the head of an answer came."""
    latency_ms: int | None = None
    """From before connecting until the answer was read; None where it was not."""
    body: bytes = b""
    """The first bytes of the answer, as plain text or JSON; empty where it is encoded otherwise."""
    problem: str | None = None
    """In words, why the answer did not come whole."""
    is_final: bool = False
    """Whether another path of the same address would fare no better."""
    is_gateway_fault: bool = False
    """Whether the gateway itself could not ask, which says nothing of the service."""
    success: str | None = None
    """What succeeded, in words, where that is not a response with an expected status."""
    statuses: tuple[tuple[int, int], ...] = ((200, 200),)
    """The statuses, first and last of each range, that were expected."""
    is_cut: bool = False
    """Whether there is more of the body."""
    certificate_ends: datetime | None = None
    """Until when the certificate holds that was shown."""

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
    """Who is asked, and with what."""

    upstream: Endpoint
    service: ServiceSettings
    secret: str
    """The service's token, empty where there is none."""
    session: aiohttp.ClientSession
    tls: ssl.SSLContext | None
    """For connections that are not the session's; None where no address of the fleet is for TLS."""
    last_heartbeat: Callable[[str], tuple[float, bytes] | None] | None
    """Seconds since a service's last heartbeat and its body; None where this process receives none."""

    @property
    def headers(self) -> dict[str, str]:
        """What every HTTP request of a probe carries."""
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
