"""Early warnings and the latencies that they are made of, on a database of each kind."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tentaculo.model.early_warning import EarlyWarning, GaugeValue
from tentaculo.model.history import HOUR, MINUTE, Histogram, Period, Tally, Uptime
from tentaculo.store.early_warnings import forget, read, read_gauges, read_latencies, read_open, save, save_gauges
from tentaculo.store.history import add_history, history_row
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 10, tzinfo=UTC)
START = 20_000 * 86400
TREND = EarlyWarning(
    "madre", "requests_p95", NOW, "trend", 0.3, 0.1, 0.5, NOW - timedelta(hours=1), 0.01, NOW, NOW, NOW + timedelta(1)
)
LEVEL = EarlyWarning("mcp", "probes_median", NOW - timedelta(days=100), "level", 0.4, 0.1, 0.5, NOW)


def test_a_warning_is_stored_once_and_changed_in_place(url: str) -> None:
    ended = replace(TREND, outcome="reached", ended_at=NOW + timedelta(minutes=40))
    with opened(url) as connection:
        save(connection, [TREND, LEVEL])
        assert read_open(connection, limit=10) == [TREND, LEVEL]
        save(connection, [ended])
        assert read_open(connection, limit=10) == [LEVEL]
        # One that is open is listed however old it is.
        since = NOW - timedelta(days=90)
        assert read(connection, since=since, limit=10) == [ended, LEVEL]
        assert read(connection, since=since, limit=1) == [ended]
        assert read(connection, since=since, services=["mcp"], limit=10) == [LEVEL]
        forget(connection, NOW + timedelta(minutes=39))
        assert len(read(connection, since=since, limit=10)) == 2
        forget(connection, NOW + timedelta(minutes=41))
        assert read(connection, since=since, limit=10) == [LEVEL]


def minute(at: int, *, latencies: int, watched: float = 1.0) -> Period:
    requests = Tally(latencies, 1, Histogram({200: latencies}) if latencies else Histogram())
    probes = Tally(6, 0, Histogram({100: 6}))
    return Period("madre", MINUTE, START + at * MINUTE, probes, requests, Uptime(round(60_000 * watched)))


def test_the_latencies_of_five_minutes_are_merged(url: str) -> None:
    with opened(url) as connection:
        minutes = [minute(at, latencies=10 * at) for at in range(10)]
        add_history(connection, [history_row(one) for one in minutes])
        found = read_latencies(connection, ["madre", "none"], span=300, since=START, until=START + 600)
        assert found["none"] == {}
        assert [latency and latency.samples for latency in found["madre"][START]] == [100, 30]
        requests, probes = found["madre"][START + 300]
        assert requests is not None
        assert probes is not None
        assert requests.median == requests.p95 > probes.median


@pytest.mark.parametrize(("watched", "is_there"), [(0.4, False), (0.6, True)])
def test_a_period_that_was_hardly_watched_is_left_out(url: str, watched: float, is_there: bool) -> None:
    with opened(url) as connection:
        add_history(connection, [history_row(minute(at, latencies=0, watched=watched)) for at in range(5)])
        found = read_latencies(connection, ["madre"], span=300, since=START, until=START + 300)["madre"]
        assert (START in found) is is_there
        if is_there:
            assert found[START][0] is None


def test_hours_are_read_from_their_own_rows(url: str) -> None:
    hour = replace(minute(0, latencies=50), span=HOUR, uptime=Uptime(HOUR * 1000))
    with opened(url) as connection:
        add_history(connection, [history_row(hour), history_row(minute(0, latencies=7))])
        found = read_latencies(connection, ["madre"], span=HOUR, since=START, until=START + HOUR)["madre"]
        assert [latency and latency.samples for latency in found[START]] == [50, 6]


def test_gauges_are_stored_once_for_a_bin_and_old_ones_are_removed(url: str) -> None:
    values = [GaugeValue("madre", "gauge:queue", START + at * 300, float(at)) for at in range(250)]
    with opened(url) as connection:
        save_gauges(connection, values, START)
        save_gauges(connection, [values[3]._replace(value=7.5)], START + 600)
        found = read_gauges(connection, ["madre", "none"], since=START, until=START + 1500)
        assert found == {"madre": {"gauge:queue": {START + 600: 2.0, START + 900: 7.5, START + 1200: 4.0}}, "none": {}}
        everything = read_gauges(connection, ["madre"], since=START, until=START + 300 * 300)
        assert len(everything["madre"]["gauge:queue"]) == 248
