"""The offset of each source's clock from ours, as an interval, and the times of events corrected by it. Pure.

Every reading bounds the offset, and the interval is what all of them allow:

- A response of a probe with `Date` D was written between the probe's request and its response, when the clock of the
  endpoint showed D or a little more: that bounds the offset from both sides.
- An event that states the time S was made before it was received: the clock was not further behind than that. How long
  the event was on its way is unknown, so it says nothing about the other side.

The interval is kept against a clock that nobody sets, so a change of our own system clock changes no interval. It
widens as its readings get older. Readings that no offset allows together mean that the clock was set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from tentaculo.model.clock import CorrectedTime, DateReading, StatedReading
from tentaculo.model.health import Endpoint

DRIFT = 100e-6
"""Seconds by which two clocks may move apart in one second."""
DATE_MS = 2200.0
"""How much later than its `Date` the clock may have been: `Date` has whole seconds, many servers (uvicorn and Vert.x, for
example) renew it once a second only, and their timers are a little late. Of uvicorn's, half are older than a second."""
GENERATION = 600.0
"""Seconds after which a new set of readings begins; the last two count. A clock that was set by less than the interval is
wide contradicts nothing, and its old readings are forgotten so."""
KNOWN_FOR = 3600.0
"""Seconds after the last reading, and before the first one, in which an offset is known: a clock can be set unnoticed."""
MOST_STATED_MS = 86_400_000.0
"""A time that is further from its receipt than this, in an event, is not taken for the reading of a clock."""
MOST_WIDTH_MS = 60_000.0
"""A time that is known less exactly than this is not corrected: the receipt says more."""
MOMENT = 1.0
"""Seconds in which an interval is not computed again: what an event costs is little then, however many of them come."""
MOST_SOURCES = 1000
"""Sources that are no services, of which a bound is kept: the last ones that sent events."""


