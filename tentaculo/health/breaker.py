"""Circuit breakers: when the traffic of an upstream is given a rest. Pure; the clocks are passed in.

Only traffic is counted here. Probes never touch a breaker, and a caller's own 4xx is not a failure.

    closed --(failures in a row)--> open --(open_for seconds)--> half open --(success)--> closed
                                      ^------------(failure)---------'
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from tentaculo.config.schema import Config
from tentaculo.model import BreakerState, BreakerView, Outcome, Upstream

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_CLOSED = BreakerState.CLOSED
_SUCCESS = Outcome.SUCCESS


class Breaker:
    """The breaker of one upstream.

    Opens after `failures` failures in a row and refuses for `open_for` seconds; then exactly one request, the trial,
    is let through, and its outcome closes the breaker or opens it again. A trial that never reports does not wedge
    it: after another `open_for` seconds there is a new one. While it is open nothing but time changes it, so a
    request from before that answers late neither closes it nor keeps it open for longer.

    `clock` is monotonic, in seconds; `now` gives the time of day of a failure, for people. Neither is read while
    requests succeed.
    """

    __slots__ = ("_clock", "_count", "_failures", "_last_failure", "_now", "_open_for", "_reason", "_state", "_until")

    def __init__(
        self, failures: int, open_for: float, *, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._failures = failures
        self._open_for = open_for
        self._clock = clock
        self._now = now
        self._state = _CLOSED
        # Failures in a row. Never 0 unless closed, so that `record` tells by it whether a success changes anything.
        self._count = 0
        # When the next trial may go, unless closed.
        self._until = 0.0
        self._last_failure: datetime | None = None
        self._reason: str | None = None

    def __repr__(self) -> str:
        view = self.view()
        waits = f", trial in {view.retry_after:.1f} s" if view.state is BreakerState.OPEN else ""
        return f"<Breaker {view.state}, {view.failure_count} of {self._failures} failures{waits}>"

    @property
    def is_closed(self) -> bool:
        """Whether requests pass freely."""
        return self._state is _CLOSED

    def try_acquire(self) -> bool:
        """Whether a request may go to the upstream now. Whoever gets True reports with `record`."""
        if self._state is _CLOSED:
            return True
        moment = self._clock()
        if moment < self._until:
            return False
        self._state = BreakerState.HALF_OPEN
        self._until = moment + self._open_for
        return True

    def record(self, outcome: Outcome, reason: str = "") -> None:
        """Take the outcome of one exchange; `reason` says in words why it failed.

        NEUTRAL judges nothing: the count stays, and a trial is released for the next request.
        """
        if outcome is _SUCCESS:
            if self._count:
                self._succeed()
        elif outcome is Outcome.FAILURE:
            self._fail(reason)
        elif self._state is BreakerState.HALF_OPEN:
            self._until = self._clock()

    def view(self) -> BreakerView:
        """The breaker as it is now. When `open_for` has passed it is half open: the next request is a trial."""
        state, retry_after = self._state, 0.0
        if state is BreakerState.OPEN:
            retry_after = max(0.0, self._until - self._clock())
            state = BreakerState.OPEN if retry_after > 0 else BreakerState.HALF_OPEN
        return BreakerView(state, self._count, self._last_failure, self._reason, retry_after)

    def _succeed(self) -> None:
        if self._state is not BreakerState.OPEN:
            self._state = _CLOSED
            self._count = 0

    def _fail(self, reason: str) -> None:
        self._count += 1
        self._last_failure = self._now()
        why = f": {reason}" if reason else ""
        if self._state is BreakerState.HALF_OPEN:
            self._open(f"the trial failed{why}")
        elif self._state is _CLOSED and self._count >= self._failures:
            self._open(f"{self._count} {'failure' if self._count == 1 else 'failures in a row'}{why}")

    def _open(self, reason: str) -> None:
        self._state = BreakerState.OPEN
        self._until = self._clock() + self._open_for
        self._reason = reason


class Breakers:
    """The breakers of the whole fleet, one per address of each service.

    `clock` is monotonic, in seconds; `now` is the time of day.
    """

    def __init__(self, config: Config, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._breakers = {
            upstream: Breaker(service.breaker.failures, service.breaker.open_for, clock=clock, now=now)
            for service in config.services.values()
            for upstream in service.upstreams
        }

    def __repr__(self) -> str:
        closed = sum(breaker.is_closed for breaker in self._breakers.values())
        return f"<Breakers: {closed} of {len(self._breakers)} closed>"

    def of(self, upstream: Upstream) -> Breaker:
        """The breaker of one configured address; KeyError for any other."""
        return self._breakers[upstream]

    def view(self, upstream: Upstream) -> BreakerView:
        """The breaker of one configured address as it is now: what the board asks for."""
        return self._breakers[upstream].view()

    def views(self) -> dict[Upstream, BreakerView]:
        """Every breaker as it is now, in the order of the configuration."""
        return {upstream: breaker.view() for upstream, breaker in self._breakers.items()}
