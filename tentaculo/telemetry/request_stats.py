"""Counts of requests: by route and status class, and how long the phases of each route's requests took.

A request that waited for nothing but its response, which arrived in one piece, has one phase, the first byte. Most are so,
and cost one addition. Where any other phase took time, its record says so, and is counted phase by phase.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple, Protocol

from tentaculo.model.failure import Blame, Failure
from tentaculo.model.history import BUCKETS, SCALE, SHIFT, SHORTEST, Histogram, RouteKey, Tally, merged
from tentaculo.model.request_phases import PhaseCounts, Phases

MOST_ROUTES = 100
"""Routes whose phases are counted apart for metrics, the first ones that had requests."""
OTHERS = RouteKey("", "")
"""Stands for the others."""
_MINUTES = 5
"""Minutes, the one under way included, whose requests say how long the first byte usually takes."""
_LEAST = 20
"""Requests of them that are needed: a percentile of fewer says nothing."""
_FRESH, _SOON = 5.0, 0.5
"""Seconds for which a computed percentile is used, and until the next try where there were too few requests."""
_UNSENT = frozenset(
    failure.error
    for failure in (
        *(Failure.CIRCUIT_OPEN, Failure.OVERLOADED, Failure.CONCURRENCY_LIMIT, Failure.EXHAUSTED),
        *(Failure.DNS_FAILED, Failure.CONNECT_REFUSED, Failure.CONNECT_TIMEOUT, Failure.TLS_FAILED),
    )
)
"""The errors of requests that no endpoint was sent: they have no first byte."""


class Timed(Protocol):
    """What a request's record says of its times."""

    seconds: float
    head_seconds: float
    queue_seconds: float
    connect_seconds: float
    upload_seconds: float


class Ended(Timed, Protocol):
    """The same, and how the request ended."""

    route: RouteKey | None
    status: int
    error: str | None
    is_own: bool
    is_event_stream: bool


def phases_of(record: Timed) -> Phases:
    """The phases of a request that has ended."""
    until_sent = record.queue_seconds + record.connect_seconds
    head = record.head_seconds or record.seconds
    first_byte = max(0.0, head - until_sent - record.upload_seconds)
    body = max(0.0, record.seconds - until_sent - first_byte)
    return Phases(record.queue_seconds, record.connect_seconds, first_byte, body)


class TakenTimes(NamedTuple):
    """What was counted of a route since it was taken last."""

    latency: Histogram
    """The latencies of the successes."""
    requests: int
    """Those whose phases are known: the successes, and failures of the service."""
    phases: Phases
    """How long they took, all together."""


class RouteTimes:
    """The times of one route."""

    __slots__ = (
        "_counts",
        "_first_bytes",
        "_fresh_until",
        "_latencies",
        "_minutes",
        "_p95",
        "_phases",
        "_recent",
        "_requests",
        "plain",
    )

    def __init__(self) -> None:
        self.plain = [0] * BUCKETS
        """Successes since the last `take` that had one phase, by the bucket of their latency."""
        # Of the other requests since then: the latencies and first bytes of successes, and the phases of all.
        self._latencies = Histogram()
        self._first_bytes = Histogram()
        self._requests, self._phases = 0, Phases()
        # The first bytes of the minutes before, the latest last.
        self._minutes: deque[Histogram] = deque(maxlen=_MINUTES - 1)
        # Requests and phases of the minutes before, the latest last.
        self._recent: deque[tuple[int, Phases]] = deque(maxlen=_MINUTES - 1)
        # Since the start, without what `plain` has.
        self._counts = [PhaseCounts() for _ in Phases._fields]
        self._p95: float | None = None
        self._fresh_until = 0.0

    def __repr__(self) -> str:
        return f"<RouteTimes: {self._plain().count + self._requests} requests in this minute>"

    def add(self, record: Ended) -> None:
        """Count a success that had several phases."""
        phases = self._note(record)
        self._latencies.add(record.seconds)
        self._first_bytes.add(phases.first_byte)

    def add_stream(self, record: Ended) -> None:
        """Count a success whose body says nothing of how fast the service is: an event stream, or a long download."""
        self._first_bytes.add(self._note(record).first_byte)

    def add_failure(self, record: Ended) -> None:
        """Count a failure of the service."""
        self._note(record)

    def _note(self, record: Ended) -> Phases:
        phases = phases_of(record)
        counts = self._counts
        if record.error in _UNSENT:
            phases, counts = Phases(phases.queue, phases.connect), counts[:2]
        elif record.is_event_stream:
            phases, counts = phases._replace(body=0.0), counts[:3]
        for count, seconds in zip(counts, phases, strict=False):
            count.add(seconds)
        self._requests += 1
        self._phases = self._phases.plus(phases)
        return phases

    def first_byte_p95(self, moment: float) -> float | None:
        """Seconds within which 95 % of the first bytes of the last five minutes came; None where there were too few.

        `moment` is a time of `time.perf_counter`. The result is computed again after five seconds, or half
        a second where there is none.
        """
        if moment >= self._fresh_until:
            found = merged((*self._minutes, self._first_bytes, self._plain()))
            self._p95 = found.percentile(0.95) if found.count >= _LEAST else None
            self._fresh_until = moment + (_SOON if self._p95 is None else _FRESH)
        return self._p95

    def counts(self) -> list[PhaseCounts]:
        """Each phase of all requests since the start, in the order of `Phases`."""
        found = [PhaseCounts() for _ in self._counts]
        for one, counted in zip(found, self._counts, strict=True):
            one.merge(counted)
        self._count_plain(found, self._plain())
        return found

    def recent(self) -> tuple[int, Phases]:
        """The requests of the last five minutes, the one under way included, and their phases all together."""
        plain = self._plain()
        minutes = [*self._recent, (plain.count + self._requests, self._phases.plus(_first_bytes(plain)))]
        total = Phases()
        for _, phases in minutes:
            total = total.plus(phases)
        return sum(requests for requests, _ in minutes), total

    def take(self) -> TakenTimes:
        """What was counted since the last call; a minute ends with it."""
        plain = self._plain()
        self.plain[:] = [0] * BUCKETS
        self._count_plain(self._counts, plain)
        self._minutes.append(merged((plain, self._first_bytes)))
        phases = self._phases.plus(_first_bytes(plain))
        taken = TakenTimes(merged((plain, self._latencies)), plain.count + self._requests, phases)
        self._recent.append((taken.requests, taken.phases))
        self._latencies, self._first_bytes = Histogram(), Histogram()
        self._requests, self._phases = 0, Phases()
        return taken

    def _plain(self) -> Histogram:
        return Histogram({number: count for number, count in enumerate(self.plain) if count})

    @staticmethod
    def _count_plain(counts: Sequence[PhaseCounts], plain: Histogram) -> None:
        for seconds, count in plain.items():
            for one, took in zip(counts, Phases(first_byte=seconds), strict=True):
                one.add(took, count)


