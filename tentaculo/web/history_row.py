"""One service's history as the status page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tentaculo.model.history import HOUR, HistorySummary, availability
from tentaculo.model.text import printable
from tentaculo.web import charts, wording
from tentaculo.web.history import known_since, probe_tally, request_tally, total_of


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """The past of one service, ready to be shown."""

    name: str
    day: str
    quarter: str
    since: str
    """Where less than the 90 days is known: since when it is."""
    is_counted: bool
    """Whether a part of the 90 days is known by counts of probes only."""
    p50: str
    p95: str
    of: str
    """Whose latencies they are."""
    chart: charts.Chart


def history_row(name: str, past: HistorySummary, now: datetime) -> HistoryRow:
    """`past` in words: the latencies are those of requests, and of probes where there were none."""
    total = total_of(past.hours)
    of, latency = ("requests", request_tally) if total.requests.ok else ("probes", probe_tally)
    p50, p95 = latency(total).latency.percentiles(0.5, 0.95)
    last = int(now.timestamp()) // HOUR * HOUR
    return HistoryRow(
        name=printable(name, 80),
        day=wording.share(availability(past.hours).share),
        quarter=wording.share(past.quarter.share),
        since=known_since(past, now),
        is_counted=not past.quarter.by_time,
        p50=wording.latency(p50),
        p95=wording.latency(p95),
        of=of,
        chart=charts.day({hour.start: hour for hour in past.hours}, last, latency),
    )
