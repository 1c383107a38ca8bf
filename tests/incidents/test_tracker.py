"""Incidents as a machine: a small fleet in words, a clock that obeys, and any sequence of looks."""

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
from tentaculo.model.endpoint import BreakerState, BreakerView, Endpoint
from tentaculo.model.health import DegradedKind, EndpointView, Health, ServiceView
from tentaculo.model.incident import Incident, NotificationState, Notified

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


class Bench:
    """Incidents with a clock."""

    def __init__(self, **settings: Any) -> None:
        self.incidents = IncidentTracker(**{"settle": SETTLE, **settings})
        self.now = START

    def after(self, seconds: float) -> Bench:
        self.now += timedelta(seconds=seconds)
        return self

    def sees(self, name: str, health: Health = Health.DOWN, breaker: BreakerView = CLOSED, **changes: Any) -> Bench:
        self.incidents.observe(view(name, health, breaker, **changes), self.now)
        return self

    def well(self, *names: str) -> Bench:
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


def test_it_opens_when_a_service_fails_and_ends_when_it_is_well() -> None:
    bench = Bench().well("hermes")
    assert bench.open == []
    bench.after(5).sees("hermes")
    opened = bench.only
    assert (opened.root, opened.services, opened.severity) == ("hermes", ("hermes",), Health.DOWN)
    assert (opened.reason, opened.started_at, opened.ended_at) == ("connection refused", bench.now, None)
    assert opened.id == int(bench.now.timestamp() * 1000)
    bench.after(90).well("hermes")
    assert bench.open == []
    assert bench.last == replace(opened, ended_at=bench.now, ending="It is healthy again: answered 200 in 4 ms")


def test_a_breaker_that_opens_is_an_incident_though_the_health_path_says_otherwise() -> None:
    bench = Bench().sees("hermes", Health.UP, OPEN)
    assert bench.only.reason == "answered 500 five times in a row"
    bench.after(10).sees("hermes", Health.UP, HALF_OPEN)
    assert bench.open == [("hermes",)]
    bench.after(1).well("hermes")
    assert bench.open == []


def test_a_breaker_that_nobody_tries_leaves_the_last_word_to_the_probes() -> None:
    bench = Bench().sees("hermes", Health.UP, OPEN).after(10).sees("hermes", Health.UP, DUE)
    bench.after(SETTLE - 1).sees("hermes", Health.UP, DUE)
    assert bench.open == [("hermes",)]
    bench.after(1).sees("hermes", Health.UP, DUE)
    assert bench.open == []
    assert bench.last.ending.startswith("Its probes pass, and no request has reached it since")


def test_a_second_look_that_finds_nothing_new_changes_nothing() -> None:
    bench = Bench().sees("hermes", reason="answered 500 in 4 ms")
    assert len(bench.incidents.take_changed()) == 1
    bench.after(5).sees("hermes", reason="answered 500 in 19 ms")
    assert bench.incidents.take_changed() == []
    bench.sees("hermes", reason="answered 200 in 4 ms (1 of 2 in a row before it counts as up)")
    assert bench.incidents.take_changed() == []
    assert bench.only.reason == "answered 500 in 4 ms", "the reason is that of the opening"


def test_it_is_seen_to_go_on_by_the_minute() -> None:
    bench = Bench().sees("hermes")
    bench.incidents.take_changed()
    bench.after(59).sees("hermes")
    assert bench.incidents.take_changed() == []
    bench.after(1).sees("hermes")
    assert [one.seen_at for one in bench.incidents.take_changed()] == [bench.now]


def test_children_join_the_incident_of_their_parent() -> None:
    bench = Bench().sees("switch").after(3).sees("operator", root="switch").sees("mcp", root="switch")
    assert bench.open == [("switch", "operator", "mcp")]
    assert bench.only.root == "switch"
    assert bench.only.affected == ("operator", "mcp")
    bench.after(9).well("operator")
    assert bench.open == [("switch", "operator", "mcp")], "that it was affected stays"
    bench.after(9).well("switch").well("mcp")
    assert bench.open == []
    assert len(bench.incidents.ended) == 1