def _first_bytes(plain: Histogram) -> Phases:
    return Phases(first_byte=sum(seconds * count for seconds, count in plain.items()))


def phase_counts(routes: Mapping[RouteKey, RouteTimes]) -> list[tuple[RouteKey, list[PhaseCounts]]]:
    """Each phase of the requests since the start, by route; of more than `MOST_ROUTES` the rest together as `OTHERS`."""
    found = [(route, times.counts()) for route, times in routes.items()]
    if len(found) <= MOST_ROUTES:
        return found
    others = [PhaseCounts() for _ in Phases._fields]
    for _, counts in found[MOST_ROUTES:]:
        for one, count in zip(others, counts, strict=True):
            one.merge(count)
    return [*found[:MOST_ROUTES], (OTHERS, others)]


STREAM_AFTER = 10.0
"""Seconds from the head of a response to the end of its body, from which on it counts as a stream."""

_FAULTS = frozenset(
    failure.error
    for failure in Failure
    if failure.blame is Blame.UPSTREAM or failure in (Failure.CIRCUIT_OPEN, Failure.OVERLOADED)
)
"""The errors that count as failures of the service. The others are caused by the client or intended."""


@dataclass(slots=True)
class _Total:
    """Of one route and class of status."""

    times: RouteTimes | None
    """Those of the route; None where no response of the class is ok."""
    requests: int = 0
    seconds: float = 0.0


