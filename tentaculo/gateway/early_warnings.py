"""Runs the detectors of early warnings on the stored history, in the leader only.

Every five minutes the latencies of the last five minutes are read from the database, where all workers and machines store
theirs. A start, and a take-over by another machine, read the last seven days by the hour and the last four hours by the
minute in the same way. Nothing here is on the path of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from typing import Final

import structlog
from sqlalchemy import Connection

from tentaculo.config.schema import Config
from tentaculo.insight.detector import BIN, BINS_AN_HOUR, HOURS, KEPT, Forecast, Outcome, Rule
from tentaculo.insight.latency import LatencyWatch, Statistic
from tentaculo.model.early_warning import DAYS, EarlyWarning, outcome_sentence, sentence
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.history import HOUR
from tentaculo.store import early_warnings as stored
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.lease import LeaseLost

log = structlog.get_logger(__name__)

LATE: Final = 20
"""Seconds after its end until a bin is complete: the counts of other workers, and the write, come a little later."""
RETRY: Final = 60.0
"""Seconds until the next look where the database did not respond."""
AT_ONCE: Final = 10
"""Services that one query reads."""
_MOST_OPEN: Final = 1000
_KINDS: Final = ("requests", "probes")


class EarlyWarnings:
    """The warnings of every service that has a limit: `probe.slow`."""

    def __init__(
        self, config: Config, store_client: StoreClient, record: RecordOwnEvent, now: Callable[[], datetime]
    ) -> None:
        """`record` takes what belongs in the log of events."""
        self._limits = {
            name: service.probe.slow
            for name, service in config.services.items()
            if service.probe.slow is not None and service.enabled
        }
        self._store = store_client
        self._record = record
        self._now = now
        self._watches: dict[tuple[str, str], LatencyWatch] = {}
        self._open: dict[tuple[str, str], EarlyWarning] = {}
        self._changed: dict[tuple[str, str, datetime], EarlyWarning] = {}
        self._last: int | None = None

    def __repr__(self) -> str:
        return f"<EarlyWarnings: {len(self._limits)} services, {len(self._open)} open>"

    async def run(self) -> None:
        """Look at each bin when it is complete, until cancelled. Begins with what the database holds."""
        self._watches, self._open, self._last = {}, {}, None
        while self._limits:
            pause = RETRY
            with suppress(StoreUnavailable, LeaseLost):
                await self.look()
                pause = BIN - (self._now().timestamp() - LATE) % BIN
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Look at the bins that are complete and new. Raises `StoreUnavailable` and `LeaseLost`; then look again."""
        number = int(self._now().timestamp() - LATE) // BIN - 1
        if self._last is None:
            await self._warm_up(number)
        else:
            # After the clock was set back, the last hour is looked at again.
            first = self._last + 1 if number > self._last else number
            for names in self._batches():
                await self._add(names, max(first, number - KEPT + 1), number)
        self._last = number
        await self._save()

    def _batches(self) -> Iterator[Sequence[str]]:
        names = list(self._limits)
        for start in range(0, len(names), AT_ONCE):
            yield names[start : start + AT_ONCE]

    async def _warm_up(self, number: int) -> None:
        """Make the detectors, with the past up to the bin `number`, and continue the open warnings."""
        self._watches, self._open = {}, {}
        found: list[EarlyWarning] = await self._store.read(partial(stored.read_open, limit=_MOST_OPEN))
        opened = {(one.service, one.signal): one for one in found}
        for one in found:
            if one.service not in self._limits or opened[one.service, one.signal] is not one:
                self._finish(one, Outcome.UNKNOWN, one.opened_at)
        first = number - KEPT + 1
        hour = first // BINS_AN_HOUR
        for names in self._batches():
            hours = await self._read(names, span=HOUR, since=(hour - HOURS) * HOUR, until=hour * HOUR)
            for name in names:
                for place, kind in enumerate(_KINDS):
                    watch = self._watches[name, kind] = LatencyWatch(self._limits[name])
                    for start, latencies in sorted(hours[name].items()):
                        if (latency := latencies[place]) is not None:
                            watch.warm_up(start // HOUR, latency)
                    for statistic, detector in watch.detectors.items():
                        if (warning := opened.get((name, f"{kind}_{statistic}"))) is not None:
                            self._open[name, warning.signal] = warning
                            detector.resume(_forecast(warning))
            await self._add(names, first, number, is_past=True)

    async def _add(self, names: Sequence[str], first: int, last: int, *, is_past: bool = False) -> None:
        """Take the bins from `first` to `last`. Of the past only warnings that are open already are looked at."""
        bins = await self._read(names, span=BIN, since=first * BIN, until=(last + 1) * BIN)
        for name in names:
            for place, kind in enumerate(_KINDS):
                watch = self._watches[name, kind]
                for number in range(first, last + 1):
                    latencies = bins[name].get(number * BIN)
                    watch.add(number, latencies[place] if latencies else None)
                    if not is_past:
                        self._note(name, kind, watch.evaluate(), number)
                    else:
                        self._note(name, kind, _evaluate_open(watch, number), number)
            await asyncio.sleep(0)

    async def _read(self, names: Sequence[str], *, span: int, since: int, until: int) -> Mapping[str, stored.Latencies]:
        found: Mapping[str, stored.Latencies] = await self._store.read(
            partial(stored.read_latencies, services=names, span=span, since=since, until=until)
        )
        return found

    def _note(self, name: str, kind: str, outcomes: Sequence[tuple[Statistic, Outcome]], number: int) -> None:
        for statistic, outcome in outcomes:
            signal = f"{kind}_{statistic}"
            if outcome is not Outcome.OPEN:
                if (warning := self._open.pop((name, signal), None)) is not None:
                    self._finish(warning, outcome, _end_of(number))
                continue
            forecast = self._watches[name, kind].detectors[statistic].open
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

    def _finish(self, warning: EarlyWarning, outcome: Outcome, at: datetime) -> None:
        values = {name: getattr(warning, name) for name in EarlyWarning.__slots__}
        ended = EarlyWarning(**values | {"outcome": outcome.value, "ended_at": at})
        self._changed[ended.service, ended.signal, ended.opened_at] = ended
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


def _evaluate_open(watch: LatencyWatch, number: int) -> list[tuple[Statistic, Outcome]]:
    """As `LatencyWatch.evaluate`, for warnings that opened before the bin `number` only."""
    found = list[tuple[Statistic, Outcome]]()
    for statistic, detector in watch.detectors.items():
        is_after = detector.open is not None and number > detector.open.number
        if is_after and (outcome := detector.evaluate()) is not None:
            found.append((statistic, outcome))
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
