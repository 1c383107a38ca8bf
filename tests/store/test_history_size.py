"""What 90 days take on disk, written as the gateway writes them; `python -m bench.history` tells how fast they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import history as quarter
from bench.history import PRESENT
from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.store.history import Retention, RollUpRequest, add_history, history_row, roll_up_history, rows_of
from tests.support.runtime_tables import opened

MOST = 60_000_000
"""Bytes, for ten services that are probed every 10 s and asked five times a second."""


def size(file: Path) -> int:
    """Of the database and of what is still in its log."""
    return sum(path.stat().st_size for path in file.parent.glob(f"{file.name}*"))


@pytest.mark.thorough
def test_ninety_days_of_ten_services_fit(file: Path) -> None:
    names = quarter.services(10)
    with opened(f"sqlite:///{file}") as connection:
        quarter.write(connection, names)
        counts = dict(
            map(tuple, connection.exec_driver_sql("SELECT span, count(*) FROM tentaculo_history GROUP BY span"))
        )
        met = connection.exec_driver_sql(
            f"SELECT min(probes_ok + requests_ok), sum(requests_ok) FROM tentaculo_history WHERE span = {MINUTE}"
        ).one()
        days, percentiles = quarter.read_quarter(connection, names[3])
        page = quarter.read_page(connection, names)
    assert counts == {DAY: 10 * 90, HOUR: 10 * 90 * 24, MINUTE: 10 * 49 * 60}
    assert tuple(met) == (305, 299 * counts[MINUTE])
    assert size(file) < MOST
    assert len(days) == 90
    assert None not in percentiles
    assert [len(page[name].hours) for name in names] == [24] * 10


@pytest.mark.thorough
def test_a_file_that_holds_what_it_keeps_does_not_grow_any_more(file: Path) -> None:
    url = f"sqlite:///{file}"
    names = quarter.services(10)
    with opened(url) as connection:
        quarter.write(connection, names)
    before = size(file)
    kept = Retention(minutes=48 * HOUR, hours=90 * DAY, days=730 * DAY)
    # Half a day more: each hour comes with its minutes, and an old one goes.
    for hour in range(1, 13):
        with opened(url) as connection:
            rows = rows_of(connection, MINUTE, _HOUR, _HOUR + HOUR)
            later = [replace(row, start=row.start + hour * HOUR) for row in rows if row.start + hour * HOUR > PRESENT]
            add_history(connection, [history_row(row) for row in later])
        for _ in roll_up_history(lambda: opened(url), RollUpRequest(_HOUR + (hour + 1) * HOUR, kept), thorough=False):
            pass
    with opened(url) as connection:
        oldest = connection.exec_driver_sql("SELECT min(start) FROM tentaculo_history WHERE span = 60").scalar_one()
    assert oldest == _HOUR + 13 * HOUR - 48 * HOUR
    assert size(file) < before * 1.03


_HOUR = PRESENT - PRESENT % HOUR - HOUR
"""The last whole hour of which the minutes are there."""
