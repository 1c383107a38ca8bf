"""Which of a service's addresses takes the next request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tentaculo.model import BreakerView, Outcome
from tentaculo.proxy.upstream import Pool


class Breaker(Protocol):
    """What the proxy asks of a circuit breaker, one per address."""

    def try_acquire(self) -> bool:
        """Whether a request may go there now. A half-open breaker says yes once."""

    def record(self, outcome: Outcome, reason: str = "") -> None:
        """How a request that was let through went."""

    def view(self) -> BreakerView:
        """The breaker at this moment."""


class Member:
    """One address: its connections and its breaker."""

    __slots__ = ("breaker", "pool")

    def __init__(self, pool: Pool, breaker: Breaker) -> None:
        self.pool = pool
        self.breaker = breaker


class Balancer:
    """Round robin over the addresses whose breaker lets a request through."""

    __slots__ = ("_next", "members")

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._next = 0

    def __repr__(self) -> str:
        return f"<Balancer: {len(self.members)} addresses>"

    def choose(self, tried: Sequence[Member] = ()) -> Member | None:
        """The next address that may be asked and is not in `tried`, or None. The caller must report its outcome."""
        members = self.members
        if len(members) == 1:
            only = members[0]
            return only if not tried and only.breaker.try_acquire() else None
        for _ in members:
            member = members[self._next]
            self._next = (self._next + 1) % len(members)
            if member not in tried and member.breaker.try_acquire():
                return member
        return None

    def retry_after(self) -> float:
        """Seconds until the first of the addresses may be tried again."""
        return min(member.breaker.view().retry_after for member in self.members)
