"""The rules that turn probe results and requests into the health of a service. Pure.

probe results → thresholds of one endpoint → combined with its requests → aggregated over the endpoints of the service
    → root cause among the services that it depends on
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from graphlib import TopologicalSorter
from typing import NamedTuple

from tentaculo.config.schema import Config
from tentaculo.config.services import BreakerSettings
from tentaculo.model.health import BreakerState, BreakerView, Counts, DegradedKind, Health, ProbeResult, TrafficView
from tentaculo.model.reason import Reason, because
from tentaculo.model.service_rates import RecentRates

_ORDER = (Health.DOWN, Health.DEGRADED, Health.UP)
"""From worst to best."""
_LATEST = 10
"""Probes that decide whether an endpoint is failing; more where the thresholds are higher than three."""
_PART = 3
"""Probes of these with the other result from which on it is failing; more where the thresholds are higher."""


class ConsecutiveThreshold:
    """The confirmed health of one endpoint, and how many probes contradict it.

    The first probe counts at once. After that the health changes after `failures` probes in a row with a worse result,
    or `successes` with a better one, and becomes that of the last of them. Probes that the gateway could not send neither
    count nor interrupt these; after `failures` of them in a row the health is not known.

    Where one probe in two or three fails, neither number is reached. Such an endpoint is failing: degraded, whether it
    was up or down before. It is failing from the third contradicting probe among the last ten until only one of them
    contradicts. A confirmed change to or from down starts these ten again, so an outage that is over leaves no trace.
    """

    __slots__ = (
        "_assumed_reason",
        "_better",
        "_confirmed",
        "_confirmed_kind",
        "_failures",
        "_last_failure",
        "_recent",
        "_successes",
        "_unsent",
        "_worse",
        "counts",
        "is_failing",
        "last",
    )

    def __init__(self, failures: int, successes: int) -> None:
        self._failures = failures
        self._successes = successes
        self._worse = 0
        self._better = 0
        self._unsent = 0
        self.last: ProbeResult | None = None
        """The latest probe, None before the first."""
        self._last_failure = ""
        self._assumed_reason: str = because("not_probed")
        self._recent: deque[bool] = deque(maxlen=max(_LATEST, 3 * failures, 3 * successes))
        self._confirmed = Health.UNKNOWN
        self._confirmed_kind: DegradedKind | None = None
        self.is_failing = False
        self.counts = Counts()

    def __repr__(self) -> str:
        failing = ", failing" if self.is_failing else ""
        return f"<ConsecutiveThreshold {self._confirmed}, {self._worse} worse, {self._better} better{failing}>"

    @property
    def health(self) -> Health:
        """The health of the endpoint by its probes."""
        return Health.DEGRADED if self.is_failing else self._confirmed

    @property
    def finding(self) -> Finding:
        """The health of the endpoint by its probes, with its reason and kind."""
        if self.is_failing:
            return Finding(Health.DEGRADED, self.reason, kind=DegradedKind.FAILING)
        return Finding(self._confirmed, self.reason, kind=self._confirmed_kind)

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct the time of the latest probe after the system clock was set."""
        if self.last is not None:
            self.last = replace(self.last, checked_at=moment(self.last.checked_at))

    def restore(self, health: Health, kind: DegradedKind | None, reason: str) -> None:
        """Continue with the health from before a restart. Does nothing once there was a probe."""
        if self.last is None:
            self._confirmed, self._confirmed_kind = health, kind
            self._last_failure = reason if health is Health.DOWN else ""

    def assume(self, health: Health, kind: DegradedKind | None, reason: str) -> None:
        """Continue with the health that another gateway has found. The next probe here is compared with it."""
        self.last, self._worse, self._better, self._unsent, self.is_failing = None, 0, 0, 0, False
        self._recent.clear()
        self._assumed_reason = reason
        self.restore(health, kind, reason)

    def follow(self, failures: int, successes: int) -> None:
        """Count by other numbers from the next probe on."""
        if (failures, successes) != (self._failures, self._successes):
            self._failures, self._successes = failures, successes
            self._recent = deque(self._recent, maxlen=max(_LATEST, 3 * failures, 3 * successes))

    @property
    def is_settled(self) -> bool:
        """Whether the latest probe agrees with the confirmed health."""
        return not self._worse and not self._better and not self._unsent

    @property
    def reason(self) -> str:
        """The reason of the health, and where the latest probe contradicts it, how many more are needed."""
        if self.last is None:
            return self._assumed_reason
        if self.is_failing:
            failed = self._recent.count(False)
            return because("part_failed", failed=failed, probes=len(self._recent), what=self._last_failure)
        if self.is_settled:
            return self.last.reason
        is_worse = self._worse or self._unsent
        count, needed = (self._unsent or self._worse, self._failures) if is_worse else (self._better, self._successes)
        # A service that is down says why, also while its first successes are counted.
        before = {"before": self._last_failure} if self._confirmed is Health.DOWN and self._last_failure else {}
        return because(
            "unconfirmed_after" if before else "unconfirmed",
            **before,
            what=self.last.reason,
            count=count,
            needed=needed,
            health=self.last.health.value,
        )

    def add(self, result: ProbeResult) -> None:
        """Record the next result. A probe that the gateway could not send counts as neither success nor failure."""
        is_healthy, is_down = result.health.is_healthy, result.health is Health.DOWN
        self.counts = Counts(self.counts.ok + is_healthy, self.counts.failed + is_down)
        is_confirmed = self._confirmed is Health.UNKNOWN or self._count(result.health)
        if is_healthy or is_down:
            self._recent.append(is_healthy)
        if is_down:
            self._last_failure = result.reason
        self.last = result
        if is_confirmed:
            if Health.DOWN in (result.health, self._confirmed):
                self._recent.clear()
            self._confirmed = result.health
            self._worse = self._better = self._unsent = 0
        if result.health is self._confirmed:
            self._confirmed_kind = result.kind
        self.is_failing = self._is_failing()

    def _count(self, health: Health) -> bool:
        """Count a result; returns whether it confirms `health`."""
        if health is Health.UNKNOWN:
            self._unsent += 1
            return self._unsent >= self._failures
        difference = _ORDER.index(health) - _ORDER.index(self._confirmed)
        self._unsent = 0
        self._worse = self._worse + 1 if difference < 0 else 0
        self._better = self._better + 1 if difference > 0 else 0
        return self._worse >= self._failures or self._better >= self._successes

    def _is_failing(self) -> bool:
        other = self._recent.count(self._confirmed is Health.DOWN)
        if self._confirmed is Health.UNKNOWN or len(self._recent) == other:
            return False
        least = max(_PART, self._successes if self._confirmed is Health.DOWN else self._failures)
        return other >= least or (self.is_failing and other > 1)


