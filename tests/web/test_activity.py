"""The list of what happened, apart from the pages that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tentaculo.model.health import Health, StateChange
from tentaculo.model.incident import Incident
from tentaculo.model.reason import because
from tentaculo.web import activity
from tentaculo.web.languages import Language, language
from tentaculo.web.reasons import plain
from tests.support.calls import counting_calls
from tests.support.native_gateway import NOW
from tests.web.test_incidents import HERMES

DAY = timedelta(days=1)


def flapping(count: int) -> list[StateChange]:
    """The changes of a service that goes down and comes back every second, up to now."""
    states = (Health.UP, Health.DOWN)
    return [
        StateChange("hermes", "", states[n % 2], states[1 - n % 2], f"change {n}", NOW - timedelta(seconds=count - n))
        for n in range(count)
    ]


def test_a_service_that_flaps_costs_no_more_than_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[StateChange] = []
    original = activity._of_change

    def counted(change: StateChange, t: Language) -> activity.Entry:
        made.append(change)
        return original(change, t)

    monkeypatch.setattr(activity, "_of_change", counted)
    found = activity.entries((), {"hermes": flapping(5000)}, (), NOW - DAY, NOW, language("en"))
    assert [plain(one.detail) for one in found] == [f"change {n}" for n in range(4999, 4974, -1)]
    assert len(made) == activity.MOST == 25


def test_changes_that_an_incident_says_leave_room_for_others() -> None:
    """Those before the incident are listed, though thousands came within it."""
    before = replace(flapping(1)[0], at=HERMES.started_at - timedelta(minutes=9), reason="before")
    within = flapping(1400)
    found = activity.entries([(HERMES, ())], {"hermes": [before, *within]}, (), NOW - DAY, NOW, language("en"))
    assert [(one.anchor, plain(one.detail)) for one in found][1:] == [("", "before")]
    assert found[0].anchor == f"incident-{HERMES.id}"


def test_many_incidents_of_a_service_that_flaps_cost_little() -> None:
    """A change is compared with the times of the incidents together, not with each."""
    changes = flapping(5000)
    began = [NOW - timedelta(seconds=30 * n + 24) for n in range(170)]
    incidents = [
        (replace(HERMES, id=n, started_at=at, ended_at=at + timedelta(seconds=20)), ()) for n, at in enumerate(began)
    ]
    with counting_calls() as calls:
        found = activity.entries(incidents, {"hermes": changes}, (), NOW - DAY, NOW, language("en"))
    assert not any(plain(one.detail).startswith("change") for one in found)
    assert calls.total < 100_000  # 39,000; 458,000 where each is compared with each


def test_only_incidents_that_can_be_listed_are_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds, those that began last, and those to which something happened last: here the oldest ones ended last."""
    open_ones = [(replace(HERMES, id=n, started_at=NOW - timedelta(hours=n)), ()) for n in range(1, 200)]
    ended = [
        (replace(HERMES, id=1000 + n, started_at=NOW - 400 * DAY, ended_at=NOW - timedelta(minutes=n)), ())
        for n in range(1, 300)
    ]
    worded: list[int] = []
    original = activity._of_incident

    def counted(incident: Incident, *others: Any) -> Iterator[activity.Entry]:
        worded.append(incident.id)
        return original(incident, *others)

    monkeypatch.setattr(activity, "_of_incident", counted)
    found = activity.entries([*open_ones, *ended], {}, (), NOW - DAY, NOW, language("en"))
    assert len(worded) <= activity.MOST + activity.MOST_INCIDENTS
    assert [one.anchor for one in found if one.anchor] == [f"incident-{n}" for n in range(1, 21)]
    assert [one.at for one in found if not one.anchor][:5] == [NOW - timedelta(minutes=n) for n in range(1, 6)]


def test_a_change_of_state_is_said_in_the_language_of_the_page() -> None:
    cause = because("answered", status=503)
    change = StateChange("hermes", "", Health.UP, Health.DOWN, str(cause), NOW, cause=cause)
    found = {code: activity._of_change(change, language(code)).detail for code in ("en", "es")}
    assert found == {"en": "answered 503", "es": "respondió 503"}
    older = activity._of_change(replace(change, cause=None), language("es"))
    assert plain(older.detail) == "answered 503", "an earlier version kept no code"
