"""What the proxy has done: one record per request, and totals for the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Record:
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


LogRecord = Callable[[Record], None]


class Traffic:
    """Totals by service and class of status, and what is under way."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, int], list[float]] = {}
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

    def end(self, record: Record) -> None:
        """A request has been answered, or has gone."""
        self.in_flight -= 1
        self._count(record)
        if self._idle is not None and not self.in_flight:
            self._idle.set()
            self._idle = None

    def _count(self, record: Record) -> None:
        key = (record.service or "", record.status // 100)
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = [0, 0.0]
        total[0] += 1
        total[1] += record.seconds

    def totals(self) -> Iterator[tuple[str, str, int, float]]:
        """(service, status class such as `2xx`, requests, seconds in all); an empty service where no route matched."""
        for (service, status), (count, seconds) in self._totals.items():
            yield service, f"{status}xx", int(count), seconds