class Bounds(NamedTuple):
    """An offset in milliseconds: what the other clock shows, less what ours does."""

    low: float
    high: float
    """Infinite where nothing bounds it."""

    def widened(self, seconds: float) -> Bounds:
        """What it may be after `seconds`."""
        drift = DRIFT * seconds * 1000
        return Bounds(self.low - drift, self.high + drift)

    def meet(self, other: Bounds) -> Bounds | None:
        """What both allow, None where that is nothing."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Bounds(low, high) if low <= high else None


def date_bounds(reading: DateReading) -> Bounds:
    """The offset that a `Date` allows, at the moment in which it was received."""
    bounds = Bounds(reading.date_ms - reading.received * 1000, reading.date_ms + DATE_MS - reading.sent * 1000)
    return bounds.widened(max(0.0, reading.received - reading.sent))


def stated_slack(stated_ms: int) -> int:
    """Milliseconds by which a stated time may differ from the clock it was read from: whole seconds were perhaps rounded."""
    return 1000 if stated_ms % 1000 == 0 else 1


def stated_bounds(reading: StatedReading) -> Bounds:
    """The offset that a stated time allows: the event was made before it was received."""
    return Bounds(reading.stated_ms - stated_slack(reading.stated_ms) - reading.received * 1000, math.inf)


class OffsetEstimate:
    """The offset of one clock. Moments are seconds of a clock that nobody sets."""

    def __init__(self) -> None:
        self._old: Bounds | None = None
        self._new = Bounds(-math.inf, math.inf)
        self._at = -math.inf
        self._begun = -math.inf
        self.since = -math.inf
        """The first reading since the clock was last set."""
        self.known_from = -math.inf
        """From when on the offset is known."""

    def __repr__(self) -> str:
        return f"<OffsetEstimate: {self._new.low:.0f} to {self._new.high:.0f} ms>"

    def bounds(self, at: float) -> Bounds | None:
        """The offset at a moment; None without a reading in the last hour."""
        age = max(0.0, at - self._at)
        if age > KNOWN_FOR:
            return None
        known = self._new if self._old is None else self._old.meet(self._new)
        return None if known is None else known.widened(age)

    def add(self, bounds: Bounds, at: float) -> bool:
        """Add a reading; returns whether it shows that the clock was set. Then no earlier reading counts."""
        if at < self._at:
            # The state that is sent to a new process may be older than what it has received already.
            bounds, at = bounds.widened(self._at - at), self._at
        known = self.bounds(at)
        was_set = known is not None and known.meet(bounds) is None
        if known is None or was_set:
            self._old, self._new, self._begun, self.since = None, bounds, at, at
            self.known_from = at if was_set else at - KNOWN_FOR
        else:
            age = at - self._at
            self._old, self._new = self._old and self._old.widened(age), self._new.widened(age)
            if at - self._begun >= GENERATION:
                self._old, self._new, self._begun = self._new, bounds, at
            else:
                self._new = self._new.meet(bounds) or bounds
        self._at = at
        return was_set


class ClockOffset(NamedTuple):
    """The offset of one clock, for people."""

    name: str
    """The source, or the address of an endpoint."""
    low_ms: float
    high_ms: float
    """Infinite where nothing bounds it."""
    basis: tuple[str, ...]
    """`date`, `stated`, or both."""
    since: datetime
    """The first reading since the clock was last set."""


class _Known(NamedTuple):
    """What the responses of a service allow, for a moment."""

    bounds: Bounds | None
    known_from: float
    until: float


class ClockOffsets:
    """The offsets of all sources. A source is the service of that name or alias, if there is one.

    A service with several endpoints has several clocks, and an event does not say which of them made it: the interval
    of such a source spans those of its endpoints, and times that are stated do not narrow it.

    Anyone with the token can name any source. So the time of an event is corrected by the responses of its service and
    by what the event itself states, and not by other events. Those only narrow the interval that is shown, within what
    the responses allow. `now` is the time by our own clock, `elapsed` the seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        services: Mapping[str, Sequence[Endpoint]],
        names: Mapping[str, str],
        *,
        now: Callable[[], datetime],
        elapsed: Callable[[], float],
    ) -> None:
        """`services` gives the endpoints of each service, `names` the service of each name and alias."""
        self._names = names
        self._now = now
        self._elapsed = elapsed
        self._services = services
        self._dates = {endpoint: OffsetEstimate() for endpoints in services.values() for endpoint in endpoints}
        self._stated: dict[str, OffsetEstimate] = {}
        self._others: dict[str, OffsetEstimate] = {}
        self._known: dict[str, _Known] = {}
        self._last_stated: dict[str, tuple[float, float]] = {}
        # Nobody takes those of a gateway without other workers; `_last_stated` bounds their number.
        self._fresh: dict[str, StatedReading] = {}
        self._received: dict[Endpoint, tuple[Bounds, float]] = {}

    def prepare(self, services: Mapping[str, Sequence[Endpoint]], names: Mapping[str, str]) -> Callable[[], None]:
        """Make what another configuration needs; the result puts it in place. What is known of an endpoint is kept."""
        moved = [one for one in (*self._services, *services) if self._services.get(one) != services.get(one)]
        dates = {
            endpoint: self._dates.get(endpoint) or OffsetEstimate()
            for endpoints in services.values()
            for endpoint in endpoints
        }

        def use() -> None:
            nonlocal dates
            for service in moved:
                self._stated.pop(service, None)
            self._known.clear()
            self._names, self._services = names, services
            # What is replaced is freed with this function, in a later turn of the event loop.
            self._dates, dates = dates, self._dates

        return use

    def __repr__(self) -> str:
        return f"<ClockOffsets: {len(self._dates)} endpoints, {len(self._others)} other sources>"

    def note_date(self, endpoint: Endpoint, reading: DateReading) -> bool:
        """Add the reading of a response; returns whether it shows that the clock was set."""
        return self._note(endpoint, date_bounds(reading), reading.received)

    def note_bounds(self, endpoint: Endpoint, bounds: Bounds, received: float) -> None:
        """Add what the readings of another machine allow, which this one knows since `received`."""
        self.accept_bounds({endpoint: (bounds, received)})
        self._received[endpoint] = bounds, received

    def accept_bounds(self, received: Mapping[Endpoint, tuple[Bounds, float]]) -> None:
        """As `note_bounds`, for what another worker of this machine has got."""
        for endpoint, (bounds, at) in received.items():
            if endpoint in self._dates:
                self._note(endpoint, bounds, at)

    def take_received(self) -> dict[Endpoint, tuple[Bounds, float]]:
        """What `note_bounds` got since the last call, for the other workers."""
        taken, self._received = self._received, {}
        return taken

    @property
    def endpoints(self) -> Collection[Endpoint]:
        """All endpoints of services."""
        return self._dates.keys()

    def endpoint_bounds(self) -> dict[Endpoint, Bounds]:
        """The offset of each endpoint's clock, as far as it is known, from the clock that nobody sets."""
        at = self._elapsed()
        found = {endpoint: estimate.bounds(at) for endpoint, estimate in self._dates.items()}
        return {endpoint: bounds for endpoint, bounds in found.items() if bounds is not None}

    def _note(self, endpoint: Endpoint, bounds_now: Bounds, at: float) -> bool:
        service = endpoint.service
        self._known.pop(service, None)
        was_set = self._dates[endpoint].add(bounds_now, at)
        stated, dated = self._stated.get(service), self._dated(service, at)
        bounds = None if stated is None else stated.bounds(at)
        if bounds is not None and dated is not None and (was_set or dated.meet(bounds) is None):
            del self._stated[service]
        return was_set

    def of_endpoint(self, endpoint: Endpoint) -> Bounds | None:
        """The offset of an endpoint's clock from ours now; None where it is unknown."""
        at = self._elapsed()
        bounds = self._dates[endpoint].bounds(at)
        return None if bounds is None else _moved(bounds, self._ours(at))

    def correct(self, source: str, stated_ms: int, received_at: datetime) -> CorrectedTime | None:
        """When an event that is received now happened, which states a time; None where the clock is not known.

        What it states is noted.
        """
        at, received_ms, slack = self._elapsed(), received_at.timestamp() * 1000, stated_slack(stated_ms)
        now = at * 1000
        least = stated_ms - slack - now
        service = self._names.get(source.removeprefix("/"))
        known = None if service is None else self._known_of(service, at)
        bounds = None if known is None else known.bounds
        if bounds is not None and bounds.high < least:
            return None
        if abs(stated_ms - received_ms) <= MOST_STATED_MS:
            self._note_own(service or source, StatedReading(stated_ms, at), least)
        if known is None or bounds is None:
            return None
        earliest = stated_ms - slack - bounds.high
        # The clock has drifted since the event was made.
        drift = DRIFT * max(0.0, now - earliest)
        earliest, latest = earliest - drift, min(stated_ms + slack - bounds.low + drift, now)
        if earliest < known.known_from * 1000 or latest - earliest > MOST_WIDTH_MS:
            return None
        ours = received_ms - now
        ms = math.floor(latest + ours)
        return CorrectedTime(ms, ms - math.floor(earliest + ours))

    def note_stated(self, source: str, reading: StatedReading) -> None:
        """Add what an event states, where the responses of its service allow it; `source` is the service, if it is one."""
        bounds = stated_bounds(reading)
        if source in self._services:
            dated = self._dated(source, reading.received)
            if dated is None or dated.meet(bounds) is not None:
                self._stated.setdefault(source, OffsetEstimate()).add(bounds, reading.received)
            return
        estimate = self._others.pop(source, None) or OffsetEstimate()
        estimate.add(bounds, reading.received)
        self._others[source] = estimate
        if len(self._others) > MOST_SOURCES:
            del self._others[next(iter(self._others))]

    def take_stated(self) -> dict[str, StatedReading]:
        """The strictest readings of each source that events of this process have stated since the last call."""
        taken, self._fresh = self._fresh, {}
        return taken

    def sources(self) -> Iterator[tuple[ClockOffset, list[ClockOffset]]]:
        """The sources whose offset is known, each with those of its endpoints: services first."""
        at = self._elapsed()
        ours = self._ours(at)
        for service in list(self._services):
            if service not in self._services:
                # A reload has removed it between two of them.
                continue
            endpoints = [
                self._shown(f"{endpoint.host}:{endpoint.port}", bounds, ("date",), self._dates[endpoint].since, ours)
                for endpoint in self._services[service]
                if (bounds := self._dates[endpoint].bounds(at)) is not None
            ]
            stated = self._stated.get(service)
            dated = self._dated(service, at)
            if dated is not None:
                bounds = self._narrowed(service, dated, at)
                basis = ("date",) if bounds == dated else ("date", "stated")
                since = max(one.since for one in endpoints)
                yield ClockOffset(service, *_moved(bounds, ours), basis, since), endpoints
            elif stated is not None and (bounds := stated.bounds(at)) is not None:
                yield self._shown(service, bounds, ("stated",), stated.since, ours), endpoints
        for name, estimate in list(self._others.items()):
            if (bounds := estimate.bounds(at)) is not None:
                yield self._shown(name, bounds, ("stated",), estimate.since, ours), []

    def _dated(self, service: str, at: float) -> Bounds | None:
        """What the responses of a service allow: the span of its endpoints."""
        known = [
            bounds for endpoint in self._services[service] if (bounds := self._dates[endpoint].bounds(at)) is not None
        ]
        return Bounds(min(one.low for one in known), max(one.high for one in known)) if known else None

    def _narrowed(self, service: str, dated: Bounds, at: float) -> Bounds:
        """`dated`, narrowed by what events state where that can be true and the service has one clock."""
        stated = self._stated.get(service)
        if stated is None or len(self._services[service]) > 1:
            return dated
        bounds = stated.bounds(at)
        return dated if bounds is None else dated.meet(bounds) or dated

    def _note_own(self, name: str, reading: StatedReading, least: float) -> None:
        """Add what an event of this process states, unless the source has stated something as strict a moment ago."""
        last = self._last_stated.get(name)
        if last is not None and least <= last[0] and reading.received < last[1]:
            return
        if len(self._last_stated) >= MOST_SOURCES:
            self._last_stated.clear()
            self._fresh.clear()
        self._last_stated[name] = least, reading.received + MOMENT
        fresh = self._fresh.get(name)
        if fresh is None or stated_bounds(fresh).low < least:
            self._fresh[name] = reading
        self.note_stated(name, reading)

    def _known_of(self, service: str, at: float) -> _Known:
        known = self._known.get(service)
        if known is None or at >= known.until:
            dated = self._dated(service, at)
            bounds = None if dated is None else dated.widened(MOMENT)
            known_from = max(self._dates[endpoint].known_from for endpoint in self._services[service])
            known = self._known[service] = _Known(bounds, known_from, at + MOMENT)
        return known

    def _ours(self, at: float) -> float:
        return self._now().timestamp() * 1000 - at * 1000

    @staticmethod
    def _shown(name: str, bounds: Bounds, basis: tuple[str, ...], since: float, ours: float) -> ClockOffset:
        moment = datetime.fromtimestamp((since * 1000 + ours) / 1000, UTC)
        return ClockOffset(name, *_moved(bounds, ours), basis, moment)


def _moved(bounds: Bounds, ours: float) -> Bounds:
    """Bounds against the clock that nobody sets, as bounds against our own clock."""
    return Bounds(bounds.low - ours, bounds.high - ours)
