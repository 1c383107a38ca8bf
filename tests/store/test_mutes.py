"""Mutes of incidents, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tentaculo.model.mute import Mute
from tentaculo.store import incidents
from tentaculo.store.incidents import MOST_MUTES, add_mute, last_mutes, latest_mutes, move_mute
from tests.support.runtime_tables import opened

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
UNTIL = NOW + timedelta(hours=1)


def test_the_latest_one_of_an_incident_counts_and_goes_with_it(url: str) -> None:
    first, second = [Incident(n, "hermes", ("hermes",), Health.DOWN, "refused", NOW, NOW) for n in (1, 2)]
    with opened(url) as connection:
        incidents.save(connection, [first, second])
        add_mute(connection, 1, "ana ñ", NOW, None)
        latest = add_mute(connection, 1, "signed in", NOW, UNTIL)
        ever = add_mute(connection, 2, "signed in", NOW, None)
    assert (latest.until, ever.until) == (UNTIL, None)
    with opened(url) as connection:
        assert latest_mutes(connection, [1, 2, 3]) == {1: latest, 2: ever}
        found = incidents.newest(connection, limit=9)
        assert [one.muted for one in found] == [ever, latest]
        assert incidents.find(connection, number=1) == replace(first, muted=latest)
        incidents.save(connection, [replace(first, ended_at=NOW)])
        assert incidents.forget(connection, before=UNTIL) == 1
        assert latest_mutes(connection, [1, 2]) == {2: ever}


def test_one_is_moved_and_the_others_stay(url: str) -> None:
    hour = timedelta(hours=1)
    with opened(url) as connection:
        incidents.save(connection, [Incident(n, "hermes", ("hermes",), Health.DOWN, "x", NOW, NOW) for n in (1, 2)])
        timed = add_mute(connection, 1, "ana", NOW, UNTIL)
        ever = add_mute(connection, 2, "ana", NOW, None)
        moved = replace(timed, at=NOW - hour, until=UNTIL - hour)
        move_mute(connection, moved)
    with opened(url) as connection:
        assert latest_mutes(connection, [1, 2]) == {1: moved, 2: ever}


def test_the_last_ones_of_an_incident_are_read_the_oldest_first(url: str) -> None:
    with opened(url) as connection:
        made = [add_mute(connection, 1, f"ana {number}", NOW, None) for number in range(MOST_MUTES + 2)]
        add_mute(connection, 2, "bea", NOW, UNTIL)
    with opened(url) as connection:
        assert last_mutes(connection, 1) == tuple(made[2:])
        assert last_mutes(connection, 3) == ()


def test_until_when_it_holds() -> None:
    timed, ever = Mute(1, 1, NOW, "ana", UNTIL), Mute(2, 1, NOW, "ana")
    assert [timed.holds(moment) for moment in (NOW, UNTIL - timedelta(seconds=1), UNTIL)] == [True, True, False]
    assert ever.holds(NOW + timedelta(days=365))
    open_one = Incident(1, "hermes", ("hermes",), Health.DOWN, "refused", NOW, NOW, muted=ever)
    assert open_one.is_muted(NOW)
    assert not replace(open_one, ended_at=NOW).is_muted(NOW), "it lasts until the incident ends"
