"""When a plan holds: once, every day, over midnight, on some days, and on the nights when clocks are turned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.incidents import DAYS, MaintenanceSettings
from tentaculo.config.reader import read
from tentaculo.incidents.availability import MaintenanceCalendar, upcoming
from tentaculo.model.incident import MaintenanceWindow
from tests.support.health import fleet


def at(text: str) -> datetime:
    """`2026-03-14 15:09` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan(**keys: Any) -> MaintenanceSettings:
    return read(MaintenanceSettings, {"services": ["*"], **keys})


def next_of(now: str, **keys: Any) -> tuple[str, str] | None:
    found = list(upcoming(plan(**keys), (), at(now)))
    return (f"{found[0].starts_at:%m-%d %H:%M}", f"{found[0].ends_at:%m-%d %H:%M}") if found else None


# 2026-03-14 is a Saturday.
@pytest.mark.parametrize(
    ("now", "keys", "found"),
    [
        ("2026-03-14 01:00", {"at": "02:00-04:00"}, ("03-14 02:00", "03-14 04:00")),
        ("2026-03-14 02:00", {"at": "02:00-04:00"}, ("03-14 02:00", "03-14 04:00")),
        ("2026-03-14 03:59", {"at": "02:00-04:00"}, ("03-14 02:00", "03-14 04:00")),
        ("2026-03-14 04:00", {"at": "02:00-04:00"}, ("03-15 02:00", "03-15 04:00")),
        ("2026-03-14 23:30", {"at": "23:00-01:00"}, ("03-14 23:00", "03-15 01:00")),
        ("2026-03-15 00:59", {"at": "23:00-01:00"}, ("03-14 23:00", "03-15 01:00")),
        ("2026-03-15 01:00", {"at": "23:00-01:00"}, ("03-15 23:00", "03-16 01:00")),
        ("2026-03-14 00:30", {"at": "23:00-01:00", "days": ["fri"]}, ("03-13 23:00", "03-14 01:00")),
        ("2026-03-14 01:30", {"at": "23:00-01:00", "days": ["fri"]}, ("03-20 23:00", "03-21 01:00")),
        ("2026-03-14 12:00", {"at": "02:00-04:00", "days": ["sat"]}, ("03-21 02:00", "03-21 04:00")),
        ("2026-03-14 12:00", {"at": "02:00-04:00", "zone": "Europe/Madrid"}, ("03-15 01:00", "03-15 03:00")),
        # It is Sunday there already.
        (
            "2026-03-14 15:30",
            {"at": "00:00-02:00", "days": ["sun"], "zone": "Asia/Tokyo"},
            ("03-14 15:00", "03-14 17:00"),
        ),
        # Clocks go forward at 02:00 and back at 03:00: 02:30 is missing, then there twice.
        ("2026-03-29 00:00", {"at": "01:00-04:00", "zone": "Europe/Madrid"}, ("03-29 00:00", "03-29 02:00")),
        ("2026-03-29 00:00", {"at": "02:30-04:00", "zone": "Europe/Madrid"}, ("03-29 01:30", "03-29 02:00")),
        ("2026-10-25 00:00", {"at": "01:00-04:00", "zone": "Europe/Madrid"}, ("10-24 23:00", "10-25 03:00")),
        ("2026-10-25 00:00", {"at": "02:30-04:00", "zone": "Europe/Madrid"}, ("10-25 00:30", "10-25 03:00")),
        (
            "2026-03-14 12:00",
            {"starts": "2026-03-20T02:00:00", "ends": "2026-03-20T04:00:00", "zone": "Europe/Madrid"},
            ("03-20 01:00", "03-20 03:00"),
        ),
        (
            "2026-03-14 12:00",
            {"starts": "2026-03-10T02:00:00Z", "ends": "2026-03-20T04:00:00+02:00"},
            ("03-10 02:00", "03-20 02:00"),
        ),
        ("2026-03-20 04:00", {"starts": "2026-03-20T02:00:00Z", "ends": "2026-03-20T04:00:00Z"}, None),
    ],
)
def test_when_a_plan_holds(now: str, keys: dict[str, Any], found: tuple[str, str] | None) -> None:
    assert next_of(now, **keys) == found


