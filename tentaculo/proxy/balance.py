"""Which of a service's addresses takes the next request."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from tentaculo.model import BreakerState, BreakerView, Outcome
from tentaculo.proxy.upstream import Pool


class Breaker(Protocol):
    """What the proxy asks of a circuit breaker, one per address."""

    def try_acquire(self) -> int:
        """A ticket if a request may go there now, else 0. A half-open breaker gives one at a time."""

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        """How the request that was let through with `ticket` went."""

    def view(self) -> BreakerView:
        """The breaker at this moment."""


class Member:
    """One address: its connections, its breaker, and how many requests are on it."""

    __slots__ = ("_limit", "breaker", "in_flight", "pool", "ticket")

    def __init__(self, pool: Pool, breaker: Breaker, limit: int) -> None:
        """`limit` bounds the requests at once."""
        self.pool = pool
        self.breaker = breaker
        self.in_flight = 0
        self.ticket = 0
        """The breaker's, for the request that chose this address last: it takes it before the next one can choose."""
        self._limit = limit

    def __repr__(self) -> str:
        return f"<Member {self.pool.upstream}: {self.in_flight} of {self._limit} in flight>"

    @property
    def is_full(self) -> bool:
        """Whether it takes no more requests now."""
        return self.in_flight >= self._limit


class Balancer:
    """Round robin over the addresses that have room and whose breaker lets a request through.

    Where only room is missing, requests wait in turn, `queue` of them at most.
    """

    __slots__ = ("_next", "_queue", "_waiting", "members")

    def __init__(self, members: Sequence[Member], queue: int) -> None:
        self.members = tuple(members)
        self._next = 0
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Balancer: {len(self.members)} addresses, {len(self._waiting)} requests wait>"

    def choose(self, tried: Sequence[Member] = ()) -> Member | None:
        """The next address that may be asked and is not in `tried`, or None.

        The caller must take its `ticket` at once, `enter` it, report the outcome to its breaker with that, and
        `leave` it.
        """
        members = self.members
        if len(members) == 1:
            only = members[0]
            if tried or only.is_full:
                return None
            only.ticket = only.breaker.try_acquire()
            return only if only.ticket else None
        for _ in members:
            member = members[self._next]
            self._next = (self._next + 1) % len(members)
            if member not in tried and not member.is_full:
                member.ticket = member.breaker.try_acquire()
                if member.ticket:
                    return member
        return None

    def enter(self, member: Member) -> None:
        """A request goes to `member`."""
        member.in_flight += 1

    def leave(self, member: Member) -> None:
        """A request has left `member`: whoever has waited longest may try."""
        member.in_flight -= 1
        self.wake()

    @property
    def has_queue(self) -> bool:
        """Whether requests wait for room; newcomers queue behind them."""
        return bool(self._waiting)

    def wake(self) -> None:
        """Let the one that has waited longest look again."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def is_full(self, tried: Sequence[Member]) -> bool:
        """Whether an address that has not been tried lacks nothing but room."""
        return any(
            member.is_full and member not in tried and member.breaker.view().state is not BreakerState.OPEN
            for member in self.members
        )

    async def room(self, seconds: float) -> bool:
        """Wait for room. False if there is none in `seconds`, or too many wait already."""
        if len(self._waiting) >= self._queue:
            return False
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif not waiter.cancelled():
                self.wake()  # it was this one's turn, and it leaves: the next must not sleep through it
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def retry_after(self) -> float:
        """Seconds until the first of the addresses may be tried again."""
        return min(member.breaker.view().retry_after for member in self.members)
