"""Outlier detection: which of a service's endpoints is avoided for a time, as its requests or probes fail. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tentaculo.model.health import Endpoint, Health, Outcome

_WEIGHT = 1 / 16
"""Weight of the latest request in the share of failures, which so covers about 16 requests."""
_MUCH = 0.28
"""Share of failures that ejects an endpoint (six failures in a row from zero). That is above the breaker's five, so where
the breaker counts them too, it opens first and records the reason."""
_TIMES = 3.0
"""The share must be this many times that of the best of the others."""
_PROBATION = 0.25
"""Share of failures with which an endpoint starts after an ejection: one or two more failures eject it again."""
_FORGIVEN = 0.02
"""Share of failures below which it becomes 0: after about 40 successes in a row."""
_SHORTEST, _LONGEST = 1.0, 30.0
"""Seconds of the shortest ejection, and of the longest."""
_PART = 1 / 8
"""An ejection lasts for this part of the time since the first of consecutive ones: an endpoint that failed for a minute
is tried again within eight seconds."""

_SUCCESS = Outcome.SUCCESS
_NEUTRAL = Outcome.NEUTRAL


class OutlierDetector:
    """The record of one endpoint. `clock` is monotonic, in seconds; it is not read while requests succeed."""

    __slots__ = ("_bad_since", "_clock", "_until", "failing", "has_worked", "is_preferred", "probe_failing")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = 0.0
        # When the first of consecutive ejections began; 0 without one.
        self._bad_since = 0.0
        self.failing = 0.0
        """Share of failures among its latest requests, from 0 to 1, the latest counting most."""
        self.has_worked = False
        """Whether a request has succeeded since the last probe."""
        self.probe_failing = False
        """Whether its probes fail, and no request has succeeded since."""
        self.is_preferred = True
        """Whether it was neither ejected nor failing its probes at the last `refresh`."""

    def __repr__(self) -> str:
        probes = ", probes fail" if self.probe_failing else ""
        ejected = f", ejected for {self._until - self._clock():.1f} s" if self._until else ""
        return f"<OutlierDetector: {self.failing:.0%} fail{probes}{ejected}>"

    def note_outcome(self, outcome: Outcome, others: Iterable[OutlierDetector]) -> None:
        """Count a request; `others` are the detectors of the service's other endpoints."""
        if outcome is _SUCCESS:
            self.has_worked = True
            if self.failing or self.probe_failing:
                self._succeed()
        elif outcome is not _NEUTRAL:
            self.failing += (1 - self.failing) * _WEIGHT
            if not self._until and self.failing >= max(_MUCH, _TIMES * min(other.failing for other in others)):
                moment = self._clock()
                self._bad_since = self._bad_since or moment
                self._until = moment + min(max(_SHORTEST, (moment - self._bad_since) * _PART), _LONGEST)
                self.is_preferred = False

    def note_probe(self, *, is_healthy: bool) -> None:
        """Take the result of a probe. A failed one counts only if no request has succeeded since the previous probe."""
        self.probe_failing = not is_healthy and not self.has_worked
        self.has_worked = False
        self.is_preferred = not self.probe_failing and not self._until

    def refresh(self) -> bool:
        """End an ejection whose time is over. Returns whether the endpoint is preferred."""
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


class OutlierDetectors:
    """The records of the endpoints that are served."""

    def __init__(self) -> None:
        self._detectors: Mapping[Endpoint, OutlierDetector] = {}

    def __repr__(self) -> str:
        preferred = sum(detector.is_preferred for detector in self._detectors.values())
        return f"<OutlierDetectors: {preferred} of {len(self._detectors)} endpoints preferred>"

    def use(self, detectors: Mapping[Endpoint, OutlierDetector]) -> None:
        """Have these from now on."""
        self._detectors = detectors

    def note_probe(self, upstream: Endpoint, health: Health) -> None:
        """Take the result of a probe. One that could not be sent says nothing, nor does one of an endpoint not served."""
        if health is not Health.UNKNOWN and (detector := self._detectors.get(upstream)) is not None:
            detector.note_probe(is_healthy=health.is_healthy)
