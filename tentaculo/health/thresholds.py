"""Rise and fall thresholds of one endpoint: its health changes after several equal probes in a row. Pure."""

from __future__ import annotations

from tentaculo.model.endpoint import Counts
from tentaculo.model.health import Health, ProbeResult

# From worst to best. UNKNOWN, a probe that the gateway could not send, is below all others.
_ORDER = (Health.UNKNOWN, Health.DOWN, Health.DEGRADED, Health.UP)


class ConsecutiveThreshold:
    """The confirmed health of one endpoint, and how many probes contradict it.

    The first probe counts at once. After that the health changes after `failures` probes in a row with a worse result,
    or `successes` with a better one, and becomes that of the last of them.
    """

    __slots__ = ("_better", "_failures", "_last", "_successes", "_worse", "counts", "health")

    def __init__(self, failures: int, successes: int) -> None:
        self._failures = failures
        self._successes = successes
        self._worse = 0
        self._better = 0
        self._last: ProbeResult | None = None
        self.health = Health.UNKNOWN
        self.counts = Counts()

    def __repr__(self) -> str:
        return f"<ConsecutiveThreshold {self.health}, {self._worse} worse, {self._better} better>"

    @property
    def last(self) -> ProbeResult | None:
        """The latest probe, None before the first."""
        return self._last

    @property
    def is_settled(self) -> bool:
        """Whether the latest probe agrees with the confirmed health."""
        return not self._worse and not self._better

    @property
    def reason(self) -> str:
        """The reason of the latest probe, and how many more are needed where it is not confirmed yet."""
        if self._last is None:
            return "not probed yet"
        if self.is_settled:
            return self._last.reason
        count, needed = (self._worse, self._failures) if self._worse else (self._better, self._successes)
        return f"{self._last.reason} ({count} of {needed} in a row before it counts as {self._last.health})"

    def add(self, result: ProbeResult) -> None:
        """Record the next result. A probe that the gateway could not send counts as neither success nor failure."""
        is_healthy, is_down = result.health.is_healthy, result.health is Health.DOWN
        self.counts = Counts(self.counts.ok + is_healthy, self.counts.failed + is_down)
        difference = _ORDER.index(result.health) - _ORDER.index(self.health)
        is_first = self.health is Health.UNKNOWN
        self._last = result
        self._worse = self._worse + 1 if difference < 0 else 0
        self._better = self._better + 1 if difference > 0 else 0
        if is_first or self._worse >= self._failures or self._better >= self._successes:
            self.health = result.health
            self._worse = self._better = 0
