"""How many requests of a service may be sent to a second endpoint, so that retries and hedges never multiply an overload.

A bucket of tokens, of which each of them takes one: for retries a tenth of a token for each request, and one a second
while there are few; for hedges a twentieth, and no more. The idea is that of Finagle's `RetryBudget`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SHARE = 0.1
"""Retries for each request."""
_PER_SECOND, _RESERVE = 1.0, 10.0
"""Retries that are always allowed: one a second, and so many at once after a quiet time."""
_MOST = 100.0
"""Tokens that are saved at most, of busy times too."""
HEDGE_SHARE = 0.05
"""Hedges for each request."""


class RetryBudget:
    """The bucket of one service. `clock` is monotonic, in seconds; it is read for retries only."""

    __slots__ = ("_balance", "_clock", "_moment", "_requests", "_reserve", "_share")

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, share: float = _SHARE, reserve: float = _RESERVE
    ) -> None:
        """`share` is how many are allowed for each request, `reserve` how many at once after a quiet time."""
        self._clock = clock
        self._share, self._reserve = share, reserve
        self._balance = reserve
        self._moment = clock()
        self._requests = 0

    def __repr__(self) -> str:
        return f"<RetryBudget: {self._balance:.1f}>"

    def take(self, requests: int) -> bool:
        """Whether one more retry is allowed, which is then counted; `requests` have been sent so far, retries included."""
        moment = self._clock()
        self._balance = min(_MOST, self._balance + (requests - self._requests) * self._share)
        if self._balance < self._reserve:
            self._balance = min(self._reserve, self._balance + (moment - self._moment) * _PER_SECOND)
        self._moment, self._requests = moment, requests
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
