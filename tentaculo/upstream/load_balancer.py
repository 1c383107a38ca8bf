"""Which of a service's addresses takes the next request."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from tentaculo.model.endpoint import BreakerState, BreakerView, Outcome
from tentaculo.upstream.outlier_detection import OutlierDetector
from tentaculo.upstream.pool import Pool

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_SUCCESS = Outcome.SUCCESS


class Breaker(Protocol):
    """What the proxy asks of a circuit breaker, one per address."""

    def try_acquire(self) -> int:
        """A ticket if a request may go there now, else 0. A half-open breaker gives one at a time."""

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        """How the request that was let through with `ticket` went."""

    def view(self) -> BreakerView:
        """The breaker at this moment."""


class _Observed:
    """A breaker whose records are also noted in the standing of its address."""

    __slots__ = ("_others", "_record", "_standing", "try_acquire", "view")

    def __init__(self, breaker: Breaker, standing: OutlierDetector, others: Sequence[OutlierDetector]) -> None:
        # Bound once: a method that only passes on would cost as much as what it calls.
        self.try_acquire = breaker.try_acquire
        self.view = breaker.view
        self._record = breaker.record
        self._standing = standing
        self._others = others

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        standing = self._standing
        if outcome is _SUCCESS and not standing.failing and not standing.is_ill:
            standing.has_worked = True
        else:
            standing.note_outcome(outcome, self._others)
        self._record(ticket, outcome, reason)


class EndpointState:
    """One address: its connections, its breaker, its standing, and how many requests are on it."""

    __slots__ = ("_limit", "breaker", "in_flight", "pool", "standing", "ticket", "turn")

    def __init__(
        self, pool: Pool, breaker: Breaker, limit: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`limit` bounds the requests at once; `clock` is monotonic, in seconds."""
        self.pool = pool
        self.breaker = breaker
        self.standing = OutlierDetector(clock)
        self.in_flight = 0
        self.turn = 0
        """When it was chosen last, counted in choices of its balancer."""
        self.ticket = 0
        """The breaker's, for the request that chose this address last: it takes it before the next one can choose."""
        self._limit = limit

    def __repr__(self) -> str:
        return f"<Member {self.pool.upstream}: {self.in_flight} of {self._limit} in flight>"

    @property
    def is_full(self) -> bool:
        """Whether it takes no more requests now."""
        return self.in_flight >= self._limit


class LoadBalancer:
    """Which address is asked, of those that have room and whose breaker lets a request through.

    1. The one with the fewest requests in flight, in turn where several have as few: so one that hangs or is slow gets
       next to nothing long before a probe or a time limit says why. One whose breaker is due for its trial has none.
    2. One that stands badly (`standing.py`) is passed over while another stands well; so no request is the trial of an
       address that its probes find down, while there is a choice.
    3. Where none stands well, all are tried by the first rule.

    Where only room is missing, requests wait in turn, `queue` of them at most.
    """

    __slots__ = ("_queue", "_turn", "_waiting", "members")

    def __init__(self, members: Sequence[EndpointState], queue: int) -> None:
        self.members = tuple(members)
        if len(self.members) > 1:
            self._compare()
        self._turn = 0
        self._queue = queue
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __repr__(self) -> str:
        return f"<Balancer: {len(self.members)} addresses, {len(self._waiting)} requests wait>"

    def choose(self, tried: Sequence[EndpointState] = ()) -> EndpointState | None:
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
        best = None
        for member in members:
            if best is not None and (
                member.in_flight > best.in_flight or (member.in_flight == best.in_flight and member.turn >= best.turn)
            ):
                continue
            if (member.standing.is_good or member.standing.look()) and not member.is_full and member not in tried:
                best = member
        # The second look is for when a breaker refuses, or none stands well.
        return (best and self._take(best)) or self._try_each(tried)

    def _compare(self) -> None:
        for member in self.members:
            others = tuple(other.standing for other in self.members if other is not member)
            member.breaker = _Observed(member.breaker, member.standing, others)

    def _try_each(self, tried: Sequence[EndpointState]) -> EndpointState | None:
        """By all rules, until a breaker lets the request through."""
        for member in sorted(self.members, key=_rank):
            if not member.is_full and member not in tried and self._take(member):
                return member
        return None

    def _take(self, member: EndpointState) -> EndpointState | None:
        member.ticket = member.breaker.try_acquire()
        if not member.ticket:
            return None
        self._turn += 1
        member.turn = self._turn
        return member

    def enter(self, member: EndpointState) -> None:
        """A request goes to `member`."""
        member.in_flight += 1

    def leave(self, member: EndpointState) -> None:
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

    def is_full(self, tried: Sequence[EndpointState]) -> bool:
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


def _rank(member: EndpointState) -> tuple[bool, int, int]:
    return not member.standing.is_good, member.in_flight, member.turn
