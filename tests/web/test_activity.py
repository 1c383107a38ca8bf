"""The list of what happened, apart from the pages that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tentaculo.model.health import Health, StateChange
from tentaculo.model.incident import Incident
from tentaculo.model.mute import Mute
from tentaculo.model.reason import because
from tentaculo.web import activity
from tentaculo.web.languages import Language, language
from tentaculo.web.wording import plain
from tests.support.calls import counting_calls
from tests.support.native_gateway import NOW, event
from tests.web.test_incidents import HERMES

DAY = timedelta(days=1)


def detail(entry: activity.Entry) -> str:
    found = entry.detail
    return plain(found if isinstance(found, str) else "".join(piece.text for piece in found))


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
    assert [detail(one) for one in found] == [f"change {n}" for n in range(4999, 4974, -1)]
    assert len(made) == activity.MOST == 25


def test_changes_that_an_incident_says_leave_room_for_others() -> None:
    """Those before the incident are listed, though thousands came within it."""
    before = replace(flapping(1)[0], at=HERMES.started_at - timedelta(minutes=9), reason="before")
    within = flapping(1400)
    found = activity.entries([(HERMES, ())], {"hermes": [before, *within]}, (), NOW - DAY, NOW, language("en"))
    assert [(one.anchor, detail(one)) for one in found][1:] == [("", "before")]
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
    assert not any(detail(one).startswith("change") for one in found)
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


def test_an_incident_that_another_one_explains_did_not_end_well() -> None:
    ended = replace(HERMES, ended_at=NOW, ending="Explained by another.")
    for one, said in ((ended, "works again"), (replace(ended, part_of=7), "belongs to another incident")):
        found = activity.entries([(one, ())], {}, (), NOW - DAY, NOW, language("en"))
        assert [entry.text for entry in found if entry.at == NOW] == [said]


def test_a_change_of_state_is_said_in_the_language_of_the_page() -> None:
    cause = because("answered", status=503)
    change = StateChange("hermes", "", Health.UP, Health.DOWN, str(cause), NOW, cause=cause)
    found = {code: detail(activity._of_change(change, language(code))) for code in ("en", "es")}
    assert found == {"en": "answered 503", "es": "respondió 503"}
    older = activity._of_change(replace(change, cause=None), language("es"))
    assert detail(older) == "answered 503", "an earlier version kept no code"


def muting(*mutes: Mute, ended_at: datetime | None = None, code: str = "en") -> list[tuple[int, str, str, str]]:
    """What is listed of mutes: minutes after the beginning of the incident, who, the text, and the rest."""
    one = replace(HERMES, ended_at=ended_at, muted=mutes[-1] if mutes else None)
    later = HERMES.started_at + timedelta(hours=9)
    found = activity.entries([(one, ())], {}, (), NOW - DAY, later, language(code), mutes={one.id: mutes})
    minutes = [round((entry.at - one.started_at).total_seconds() / 60) for entry in found]
    return [
        (at, plain(entry.subject), plain(entry.text), detail(entry))
        for at, entry in zip(minutes, found, strict=True)
        if entry.symbol == "bell"
    ]


def mute(minutes: int, lasts: int | None, number: int = 1) -> Mute:
    at = HERMES.started_at + timedelta(minutes=minutes)
    return Mute(number, HERMES.id, at, "ana", None if lasts is None else at + timedelta(minutes=lasts))


def of_event(payload: dict[str, Any]) -> str:
    (entry,) = activity.entries((), {}, [event(1, payload=payload)], NOW - DAY, NOW, language("en"))
    return detail(entry)


def test_a_payload_without_a_text_is_said_as_json() -> None:
    assert of_event({}) == ""
    assert of_event({"child": "é", "n": [1, 2]}) == '{"child": "é", "n": [1, 2]}'
    assert of_event({"child": ["é"] * 160}) == ('{"child": [' + '"é", ' * 30)[:159].rstrip() + "…"


def test_no_more_of_a_payload_is_encoded_than_is_shown() -> None:
    """The encoder of JSON calls no function of Python for most values, so that its time is no number of calls."""

    class Unread:
        def __str__(self) -> str:
            raise AssertionError("it is not shown")

    assert of_event({"numbers": list(range(200)), "last": Unread()}).startswith('{"numbers": [0, 1, 2, ')


def test_a_mute_says_who_set_it_until_when_and_when_it_was_over() -> None:
    end = f"{mute(3, 60).until:%H:%M}"
    over, set_at = muting(mute(3, 60))
    assert over == (63, "", "Alerts of hermes are sent again", "")
    assert set_at[:3] == (3, "ana", "muted the alerts of hermes")
    assert set_at[3].startswith("Until")
    assert set_at[3].endswith(f"{end}.")
    (ever,) = muting(mute(3, None))
    assert ever == (3, "ana", "muted the alerts of hermes", "Until the incident ends.")


def test_a_mute_that_was_taken_back_ends_then_and_not_later() -> None:
    found = muting(mute(3, 60), mute(10, 0, 2))
    assert [one[:3] for one in found] == [
        (10, "ana", "ended the mute of hermes"),
        (3, "ana", "muted the alerts of hermes"),
    ]
    longer = muting(mute(3, 60), mute(10, 120, 2))
    assert [one[0] for one in longer] == [130, 10, 3], "the first one gave way to the second"


def test_an_incident_that_ends_ends_its_mute() -> None:
    ended = HERMES.started_at + timedelta(minutes=30)
    assert [one[0] for one in muting(mute(3, 60), ended_at=ended)] == [3]


def test_the_latest_mute_is_known_from_memory_too() -> None:
    """What was read of the database may be some seconds old."""
    first, second = mute(3, None), mute(10, 0, 2)
    one = replace(HERMES, muted=second)
    found = activity.entries([(one, ())], {}, (), NOW - DAY, NOW, language("es"), mutes={one.id: [first]})
    assert [plain(entry.text) for entry in found if entry.symbol == "bell"] == [
        "volvió a activar las alertas de hermes",
        "silenció las alertas de hermes",
    ]
