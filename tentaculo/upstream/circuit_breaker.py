"""Circuit breakers: when requests to an endpoint are paused. Pure; the clocks are passed in.

A breaker opens when an endpoint seems dead: connections fail, responses are broken, or nothing comes in time. A response
shows that the endpoint is alive, whatever its status; a 5xx is counted as a failed request and no more, unless the route
lists it. A time-out may be a matter of its request, so time-outs count only while nothing else of the endpoint, a request
or a probe, has succeeded since the first of them. Probes do nothing else here.

    closed --(failures in a row, or too large a share)--> open --(open_for seconds)--> half open --(response)--> closed
                                                           ^-----------(failure)-----------'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

from tentaculo.config import services
from tentaculo.config.schema import Config
from tentaculo.model.health import BreakerState, BreakerView, Counts, Endpoint, Outcome, TrafficView
from tentaculo.model.reason import Reason, because

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_CLOSED = BreakerState.CLOSED
_SUCCESS = Outcome.SUCCESS

_ROW_LASTS = 0.5
"""Seconds that failures in a row must last if many requests succeeded shortly before."""
_TRIAL_LASTS = 10.0
"""Seconds after which a trial without an outcome is followed by another, or `open_for` if that is longer."""
_STEPS = 10
"""Marks that a window keeps: it moves in tenths of its length."""

Signal = Callable[[Endpoint, bool], None]
"""Called with an endpoint, and whether a request there succeeded."""


NoteChange = Callable[[Endpoint, BreakerState, Reason], None]
"""Called with an endpoint, whether its breaker is open or closed now, and why."""


def _no_change(_: Endpoint, __: BreakerState, ___: str) -> None:
    """Nobody listens."""


def _no_signal(_: Endpoint, __: bool) -> None:
    pass


class SlidingWindow:
    """The requests of the last `span` seconds, to a tenth of it.

    It begins with its first mark: nothing is counted, and no clock is read, while all requests succeed. The caller counts
    the successes in a plain number; the window keeps what that number was at a few moments.
    """

    __slots__ = ("_failed", "_marks", "span")

    def __init__(self, span: float) -> None:
        self.span = span
        """Seconds that count."""
        self._failed = 0
        # When, and the two counts as they were just before.
        self._marks: deque[tuple[float, int, int]] = deque()

    def __repr__(self) -> str:
        return f"<SlidingWindow of {self.span:g} s, {len(self._marks)} marks>"

    def note_failure(self, moment: float, ok: int) -> None:
        """Count a failed request; `ok` requests have succeeded until now."""
        self.mark(moment, ok)
        self._failed += 1

    def mark(self, moment: float, ok: int) -> None:
        """Count from now on, if not from earlier; `ok` requests have succeeded until now."""
        marks = self._marks
        self._forget(moment)
        if not marks or moment - marks[-1][0] >= self.span / _STEPS:
            marks.append((moment, ok, self._failed))

    def counts(self, moment: float, ok: int) -> Counts:
        """The requests in the window at `moment`; `ok` requests have succeeded until now."""
        self._forget(moment)
        if not self._marks:
            return Counts()
        _, ok_before, failed_before = self._marks[0]
        return Counts(ok - ok_before, self._failed - failed_before)

    def clear(self) -> None:
        """Forget all requests."""
        self._marks.clear()

    def _forget(self, moment: float) -> None:
        marks = self._marks
        while marks and moment - marks[0][0] >= self.span:
            marks.popleft()


class CircuitBreaker:
    """The breaker of one endpoint.

    It opens after `rules.failures` failures in a row, or when as many, and at least `rules.rate` of at least
    `rules.requests` requests, within `rules.window` seconds failed, and refuses for `rules.open_for` seconds. Then exactly
    one request, the trial, passes, and its outcome closes the breaker or opens it again. If the trial has no outcome
    after ten seconds, or `open_for` if that is longer, another one passes.

    If `rules.requests` requests have succeeded since the window began, so that the share is meaningful, failures in a row
    must also last half a second: of many requests, some of which fail, a few do so in a row by chance.

    Every request that passes has a ticket and reports with it. Each opening and each trial makes new tickets, so that a
    request from before, which ends late, is counted but neither closes the breaker nor keeps it open.

    `signal` is called with every failed request, and with a success after a failure or while probes fail. `clock` is
    monotonic, in seconds; `now` gives the time of day for people. Neither is read while requests succeed and the probes
    pass.
    """

    __slots__ = (
        *("_clock", "_now", "_signal", "_note_change", "_state", "_ticket", "_until", "_opened_at", "_reason"),
        *("_failed", "_failures", "_count", "_timeouts", "_row_began", "_window", "_is_failing", "_has_passed_probe"),
        *("_last_failure", "closed_ticket", "is_watchful", "rules", "succeeded", "upstream"),
    )

    def __init__(
        self,
        upstream: Endpoint,
        rules: services.BreakerSettings,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        signal: Signal = _no_signal,
        note_change: NoteChange = _no_change,
    ) -> None:
        self.upstream = upstream
        self._note_change = note_change
        self.rules = rules
        self._clock = clock
        self._now = now
        self._signal = signal
        self._state = _CLOSED
        self._ticket = self.closed_ticket = 1
        """The ticket of every request while it is closed; `closed_ticket` is 0 while it is not."""
        self.succeeded = 0
        """Requests that succeeded. A success while it is not `is_watchful` may be counted here without `record`."""
        self._failed = 0
        # Failures in a row, how many of them are time-outs, and when the first of them was.
        self._count = 0
        self._timeouts = 0
        self._row_began = 0.0
        # All failed requests, and those that count for the breaker's share.
        self._window = SlidingWindow(rules.window)
        self._failures = SlidingWindow(rules.window)
        # When the next trial may pass, unless closed.
        self._until = 0.0
        # Whether probes find the endpoint down.
        self._is_failing = False
        # Whether a probe has succeeded since the breaker opened.
        self._has_passed_probe = False
        self.is_watchful = False
        """Whether a success changes anything: the breaker is not closed, failures in a row, or failing probes."""
        self._opened_at: datetime | None = None
        self._last_failure: datetime | None = None
        self._reason: Reason | None = None

    def __repr__(self) -> str:
        view = self.view()
        waits = f", trial in {view.retry_after:.1f} s" if view.state is BreakerState.OPEN else ""
        return f"<CircuitBreaker {view.state}, {view.failure_count} of {self.rules.failures} failures{waits}>"

    @property
    def is_closed(self) -> bool:
        """Whether requests pass freely."""
        return self._state is _CLOSED

    def try_acquire(self) -> int:
        """A ticket if a request may go to the endpoint now, else 0. Each ticket is reported with `record`."""
        if self._state is _CLOSED:
            return self._ticket
        moment = self._clock()
        if moment < self._until:
            return 0
        self._state = BreakerState.HALF_OPEN
        self._until = moment + max(self.rules.open_for, _TRIAL_LASTS)
        self._ticket += 1
        return self._ticket

    def would_admit(self) -> bool:
        """Whether `try_acquire` would give a ticket now."""
        return self._state is _CLOSED or self._clock() >= self._until

    def record(self, ticket: int, outcome: Outcome, reason: str = "") -> None:
        """Take the outcome of one exchange; `reason` says in words why it failed.

        NEUTRAL changes no count, and releases a trial for the next request.
        """
        if outcome is _SUCCESS:
            self.succeeded += 1
            if self.is_watchful:
                self._succeed(ticket)
        elif outcome is Outcome.SERVER_ERROR:
            self._note_server_error(ticket)
        elif outcome is not Outcome.NEUTRAL:
            self._fail(ticket, reason, is_timeout=outcome is Outcome.TIMEOUT)
        elif self._state is BreakerState.HALF_OPEN and ticket == self._ticket:
            self._until = self._clock()

    def note_probe(self, *, is_failing: bool, is_healthy: bool) -> None:
        """Take the state of the endpoint by its probes: whether it is down, and whether the latest probe was healthy.

        A healthy probe makes the time-outs before it count no more. It ends the waiting time of an open breaker if the
        endpoint was down by its probes, or if time-outs opened it. While probes fail, every success of a request is
        signalled, because it contradicts them.
        """
        if is_healthy and self._state is _CLOSED:
            self._count, self._timeouts = self._count - self._timeouts, 0
        elif is_healthy:
            self._has_passed_probe = True
            if self._is_failing or self._timeouts:
                self._until = min(self._until, self._clock())
        if is_failing and not self._is_failing:
            self._window.mark(self._clock(), self.succeeded)
        self._is_failing = is_failing
        self._watch()

    def follow(self, rules: services.BreakerSettings) -> None:
        """Follow other rules from the next outcome on."""
        self.rules = rules
        self._window.span = self._failures.span = rules.window

    def retire(self) -> None:
        """Report nothing any more: the endpoint is no longer configured, and its last requests end by themselves."""
        self._signal, self._note_change = _no_signal, _no_change

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
        cause = self._reason
        words = None if cause is None else str(cause)
        return BreakerView(state, self._count, self._last_failure, words, retry_after, self._opened_at, cause)

    def traffic(self) -> TrafficView:
        """The counts of its requests: all, and those of the window."""
        return TrafficView(Counts(self.succeeded, self._failed), self._window.counts(self._clock(), self.succeeded))

    def _watch(self) -> None:
        self.is_watchful = self._is_failing or self._count > 0 or self._state is not _CLOSED

    def _succeed(self, ticket: int) -> None:
        self._revive(ticket)
        if self._is_failing:
            self._window.mark(self._clock(), self.succeeded - 1)
        self._watch()
        self._signal(self.upstream, True)

    def _note_server_error(self, ticket: int) -> None:
        self._failed += 1
        self._last_failure = self._now()
        self._revive(ticket)
        self._window.note_failure(self._clock(), self.succeeded)
        self._watch()
        self._signal(self.upstream, False)

    def _fail(self, ticket: int, reason: str, *, is_timeout: bool) -> None:
        self._failed += 1
        self._last_failure = self._now()
        if ticket == self._ticket and self._state is not BreakerState.OPEN:
            self._judge(reason, is_timeout=is_timeout)
        self._watch()
        self._signal(self.upstream, False)

    def _revive(self, ticket: int) -> None:
        """Note that the endpoint has responded."""
        if ticket == self._ticket and self._state is not BreakerState.OPEN:
            if self._state is BreakerState.HALF_OPEN:
                self._close()
            self._count = self._timeouts = 0

    def _judge(self, why: str, *, is_timeout: bool) -> None:
        """Count a failure, and open the breaker if it is one too many."""
        moment, rules = self._clock(), self.rules
        if self._state is BreakerState.HALF_OPEN and is_timeout and self._has_passed_probe:
            self._close()
        self._count += 1
        self._window.note_failure(moment, self.succeeded)
        if is_timeout:
            self._timeouts += 1
        else:
            self._failures.note_failure(moment, self.succeeded)
        if self._state is BreakerState.HALF_OPEN:
            self._open(moment, _because("trial_failed", why))
            return
        if self._count == 1:
            self._row_began = moment
        recent = self._window.counts(moment, self.succeeded)
        total = recent.ok + recent.failed
        failures = self._failures.counts(moment, self.succeeded).failed
        if self._count >= rules.failures and (recent.ok < rules.requests or moment - self._row_began >= _ROW_LASTS):
            self._open(
                moment, _because("one_failure" if self._count == 1 else "failures_in_a_row", why, count=self._count)
            )
        elif total >= rules.requests and failures >= max(rules.rate * total, rules.failures):
            self._open(moment, _because("requests_failed", why, failed=failures, requests=total, seconds=rules.window))

    def _close(self) -> None:
        if self._state is not _CLOSED:
            self._note_change(self.upstream, _CLOSED, because("responds_again"))
        self._state, self._opened_at = _CLOSED, None
        self.closed_ticket = self._ticket
        self._window.clear()
        self._failures.clear()
        self._count = self._timeouts = 0

    def _open(self, moment: float, reason: Reason) -> None:
        if self._opened_at is None:
            self._opened_at = self._now()
            self._note_change(self.upstream, BreakerState.OPEN, reason)
        self._state = BreakerState.OPEN
        self._ticket += 1
        self.closed_ticket = 0
        self._until = moment + self.rules.open_for
        self._reason = reason
        self._has_passed_probe = False


def _because(code: str, why: str, **values: object) -> Reason:
    """The reason of a code, and of the failure that was one too many where that has words."""
    return because(f"{code}_because", what=why, **values) if why else because(code, **values)


class PreparedBreakers(NamedTuple):
    """The breakers of a configuration, and the rules of those that get other ones."""

    breakers: dict[Endpoint, CircuitBreaker]
    changed: dict[Endpoint, services.BreakerSettings]
    gone: list[CircuitBreaker]
    """Those of endpoints that it does not have."""


class CircuitBreakers:
    """The breakers of all services, one for each endpoint.

    `clock` is monotonic, in seconds; `now` is the time of day; `signal` is that of each breaker.
    """

    def __init__(
        self, config: Config, clock: Callable[[], float], now: Callable[[], datetime], signal: Signal = _no_signal
    ) -> None:
        self.on_change: list[NoteChange] = []
        """Called when a breaker opens or closes, in the event loop, so they must not block."""
        self._clock, self._now, self._signal = clock, now, signal
        self._breakers: dict[Endpoint, CircuitBreaker] = {}
        self.use(self.prepare(config))

    def __repr__(self) -> str:
        closed = sum(breaker.is_closed for breaker in self._breakers.values())
        return f"<CircuitBreakers: {closed} of {len(self._breakers)} closed>"

    def prepare(self, config: Config) -> PreparedBreakers:
        """The breakers of a configuration: those of endpoints that are here already, and new ones. Changes nothing."""
        rules = {one: service.breaker for service in config.services.values() for one in service.upstreams}
        made = {one: self._breakers.get(one) or self._make(one, rules[one]) for one in rules}
        changed = {one: rules[one] for one, breaker in made.items() if breaker.rules != rules[one]}
        return PreparedBreakers(made, changed, [one for at, one in self._breakers.items() if at not in made])

    def _make(self, upstream: Endpoint, rules: services.BreakerSettings) -> CircuitBreaker:
        note = self._note_change
        return CircuitBreaker(upstream, rules, clock=self._clock, now=self._now, signal=self._signal, note_change=note)

    def use(self, prepared: PreparedBreakers) -> None:
        """Put what was prepared in place."""
        for breaker in prepared.gone:
            breaker.retire()
        for upstream, rules in prepared.changed.items():
            prepared.breakers[upstream].follow(rules)
        self._breakers = prepared.breakers

    def _note_change(self, upstream: Endpoint, state: BreakerState, reason: Reason) -> None:
        for listener in self.on_change:
            listener(upstream, state, reason)

    def of(self, upstream: Endpoint) -> CircuitBreaker:
        """The breaker of one configured endpoint; KeyError for any other."""
        return self._breakers[upstream]

    @property
    def breakers(self) -> Mapping[Endpoint, CircuitBreaker]:
        """The breaker of each configured endpoint."""
        return self._breakers

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the moments of every breaker after the system clock was set."""
        for breaker in self._breakers.values():
            breaker.correct(moment)

    def view(self, upstream: Endpoint) -> BreakerView:
        """The breaker of one configured endpoint as it is now."""
        return self._breakers[upstream].view()

    def traffic(self, upstream: Endpoint) -> TrafficView:
        """The counts of the requests of one configured endpoint."""
        return self._breakers[upstream].traffic()
