"""How one of several addresses stands beside the others, so that the better ones are preferred. Pure; the clock is passed in.

A breaker looks at one address alone, and gives it a rest only where going on is of little use. With others at hand less
will do: an address that fails much more often than they do, or that its probes find down while no request shows the
opposite, is passed over as long as another is well. It is a preference only: with none well, all are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tentaculo.model.endpoint import Outcome

_WEIGHT = 1 / 16
"""Of the latest request in the share of failures: it remembers about as many requests."""
_MUCH = 0.28
"""Share of failures that is much: more than five failures in a row make, so that the breaker, which says why, is first."""
_TIMES = 3.0
"""How many times the share of the best of the others it must be."""
_PROBATION = 0.25
"""Share of failures to begin with after a rest: a failure or two more, and there is another."""
_FORGIVEN = 0.02
"""Share of failures at which all is forgotten: after about 40 good requests in a row."""
_REST, _LONGEST_REST = 1.0, 30.0
"""Seconds of the shortest rest, and of the longest."""
_PART = 1 / 8
"""A rest lasts for this part of the time since the first of those that follow on each other: whoever was bad for a
minute is looked at again within eight seconds."""

_SUCCESS = Outcome.SUCCESS
_FAILURE = Outcome.FAILURE


class OutlierDetector:
    """The standing of one address. `clock` is monotonic, in seconds; it is not read while all is well."""

    __slots__ = ("_bad_since", "_clock", "_until", "failing", "has_worked", "is_preferred", "probe_failing")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        # When the first of the rests began that follow on each other; 0 where there was none.
        self._bad_since = 0.0
        self.failing = 0.0
        """Share of failures among its latest requests, from 0 to 1, the latest counting most."""
        self.has_worked = False
        """Whether a request has gone well since the last probe."""
        self.probe_failing = False
        """Whether its probes find it down, and no request has shown the opposite since."""
        self.is_preferred = True
        """Whether there was nothing against it at the last look; `refresh` it where there was."""

    def __repr__(self) -> str:
        ill = ", ill by its probes" if self.probe_failing else ""
        rests = f", rests for {self._until - self._clock():.1f} s" if self._until else ""
        return f"<Standing: {self.failing:.0%} fail{ill}{rests}>"

    def note_outcome(self, outcome: Outcome, others: Iterable[OutlierDetector]) -> None:
        """A request has ended here; `others` are the standings of the service's other addresses."""
        if outcome is _SUCCESS:
            self.has_worked = True
            if self.failing or self.probe_failing:
                self._succeed()
        elif outcome is _FAILURE:
            self.failing += (1 - self.failing) * _WEIGHT
            if not self._until and self.failing >= max(_MUCH, _TIMES * min(other.failing for other in others)):
                moment = self._clock()
                self._bad_since = self._bad_since or moment
                self._until = moment + min(max(_REST, (moment - self._bad_since) * _PART), _LONGEST_REST)
                self.is_preferred = False

    def note_probe(self, *, is_well: bool) -> None:
        """A probe has ended. One that fails counts only if no request has gone well since the probe before."""
        self.probe_failing = not is_well and not self.has_worked
        self.has_worked = False
        self.is_preferred = not self.probe_failing and not self._until

    def refresh(self) -> bool:
        """Whether there is nothing against it now: its rest may be over."""
        if self._until and self._clock() >= self._until:
            self._until = 0.0
            self.failing = min(self.failing, _PROBATION)
        self.is_preferred = not self.probe_failing and not self._until
        return self.is_preferred

    def _succeed(self) -> None:
        self.failing -= self.failing * _WEIGHT
        if self.failing < _FORGIVEN:
            self.failing, self._bad_since = 0.0, 0.0
        if self.probe_failing:
            self.probe_failing = False
            self.is_preferred = not self._until
