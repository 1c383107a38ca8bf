"""Runs the detectors of early warnings on the stored history, in the leader only.

Every five minutes the latencies of the last five minutes are read from the database, where all workers and machines store
theirs, and so are the numbers of the health responses, which the leader stores there. A start, and a take-over by another
machine, read the last seven days by the hour and the last four hours by the minute in the same way. Nothing here is on the
path of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil, isclose
from statistics import median
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Connection

from tentaculo.config.schema import Config
from tentaculo.insight.detector import BIN, BINS_AN_HOUR, HOURS, Forecast, Outcome, Rule
from tentaculo.insight.gauges import GaugeCollector
from tentaculo.insight.measures import KEPT
from tentaculo.insight.watches import GaugeWatch, LatencyWatch
from tentaculo.model.early_warning import DAYS, EarlyWarning, WarningCounts, outcome_sentence, sentence
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.health import ProbeResult
from tentaculo.model.history import HOUR
from tentaculo.store import early_warnings as stored
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.lease import LeaseLost

log = structlog.get_logger(__name__)

LATE: Final = 20
"""Seconds after its end until a bin is complete: the counts of other workers, and the write, come a little later."""
RETRY: Final = 5.0
"""Seconds until the next look where the database did not respond."""
AT_ONCE: Final = 10
"""Services that one query reads."""
_MOST_OPEN: Final = 1000
_KINDS: Final = ("requests", "probes")


class _Limits(NamedTuple):
    """What a service has limits for."""

    latencies: Mapping[str, float]
    """In seconds, by kind."""
    gauges: Mapping[str, float]
    """By signal."""


class EarlyWarnings:
    """The warnings of every service that has a limit: `slow`, `probe.slow`, or a number in `prefer` or `require`."""

    def __init__(
        self,
        config: Config,
        store_client: StoreClient,
        record: RecordOwnEvent,
        now: Callable[[], datetime],
        *,
        is_watched: Callable[[str], bool] = lambda _: True,
        notify: Callable[[EarlyWarning], None] = lambda _: None,
        counts: WarningCounts | None = None,
    ) -> None:
        """`record` takes what belongs in the log of events; `is_watched` is False while a service is in maintenance.

        `notify` sends the message of a warning whose service has `warn`, and `counts` is for the metrics.
        """
        self._notified = {name for name, service in config.services.items() if service.warn}
        self._notify = notify
        self._counts = counts if counts is not None else WarningCounts()
        self._limits = {
            name: _Limits(
                service.latency_limits, {one.gauge: one.bound for one in service.probe.gauges if one.bound is not None}
            )
            for name, service in config.services.items()
            if service.has_limits
        }
        self._store = store_client
        self._record = record
        self._now = now
        self._is_watched = is_watched
        self._collector = GaugeCollector()
        self._watches: dict[str, dict[str, LatencyWatch | GaugeWatch]] = {}
        """By service and kind."""
        self._open: dict[tuple[str, str], EarlyWarning] = {}
        self._changed: dict[tuple[str, str, datetime], EarlyWarning] = {}
        self._last: int | None = None
        self._began: int | None = None
        """The last bin that was complete when `run` began."""

    def __repr__(self) -> str:
        return f"<EarlyWarnings: {len(self._limits)} services, {len(self._open)} open>"

    async def run(self) -> None:
        """Look at each bin when it is complete, until cancelled. Begins with what the database holds.

        Without any limit it looks once, which ends what is open.
        """
        self._watches, self._open, self._last = {}, {}, None
        self._began = self._last_complete()
        while True:
            pause = RETRY
            with suppress(StoreUnavailable, LeaseLost):
                last = await self.look()
                if not self._limits:
                    return
                # The next bin may be complete already: a look takes time, and a timer may be early.
                pause = min(max((last + 2) * BIN + LATE - self._now().timestamp(), 0), BIN)
            await asyncio.sleep(pause)

    def note_probe(self, result: ProbeResult) -> None:
        """Take the numbers of a health response. Those of a service in maintenance are none."""
        if result.gauges and self._is_watched(result.upstream.service):
            self._collector.add(result)

    async def look(self) -> int:
        """Look at the bins that are complete and new; returns the last one.

        Raises `StoreUnavailable` and `LeaseLost`; then look again.
        """
        number = self._last_complete()
        await self._save_gauges(number)
        if self._last is None:
            # What has ended since `run` began is new, also where the first read had to wait for the database.
            last = number if self._began is None else min(number, self._began)
            await self._warm_up(last)
            self._last, first = last, last + 1
        else:
            # After the clock was set back, the last hour is looked at again.
            first = self._last + 1 if number > self._last else number
        if first <= number:
            for names in self._batches():
                await self._add(names, max(first, number - KEPT + 1), number)
        self._last = number
        self._counts.open = len(self._open)
        await self._save()
        return number

    def _last_complete(self) -> int:
        return int(self._now().timestamp() - LATE) // BIN - 1

    def _batches(self) -> Iterator[Sequence[str]]:
        names = list(self._limits)
        for start in range(0, len(names), AT_ONCE):
            yield names[start : start + AT_ONCE]

    async def _warm_up(self, number: int) -> None:
        """Make the detectors, with the past up to the bin `number`, and continue the open warnings."""
        self._watches, self._open = {}, {}
        read: list[EarlyWarning] = await self._store.read(partial(stored.read_open, limit=_MOST_OPEN))
        found = [one for one in read if not self._has_ended(one)]
        first = number - KEPT + 1
        hour = first // BINS_AN_HOUR
        for names in self._batches():
            hours = await self._read(names, span=HOUR, since=(hour - HOURS) * HOUR, until=hour * HOUR)
            gauges = await self._read_gauges(names, since=(hour - HOURS) * HOUR, until=hour * HOUR)
            for name in names:
                watches = self._watches[name] = dict(_latency_watches(self._limits[name], hours[name]))
                if self._limits[name].gauges:
                    watches["gauges"] = _gauge_watch(self._limits[name], gauges[name])
                self._resume(name, [one for one in found if one.service == name], number)
                await asyncio.sleep(0)
            await self._add(names, first, number, is_past=True)
        for one in found:
            if self._open.get((one.service, one.signal)) is not one and not self._has_ended(one):
                self._finish(one, Outcome.UNKNOWN, _end_of(number))

    def _resume(self, name: str, found: Sequence[EarlyWarning], last: int) -> None:
        """Continue the open warnings of a service, the newest of each signal. `last` is the last complete bin.

        One of another limit than the present one is not continued: whether that is reached says nothing of it.
        """
        limits = self._limits[name]
        for kind, watch in self._watches[name].items():
            for key, detector in watch.detectors.items():
                signal = _signal(kind, key)
                limit = limits.gauges[key] if kind == "gauges" else limits.latencies[kind]
                warning = next((one for one in found if one.signal == signal), None)
                if warning is not None and isclose(warning.limit, limit):
                    self._open[name, signal] = warning
                    opened = _forecast(warning)
                    # Where the clock was set back since, it would not end before the clock is there again.
                    detector.resume(opened._replace(number=min(opened.number, last)))

    def _has_ended(self, warning: EarlyWarning) -> bool:
        """Whether an end of the warning is known that is not stored yet."""
        changed = self._changed.get((warning.service, warning.signal, warning.opened_at))
        return changed is not None and not changed.is_open

    async def _add(self, names: Sequence[str], first: int, last: int, *, is_past: bool = False) -> None:
        """Take the bins from `first` to `last`. Of the past only warnings that are open already are looked at."""
        since, until = first * BIN, (last + 1) * BIN
        bins = await self._read(names, span=BIN, since=since, until=until)
        gauges = await self._read_gauges(names, since=since, until=until)
        for name in names:
            for kind, watch in self._watches[name].items():
                for number in range(first, last + 1):
                    start = number * BIN
                    if isinstance(watch, GaugeWatch):
                        watch.add(number, {signal: one[start] for signal, one in gauges[name].items() if start in one})
                    else:
                        latencies = bins[name].get(start)
                        watch.add(number, latencies[_KINDS.index(kind)] if latencies else None)
                    self._note(name, kind, _evaluate_open(watch, number) if is_past else watch.evaluate(), number)
                # Others have their turn: one look takes some hundred microseconds.
                await asyncio.sleep(0)

    async def _read(self, names: Sequence[str], *, span: int, since: int, until: int) -> Mapping[str, stored.Latencies]:
        found: Mapping[str, stored.Latencies] = await self._store.read(
            partial(stored.read_latencies, services=names, span=span, since=since, until=until)
        )
        return found

    async def _read_gauges(self, names: Sequence[str], *, since: int, until: int) -> Mapping[str, stored.Gauges]:
        wanted = [name for name in names if self._limits[name].gauges]
        found: Mapping[str, stored.Gauges] = {}
        if wanted:
            found = await self._store.read(partial(stored.read_gauges, services=wanted, since=since, until=until))
        return found

    def _note(self, name: str, kind: str, outcomes: Sequence[tuple[str, Outcome]], number: int) -> None:
        for key, outcome in outcomes:
            signal = _signal(kind, key)
            if outcome is not Outcome.OPEN:
                if (warning := self._open.pop((name, signal), None)) is not None:
                    self._finish(warning, outcome, _end_of(number))
                continue
            forecast = self._watches[name][kind].detectors[key].open
            if forecast is not None:
                self._begin(_warning(name, signal, forecast))

    def _begin(self, warning: EarlyWarning) -> None:
        self._open[warning.service, warning.signal] = warning
        self._changed[warning.service, warning.signal, warning.opened_at] = warning
        text = sentence(warning)
        log.info("early warning", service=warning.service, signal=warning.signal, reason=text)
        self._record(
            "health.warning",
            key=_key(warning, "opened"),
            service=warning.service,
            signal=warning.signal,
            reason=text,
            limit=warning.limit,
            **({} if warning.expected_at is None else {"expected_at": warning.expected_at.isoformat()}),
        )
        self._counts.opened += 1
        if warning.service in self._notified:
            self._notify(warning)

    def _finish(self, warning: EarlyWarning, outcome: Outcome, at: datetime) -> None:
        values = {name: getattr(warning, name) for name in EarlyWarning.__slots__}
        ended = EarlyWarning(**values | {"outcome": outcome.value, "ended_at": max(at, warning.opened_at)})
        self._changed[ended.service, ended.signal, ended.opened_at] = ended
        self._counts.ended[outcome.value] += 1
        text = outcome_sentence(ended)
        log.info("early warning ended", service=ended.service, signal=ended.signal, outcome=outcome.value)
        self._record(
            "health.warning_ended",
            key=_key(ended, "ended"),
            service=ended.service,
            signal=ended.signal,
            outcome=outcome.value,
            reason=text,
        )

    async def _save_gauges(self, number: int) -> None:
        """Store the values of the bins up to `number`. What could not be stored is stored at the next look."""
        if not (values := self._collector.complete(number)):
            return
        before = (number // BINS_AN_HOUR - HOURS - 2) * HOUR
        await self._store.run_as_holder(partial(stored.save_gauges, values=values, forget_before=before))
        self._collector.forget(values)

    async def _save(self) -> None:
        """Store what has changed. What could not be stored is stored after the next look."""
        changed = dict(self._changed)
        if not changed:
            return
        before = self._now() - timedelta(days=DAYS)

        def write(connection: Connection) -> None:
            stored.save(connection, list(changed.values()))
            stored.forget(connection, before)

        await self._store.run_as_holder(write)
        for name, warning in changed.items():
            if self._changed.get(name) is warning:
                del self._changed[name]


def _signal(kind: str, key: str) -> str:
    """The name of the signal that a watch calls `key`."""
    return key if kind == "gauges" else f"{kind}_{key}"


def _latency_watches(limits: _Limits, hours: stored.Latencies) -> Iterator[tuple[str, LatencyWatch]]:
    """The watches of the latencies of a service, with their past by the hour."""
    for place, kind in enumerate(_KINDS):
        if (limit := limits.latencies.get(kind)) is not None:
            watch = LatencyWatch(limit)
            for start, latencies in sorted(hours.items()):
                if (latency := latencies[place]) is not None:
                    watch.warm_up(start // HOUR, latency)
            yield kind, watch


def _gauge_watch(limits: _Limits, bins: stored.Gauges) -> GaugeWatch:
    """The watch of the gauges of a service, with their past."""
    watch = GaugeWatch(limits.gauges)
    for signal in limits.gauges.keys() & bins.keys():
        hours: dict[int, list[float]] = {}
        for start, value in bins[signal].items():
            hours.setdefault(start // HOUR, []).append(value)
        for hour, values in sorted(hours.items()):
            if len(values) >= BINS_AN_HOUR // 4:
                watch.warm_up(hour, signal, median(values))
    return watch


def _evaluate_open(watch: LatencyWatch | GaugeWatch, number: int) -> list[tuple[str, Outcome]]:
    """As `evaluate` of the watch, for warnings that opened before the bin `number` only."""
    found = list[tuple[str, Outcome]]()
    for key, detector in watch.detectors.items():
        is_after = detector.open is not None and number > detector.open.number
        if is_after and (outcome := detector.evaluate()) is not None:
            found.append((key, outcome))
    return found


def _end_of(number: float) -> datetime:
    return datetime.fromtimestamp((number + 1) * BIN, UTC)


def _warning(service: str, signal: str, forecast: Forecast) -> EarlyWarning:
    def after(bins: float | None) -> datetime | None:
        return None if bins is None else _end_of(forecast.number + bins)

    return EarlyWarning(
        service,
        signal,
        opened_at=_end_of(forecast.number),
        rule=forecast.rule.value,
        level=forecast.level,
        usual=forecast.usual,
        limit=forecast.limit,
        since=_end_of(forecast.since),
        per_minute=forecast.per_bin / (BIN / 60),
        expected_at=after(forecast.expected),
        earliest_at=after(forecast.earliest),
        latest_at=after(forecast.latest),
    )


def _forecast(warning: EarlyWarning) -> Forecast:
    """The forecast of a stored warning."""
    number = ceil(warning.opened_at.timestamp() / BIN) - 1

    def bins(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - warning.opened_at).total_seconds() / BIN

    return Forecast(
        Rule.TREND if warning.expected_at is not None else Rule.LEVEL,
        number,
        warning.level,
        warning.usual,
        warning.limit,
        ceil(warning.since.timestamp() / BIN) - 1,
        warning.per_minute * (BIN / 60),
        bins(warning.expected_at),
        bins(warning.earliest_at),
        bins(warning.latest_at),
    )


def _key(warning: EarlyWarning, what: str) -> str:
    return f"warning-{warning.service}-{warning.signal}-{int(warning.opened_at.timestamp())}-{what}"