_ENOUGH = 5
"""Least requests within the window that count as evidence; one or two may be chance."""


class Finding(NamedTuple):
    """A health with its reason in words."""

    health: Health
    reason: str
    by_traffic: bool = False
    """Whether requests, not probes, decided the health."""
    kind: DegradedKind | None = None
    """Why it is degraded."""


UNPROBED = Finding(Health.UP, because("requests_decide"))
"""Of an endpoint whose `probe.kind` is none, while its requests do not fail."""


def combine(
    probed: Finding, traffic: TrafficView, breaker: BreakerView, rules: BreakerSettings, before: Finding
) -> Finding:
    """The health of an endpoint, from its probes after their thresholds and from its requests.

    `before` is the previous return value: once requests have shown that a service works, one successful request is
    enough to keep that result, so that the health does not flap with the traffic.
    """
    recent = traffic.recent
    if probed is UNPROBED:
        is_refused = breaker.state is BreakerState.OPEN and breaker.retry_after > 0
        why = _failing(recent, breaker, rules)
        health = Health.DOWN if is_refused else Health.DEGRADED
        return Finding(health, why, True, _kind_by_traffic(recent, rules)) if why else UNPROBED
    if probed.health.is_healthy:
        if why := _failing(recent, breaker, rules):
            if probed.kind is DegradedKind.FAILING:
                return Finding(
                    Health.DEGRADED,
                    because("requests_failed_and", what=why, probes=probed.reason),
                    True,
                    DegradedKind.FAILING,
                )
            kind = _kind_by_traffic(recent, rules)
            though = because("requests_failed_though", what=why, probes=probed.reason)
            return Finding(Health.DEGRADED, though, True, kind)
    elif probed.health is Health.DOWN and breaker.state is BreakerState.CLOSED:
        enough = 1 if before.by_traffic else _ENOUGH
        if recent.ok >= enough and recent.failed < rules.rate * _total(recent):
            passed = because(
                "requests_passed_though",
                passed=recent.ok,
                requests=_total(recent),
                seconds=rules.window,
                probes=probed.reason,
            )
            return Finding(Health.DEGRADED, passed, True)
    return probed


def _failing(recent: Counts, breaker: BreakerView, rules: BreakerSettings) -> str:
    """Why requests fail; empty where they do not, or where there are too few."""
    if breaker.state is not BreakerState.CLOSED:
        return because("breaker_open", what=breaker.cause or breaker.reason)
    if recent.failed >= _ENOUGH and recent.failed >= rules.degraded_rate * _total(recent):
        return because("requests_failed", failed=recent.failed, requests=_total(recent), seconds=rules.window)
    return ""


def _kind_by_traffic(recent: Counts, rules: BreakerSettings) -> DegradedKind | None:
    """Failing, where the share of failed requests is one that would open a breaker."""
    is_much = recent.failed >= max(_ENOUGH, rules.failures) and recent.failed >= rules.rate * _total(recent)
    return DegradedKind.FAILING if is_much else None


def _total(recent: Counts) -> int:
    return recent.ok + recent.failed


