"""The incident state machine: scenarios with a clock that is set, and every sequence of observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.incidents import tracker as module
from tentaculo.incidents.availability import REASON_LENGTH, Availability, availability_of
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.health import BreakerState, BreakerView, DegradedKind, Endpoint, EndpointView, Health, ServiceView
from tentaculo.model.incident import DeliveryOutcome, DeliveryRecord, Incident, NotificationState, Notified
from tentaculo.model.reason import because, coded

START = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
SETTLE = 60.0
CLOSED = BreakerView(BreakerState.CLOSED, 0)
OPEN = BreakerView(BreakerState.OPEN, 5, START, "answered 500 five times in a row", 7.0)
DUE = replace(OPEN, retry_after=0.0)
HALF_OPEN = replace(OPEN, state=BreakerState.HALF_OPEN, retry_after=0.0)


def view(name: str, health: Health = Health.DOWN, breaker: BreakerView = CLOSED, **changes: Any) -> ServiceView:
    reason = {Health.DOWN: "connection refused", Health.MAINTENANCE: "a new disk"}.get(health, "answered 200 in 4 ms")
    at = EndpointView(Endpoint(name, "127.0.0.1", 8001), health, breaker)
    return ServiceView(name, 8001, health, **{"reason": reason, "since": START, "upstreams": (at,), **changes})


class Scenario:
    """Incidents and a clock."""

    def __init__(self, **settings: Any) -> None:
        self.incidents = IncidentTracker(**{"settle": SETTLE, **settings})
        self.now = START

    def after(self, seconds: float) -> Scenario:
        self.now += timedelta(seconds=seconds)
        return self

    def sees(self, name: str, health: Health = Health.DOWN, breaker: BreakerView = CLOSED, **changes: Any) -> Scenario:
        self.incidents.observe(view(name, health, breaker, **changes), self.now)
        return self

    def recovers(self, *names: str) -> Scenario:
        for name in names:
            self.sees(name, Health.UP)
        return self

    @property
    def open(self) -> list[tuple[str, ...]]:
        return [one.services for one in self.incidents.open]

    @property
    def only(self) -> Incident:
        (one,) = self.incidents.open
        return one

    def only_of(self, root: str) -> Incident:
        (one,) = (one for one in self.incidents.open if one.root == root)
        return one

    @property
    def last(self) -> Incident:
        return self.incidents.ended[0]


@pytest.mark.parametrize(
    ("health", "breaker", "degraded", "found"),
    [
        (Health.UP, CLOSED, False, Availability.USABLE),
        (Health.DEGRADED, CLOSED, False, Availability.USABLE),
        (Health.DEGRADED, CLOSED, True, Availability.FAILS),
        (Health.DOWN, CLOSED, False, Availability.FAILS),
        (Health.DOWN, OPEN, False, Availability.FAILS),
        (Health.UP, OPEN, False, Availability.FAILS),
        (Health.DEGRADED, OPEN, False, Availability.FAILS),
        (Health.UP, DUE, False, Availability.UNDECIDED),
        (Health.UP, HALF_OPEN, False, Availability.UNDECIDED),
        (Health.UNKNOWN, OPEN, True, Availability.UNDECIDED),
        (Health.MAINTENANCE, OPEN, True, Availability.MAINTENANCE),
        (Health.OFF, OPEN, True, Availability.OFF),
    ],
)
def test_what_an_observation_says(health: Health, breaker: BreakerView, degraded: bool, found: Availability) -> None:
    assert availability_of(view("hermes", health, breaker), degraded=degraded)[0] is found


@pytest.mark.parametrize(
    ("kind", "degraded", "found"),
    [
        (DegradedKind.FAILING, False, Availability.FAILS),
        (DegradedKind.FAILING, True, Availability.FAILS),
        (DegradedKind.SLOW, False, Availability.USABLE),
        (DegradedKind.SLOW, True, Availability.USABLE),
        (None, False, Availability.USABLE),
        (None, True, Availability.FAILS),
    ],
)
def test_a_degraded_service_fails_where_a_part_of_its_probes_does(
    kind: DegradedKind | None, degraded: bool, found: Availability
) -> None:
    assert availability_of(view("hermes", Health.DEGRADED, kind=kind), degraded=degraded)[0] is found


def test_one_that_is_only_slow_fails_where_that_is_asked_for() -> None:
    slow, degraded = (view("hermes", Health.DEGRADED, kind=kind) for kind in (DegradedKind.SLOW, None))
    assert availability_of(slow, degraded=False, slow=True)[0] is Availability.FAILS
    assert availability_of(degraded, degraded=False, slow=True)[0] is Availability.USABLE


def test_it_opens_when_a_service_fails_and_ends_when_it_recovers() -> None:
    scenario = Scenario().recovers("hermes")
    assert scenario.open == []
    scenario.after(5).sees("hermes")
    opened = scenario.only
    assert (opened.root, opened.services, opened.severity) == ("hermes", ("hermes",), Health.DOWN)
    assert (opened.reason, opened.started_at, opened.ended_at) == ("connection refused", scenario.now, None)
    assert opened.id == int(scenario.now.timestamp() * 1000)
    scenario.after(90).recovers("hermes")
    assert scenario.open == []
    assert scenario.last == replace(opened, ended_at=scenario.now, ending="It is healthy again: answered 200 in 4 ms")


def test_each_ending_has_a_code_and_values() -> None:
    answered = because("took", what=because("answered", status=200), milliseconds=4)
    ended = Scenario().sees("hermes").after(9).sees("hermes", Health.UP, reason=str(answered), cause=answered)
    assert coded("ending", ended.last.ending_cause) == {
        "ending_code": "recovered",
        "ending_values": {"what": {"code": answered.code, "values": answered.plain_values()}},
    }
    ended.after(1).sees("hermes")
    assert (ended.only.ending, ended.only.ending_cause) == ("", None), "it is open again"
    assert ended.only.is_recovery is False
    taken = Scenario().sees("operator").after(2).sees("switch").sees("operator", root="switch")
    seen = restarted(Scenario().sees("hermes")).after(1).recovers("hermes")
    found = {
        "explained_by": (taken.last, {"root": "switch", "id": taken.only.id}),
        "recovered_unseen": (seen.last, {"time": seen.last.seen_at.isoformat()}),
        "removed": (restarted(Scenario().sees("hermes"), "switch").last, {}),
    }
    for code, (incident, values) in found.items():
        assert coded("ending", incident.ending_cause) == {"ending_code": code, "ending_values": values}
        assert incident.is_recovery is (code != "removed")
        # An earlier version stored the text only.
        assert replace(incident, ending_cause=None).is_recovery is (code != "removed")
    long = ended.after(9).sees("hermes", Health.UP, reason="x" * 5000)
    assert (long.last.ending_cause, len(long.last.ending)) == (None, REASON_LENGTH)


def test_a_breaker_that_opens_is_an_incident_though_the_health_path_says_otherwise() -> None:
    scenario = Scenario().sees("hermes", Health.UP, OPEN)
    assert scenario.only.reason == "answered 500 five times in a row"
    scenario.after(10).sees("hermes", Health.UP, HALF_OPEN)
    assert scenario.open == [("hermes",)]
    scenario.after(1).recovers("hermes")
    assert scenario.open == []


def test_an_open_breaker_without_requests_leaves_the_decision_to_the_probes() -> None:
    scenario = Scenario().sees("hermes", Health.UP, OPEN).after(10).sees("hermes", Health.UP, DUE)
    scenario.after(SETTLE - 1).sees("hermes", Health.UP, DUE)
    assert scenario.open == [("hermes",)]
    scenario.after(1).sees("hermes", Health.UP, DUE)
    assert scenario.open == []
    assert scenario.last.ending.startswith("Its probes pass, and no request has reached it since")


def test_an_observation_without_news_changes_nothing() -> None:
    scenario = Scenario().sees("hermes", reason="answered 500 in 4 ms")
    assert len(scenario.incidents.take_changed()) == 1
    scenario.after(5).sees("hermes", reason="answered 500 in 19 ms")
    assert scenario.incidents.take_changed() == []
    scenario.sees("hermes", reason="answered 200 in 4 ms (1 of 2 in a row before it counts as up)")
    assert scenario.incidents.take_changed() == []
    assert scenario.only.reason == "answered 500 in 4 ms", "the reason is that of the opening"


def test_it_is_seen_to_go_on_by_the_minute() -> None:
    scenario = Scenario().sees("hermes")
    scenario.incidents.take_changed()
    scenario.after(59).sees("hermes")
    assert scenario.incidents.take_changed() == []
    scenario.after(1).sees("hermes")
    assert [one.seen_at for one in scenario.incidents.take_changed()] == [scenario.now]


def test_children_join_the_incident_of_their_parent() -> None:
    scenario = Scenario().sees("switch").after(3).sees("operator", root="switch").sees("mcp", root="switch")
    assert scenario.open == [("switch", "operator", "mcp")]
    assert scenario.only.root == "switch"
    assert scenario.only.affected == ("operator", "mcp")
    scenario.after(9).recovers("operator")
    assert scenario.open == [("switch", "operator", "mcp")], "that it was affected stays"
    scenario.after(9).recovers("switch").recovers("mcp")
    assert scenario.open == []
    assert len(scenario.incidents.ended) == 1


def test_a_child_of_a_child_joins_too() -> None:
    scenario = Scenario().sees("switch").sees("operator", root="switch").sees("front", root="operator")
    assert scenario.open == [("switch", "operator", "front")]


def test_a_child_that_was_found_first_is_taken_up_by_its_parents_incident() -> None:
    scenario = Scenario().sees("operator").after(2).sees("switch").sees("operator", root="switch")
    assert scenario.open == [("switch", "operator")]
    assert (scenario.last.root, scenario.last.part_of) == ("operator", scenario.only.id)
    assert scenario.last.ending == f"Explained by the failure of switch: incident {scenario.only.id}."
    scenario.after(5).recovers("switch").after(1).recovers("operator")
    assert scenario.open == []
    # What was taken up is not continued: the child's next failure is one of its own.
    scenario.after(1).sees("operator")
    assert scenario.only.id != scenario.last.id


def test_a_child_that_failed_long_before_its_parent_keeps_its_own() -> None:
    scenario = Scenario().sees("operator").after(SETTLE + 1).sees("switch").sees("operator", root="switch")
    assert scenario.open == [("operator",), ("switch",)]
    scenario.after(1).recovers("switch")
    assert scenario.open == [("operator",)]


def test_a_child_that_stays_down_after_its_parent_is_back_gets_its_own() -> None:
    scenario = Scenario().sees("switch").sees("operator", root="switch").after(30).recovers("switch")
    back = scenario.now
    scenario.sees("operator")
    assert scenario.open == []
    scenario.after(SETTLE - 1).sees("operator")
    assert scenario.open == [], "it may take a moment to recover"
    scenario.after(1).sees("operator")
    assert scenario.open == [("operator",)]
    assert scenario.only.started_at == back, "told from when nothing else explained it"


def test_a_child_whose_parent_fails_again_meanwhile_stays_with_it() -> None:
    scenario = Scenario().sees("switch").sees("operator", root="switch").after(30).recovers("switch")
    scenario.after(20).sees("operator").sees("switch").sees("operator", root="switch")
    assert scenario.open == [("switch", "operator")]
    scenario.after(SETTLE * 2).sees("operator", root="switch")
    assert scenario.open == [("switch", "operator")]


def test_a_child_of_a_parent_in_maintenance_has_no_incident() -> None:
    scenario = Scenario().sees("switch", Health.MAINTENANCE).sees("operator", root="switch")
    scenario.after(500).sees("operator", root="switch")
    assert scenario.open == []
    scenario.recovers("switch").sees("operator")
    assert scenario.open == [("operator",)]


def test_flapping_is_one_incident() -> None:
    scenario = Scenario().sees("hermes")
    number = scenario.only.id
    for _ in range(20):
        scenario.after(5).recovers("hermes").after(SETTLE).sees("hermes")
    assert (scenario.only.id, scenario.only.reopened, scenario.only.started_at) == (number, 20, START)
    assert scenario.only.ending == ""
    scenario.after(5).recovers("hermes").after(SETTLE + 0.001).sees("hermes")
    assert scenario.only.id != number
    assert scenario.only.reopened == 0


def test_a_failure_that_continues_an_incident_keeps_the_reason_that_was_announced() -> None:
    scenario = Scenario().sees(
        "hermes", Health.DEGRADED, kind=DegradedKind.FAILING, reason="5 of its last 10 probes failed"
    )
    scenario.after(5).recovers("hermes").after(5)
    scenario.sees("hermes", Health.DEGRADED, kind=DegradedKind.FAILING, reason="3 of its last 10 probes failed")
    assert (scenario.only.reopened, scenario.only.reason) == (1, "5 of its last 10 probes failed")
    scenario.after(5).recovers("hermes").after(5).sees("hermes", reason="connection refused")
    assert (scenario.only.reopened, scenario.only.reason) == (2, "connection refused"), "it is worse now"
    assert scenario.only.severity is Health.DOWN


def test_an_end_that_a_wrong_clock_recorded_for_tomorrow_takes_up_no_failure_of_today() -> None:
    old = Scenario().sees("hermes").after(5).recovers("hermes")
    new = restarted(old, away=-86400).sees("hermes")
    assert (new.only.id != old.last.id, new.only.reopened, new.only.started_at) == (True, 0, new.now)


def test_an_incident_waits_while_its_root_is_in_maintenance() -> None:
    scenario = Scenario().sees("hermes").after(300).sees("hermes", Health.MAINTENANCE)
    (opened,) = scenario.incidents.open
    assert not scenario.incidents.notifiable
    scenario.incidents.note_error_rate("hermes", 1.0)
    scenario.after(3600).sees("hermes")
    assert scenario.incidents.notifiable == (replace(opened, seen_at=scenario.now),)
    scenario.after(1).sees("hermes", Health.MAINTENANCE).after(1).recovers("hermes")
    assert scenario.open == []
    assert scenario.last.ending == "It is healthy again: answered 200 in 4 ms"


def test_a_service_that_is_switched_off_has_no_open_incident() -> None:
    scenario = Scenario().sees("hermes").after(300).sees("hermes", Health.OFF, reason="on purpose")
    assert scenario.open == []
    assert (scenario.last.ending, scenario.last.is_recovery) == ("It was switched off: on purpose", False)


def test_a_degraded_service_gets_worse() -> None:
    scenario = Scenario(degraded=True).sees("hermes", Health.DEGRADED)
    severities = [scenario.only.severity]
    for health in (Health.DOWN, Health.DEGRADED):
        scenario.after(5).sees("hermes", health)
        severities.append(scenario.only.severity)
    assert severities == [Health.DEGRADED, Health.DOWN, Health.DOWN], "the worst so far"


def test_the_peak_of_the_error_rate_is_the_roots() -> None:
    scenario = Scenario().sees("switch").sees("operator", root="switch")
    for service, rate in (("switch", 0.4), ("switch", 0.9), ("switch", 0.2), ("operator", 1.0), ("nobody", 1.0)):
        scenario.incidents.note_error_rate(service, rate)
    assert scenario.only.peak_error_rate == 0.9
    scenario.after(1).recovers("switch")
    scenario.incidents.note_error_rate("operator", 1.0)
    assert scenario.last.peak_error_rate == 0.9


def test_reasons_are_bounded() -> None:
    assert len(Scenario().sees("hermes", reason="x" * 5000).only.reason) == REASON_LENGTH


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    scenario = Scenario()
    for number in range(9):
        scenario.after(1).sees(f"s{number}").recovers(f"s{number}")
    assert len(scenario.incidents.take_changed()) == 9, "each end is to be stored"
    assert scenario.incidents.take_changed() == []
    assert [one.root for one in scenario.incidents.ended] == ["s8", "s7", "s6"]


def test_what_is_not_stored_stays_in_memory_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    monkeypatch.setattr(module, "MOST_WAITING", 6)
    scenario = Scenario()
    for number in range(5):
        scenario.after(1).sees(f"s{number}").recovers(f"s{number}")
    scenario.incidents.put_back(scenario.incidents.take_changed())
    assert len(scenario.incidents.take_changed()) == 5, "it could not be stored, and waits"
    for number in range(5, 15):
        scenario.after(1).sees(f"s{number}").recovers(f"s{number}")
    assert [one.root for one in scenario.incidents.take_changed()] == [f"s{number}" for number in range(9, 15)]


def test_all_incidents_that_a_reload_ends_are_stored() -> None:
    names = [f"s{number}" for number in range(2 * module.MOST_ENDED)]
    scenario = Scenario()
    for name in names:
        scenario.sees(name)
    scenario.incidents.take_changed()
    scenario.incidents.remove(names, scenario.now)
    ended = scenario.incidents.take_changed()
    assert sorted(one.root for one in ended) == sorted(names)
    assert {one.ending for one in ended} == {"The service was removed from the configuration."}


# -- restarts --------------------------------------------------------------------------------------------------


def restarted(scenario: Scenario, *configured: str, away: float = 600) -> Scenario:
    """A new process that reads back what the old one has stored."""
    new = Scenario()
    new.now = scenario.now + timedelta(seconds=away)
    stored = [*scenario.incidents.open, *scenario.incidents.ended]
    new.incidents.restore(stored, configured or ("hermes", "switch", "operator"), new.now)
    return new


def test_an_open_incident_survives_a_restart() -> None:
    old = Scenario().sees("hermes")
    new = restarted(old)
    assert new.only == old.only
    new.sees("hermes", Health.UNKNOWN).after(1).sees("hermes").after(5).recovers("hermes")
    assert new.last.id == old.only.id
    assert new.last.ending == "It is healthy again: answered 200 in 4 ms", (
        "it was observed throughout, so its end is certain"
    )


def test_one_that_is_over_when_the_gateway_comes_back_ends_then_and_says_what_is_not_known() -> None:
    new = restarted(Scenario().sees("hermes")).after(1).recovers("hermes")
    assert new.last.ended_at == new.now
    assert new.last.ending == (
        "Healthy when the gateway started; last seen failing at 2026-03-14 15:09 UTC, not monitored in between."
    )


def test_a_service_that_is_gone_from_the_configuration_has_no_open_incident() -> None:
    new = restarted(Scenario().sees("hermes"), "switch")
    assert new.open == []
    assert new.last.ending == "The service was removed from the configuration."
    assert new.incidents.take_changed() == [new.last]


def delivery(at: datetime, channel: str, outcome: DeliveryOutcome) -> DeliveryRecord:
    return DeliveryRecord(channel, "incident.opened", outcome, at, at)


def note_delivered(scenario: Scenario, number: int) -> None:
    """The channel `duty` has announced the incident."""
    scenario.incidents.note_delivery(
        number,
        delivery(scenario.now, "duty", DeliveryOutcome.DELIVERED),
        Notified(NotificationState.OPEN, scenario.now, Health.DOWN, 1),
    )


def test_what_was_opened_before_the_database_answered_is_taken_up_by_what_was_stored() -> None:
    old = Scenario().sees("hermes")
    note_delivered(old, old.only.id)
    new = Scenario().after(600).sees("hermes", reason="no response within 3 s").sees("mcp", root="hermes")
    newer = new.only
    new.incidents.note_delivery(newer.id, delivery(new.now, "phone", DeliveryOutcome.FAILED), None)
    new.incidents.restore(old.incidents.open, ("hermes", "mcp"), new.now)
    assert new.open == [("hermes", "mcp")]
    assert (new.only.id, new.only.started_at, new.only.notified) == (old.only.id, START, old.only.notified)
    assert new.only.reason == "connection refused", "the reason is that of the opening"
    assert [(one.channel, one.outcome.value) for one in new.only.deliveries] == [
        ("duty", "delivered"),
        ("phone", "failed"),
    ]
    new.incidents.note_delivery(newer.id, delivery(new.now, "phone", DeliveryOutcome.DELIVERED), None)
    assert len(new.only.deliveries) == 3, "a message that was under way is about the stored one"
    assert (new.last.id, new.last.part_of) == (newer.id, old.only.id)
    new.incidents.restore(old.incidents.open, ("hermes", "mcp"), new.now)
    assert len(new.incidents.ended) == 1, "reading it back twice changes nothing"
    new.after(5).recovers("hermes", "mcp")
    assert new.last.ending == "It is healthy again: answered 200 in 4 ms"


def test_children_are_still_members_after_a_restart() -> None:
    new = restarted(Scenario().sees("switch").sees("operator", root="switch"), away=1)
    new.sees("operator").sees("switch").sees("operator", root="switch")
    assert new.open == [("switch", "operator")]
    new.recovers("operator")
    new.recovers("switch")
    assert new.open == []


def test_a_restart_leaves_each_failure_its_own_incident() -> None:
    old = Scenario().sees("switch").sees("operator", root="switch").recovers("operator").sees("operator")
    assert old.open == [("switch", "operator"), ("operator",)]
    new = restarted(old, away=1).recovers("operator")
    assert new.open == [("switch", "operator")]


def test_one_that_ended_just_before_a_restart_may_be_continued() -> None:
    old = Scenario().sees("hermes").after(10).recovers("hermes")
    new = restarted(old, away=20).sees("hermes")
    assert (new.only.id, new.only.reopened) == (old.last.id, 1)


# -- anything --------------------------------------------------------------------------------------------------

PARENTS: Mapping[str, str | None] = {"a": None, "b": "a", "c": "b", "d": None}
LOOKS = st.tuples(
    st.sampled_from(sorted(PARENTS)),
    st.sampled_from([Health.UP, Health.DOWN, Health.DOWN, Health.DEGRADED, Health.MAINTENANCE, Health.UNKNOWN]),
    st.sampled_from([CLOSED, CLOSED, CLOSED, OPEN, DUE]),
    st.sampled_from([0.0, 1.0, 30.0, 61.0, 4000.0]),
)


@given(st.lists(LOOKS, max_size=60), st.booleans())
def test_the_invariants_hold_for_every_sequence_of_observations(looks: list[Any], restarts: bool) -> None:
    scenario = Scenario()
    health = dict.fromkeys(PARENTS, Health.UNKNOWN)
    known: dict[int, Incident] = {}
    for number, (name, now, breaker, pause) in enumerate(looks):
        scenario.after(pause)
        health[name] = now
        parent = PARENTS[name]
        root = parent if parent is not None and health[parent] is Health.DOWN and now is Health.DOWN else None
        scenario.sees(name, now, breaker, root=root)
        if restarts and number == len(looks) // 2:
            scenario = restarted(scenario, *PARENTS, away=5)
        known_incidents = [*scenario.incidents.open, *scenario.incidents.ended]
        assert len({one.id for one in known_incidents}) == len(known_incidents)
        roots = [one.root for one in scenario.incidents.open]
        assert len(set(roots)) == len(roots), "a service has one open incident at most"
        for one in known_incidents:
            assert one.services[0] == one.root
            assert len(set(one.services)) == len(one.services)
            assert one.ended_at is None or one.started_at <= one.ended_at <= scenario.now
            assert one.started_at <= scenario.now
            assert (one.ending == "") is one.is_open
            before = known.get(one.id)
            assert before is None or set(before.services) <= set(one.services), "nobody is forgotten"
            known[one.id] = one
        # A service that can be used has no open incident of its own.
        if availability_of(view(name, now, breaker), degraded=False)[0] is Availability.USABLE:
            assert name not in roots
        if now is Health.DOWN and root is None:
            assert name in roots or any(name in one.services for one in known_incidents)


def test_every_moment_is_corrected_after_the_system_clock_was_set() -> None:
    scenario = Scenario().sees("switch").sees("operator", root="switch").sees("hermes").after(30)
    note_delivered(scenario, scenario.only_of("hermes").id)
    scenario.recovers("hermes").recovers("switch")
    before = {one.root: one for one in scenario.incidents.ended}
    scenario.incidents.take_changed()
    hour = timedelta(hours=1)
    scenario.now -= hour
    scenario.incidents.correct(lambda moment: moment - hour)
    assert {one.root for one in scenario.incidents.take_changed()} == {"switch", "hermes"}
    for one in scenario.incidents.ended:
        old = before[one.root]
        assert old.ended_at is not None
        assert (one.started_at, one.seen_at, one.ended_at) == (
            old.started_at - hour,
            old.seen_at - hour,
            old.ended_at - hour,
        )
    (known,) = [one for one in scenario.incidents.ended if one.notified]
    assert [one.at for one in known.deliveries] == [known.notified["duty"].at] == [START + timedelta(seconds=30) - hour]
    # A wait that had begun continues for the rest of its time.
    scenario.after(SETTLE - 1).sees("operator")
    assert scenario.open == []
    scenario.after(1).sees("operator")
    assert scenario.open == [("operator",)]
    scenario.incidents.correct(lambda moment: moment)
    assert [one.root for one in scenario.incidents.take_changed()] == ["operator"], "nothing was corrected"