def test_a_child_of_a_child_joins_as_well() -> None:
    bench = Bench().sees("switch").sees("operator", root="switch").sees("front", root="operator")
    assert bench.open == [("switch", "operator", "front")]


def test_a_child_that_was_found_first_is_taken_up_by_its_parents_incident() -> None:
    bench = Bench().sees("operator").after(2).sees("switch").sees("operator", root="switch")
    assert bench.open == [("switch", "operator")]
    assert (bench.last.root, bench.last.part_of) == ("operator", bench.only.id)
    assert bench.last.ending == f"Explained by the failure of switch: incident {bench.only.id}."
    bench.after(5).well("switch").after(1).well("operator")
    assert bench.open == []
    # What was taken up is not continued: the child's next failure is one of its own.
    bench.after(1).sees("operator")
    assert bench.only.id != bench.last.id


def test_a_child_that_failed_long_before_its_parent_keeps_its_own() -> None:
    bench = Bench().sees("operator").after(SETTLE + 1).sees("switch").sees("operator", root="switch")
    assert bench.open == [("operator",), ("switch",)]
    bench.after(1).well("switch")
    assert bench.open == [("operator",)]


def test_a_child_that_stays_down_after_its_parent_is_back_gets_its_own() -> None:
    bench = Bench().sees("switch").sees("operator", root="switch").after(30).well("switch")
    back = bench.now
    bench.sees("operator")
    assert bench.open == []
    bench.after(SETTLE - 1).sees("operator")
    assert bench.open == [], "it may take a moment to recover"
    bench.after(1).sees("operator")
    assert bench.open == [("operator",)]
    assert bench.only.started_at == back, "told from when nothing else explained it"


def test_a_child_whose_parent_fails_again_meanwhile_stays_with_it() -> None:
    bench = Bench().sees("switch").sees("operator", root="switch").after(30).well("switch")
    bench.after(20).sees("operator").sees("switch").sees("operator", root="switch")
    assert bench.open == [("switch", "operator")]
    bench.after(SETTLE * 2).sees("operator", root="switch")
    assert bench.open == [("switch", "operator")]


def test_a_child_of_a_parent_in_maintenance_has_no_incident() -> None:
    bench = Bench().sees("switch", Health.MAINTENANCE).sees("operator", root="switch")
    bench.after(500).sees("operator", root="switch")
    assert bench.open == []
    bench.well("switch").sees("operator")
    assert bench.open == [("operator",)]


def test_flapping_is_one_incident() -> None:
    bench = Bench().sees("hermes")
    number = bench.only.id
    for _ in range(20):
        bench.after(5).well("hermes").after(SETTLE).sees("hermes")
    assert (bench.only.id, bench.only.reopened, bench.only.started_at) == (number, 20, START)
    assert bench.only.ending == ""
    bench.after(5).well("hermes").after(SETTLE + 0.001).sees("hermes")
    assert bench.only.id != number
    assert bench.only.reopened == 0


def test_an_incident_waits_while_its_root_is_in_maintenance() -> None:
    bench = Bench().sees("hermes").after(300).sees("hermes", Health.MAINTENANCE)
    (opened,) = bench.incidents.open
    assert not bench.incidents.notifiable
    bench.incidents.note_error_rate("hermes", 1.0)
    bench.after(3600).sees("hermes")
    assert bench.incidents.notifiable == (replace(opened, seen_at=bench.now),)
    bench.after(1).sees("hermes", Health.MAINTENANCE).after(1).well("hermes")
    assert bench.open == []
    assert bench.last.ending == "It is healthy again: answered 200 in 4 ms"


def test_a_service_that_is_switched_off_has_no_open_incident() -> None:
    bench = Bench().sees("hermes").after(300).sees("hermes", Health.OFF, reason="on purpose")
    assert bench.open == []
    assert (bench.last.ending, bench.last.is_recovery) == ("It was switched off: on purpose", False)


