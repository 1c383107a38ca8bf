"""What the proxy has done: one record per request, totals for the metrics, and what each service's history is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log

from tentaculo.model.failure import Blame, Failure
from tentaculo.model.history import BUCKETS, SCALE, SHIFT, SHORTEST, Histogram, Tally


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


_FAULTS = frozenset(
    failure.error
    for failure in Failure
    if failure.blame is Blame.UPSTREAM or failure in (Failure.CIRCUIT_OPEN, Failure.OVERLOADED)
)
"""The errors that mean, to a caller, that the service failed; the others are the caller's or somebody's intention."""


@dataclass(slots=True)
class _Total:
    """Of one service and class of status."""

    latencies: list[int] | None
    """How many answers fell into each bucket of latency; None where no answer of the class is ok."""
    requests: int = 0
    seconds: float = 0.0


class RequestStats:
    """Totals by service and class of status, what is under way, and what was met since it was last asked."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, int], _Total] = {}
        self._latencies: dict[str, list[int]] = {}
        self._failed: dict[str, int] = {}
        self.in_flight = 0
        """Exchanges under way, tunnels and event streams included."""
        self._idle: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Traffic: {self.in_flight} in flight>"

    def begin(self) -> None:
        """A request has come."""
        self.in_flight += 1

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        if self.in_flight:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def end(self, record: RequestRecord) -> None:
        """A request has been answered, or has gone."""
        self.in_flight -= 1
        self._count(record)
        if self._idle is not None and not self.in_flight:
            self._idle.set()
            self._idle = None

    def _count(self, record: RequestRecord) -> None:
        key = (record.service or "", record.status // 100)
        total = self._totals.get(key)
        if total is None:
            total = self._begin(*key)
        seconds = record.seconds
        total.requests += 1
        total.seconds += seconds
        if record.error is not None or total.latencies is None:
            self._count_fault(record)
        elif not record.is_own:
            # `histogram.bucket` and not a call of it, which would cost as much again.
            number = int(log(seconds) * SCALE + SHIFT) if seconds > SHORTEST else 0
            total.latencies[number if number < BUCKETS else -1] += 1

    def _begin(self, service: str, status_class: int) -> _Total:
        latencies = None
        if service and status_class in (2, 3, 4):
            latencies = self._latencies.setdefault(service, [0] * BUCKETS)
        total = self._totals[service, status_class] = _Total(latencies)
        return total

    def _count_fault(self, record: RequestRecord) -> None:
        is_fault = record.status >= 500 and record.status != 501 if record.error is None else record.error in _FAULTS
        if is_fault and record.service:
            self._failed[record.service] = self._failed.get(record.service, 0) + 1

    def totals(self) -> Iterator[tuple[str, str, int, float]]:
        """(service, status class such as `2xx`, requests, seconds in all); an empty service where no route matched."""
        for (service, status), total in self._totals.items():
            yield service, f"{status}xx", total.requests, total.seconds

    def drain(self) -> dict[str, Tally]:
        """What was met since the last call, by service. A caller's own mistake is ok: the service answered it.

        Upgraded connections are not in it, nor are clients that left and what the gateway answered by itself.
        """
        failed, self._failed = self._failed, {}
        met = {service: Tally(failed=count) for service, count in failed.items()}
        for service, latencies in self._latencies.items():
            if not any(latencies):
                continue
            latency = Histogram({number: count for number, count in enumerate(latencies) if count})
            latencies[:] = [0] * BUCKETS
            tally = met.setdefault(service, Tally())
            tally.ok, tally.latency = latency.count, latency
        return met
