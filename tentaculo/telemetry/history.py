"""Counts the probes and requests of each service, minute by minute.

At the end of a minute its counts are stored. Minutes are those of the wall clock. When the clock is set, the counts so
far stay in the minute in which they were counted, and nothing is counted twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import assert_never

from tentaculo.model.health import Endpoint, Health, ProbeResult
from tentaculo.model.history import HOUR, MINUTE, Period, RouteCount, RouteKey, Tally, Uptime

_STEADY = float(HOUR)
"""Seconds that the clock must have gone evenly before anything is deleted for its age."""
_JUMP = float(MINUTE)
"""Seconds that the time of day may stray from the monotonic clock between two looks before it counts as set."""

_LOOK_EVERY = 1.0
"""Seconds between two looks at the clock."""
_PAUSE = 5.0
"""Seconds between two looks that count as a pause of the gateway itself: the state of every service is unknown then."""

TakeTallies = Callable[[], Mapping[RouteKey, Tally]]


class HistoryCollector:
    """Counts, and stores the counts minute by minute.

    `record` stores counts. `roll_up` is called when an hour begins, with the seconds since 1970 and whether old rows
    may be deleted. Neither waits or raises. `pace`
    gives the seconds that lie at least between two ordinary probes of an address of a service. `now` is the time of day
    in seconds since 1970, `clock` the monotonic one.
    """

    def __init__(
        self,
        *,
        record: Callable[[Sequence[Period]], None],
        roll_up: Callable[[int, bool], None],
        pace: Callable[[str], float],
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._record = record
        self._roll_up = roll_up
        self._pace = pace
        self._now = now
        self._clock = clock
        self._drain: TakeTallies = dict
        self._probes: dict[str, Tally] = {}
        self._latest: dict[str, dict[Endpoint, bool]] = {}
        self._counted: dict[Endpoint, float] = {}
        self._states: dict[str, tuple[Health, float]] = {}
        self._uptimes: dict[str, Uptime] = {}
        self._looked = clock()
        self._paused = 0.0
        self._minute = int(now()) // MINUTE
        self._tended: int | None = None
        self._offset = now() - clock()
        self._even_since = clock()

    def __repr__(self) -> str:
        return f"<HistoryCollector: {len(self._probes)} services probed in this minute>"

    def drain_from(self, drain: TakeTallies) -> None:
        """Take the counts of requests from `drain` at the end of each minute, by route."""
        self._drain = drain

    def note_probe(self, result: ProbeResult, health: Health) -> None:
        """Count a probe; `health` is what is believed of its service now.

        A service with several endpoints is healthy at a probe while the last probe of one of them was healthy.
        Maintenance is not counted, nor is a probe that could not be sent. One that a
        suspicion brought forward is not counted either: a bad minute, or a good one, would weigh as much as ten.
        """
        service = result.upstream.service
        if result.health is Health.UNKNOWN:
            return
        latest = self._latest.setdefault(service, {})
        latest[result.upstream] = result.health.is_healthy
        clock = self._clock()
        if clock - self._counted.get(result.upstream, float("-inf")) < self._pace(service):
            return
        if health in (Health.MAINTENANCE, Health.OFF):
            return
        self._counted[result.upstream] = clock
        self.turn()
        if (tally := self._probes.get(service)) is None:
            tally = self._probes[service] = Tally()
        if any(latest.values()):
            tally.ok += 1
        else:
            tally.failed += 1
        if result.health.is_healthy and result.latency_ms is not None:
            tally.latency.add(result.latency_ms / 1000)

    def note_health(self, service: str, health: Health, ago: float = 0.0) -> None:
        """Record that a service has been in the state `health` since `ago` seconds before now."""
        now = self._running_time()
        if (known := self._states.get(service)) is None:
            self._states[service] = health, now
            return
        self._states[service] = health, max(known[1], now - ago)
        self._add_time(service, known, self._states[service][1])

    def forget_services(self, names: Collection[str]) -> None:
        """Count services that were removed no more. What was counted of them is stored with the minute."""
        now = self._running_time()
        for name in names:
            if (known := self._states.pop(name, None)) is not None:
                self._add_time(name, known, now)
            for endpoint in self._latest.pop(name, ()):
                self._counted.pop(endpoint, None)

    def forget_endpoints(self, has: Callable[[Endpoint], bool]) -> None:
        """Count no endpoint any more that is none by `has`: its last probe says nothing of its service."""
        for latest in self._latest.values():
            for endpoint in [one for one in latest if not has(one)]:
                del latest[endpoint]
                self._counted.pop(endpoint, None)

    def forget_health(self) -> None:
        """Count the states so far, and no more until the next `note_health`: another gateway counts them."""
        self.flush()
        self._states.clear()

    def turn(self) -> None:
        """Store the minute if it is over, and call `roll_up` when an hour begins."""
        self._running_time()
        now = int(self._now())
        if now // MINUTE != self._minute:
            self.flush()
            self._minute = now // MINUTE
        if now // HOUR != self._tended:
            self._tended = now // HOUR
            self._roll_up(now, self.is_steady())

    def flush(self) -> None:
        """Store the counts so far; the rest of the minute will be added to them."""
        start = self._minute * MINUTE
        periods: dict[str, Period] = {}
        for service, tally in self._probes.items():
            periods[service] = Period(service, MINUTE, start, probes=tally)
        self._probes = {}
        for (service, route), tally in self._drain().items():
            period = periods.setdefault(service, Period(service, MINUTE, start))
            period.requests.merge(tally)
            period.routes[route] = RouteCount(tally.ok, tally.failed)
        now = self._running_time()
        for service, known in self._states.items():
            self._add_time(service, known, now)
            self._states[service] = known[0], now
            uptime = self._uptimes.pop(service, Uptime())
            if uptime.available or uptime.unavailable or service in periods:
                periods.setdefault(service, Period(service, MINUTE, start)).uptime = uptime
        for service, uptime in self._uptimes.items():  # those that were removed
            periods.setdefault(service, Period(service, MINUTE, start)).uptime = uptime
        self._uptimes = {}
        if periods:
            self._record(list(periods.values()))

    async def run(self) -> None:
        """Turn at the end of each minute until cancelled; what is left then takes a `flush`."""
        while True:
            self.turn()
            await asyncio.sleep(min(_LOOK_EVERY, MINUTE - self._now() % MINUTE))

    def _running_time(self) -> float:
        """Seconds on the monotonic clock in which the gateway ran. Its own pauses do not count."""
        now = self._clock()
        if now - self._looked > _PAUSE:
            self._paused += now - self._looked
        self._looked = now
        return now - self._paused

    def _add_time(self, service: str, known: tuple[Health, float], until: float) -> None:
        """Add the time from the moment in `known` to `until` in the state that `known` has."""
        health, since = known
        milliseconds = round((until - since) * 1000)
        match health:
            case Health.UP | Health.DEGRADED:
                self._uptimes.setdefault(service, Uptime()).available += milliseconds
            case Health.DOWN:
                self._uptimes.setdefault(service, Uptime()).unavailable += milliseconds
            case Health.UNKNOWN | Health.MAINTENANCE | Health.OFF:
                pass
            case _:
                assert_never(health)

    def is_steady(self) -> bool:
        """Whether the clock has not been set for an hour: on a wrong one everything would seem too old."""
        clock = self._clock()
        offset = self._now() - clock
        if abs(offset - self._offset) > _JUMP:
            self._even_since = clock
        self._offset = offset
        return clock - self._even_since >= _STEADY
