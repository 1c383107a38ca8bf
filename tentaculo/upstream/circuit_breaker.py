"""Circuit breakers: when requests to an endpoint are paused. Pure; the clocks are passed in.

Only traffic is counted here. Probes never open or close a breaker, and a caller's own 4xx is not a failure.

    closed --(failures in a row, or too large a share)--> open --(open_for seconds)--> half open --(success)--> closed
                                                           ^-----------(failure)-----------'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

from tentaculo.config import services
from tentaculo.config.schema import Config
from tentaculo.model.endpoint import BreakerState, BreakerView, Counts, Endpoint, Outcome, TrafficView

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_CLOSED = BreakerState.CLOSED
_SUCCESS = Outcome.SUCCESS

_ROW_LASTS = 0.5
"""Seconds that a row of failures must last where many requests have succeeded shortly before it."""

_TRIAL_LASTS = 10.0
"""Seconds that the outcome of a trial is waited for, if not `open_for`."""

Signal = Callable[[Endpoint, bool], None]
"""Told of an address, and whether a request there went well."""


def _deaf(_: Endpoint, __: bool) -> None:
    pass


_STEPS = 10
"""Moments that are remembered, and so how finely the window moves on."""


class SlidingWindow:
    """Requests within the last `span` seconds, to a tenth of it.

    It begins with the first moment that it is told of: without failures or doubts nothing is counted.
    """

    __slots__ = ("_failed", "_marks", "_span")

    def __init__(self, span: float) -> None:
        self._span = span
        self._failed = 0
        # When, and the two counts as they were just before.
        self._marks: deque[tuple[float, int, int]] = deque()

    def __repr__(self) -> str:
        return f"<Window of {self._span:g} s, {len(self._marks)} marks>"

    def note_failure(self, moment: float, ok: int) -> None:
        """A request has failed; `ok` have succeeded up to now."""
        self.mark(moment, ok)
        self._failed += 1

    def mark(self, moment: float, ok: int) -> None:
        """Count from here on, if not from earlier; `ok` have succeeded up to now."""
        marks = self._marks
        self._forget(moment)
        if not marks or moment - marks[-1][0] >= self._span / _STEPS:
            marks.append((moment, ok, self._failed))

    def counts(self, moment: float, ok: int) -> Counts:
        """What the window holds at `moment`; `ok` have succeeded up to now."""
        self._forget(moment)
        if not self._marks:
            return Counts()
        _, ok_before, failed_before = self._marks[0]
        return Counts(ok - ok_before, self._failed - failed_before)

    def clear(self) -> None:
        """Begin anew."""
        self._marks.clear()

    def _forget(self, moment: float) -> None:
        marks = self._marks
        while marks and moment - marks[0][0] >= self._span:
            marks.popleft()


class CircuitBreaker:
    """The breaker of one upstream.

    It opens after `rules.failures` failures in a row, or when as many, and at least `rules.rate` of at least
    `rules.requests` requests, within `rules.window` seconds failed, and refuses for `rules.open_for` seconds; then
    exactly one request, the trial, is let through, and its outcome closes the breaker or opens it again. A trial that
    never reports does not wedge it: after ten seconds, or `open_for` where that is longer, there is a new one.

    Where `rules.requests` requests have succeeded since the window began, so that the share can tell, a row of failures
    must last for half a second as well: of many requests, some of which fail, a few do so in a row by chance.

    Whoever is let through gets a ticket and reports with it. Each opening and each trial makes new tickets, so that a
    request from before, which ends late, is counted but never taken for the trial, neither closes the breaker nor
    keeps it open for longer.

    `signal` hears of every failure, and of a success where one is news: after a failure, and while probes doubt.
    `clock` is monotonic, in seconds; `now` gives the time of day, for people. Neither is read while requests succeed
    and nobody doubts.
    """

    __slots__ = (
        "_clock",
        "_count",
        "_failed",
        "_is_failing",
        "_is_watchful",
        "_last_failure",
        "_now",
        "_ok",
        "_opened_at",
        "_reason",
        "_row_began",
        "_rules",
        "_signal",
        "_state",
        "_ticket",
        "_until",
        "_window",
        "upstream",
    )

    def __init__(
        self,
        upstream: Endpoint,
        rules: services.BreakerSettings,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        signal: Signal = _deaf,
    ) -> None:
        self.upstream = upstream
        self._rules = rules
        self._clock = clock
        self._now = now
        self._signal = signal
        self._state = _CLOSED
        self._ticket = 1
        self._ok = 0
        self._failed = 0
        # Failures in a row, and when the first of them was.
        self._count = 0
        self._row_began = 0.0
        self._window = SlidingWindow(rules.window)
        # When the next trial may go, unless closed.
        self._until = 0.0
        # Whether probes find it down, or did at the last look.
        self._is_failing = False
        # Whether a success is more than one more: anything but closed, failures in a row, or doubts.
        self._is_watchful = False
        self._opened_at: datetime | None = None
        self._last_failure: datetime | None = None
        self._reason: str | None = None

    def __repr__(self) -> str:
        view = self.view()
        waits = f", trial in {view.retry_after:.1f} s" if view.state is BreakerState.OPEN else ""
        return f"<Breaker {view.state}, {view.failure_count} of {self._rules.failures} failures{waits}>"

    @property
    def is_closed(self) -> bool:
        """Whether requests pass freely."""
        return self._state is _CLOSED

    def try_acquire(self) -> int:
        """A ticket if a request may go to the upstream now, else 0. Whoever gets one reports with `record`."""
        if self._state is _CLOSED:
            return self._ticket
        moment = self._clock()
        if moment < self._until:
            return 0
        self._state = BreakerState.HALF_OPEN
        self._until = moment + max(self._rules.open_for, _TRIAL_LASTS)
        self._ticket += 1
        return self._ticket

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        """Take the outcome of one exchange; `reason` says in words why it failed.

        NEUTRAL judges nothing: no count moves, and a trial is released for the next request.
        """
        if outcome is _SUCCESS:
            self._ok += 1
            if self._is_watchful:
                self._succeed(ticket)
        elif outcome is Outcome.FAILURE:
            self._fail(ticket, reason)
        elif self._state is BreakerState.HALF_OPEN and ticket == self._ticket:
            self._until = self._clock()

    def note_probe(self, *, is_failing: bool, is_healthy: bool) -> None:
        """Take a hint from the probes of the endpoint: whether they find it down, and whether the latest was healthy.

        Probes neither open nor close the breaker. While they fail, every success of a request is signalled, because it
        contradicts them. The first healthy probe after that ends the waiting time of an open breaker.
        """
        if self._is_failing and is_healthy and self._state is not _CLOSED:
            self._until = min(self._until, self._clock())
        if is_failing and not self._is_failing:
            self._window.mark(self._clock(), self._ok)
        self._is_failing = is_failing
        self._watch()

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the moments that are shown after the system clock was set."""
        self._opened_at = self._opened_at and moment(self._opened_at)
        self._last_failure = self._last_failure and moment(self._last_failure)

    def view(self) -> BreakerView:
        """The breaker as it is now. When `open_for` has passed it is half open: the next request is a trial."""
        state, retry_after = self._state, 0.0
        if state is BreakerState.OPEN:
            retry_after = max(0.0, self._until - self._clock())
            state = BreakerState.OPEN if retry_after > 0 else BreakerState.HALF_OPEN
        return BreakerView(state, self._count, self._last_failure, self._reason, retry_after, self._opened_at)

    def traffic(self) -> TrafficView:
        """What requests have met here."""
        return TrafficView(Counts(self._ok, self._failed), self._window.counts(self._clock(), self._ok))

    def _watch(self) -> None:
        self._is_watchful = self._is_failing or self._count > 0 or self._state is not _CLOSED

    def _succeed(self, ticket: int) -> None:
        if ticket == self._ticket and self._state is not BreakerState.OPEN:
            if self._state is BreakerState.HALF_OPEN:
                self._state, self._opened_at = _CLOSED, None
                self._window.clear()
            self._count = 0
        if self._is_failing:
            self._window.mark(self._clock(), self._ok - 1)
        self._watch()
        self._signal(self.upstream, True)

    def _fail(self, ticket: int, reason: str) -> None:
        self._failed += 1
        self._last_failure = self._now()
        if ticket == self._ticket and self._state is not BreakerState.OPEN:
            self._count += 1
            self._judge(f": {reason}" if reason else "")
        self._watch()
        self._signal(self.upstream, False)

    def _judge(self, why: str) -> None:
        """Open, if this failure was one too many."""
        moment, rules = self._clock(), self._rules
        self._window.note_failure(moment, self._ok)
        if self._state is BreakerState.HALF_OPEN:
            self._open(moment, f"the trial failed{why}")
            return
        if self._count == 1:
            self._row_began = moment
        recent = self._window.counts(moment, self._ok)
        total = recent.ok + recent.failed
        if self._count >= rules.failures and (recent.ok < rules.requests or moment - self._row_began >= _ROW_LASTS):
            self._open(moment, f"{self._count} {'failure' if self._count == 1 else 'failures in a row'}{why}")
        elif total >= rules.requests and recent.failed >= max(rules.rate * total, rules.failures):
            self._open(moment, f"{recent.failed} of {total} requests within {rules.window:g} s failed{why}")

    def _open(self, moment: float, reason: str) -> None:
        if self._opened_at is None:
            self._opened_at = self._now()
        self._state = BreakerState.OPEN
        self._ticket += 1
        self._until = moment + self._rules.open_for
        self._reason = reason


