"""What probes have shown of one address: it changes only after several of them in a row agree. Pure."""

from __future__ import annotations

from tentaculo.model.endpoint import Counts
from tentaculo.model.health import Health, ProbeResult

# From bad to good. That the gateway could not ask is the least that can be known.
_ORDER = (Health.UNKNOWN, Health.DOWN, Health.DEGRADED, Health.UP)


class ConsecutiveThreshold:
    """The settled health of one address, and how far probes are from changing it.

    The first probe settles at once, so that nothing is told late. After that it takes `failures` probes in a row that
    find it worse than settled, or `successes` that find it better; the last of them then is what is believed.
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
        return f"<Streak {self.health}, {self._worse} worse, {self._better} better>"

    @property
    def last(self) -> ProbeResult | None:
        """The latest probe, None before the first."""
        return self._last

    @property
    def is_settled(self) -> bool:
        """Whether the latest probe found what is believed."""
        return not self._worse and not self._better

    @property
    def reason(self) -> str:
        """What the latest probe found, and where it is not believed yet, what that takes."""
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