class RequestStats:
    """Totals by route and status class, the requests in flight, and the counts since the last `drain`."""

    def __init__(self) -> None:
        self._totals: dict[tuple[RouteKey | None, int], _Total] = {}
        self._times: dict[RouteKey, RouteTimes] = {}
        self._failed: dict[RouteKey, int] = {}
        self._streams: dict[RouteKey, int] = {}
        self._left: dict[RouteKey, Tally] = {}
        """What was counted of services that were removed since the last `drain`."""
        self._gone: Collection[str] = frozenset()
        self.in_flight = 0
        """Exchanges under way, tunnels and event streams included. Count a request here when it arrives."""
        self._idle: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<RequestStats: {self.in_flight} in flight>"

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        if self.in_flight:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def end(self, record: Ended) -> None:
        """Count a request that has ended."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()
            self._idle = None
        key = (record.route, record.status // 100)
        try:
            total = self._totals[key]
        except KeyError:
            total = self._begin(*key)
        total.requests += 1
        if record.head_seconds and self._is_stream(record):
            self._count_stream(record, total)
            return
        seconds = record.seconds
        total.seconds += seconds
        if record.error is not None or total.times is None:
            self._count_fault(record)
        elif record.head_seconds or record.connect_seconds or record.queue_seconds or record.upload_seconds:
            total.times.add(record)
        elif not record.is_own:
            # `histogram.bucket` and not a call of it, which would cost as much again.
            number = int(log(seconds) * SCALE + SHIFT) if seconds > SHORTEST else 0
            total.times.plain[number if number < BUCKETS else -1] += 1

    @staticmethod
    def _is_stream(record: Ended) -> bool:
        """Whether how long the response took says nothing of how fast the service is."""
        return record.is_event_stream or record.seconds - record.head_seconds > STREAM_AFTER

    def _count_stream(self, record: Ended, total: _Total) -> None:
        """Count a stream: a request like any other, with the time until its head and no latency."""
        total.seconds += record.head_seconds
        if record.error is not None or total.times is None:
            self._count_fault(record)
        elif record.route is not None:
            total.times.add_stream(record)
            if record.route.service in self._gone:
                return
            self._streams[record.route] = self._streams.get(record.route, 0) + 1

    def _begin(self, route: RouteKey | None, status_class: int) -> _Total:
        if route is not None and route.service in self._gone:
            # The last requests of a service that was removed: its series must not come back.
            return _Total(RouteTimes() if status_class in (2, 3, 4) else None)
        times = self.times(route) if route is not None and status_class in (2, 3, 4) else None
        total = self._totals[route, status_class] = _Total(times)
        return total

    def keep_services(self, removed: Collection[str], configured: Collection[str]) -> None:
        """Forget the series of `removed` services; the next `drain` has what is new of them. The rest are `configured`."""
        self._gone = {*(self._gone if self.in_flight else ()), *removed} - set(configured)
        if not removed:
            return
        for route, tally in self._drain(frozenset(removed)).items():
            self._left.setdefault(route, Tally()).merge(tally)
        self._totals = {
            key: one for key, one in self._totals.items() if key[0] is None or key[0].service not in removed
        }
        self._times = {key: one for key, one in self._times.items() if key.service not in removed}

    def times(self, route: RouteKey) -> RouteTimes:
        """How long the phases of the requests of `route` took."""
        found = self._times.get(route)
        if found is None:
            found = self._times[route] = RouteTimes()
        return found

    def phases(self) -> list[tuple[RouteKey, list[PhaseCounts]]]:
        """Each phase of the requests since the start, by route, as `phase_counts` gives them."""
        return phase_counts(self._times)

    def recent_phases(self, service: str) -> dict[str, tuple[int, Phases]]:
        """The requests of the last five minutes and their phases all together, by route; without those that had none."""
        recent = {key.route: times.recent() for key, times in self._times.items() if key.service == service}
        return {route: found for route, found in recent.items() if found[0]}

    def _count_fault(self, record: Ended) -> None:
        is_fault = record.status >= 500 and record.status != 501 if record.error is None else record.error in _FAULTS
        if is_fault and record.route is not None and record.route.service not in self._gone:
            self.times(record.route).add_failure(record)
            self._failed[record.route] = self._failed.get(record.route, 0) + 1

    def totals(self) -> Iterator[tuple[str, str, int, float]]:
        """(service, status class such as `2xx`, requests, seconds in all); an empty service where no route matched."""
        sums: dict[tuple[str, int], tuple[int, float]] = {}
        for (route, status), total in self._totals.items():
            key = (route.service if route is not None else "", status)
            requests, seconds = sums.get(key, (0, 0.0))
            sums[key] = requests + total.requests, seconds + total.seconds
        for (service, status), (requests, seconds) in sums.items():
            yield service, f"{status}xx", requests, seconds

    def drain(self) -> dict[RouteKey, Tally]:
        """The counts since the last call, by route. A client's own error counts as ok: the service responded to it.

        Upgraded connections are not in it, nor are clients that left and what the gateway answered by itself. Streams are
        in it without a latency.
        """
        tallies, left, self._left = self._drain(None), self._left, {}
        for route, tally in left.items():
            tallies.setdefault(route, Tally()).merge(tally)
        return tallies

    def _drain(self, services: Collection[str] | None) -> dict[RouteKey, Tally]:
        """The counts since the last call, of all services or of some."""

        def take(counts: dict[RouteKey, int]) -> dict[RouteKey, int]:
            taken = {route: count for route, count in counts.items() if services is None or route.service in services}
            for route in taken:
                del counts[route]
            return taken

        tallies = {route: Tally(failed=count) for route, count in take(self._failed).items()}
        for route, times in self._times.items():
            if services is not None and route.service not in services:
                continue
            latency = times.take().latency
            if latency.count:
                tally = tallies.setdefault(route, Tally())
                tally.ok, tally.latency = latency.count, latency
        for route, count in take(self._streams).items():
            tallies.setdefault(route, Tally()).ok += count
        return tallies