def test_a_degraded_service_gets_worse() -> None:
    bench = Bench(degraded=True).sees("hermes", Health.DEGRADED)
    severities = [bench.only.severity]
    for health in (Health.DOWN, Health.DEGRADED):
        bench.after(5).sees("hermes", health)
        severities.append(bench.only.severity)
    assert severities == [Health.DEGRADED, Health.DOWN, Health.DOWN], "the worst so far"


def test_the_peak_of_the_error_rate_is_the_roots() -> None:
    bench = Bench().sees("switch").sees("operator", root="switch")
    for service, rate in (("switch", 0.4), ("switch", 0.9), ("switch", 0.2), ("operator", 1.0), ("nobody", 1.0)):
        bench.incidents.note_error_rate(service, rate)
    assert bench.only.peak_error_rate == 0.9
    bench.after(1).well("switch")
    bench.incidents.note_error_rate("operator", 1.0)
    assert bench.last.peak_error_rate == 0.9


def test_reasons_are_bounded() -> None:
    assert len(Bench().sees("hermes", reason="x" * 5000).only.reason) == REASON_LENGTH


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    bench = Bench()
    for number in range(9):
        bench.after(1).sees(f"s{number}").well(f"s{number}")
    assert [one.root for one in bench.incidents.ended] == ["s8", "s7", "s6"]
    assert [one.root for one in bench.incidents.take_changed()] == ["s6", "s7", "s8"]


# -- restarts --------------------------------------------------------------------------------------------------


def restarted(bench: Bench, *configured: str, away: float = 600) -> Bench:
    """A new process that reads back what the old one has stored."""
    new = Bench()
    new.now = bench.now + timedelta(seconds=away)
    stored = [*bench.incidents.open, *bench.incidents.ended]
    new.incidents.restore(stored, configured or ("hermes", "switch", "operator"), new.now)
    return new


def test_an_open_incident_survives_a_restart() -> None:
    old = Bench().sees("hermes")
    new = restarted(old)
    assert new.only == old.only
    new.sees("hermes", Health.UNKNOWN).after(1).sees("hermes").after(5).well("hermes")
    assert new.last.id == old.only.id
    assert new.last.ending == "It is healthy again: answered 200 in 4 ms", "it was seen to go on, so nothing is unsure"


def test_one_that_is_over_when_the_gateway_comes_back_ends_then_and_says_what_is_not_known() -> None:
    new = restarted(Bench().sees("hermes")).after(1).well("hermes")
    assert new.last.ended_at == new.now
    assert new.last.ending == (
        "Healthy when the gateway started; last seen failing at 2026-03-14 15:09 UTC, not monitored in between."
    )


def test_a_service_that_is_gone_from_the_configuration_has_no_open_incident() -> None:
    new = restarted(Bench().sees("hermes"), "switch")
    assert new.open == []
    assert new.last.ending == "The service is no longer configured."
    assert new.incidents.take_changed() == [new.last]


def test_what_was_opened_before_the_database_answered_is_taken_up_by_what_was_stored() -> None:
    old = Bench().sees("hermes")
    old.incidents.note_notified(old.only.id, "duty", Notified(NotificationState.OPEN, old.now, Health.DOWN, 1))
    new = Bench().after(600).sees("hermes", reason="no answer within 3 s").sees("mcp", root="hermes")
    newer = new.only
    new.incidents.restore(old.incidents.open, ("hermes", "mcp"), new.now)
    assert new.open == [("hermes", "mcp")]
    assert (new.only.id, new.only.started_at, new.only.notified) == (old.only.id, START, old.only.notified)
    assert new.only.reason == "connection refused", "the reason is that of the opening"
    assert (new.last.id, new.last.part_of) == (newer.id, old.only.id)
    new.incidents.restore(old.incidents.open, ("hermes", "mcp"), new.now)
    assert len(new.incidents.ended) == 1, "reading it back twice changes nothing"
    new.after(5).well("hermes", "mcp")
    assert new.last.ending == "It is healthy again: answered 200 in 4 ms"


