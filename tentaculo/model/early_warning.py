"""Early warnings: what a signal of a service is about to do, and what became of it. Frozen values, and their sentences.

Times are UTC. Values are in the unit of the signal: seconds for latencies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from math import log
from typing import Final, NamedTuple

from tentaculo.model.text import format_time

DAYS: Final = 90
"""Days for which warnings are counted and kept."""
SIGNALS: Final = {
    "requests_p95": "The p95 of requests",
    "requests_median": "The median of requests",
    "probes_p95": "The p95 of probes",
    "probes_median": "The median of probes",
}
"""What the latencies are called in a sentence. The other signals are gauges: numbers of a health response."""
_GAUGES: Final = ("gauge:", "gauge_low:")


def name_of(signal: str) -> str:
    """What a signal is called in the middle of a sentence."""
    name = SIGNALS.get(signal)
    return name[0].lower() + name[1:] if name else signal.partition(":")[2] or signal


def is_lower_limit(signal: str) -> bool:
    """Whether the limit of a signal is a lower one, as that of free memory is."""
    return signal.startswith("gauge_low:")


class BinLatency(NamedTuple):
    """The latencies of five minutes, or of an hour, in seconds."""

    samples: int
    median: float
    p95: float


class GaugeValue(NamedTuple):
    """A number of the health responses of a service in one bin."""

    service: str
    signal: str
    start: int
    """Seconds since 1970."""
    value: float


@dataclass(frozen=True, slots=True)
class EarlyWarning:
    """One warning. `service`, `signal` and `opened_at` are its name."""

    service: str
    signal: str
    """One of `SIGNALS`, or `gauge:` and the path of a number in the health response; `gauge_low:` with a lower limit."""
    opened_at: datetime
    rule: str
    """`trend` or `level`."""
    level: float
    """The value when it opened."""
    usual: float
    limit: float
    since: datetime
    """When the trend began."""
    per_minute: float = 0.0
    """How much the value has changed in a minute since then; 0 where only its level is known."""
    expected_at: datetime | None = None
    """When it reaches the limit at that rate; None where only its level is known."""
    earliest_at: datetime | None = None
    latest_at: datetime | None = None
    outcome: str = "open"
    """`open`, `reached`, `ended` or `unknown`."""
    ended_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing has become of it yet."""
        return self.outcome == "open"

    @property
    def gauge(self) -> str:
        """The path of the number in the health response; empty for a latency."""
        return self.signal.partition(":")[2] if self.signal.startswith(_GAUGES) else ""

    @property
    def way(self) -> int:
        """The part of the way from usual to the limit in percent, on the scale that the rule uses."""
        level, usual, limit = self.level, self.usual, self.limit
        if not self.gauge:
            if min(level, usual, limit) <= 0:
                return 0
            level, usual, limit = log(level), log(usual), log(limit)
        is_passed = usual <= limit if is_lower_limit(self.signal) else usual >= limit
        return 0 if is_passed else max(0, round(100 * (level - usual) / (limit - usual)))


@dataclass(slots=True)
class WarningCounts:
    """What has become of warnings since the start of the gateway, for its metrics."""

    open: int = 0
    opened: int = 0
    ended: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("reached", "ended", "unknown"), 0))
    """By outcome."""


def sentence(warning: EarlyWarning) -> str:
    """Why the warning opened, in words."""
    show = _number if warning.gauge else _milliseconds
    signal, limit = warning.gauge or SIGNALS.get(warning.signal, "A signal"), show(warning.limit)
    if warning.expected_at is None or warning.earliest_at is None or warning.latest_at is None:
        usual = show(warning.usual)
        return f"{signal} is {show(warning.level)}: {warning.way} % of the way from its usual {usual} to {limit}."
    day = warning.opened_at
    return (
        f"{signal} has {'fallen' if warning.per_minute < 0 else 'grown'} by {show(abs(warning.per_minute))} a minute"
        f" since {format_time(warning.since, day)}; if that continues it passes {limit} at about"
        f" {format_time(warning.expected_at, day)} ({warning.earliest_at:%H:%M} to {warning.latest_at:%H:%M})."
    )


def outcome_sentence(warning: EarlyWarning) -> str:
    """What became of the warning, in words."""
    if warning.ended_at is None:
        return "It is still open."
    at = format_time(warning.ended_at, warning.opened_at)
    match warning.outcome:
        case "reached":
            return f"The limit was reached at {at}."
        case "ended":
            return f"It ended at {at} without the limit."
        case _:
            return f"What became of it is not known: at {at} it was not measured any more, or had another limit."


def _number(value: float) -> str:
    """Three digits: `0.41`, `1,230`, `4,100,000`."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded.is_integer() else f"{rounded:g}"


def _milliseconds(seconds: float) -> str:
    """`0.41 ms`, `12 ms`, `1.8 s`."""
    milliseconds = seconds * 1000
    if milliseconds >= 1000:
        return f"{seconds:.3g} s"
    return f"{milliseconds:.2g} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"
