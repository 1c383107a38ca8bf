"""What 90 days of history take on disk, and how long they take to be read: `python -m bench.history [--services N]`.

The rows are those that the gateway writes, for services that are probed every 10 s and get five requests a second,
with latencies that scatter over three orders of magnitude.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, insert

from bench.stats import Spread
from tentaculo.model.history import DAY, HOUR, MINUTE, Histogram, HistorySummary, Period, Tally, merged
from tentaculo.store import migrate, tables
from tentaculo.store.database import connect, parse_url
from tentaculo.store.history import HistoryRow, history_row, read_history, read_past

DAYS = 90
PRESENT = 20_000 * DAY + 13 * HOUR + 37 * MINUTE
"""The simulated now: in the middle of a day and of an hour."""
_PROBES, _REQUESTS = 6, 300
"""A minute's."""
_BATCH = 5000
_ROUNDS = 15


def services(count: int) -> list[str]:
    """The names of so many services."""
    return [f"service-{number:04}" for number in range(count)]


def write(connection: Connection, names: Sequence[str]) -> None:
    """Store what is kept of `DAYS` days: their days and hours, and the minutes of the last 49 hours."""
    rows = _rows(names, Random(20_000))  # noqa: S311
    while batch := list(islice(rows, _BATCH)):
        connection.execute(insert(tables.history), batch)


def _rows(names: Sequence[str], random: Random) -> Iterator[HistoryRow]:
    # Every row has one of these values: to make a quarter of a million histograms would take minutes.
    minutes = [_minute(random) for _ in range(60)]
    hours = [_sum(random.choices(minutes, k=60)) for _ in range(24)]
    days = [_sum(random.choices(hours, k=24)) for _ in range(12)]
    for span, kept, values in ((DAY, DAYS * DAY, days), (HOUR, DAYS * DAY, hours), (MINUTE, 49 * HOUR, minutes)):
        encoded = [history_row(value) for value in values]
        for start in range(PRESENT - PRESENT % span - kept, PRESENT - PRESENT % span, span):
            for name in names:
                yield {**random.choice(encoded), "service": name, "span": span, "start": start}


def _minute(random: Random) -> Period:
    probes = [random.lognormvariate(-5.5, 0.5) for _ in range(_PROBES)]
    requests = [random.lognormvariate(-4.0, 1.0) for _ in range(_REQUESTS)]
    return Period("", MINUTE, 0, Tally(len(probes), 0, _of(probes)), Tally(len(requests) - 1, 1, _of(requests[1:])))


def _of(latencies: Sequence[float]) -> Histogram:
    histogram = Histogram()
    for latency in latencies:
        histogram.add(latency)
    return histogram


def _sum(parts: Sequence[Period]) -> Period:
    total = Period("", 0, 0)
    for part in parts:
        total.merge(part)
    return total


def read_quarter(connection: Connection, name: str) -> tuple[list[Period], list[float | None]]:
    """What `?days=90` answers with: the availability and the latencies of each day, and the whole's percentiles."""
    days = read_history(connection, DAY, PRESENT - PRESENT % DAY - 89 * DAY, PRESENT + 1, [name])
    for day in days:
        day.requests.latency.percentiles(0.5, 0.95, 0.99)
    return days, merged(day.requests.latency for day in days).percentiles(0.5, 0.95, 0.99)


def read_page(connection: Connection, names: Sequence[str]) -> dict[str, HistorySummary]:
    """What the status page asks for: the last day and the availability of 90 days, of the first hundred services."""
    return read_past(connection, PRESENT, names[:100])


def _milliseconds(read: Callable[[], object]) -> Spread:
    taken = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        read()
        taken.append((time.perf_counter() - start) * 1000)
    found = Spread.of(taken)
    assert found is not None
    return found


def main() -> int:
    """The exit code: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.history", description="The size and speed of the history.")
    parser.add_argument("--services", type=int, default=10, metavar="N", help="how many services; default 10")
    names = services(parser.parse_args().services)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "history.db"
        url = f"sqlite:///{file}"
        migrate.upgrade(url)
        with connect(parse_url(url)) as connection:
            with connection.begin():
                write(connection, names)
            print(f"{len(names)} services, {DAYS} days: {file.stat().st_size / 1e6:.1f} MB")
            for what, read in (
                ("90 days of one service", lambda: read_quarter(connection, names[0])),
                ("what the page asks for", lambda: read_page(connection, names)),
            ):
                found = _milliseconds(read)
                print(f"{what}: {found.median:.1f} ms ({found.low:.1f} to {found.high:.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