TIMES = st.times(min_value=at("2026-01-01 00:00").time()).map(lambda time: time.strftime("%H:%M"))


@given(
    st.integers(1_735_689_600, 1_830_297_600).map(lambda second: datetime.fromtimestamp(second, UTC)),
    TIMES,
    TIMES,
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.sampled_from(["UTC", "Europe/Madrid", "America/Caracas", "Pacific/Apia", "Australia/Lord_Howe"]),
)
def test_any_plan_has_a_window_within_nine_days_and_none_is_passed_over(
    now: datetime, start: str, end: str, days: set[str], zone: str
) -> None:
    if start == end:
        return
    weekly = plan(at=f"{start}-{end}", days=sorted(days), zone=zone)
    (found,) = upcoming(weekly, (), now)
    assert now < found.ends_at
    assert found.starts_at - now < timedelta(days=9)
    assert timedelta(0) < found.ends_at - found.starts_at < timedelta(hours=26)
    # A moment before it begins, and a moment before it ends, it is the one to come.
    for moment in (found.starts_at - timedelta(seconds=1), found.ends_at - timedelta(seconds=1)):
        if moment >= now:
            assert next(upcoming(weekly, (), moment)) == found


SERVICES = {
    "hermes": {"url": "http://127.0.0.1:1"},
    "operator": {"url": "http://127.0.0.1:2", "aliases": ["operator-backend"]},
}
NOW = at("2026-03-14 15:00")


def calendar(*plans: dict[str, Any]) -> MaintenanceCalendar:
    config = fleet(**SERVICES).replace(maintenance=tuple(plan(**one) for one in plans))
    return MaintenanceCalendar(config.maintenance, config.services)


def stored(number: int, minutes: int, *services: str, reason: str = "a new disk") -> MaintenanceWindow:
    return MaintenanceWindow(services, NOW, NOW + timedelta(minutes=minutes), reason, "ana", number)


def test_services_in_maintenance_and_their_reasons() -> None:
    known = calendar({"at": "14:00-16:00", "services": ["operator-backend"], "reason": "backup"})
    assert known.reasons(NOW) == {"operator": "backup, until 2026-03-14 16:00 UTC"}
    known.take([stored(1, 5, "hermes"), stored(2, 90, "operator"), stored(3, 10, "gone")])
    assert known.reasons(NOW) == {
        "hermes": "a new disk, until 2026-03-14 15:05 UTC",
        "operator": "a new disk, until 2026-03-14 16:30 UTC",
    }
    assert known.reasons(NOW + timedelta(minutes=5)) == {"operator": "a new disk, until 2026-03-14 16:30 UTC"}
    known.take([])
    assert known.reasons(NOW + timedelta(minutes=60)) == {}


def test_a_reason_is_written_once_for_all_services_of_a_window() -> None:
    """The calendar is read each second."""
    services = fleet(**{f"s{number}": {"url": f"http://127.0.0.1:{number}"} for number in range(1, 50)}).services
    calendar = MaintenanceCalendar([plan(starts="2026-03-14T00:00:00Z", ends="2026-03-15T00:00:00Z")], services)
    reasons = calendar.reasons(at("2026-03-14 03:00"))
    assert len(reasons) == 49
    assert len({id(reason) for reason in reasons.values()}) == 1


def test_a_window_without_services_is_for_all() -> None:
    known = calendar()
    known.take([stored(1, 5)])
    assert set(known.reasons(NOW)) == {"hermes", "operator"}


def test_what_holds_and_what_is_to_come() -> None:
    known = calendar({"at": "02:00-04:00"})
    known.take([stored(1, 5, "hermes"), stored(2, -5, "hermes")])
    assert [(one.id, f"{one.starts_at:%d %H:%M}") for one in known.windows(NOW)] == [
        (1, "14 15:00"),
        (None, "15 02:00"),
    ]
