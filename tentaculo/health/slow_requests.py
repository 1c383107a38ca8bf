"""Whether the requests of a service take much longer than usual, which makes it degraded though its probes pass. Pure."""

from __future__ import annotations

from tentaculo.model.reason import Reason, because
from tentaculo.model.service_rates import RecentRates

_LEAST = 20
"""Latencies of five minutes that are needed: a percentile of fewer says nothing."""
_TIMES, _ADDED = 4.0, 0.05
"""A service is slow if 95 % of its requests take so many times what is usual, and so many seconds longer."""
_RECOVERED = 2.0
"""It is slow until they take less than so many times what is usual."""
HOLD = 120.0
"""Seconds for which it must be slow before it counts."""


class SlowRequests:
    """The rule for one service."""

    __slots__ = ("_limit", "_slow_since")

    def __init__(self, limit: float | None) -> None:
        """`limit` is the number of seconds above which the service is slow whatever is usual; None for no limit."""
        self._limit = limit
        self._slow_since: float | None = None

    def judge(self, moment: float, recent: RecentRates, usual: float | None, *, is_slow: bool) -> Reason | None:
        """Why the service is slow at `moment`, in seconds of a monotonic clock; None where it is not.

        `usual` is what 95 % of its requests usually take, in seconds, None where that is not known. `is_slow` is whether
        it counted as slow until now.
        """
        latency = recent.requests.latency
        p95 = latency.percentile(0.95) if latency.count >= _LEAST else None
        if p95 is None:
            self._slow_since = None
            return None
        reason = self._reason(p95, usual, is_slow=is_slow)
        if reason is None:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = moment
        has_lasted = self._slow_since is not None and moment - self._slow_since >= HOLD
        return reason if is_slow or has_lasted else None

    def _reason(self, p95: float, usual: float | None, *, is_slow: bool) -> Reason | None:
        took = round(p95 * 1000)
        if self._limit is not None and p95 > self._limit:
            return because("requests_over_limit", milliseconds=took, limit=round(self._limit * 1000))
        least = None if usual is None else usual * _RECOVERED if is_slow else max(usual * _TIMES, usual + _ADDED)
        if usual is not None and least is not None and p95 >= least:
            return because("requests_slower_than_usual", milliseconds=took, usual=round(usual * 1000))
        return None
