"""The share of failures in the last minute, from counters that only ever grow. Pure; the time is passed in."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from tentaculo.model.endpoint import Counts
from tentaculo.model.health import ServiceView

SPAN = timedelta(minutes=1)
"""How far back a share looks."""
STEP = timedelta(seconds=10)
"""How often a counter is kept: a minute costs six of them."""


class ErrorRates:
    """Keeps each service's counters of the last minute. A probe counts as much as a request."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[datetime, Counts]]] = {}

    def __repr__(self) -> str:
        return f"<ErrorRates of {len(self._kept)} services>"

    def update(self, view: ServiceView, at: datetime) -> float | None:
        """The share, 0 to 1, of probes and requests that failed in the minute before `at`; None where there were none."""
        now = view.probes + view.traffic
        kept = self._kept.setdefault(view.name, deque())
        while len(kept) > 1 and kept[1][0] <= at - SPAN:
            kept.popleft()
        before = kept[0][1] if kept else now
        if not kept or at - kept[-1][0] >= STEP:
            kept.append((at, now))
        ok, failed = now.ok - before.ok, now.failed - before.failed
        return failed / (ok + failed) if ok + failed > 0 else None
