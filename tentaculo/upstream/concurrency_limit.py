"""How many requests of a service may be in flight, so that an overloaded service serves in time those that it is sent.

A service that gets more than it can serve is late with everything, since its backlog grows. A limit keeps the backlog
short: nearly everything that is let through is served in time, and the rest is refused at once.

The limit is learned by additive increase and multiplicative decrease (AIMD), with a deadline for the signal. It acts only
during an overload, which a round of responses shows by three things together. More than a tenth of them are late, and half
of them take longer than the slowest usually do: a route with a few slow requests among fast ones is not overloaded. What is
in flight has doubled, or grown by half, while rounds were late: a burst drains. It grew although no more is served: what is in flight
at a service that merely became slower grows as well, and as much more is served then, until both are steady.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable

from tentaculo.model.health import ConcurrencyView, Outcome

_SUCCESS = Outcome.SUCCESS
FLOOR = 4
"""The least limit that is learned."""
_TIMES, _MARGIN = 5.0, 0.2
"""A response is late after so many times what is usual, and not before so many seconds more than that: a machine that is
busy with something else delays fast services by as much."""
_SAMPLES, _FEWEST = 100, 20
"""Responses of which the 95th percentile is taken, and how many are enough at first."""
_WINDOW, _WINDOWS = 60.0, 15
"""Seconds from one sample of responses to the next, and of how many the median is taken."""
_ROUND, _RESPONSES = 0.1, 40
"""Seconds and responses that a round has at least. It is never shorter than the deadline."""
_LATE, _SLOW = 0.1, 0.5
"""Shares of the responses of a late round that are late, and that took longer than is usual."""
_GROWTH, _FASTER = 2, 1.4
"""Growth of what is in flight during late rounds that shows an overload, unless so many times more is served."""
_LEAST_GROWTH = 12
"""Requests in flight by which it has grown besides: fewer make no overload."""
_IN_LINE, _GROWTH_IN_LINE = 0.5, 1.5
"""The fastest response of a round takes more than this part of the slowest where all wait in one line. Then less growth is
enough: at a service that became slower, some are fast."""
_DECREASE, _LEAP = 0.7, 1.25
"""What the limit is multiplied by after a late round, and after one whose responses all took less than half a deadline."""
_USELESS = 0.5
"""Share of what was served before: where a lower limit leaves less, it only takes capacity away."""
_LONG = 10
"""Deadlines, and at least a second: so long after the last refusal or late round the limit ends, and a request that is
in flight for longer counts no more while requests would be refused."""
_MINUTES = 5
"""Minutes in which refused requests are counted for people."""


_NOTE_EVERY = 60.0
"""Seconds from one note of refused requests to the next."""

NoteShed = Callable[["ConcurrencyLimit", int], None]
"""Called with a limit and the number of requests refused since the last call, at most once a minute."""


def _no_note(_: ConcurrencyLimit, __: int) -> None:
    """Nobody listens."""


class ConcurrencyLimit:
    """The limit of one service, as it is configured. Moments are of one monotonic clock, in seconds."""

    __slots__ = ("_note_at", "_note_shed", "_noted", "_pending", "_recent", "in_flight", "limit", "shed")

    def __init__(self, limit: float, note_shed: NoteShed = _no_note) -> None:
        self._note_shed = note_shed
        # When it may be called again, and of how many refused requests it knows.
        self._note_at, self._noted = -math.inf, 0
        self.limit = limit
        """Requests in flight that are let through; infinity while none is refused."""
        self.in_flight = 0
        self.shed = 0
        """Requests refused so far."""
        self._pending: dict[Hashable, float] = {}
        # Minutes in which requests were refused, and how many.
        self._recent: deque[tuple[int, int]] = deque(maxlen=_MINUTES)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.in_flight} of {self.limit:g} in flight, {self.shed} shed>"

    @property
    def why(self) -> str:
        """Why a request is refused, in words."""
        return "it is configured"

    def may_enter(self, now: float) -> bool:
        """Whether one more request may be sent. One that may not is counted as refused."""
        if self.in_flight < self.limit:
            return True
        self.shed += 1
        minute = int(now // 60)
        before = self._recent.pop()[1] if self._recent and self._recent[-1][0] == minute else 0
        self._recent.append((minute, before + 1))
        if now >= self._note_at:
            self._note_shed(self, self.shed - self._noted)
            self._note_at, self._noted = now + _NOTE_EVERY, self.shed
        return False

    def enter(self, request: Hashable, now: float) -> None:
        """Count a request that is sent now."""
        self._pending[request] = now
        self.in_flight += 1

    def leave(self, request: Hashable) -> None:
        """Count `request` no longer, if it is counted."""
        if request in self._pending:
            del self._pending[request]
            self.in_flight -= 1

    def note_head(self, request: Hashable, route: RouteDeadline, now: float, own: float = 0.0) -> None:
        """Take note that the head of a response has come `now`, and its body is still to come.

        `own` is how many seconds of that the gateway itself has had the response: they say nothing of the service.
        """

    def note_end(
        self, request: Hashable, _route: RouteDeadline, _now: float, _outcome: Outcome, own: float = 0.0
    ) -> None:
        """Take note that the request has ended `now`, and how."""
        self.leave(request)

    def view(self, now: float) -> ConcurrencyView:
        """The limit as it is now."""
        minute = int(now // 60)
        recent = sum(count for at, count in self._recent if at > minute - _MINUTES)
        return ConcurrencyView(None if self.limit == math.inf else int(self.limit), self.in_flight, self.shed, recent)


class RouteDeadline:
    """How long the responses of one route usually take, and from when on one is late."""

    __slots__ = ("_is_set", "_samples", "_windows", "known_seconds", "limit", "next_sample", "seconds", "usual")

    def __init__(self, limit: ConcurrencyLimit, slow: float | None = None) -> None:
        """`limit` is that of the service; `slow` is the deadline in seconds, None for one that is learned."""
        self.limit = limit
        self._is_set = slow is not None
        self.usual = 0.0
        """The median of the 95th percentiles of the last samples, in seconds; 0 until one is known."""
        self.seconds = slow or math.inf
        """Seconds after which a response is late."""
        self.known_seconds = slow or 0.0
        """The same; 0 until it is known."""
        self._samples: list[float] = []
        self._windows: deque[float] = deque(maxlen=_WINDOWS)
        self.next_sample = 0.0
        """When the next response is to be learned from."""

    def __repr__(self) -> str:
        return f"<RouteDeadline: {self.usual:.3f} s usually, late after {self.seconds:.3f} s>"

    def learn(self, seconds: float, now: float) -> None:
        """Learn from a response that took `seconds`, at `now`."""
        samples = self._samples
        samples.append(seconds)
        if len(samples) >= (_SAMPLES if self._windows else _FEWEST):
            samples.sort()
            self._windows.append(samples[int(len(samples) * 0.95)])
            samples.clear()
            self.next_sample = now + _WINDOW
            self._set(sorted(self._windows)[len(self._windows) // 2])

    def relearn(self, seconds: float) -> None:
        """Forget what was usual: responses take `seconds` now, whatever is in flight."""
        self._windows.clear()
        self._windows.append(seconds)
        self._set(seconds)

    def _set(self, usual: float) -> None:
        self.usual = usual
        if not self._is_set:
            self.seconds = self.known_seconds = max(_TIMES * usual, usual + _MARGIN)


class LearnedLimit(ConcurrencyLimit):
    """The limit of one service, learned from its responses. It counts a request until the head of its response."""

    __slots__ = (
        "_allowed",
        "_calm_at",
        "_deadline",
        "_fastest",
        "_late",
        "_lost",
        "_near",
        "_overdue",
        "_peak",
        "_peak_before",
        "_rate",
        "_refused",
        "_round_end",
        "_seen",
        "_since",
        "_slow",
        "_slowest",
        "_start",
        "_total",
    )

    def __init__(self, note_shed: NoteShed = _no_note) -> None:
        super().__init__(math.inf, note_shed)
        # The most that was in flight in the round that later ones are compared with, and responses a second in it.
        self._peak_before: int | None = None
        self._rate = 0.0
        # Requests in flight that count no more, and when they were sent.
        self._overdue: dict[Hashable, float] = {}
        # Requests that ended late without a response since then: part of the backlog, though not in flight.
        self._lost = 0
        # The mean deadline of the responses of the last round, which may be of several routes.
        self._deadline = 0.0
        # Requests from before met another limit, and do not count.
        self._since = 0.0
        # When the limit ends unless a request is refused or a round is late before.
        self._calm_at = 0.0
        # The round: when it began and may end, and the most that was in flight.
        self._start = self._round_end = 0.0
        self._peak = 0
        # Its responses: all, and those that took longer than usual, than half of the deadline, and than the deadline.
        self._seen = self._slow = self._near = self._late = 0
        # Seconds that they took, and might have taken, and those of the fastest and the slowest.
        self._total = self._allowed = self._slowest = 0.0
        self._fastest = math.inf
        # Whether a request was refused meanwhile.
        self._refused = False

    @property
    def why(self) -> str:
        """Why a request is refused, in words."""
        return f"responses took longer than {self._deadline:.3g} s"

    def may_enter(self, now: float) -> bool:
        """Whether one more request may be sent. One that may not is counted as refused."""
        self._end_if_calm(now)
        long = max(1.0, _LONG * self._deadline)
        while self.in_flight >= self.limit and self._pending:
            oldest, began = next(iter(self._pending.items()))
            if now - began < long:
                break
            # At an endpoint that hangs, or of a client that is slow to send its body.
            self._overdue[oldest] = began
            super().leave(oldest)
        if super().may_enter(now):
            return True
        self._refused = True
        self._calm_at = now + long
        return False

    def enter(self, request: Hashable, now: float) -> None:
        """Count a request that is sent now."""
        self._pending[request] = now
        self.in_flight += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight

    def leave(self, request: Hashable) -> None:
        """Count `request` no longer, if it is counted."""
        super().leave(request)
        self._overdue.pop(request, None)

    def note_head(self, request: Hashable, route: RouteDeadline, now: float, own: float = 0.0) -> None:
        """Learn from a response: from its head on the client's pace counts as well."""
        self.note_end(request, route, now, _SUCCESS, own)

    def note_end(self, request: Hashable, route: RouteDeadline, now: float, outcome: Outcome, own: float = 0.0) -> None:
        """Learn from a response that has come `now`, or from a request that ended without one."""
        try:
            began = self._pending.pop(request)
            self.in_flight -= 1
        except KeyError:
            if request not in self._overdue:
                return
            began = self._overdue.pop(request)
        if began < self._since:
            return
        seconds = now - began - own
        if outcome is not _SUCCESS:
            # Nobody waits for it any more, or a failure came, which is quick or slow for its own reasons.
            if seconds > route.seconds and (outcome is Outcome.TIMEOUT or outcome is Outcome.NEUTRAL):
                self._lost += 1
            return
        if not self._seen:
            self._start = now
        self._seen += 1
        self._total += seconds
        if seconds < self._fastest:
            self._fastest = seconds
        if seconds > route.usual:
            self._slow += 1
            if seconds > self._slowest:
                self._slowest = seconds
            if seconds > route.seconds * 0.5:
                self._near += 1
                if seconds > route.seconds:
                    self._late += 1
        self._allowed += route.known_seconds
        if now >= route.next_sample and (self.limit == math.inf or self.in_flight <= max(FLOOR, self.limit / 2)):
            route.learn(seconds, now)
        if now >= self._round_end:
            self._end_round(route, now)

    def _begin_round(self, now: float) -> None:
        self._start, self._round_end = now, now + _ROUND
        self._peak = self.in_flight
        self._seen = self._slow = self._near = self._late = 0
        self._total = self._allowed = self._slowest = 0.0
        self._fastest = math.inf
        self._refused = False

    def _end_round(self, route: RouteDeadline, now: float) -> None:
        """End the round if it has lasted long enough. `route` is that of the last response."""
        deadline = self._allowed / self._seen
        seconds, least = now - self._start, max(_ROUND, deadline)
        is_acting = self.limit != math.inf
        # A limit that takes nearly all capacity away leaves few responses to show it.
        is_enough = self._seen >= _RESPONSES or (is_acting and seconds * self._rate >= 4 * _RESPONSES)
        if seconds < least or not is_enough:
            self._round_end = max(self._start + least, now + _ROUND / 10)
            return
        self._deadline = deadline
        is_late = self._late > _LATE * self._seen and self._slow > _SLOW * self._seen
        if is_acting:
            self._adapt(route, now, is_late=is_late)
        else:
            self._watch(now, is_late=is_late)
        self._begin_round(now)

    def _watch(self, now: float, *, is_late: bool) -> None:
        """Begin to limit where late rounds show an overload."""
        if not is_late:
            self._peak_before = None
            return
        rate, backlog = self._seen / (now - self._start), self.in_flight + self._lost
        before = self._peak_before
        if before is None or backlog < before or rate > _FASTER * self._rate:
            self._rate, self._peak_before, self._lost = rate, self._peak, 0
        elif (
            backlog
            >= (_GROWTH_IN_LINE if self._fastest > _IN_LINE * self._slowest else _GROWTH) * before + _LEAST_GROWTH
        ):
            self._rate = rate
            self._cut(now)

    def _adapt(self, route: RouteDeadline, now: float, *, is_late: bool) -> None:
        """Change the limit while it acts, if more than half of it is in use."""
        self._end_if_calm(now)
        if self._peak <= self.limit / 2:
            return
        if is_late and self._seen < _USELESS * self._rate * (now - self._start):
            route.relearn(self._total / self._seen)
            self._end()
        elif is_late:
            self._cut(now)
        elif self._refused:
            self.limit = max(self.limit + 1, 0 if self._near else int(self.limit * _LEAP))

    def _cut(self, now: float) -> None:
        """Lower the limit. By Little's law no more than what is served within a deadline can be in time."""
        served = self._seen / (now - self._start) * self._deadline
        self.limit = max(FLOOR, int(min(self.limit, self.in_flight, served) * _DECREASE))
        self._since, self._calm_at = now, now + max(1.0, _LONG * self._deadline)

    def view(self, now: float) -> ConcurrencyView:
        """The limit as it is now."""
        self._end_if_calm(now)
        return super().view(now)

    def _end_if_calm(self, now: float) -> None:
        if self.limit != math.inf and now > self._calm_at:
            self._end()

    def _end(self) -> None:
        """Limit no more."""
        self.limit, self._since, self._peak_before = math.inf, 0.0, None
