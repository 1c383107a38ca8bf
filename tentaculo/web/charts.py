"""The page's small charts, as the paths of inline SVG. Pure: what is drawn is made of numbers only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tentaculo.model.history import HOUR, Period, Tally, availability
from tentaculo.web import wording

WIDTH, HEIGHT = 240, 36
_HOURS = 24
_STEP, _BAR = WIDTH // _HOURS, WIDTH // _HOURS - 2
_LEAST = 3
"""How high the lowest bar is: an hour in which something was met must not look like one in which nothing was."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Two paths on a canvas of `WIDTH` by `HEIGHT`, and what they show in words."""

    bars: str
    """Latency by the hour, growing from below."""
    faults: str
    """The part that failed, hanging from above: told apart by place, not by colour alone."""
    text: str


def day(hours: Mapping[int, Period], last: int, latency: Callable[[Period], Tally]) -> Chart:
    """The 24 hours up to that which begins at `last`; `hours` are by their start, `latency` chooses whose is drawn.

    Bars show the 95th percentile, the highest of the day at full height.
    """
    starts = [last - (_HOURS - 1 - place) * HOUR for place in range(_HOURS)]
    found = [hours.get(start) for start in starts]
    slowest = [latency(hour).latency.percentiles(0.95)[0] if hour else None for hour in found]
    faults = [_fault(hour) if hour else 0.0 for hour in found]
    most = max((seconds for seconds in slowest if seconds is not None), default=0.0)
    bars = (
        _bar(place, HEIGHT, -max(_LEAST, round(HEIGHT * seconds / most)))
        for place, seconds in enumerate(slowest)
        if seconds is not None
    )
    hanging = (_bar(place, 0, max(_LEAST, round(HEIGHT * share))) for place, share in enumerate(faults) if share)
    return Chart("".join(bars), "".join(hanging), _text(starts, slowest, most, faults))


def _bar(place: int, base: int, height: int) -> str:
    return f"M{place * _STEP} {base}v{height}h{_BAR}v{-height}z"


def _fault(hour: Period) -> float:
    """The greater part that failed, of probes or of requests."""
    return max(1 - share for share in (availability([hour]).share, hour.requests.share_ok, 1.0) if share is not None)


def _text(starts: list[int], slowest: list[float | None], most: float, faults: list[float]) -> str:
    said = []
    if most:
        said.append(f"Slowest at {_clock(starts[slowest.index(most)])}: 95 % within {wording.latency(most)}.")
    failing = [start for start, share in zip(starts, faults, strict=True) if share]
    if len(failing) == 1:
        said.append(f"Failures in the hour from {_clock(failing[0])}.")
    elif failing:
        said.append(f"Failures in {len(failing)} hours, last in that from {_clock(failing[-1])}.")
    elif most:
        said.append("No failures.")
    return " ".join(said)


def _clock(start: int) -> str:
    return f"{datetime.fromtimestamp(start, UTC):%H:%M} UTC"
