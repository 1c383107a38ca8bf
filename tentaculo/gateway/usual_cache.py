"""What is usual for each service at this hour, read once an hour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tentaculo.model.history import HOUR
from tentaculo.model.service_rates import UsualRates

AT_ONCE = 100
"""Services that one query reads."""


class UsualCache:
    """The usual rates of every service, for one hour. They are computed in the thread of the database.

    When the clock is set to another hour, they are read again. A failed read is not kept.
    """

    def __init__(
        self, read: Callable[[int, Sequence[str]], Awaitable[Mapping[str, UsualRates]]], services: Sequence[str]
    ) -> None:
        """`read` takes the start of the hour, in seconds since 1970, and names. It may raise `StoreUnavailable`."""
        self._read = read
        self._services = services
        self._hour: int | None = None
        self._found: Mapping[str, UsualRates] = {}
        self._reading = asyncio.Lock()

    def use(self, services: Sequence[str]) -> None:
        """Read those of these services, at the next call where some of them are new."""
        if services != self._services and not set(services) <= set(self._services):
            self._hour = None
        self._services = services

    def __repr__(self) -> str:
        return f"<UsualCache of {len(self._services)} services>"

    async def usual(self, now: int) -> Mapping[str, UsualRates]:
        """What is usual at `now`, seconds since 1970, by service; those of which too little is known are left out.

        Raises `StoreUnavailable`.
        """
        hour = now - now % HOUR
        async with self._reading:
            if hour != self._hour:
                found: dict[str, UsualRates] = {}
                services = self._services
                for start in range(0, len(services), AT_ONCE):
                    found |= await self._read(hour, services[start : start + AT_ONCE])
                self._found, self._hour = found, hour if services is self._services else None
            return self._found
