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
    """Remembers each service's counters over a minute. Probes and requests count alike here: one of each is one."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[datetime, Counts]]] = {}

    def __repr__(self) -> str:
        return f"<ErrorRates of {len(self._kept)} services>"

    def look(self, view: ServiceView, at: datetime) -> float | None:
        """The share, from 0 to 1, of what failed since a minute before `at`; None where nothing was met."""
        now = view.probes + view.traffic
        kept = self._kept.setdefault(view.name, deque())
        while len(kept) > 1 and kept[1][0] <= at - SPAN:
            kept.popleft()
        before = kept[0][1] if kept else now
        if not kept or at - kept[-1][0] >= STEP:
            kept.append((at, now))
        ok, failed = now.ok - before.ok, now.failed - before.failed
        return failed / (ok + failed) if ok + failed > 0 else None