def test_children_are_still_members_after_a_restart() -> None:
    new = restarted(Bench().sees("switch").sees("operator", root="switch"), away=1)
    new.sees("operator").sees("switch").sees("operator", root="switch")
    assert new.open == [("switch", "operator")]
    new.well("operator")
    new.well("switch")
    assert new.open == []


def test_a_restart_leaves_each_failure_its_own_incident() -> None:
    old = Bench().sees("switch").sees("operator", root="switch").well("operator").sees("operator")
    assert old.open == [("switch", "operator"), ("operator",)]
    new = restarted(old, away=1).well("operator")
    assert new.open == [("switch", "operator")]


def test_one_that_ended_just_before_a_restart_may_be_continued() -> None:
    old = Bench().sees("hermes").after(10).well("hermes")
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
def test_whatever_is_seen_the_books_are_in_order(looks: list[Any], restarts: bool) -> None:
    bench = Bench()
    health = dict.fromkeys(PARENTS, Health.UNKNOWN)
    known: dict[int, Incident] = {}
    for number, (name, now, breaker, pause) in enumerate(looks):
        bench.after(pause)
        health[name] = now
        parent = PARENTS[name]
        root = parent if parent is not None and health[parent] is Health.DOWN and now is Health.DOWN else None
        bench.sees(name, now, breaker, root=root)
        if restarts and number == len(looks) // 2:
            bench = restarted(bench, *PARENTS, away=5)
        in_the_books = [*bench.incidents.open, *bench.incidents.ended]
        assert len({one.id for one in in_the_books}) == len(in_the_books)
        roots = [one.root for one in bench.incidents.open]
        assert len(set(roots)) == len(roots), "a service has one open incident at most"
        for one in in_the_books:
            assert one.services[0] == one.root
            assert len(set(one.services)) == len(one.services)
            assert one.ended_at is None or one.started_at <= one.ended_at <= bench.now
            assert one.started_at <= bench.now
            assert (one.ending == "") is one.is_open
            before = known.get(one.id)
            assert before is None or set(before.services) <= set(one.services), "nobody is forgotten"
            known[one.id] = one
        # A service that can be used has no open incident of its own.
        if availability_of(view(name, now, breaker), degraded=False)[0] is Availability.USABLE:
            assert name not in roots
        if now is Health.DOWN and root is None:
            assert name in roots or any(name in one.services for one in in_the_books)


def test_every_moment_is_corrected_after_the_system_clock_was_set() -> None:
    bench = Bench().sees("switch").sees("operator", root="switch").sees("hermes").after(30)
    bench.incidents.note_notified(
        bench.only_of("hermes").id, "duty", Notified(NotificationState.OPEN, bench.now, Health.DOWN, 1)
    )
    bench.well("hermes").well("switch")
    before = {one.root: one for one in bench.incidents.ended}
    bench.incidents.take_changed()
    hour = timedelta(hours=1)
    bench.now -= hour
    bench.incidents.correct(lambda moment: moment - hour)
    assert {one.root for one in bench.incidents.take_changed()} == {"switch", "hermes"}
    for one in bench.incidents.ended:
        old = before[one.root]
        assert old.ended_at is not None
        assert (one.started_at, one.seen_at, one.ended_at) == (
            old.started_at - hour,
            old.seen_at - hour,
            old.ended_at - hour,
        )
    assert bench.incidents.ended[0].notified or bench.incidents.ended[1].notified
    # What had begun to wait goes on waiting for the rest of its time.
    bench.after(SETTLE - 1).sees("operator")
    assert bench.open == []
    bench.after(1).sees("operator")
    assert bench.open == [("operator",)]
    bench.incidents.correct(lambda moment: moment)
    assert [one.root for one in bench.incidents.take_changed()] == ["operator"], "nothing was corrected"