_LEAST_LATENCIES = 20
"""Latencies of five minutes that are needed: a percentile of fewer says nothing."""
_SLOW_TIMES, _SLOW_ADDED = 4.0, 0.05
"""A service is slow if 95 % of its requests take so many times what is usual, and so many seconds longer."""
_RECOVERED_TIMES = 2.0
"""It is slow until they take less than so many times what is usual."""
SLOW_FOR = 120.0
"""Seconds for which it must be slow before it counts."""


class SlowRequests:
    """Whether the requests of one service take much longer than usual: degraded, though its probes pass."""

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
        p95 = latency.percentile(0.95) if latency.count >= _LEAST_LATENCIES else None
        if p95 is None:
            self._slow_since = None
            return None
        reason = self._reason(p95, usual, is_slow=is_slow)
        if reason is None:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = moment
        has_lasted = self._slow_since is not None and moment - self._slow_since >= SLOW_FOR
        return reason if is_slow or has_lasted else None

    def _reason(self, p95: float, usual: float | None, *, is_slow: bool) -> Reason | None:
        took = round(p95 * 1000)
        if self._limit is not None and p95 > self._limit:
            return because("requests_over_limit", milliseconds=took, limit=round(self._limit * 1000))
        if usual is not None:
            least = usual * _RECOVERED_TIMES if is_slow else max(usual * _SLOW_TIMES, usual + _SLOW_ADDED)
            if p95 >= least:
                return because("requests_slower_than_usual", milliseconds=took, usual=round(usual * 1000))
        return None


NOT_PROBED = Finding(Health.UNKNOWN, because("not_probed"))


def aggregate(findings: Sequence[Finding | None]) -> Finding:
    """One health and its reason from the finding of each endpoint, None for an endpoint without a probe yet.

    A service is down when all its endpoints are down, and degraded when only some are up. While no endpoint is healthy
    and not all are known, the service is unknown.
    """
    total = len(findings)
    if total == 1:
        return findings[0] or NOT_PROBED
    known = [finding for finding in findings if finding is not None]
    if not known:
        return NOT_PROBED
    up, weak, down = (
        [finding for finding in known if finding.health is health]
        for health in (Health.UP, Health.DEGRADED, Health.DOWN)
    )
    if len(down) == total:
        return Finding(Health.DOWN, because("all_down", total=total, what=down[0].reason))
    faults: list[str] = [
        because(f"{'one' if len(found) == 1 else 'some'}_{word}", count=len(found), total=total, what=found[0].reason)
        for word, found in (("down", down), ("degraded", weak))
        if found
    ]
    if not up and not weak:
        return Finding(Health.UNKNOWN, because("several", parts=[*faults, because("others_unknown")]))
    if faults:
        return Finding(
            Health.DEGRADED,
            faults[0] if len(faults) == 1 else because("several", parts=faults),
            kind=_kind_of(up, weak, down),
        )
    if len(up) < total:
        code = "one_up" if len(up) == 1 else "some_up"
        return Finding(Health.UP, because(code, count=len(up), total=total))
    return Finding(Health.UP, because("all_up", total=total))


def _kind_of(up: list[Finding], weak: list[Finding], down: list[Finding]) -> DegradedKind | None:
    """FAILING where no endpoint works without failures, SLOW where that is all that is wrong."""
    kinds = {finding.kind for finding in weak}
    if kinds == {DegradedKind.FAILING} and not up:
        return DegradedKind.FAILING
    return DegradedKind.SLOW if not down and kinds == {DegradedKind.SLOW} else None


_AFFECTED = (Health.DOWN, Health.DEGRADED)


class Dependencies:
    """What the services of the configuration depend on. Raises `graphlib.CycleError` for a cycle."""

    def __init__(self, config: Config) -> None:
        self._parents = {name: service.depends_on for name, service in config.services.items() if service.depends_on}
        # Parents come before their children, so that one pass finds the ends of all chains.
        self._order = [name for name in TopologicalSorter(self._parents).static_order() if name in self._parents]

    def __repr__(self) -> str:
        return f"<Dependencies of {len(self._parents)} services>"

    def __bool__(self) -> bool:
        return bool(self._parents)

    def parents(self, service: str) -> tuple[str, ...]:
        """The services that `service` depends on directly."""
        return self._parents.get(service, ())

    def roots(self, found: Mapping[str, Health]) -> dict[str, str]:
        """For each service whose failure another one explains, the name of that root. `found` has every health.

        A service that is down or degraded is explained by the first of its parents that is down, or that is itself
        explained by one; the root is the end of that chain. A service whose parents are healthy is its own root and is
        not listed.
        """
        roots: dict[str, str] = {}
        for name in self._order:
            if found[name] in _AFFECTED:
                for parent in self._parents[name]:
                    if parent in roots or found[parent] is Health.DOWN:
                        roots[name] = roots.get(parent, parent)
                        break
        return roots