class CircuitBreakers:
    """The breakers of the whole fleet, one per address of each service.

    `clock` is monotonic, in seconds; `now` is the time of day; `signal` hears of requests that are news.
    """

    def __init__(
        self, config: Config, clock: Callable[[], float], now: Callable[[], datetime], signal: Signal = _deaf
    ) -> None:
        self._breakers = {
            upstream: CircuitBreaker(upstream, service.breaker, clock=clock, now=now, signal=signal)
            for service in config.services.values()
            for upstream in service.upstreams
        }

    def __repr__(self) -> str:
        closed = sum(breaker.is_closed for breaker in self._breakers.values())
        return f"<Breakers: {closed} of {len(self._breakers)} closed>"

    def of(self, upstream: Endpoint) -> CircuitBreaker:
        """The breaker of one configured address; KeyError for any other."""
        return self._breakers[upstream]

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the moments of every breaker after the system clock was set."""
        for breaker in self._breakers.values():
            breaker.correct(moment)

    def view(self, upstream: Endpoint) -> BreakerView:
        """The breaker of one configured address as it is now: what the board asks for."""
        return self._breakers[upstream].view()

    def traffic(self, upstream: Endpoint) -> TrafficView:
        """What requests met at one configured address: what the board asks for."""
        return self._breakers[upstream].traffic()
