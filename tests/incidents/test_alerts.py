"""Which alerts are due on a channel and when, and what they say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.incidents import alerts
from tentaculo.incidents.alerts import AlertPolicy, MessageContext, Notification, NotificationKind, trial_message
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.health import Health
from tentaculo.model.incident import (
    Acknowledgement,
    DeliveryOutcome,
    DeliveryRecord,
    Incident,
    NotificationState,
    Notified,
)
from tentaculo.model.mute import Mute
from tests.incidents.test_tracker import view

START = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
WAIT, REMIND, SETTLE = 15.0, 3600.0, 60.0


CHANNEL = "duty"


class Scenario:
    """Incidents and the alerts of one channel, with one clock. A message is delivered as soon as it is due."""

    def __init__(self, *, remind: float = REMIND, wait: float = WAIT) -> None:
        self.incidents = IncidentTracker(settle=SETTLE)
        self.alerts = AlertPolicy(CHANNEL, wait=wait, remind=remind, settle=SETTLE)
        self.now = START
        self.messages: list[tuple[NotificationKind, tuple[str, ...]]] = []
        self.in_progress: list[Notification] = []

    def sees(self, name: str, health: Health = Health.DOWN, **changes: Any) -> Scenario:
        self.incidents.observe(view(name, health, **changes), self.now)
        return self

    def mutes(self, root: str, minutes: float | None) -> Scenario:
        (number,) = [one.id for one in self.incidents.open if one.root == root]
        until = None if minutes is None else self.now + timedelta(minutes=minutes)
        self.incidents.note_mute(Mute(1, number, self.now, "signed in", until))
        return self

    def recovers(self, *names: str) -> Scenario:
        for name in names:
            self.sees(name, Health.UP)
        return self

    def waits(self, seconds: float, *failing: str, deliver: bool = True) -> Scenario:
        """Second by second; `failing` are looked at meanwhile."""
        for _ in range(int(seconds)):
            self.now += timedelta(seconds=1)
            for name in failing:
                self.sees(name)
            # While a message is in progress the channel takes no other.
            if not self.in_progress:
                self.in_progress = self.alerts.due(self.incidents.notifiable, self.now)
                for notification in self.in_progress:
                    self.messages.append((notification.kind, tuple(one.root for one in notification.incidents)))
            if deliver:
                self.arrives()
        return self

    def arrives(self) -> Scenario:
        """What is in progress is delivered."""
        for notification in self.in_progress:
            for one in notification.incidents:
                self.incidents.note_delivery(
                    one.id,
                    DeliveryRecord(CHANNEL, notification.kind.value, DeliveryOutcome.DELIVERED, self.now, self.now),
                    notification.record(one, self.now),
                )
        self.in_progress = []
        return self

    def fails(self) -> Scenario:
        """What is in progress is abandoned."""
        self.in_progress = []
        return self

    def sent(self) -> list[tuple[NotificationKind, tuple[str, ...]]]:
        messages, self.messages = self.messages, []
        return messages


def test_failures_of_the_same_time_share_one_message() -> None:
    scenario = Scenario().sees("hermes").waits(10).sees("mcp").waits(4)
    assert scenario.sent() == []
    assert scenario.waits(1).sent() == [(NotificationKind.OPENED, ("hermes", "mcp"))]
    assert scenario.waits(REMIND - 100).sent() == []


def test_the_root_alone_alerts_for_its_children() -> None:
    scenario = Scenario().sees("operator").waits(2).sees("switch").sees("operator", root="switch").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("switch",))]


def test_a_failure_shorter_than_the_wait_causes_no_message() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT - 1).recovers("hermes").waits(SETTLE * 3)
    assert scenario.sent() == []


def test_an_end_is_announced_after_the_settle_time() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    scenario.waits(30).recovers("hermes").waits(SETTLE - 1)
    assert scenario.sent() == []
    assert scenario.waits(1).sent() == [(NotificationKind.ENDED, ("hermes",))]
    assert scenario.waits(REMIND * 2).sent() == []


def test_flapping_causes_two_messages() -> None:
    scenario = Scenario()
    for _ in range(30):
        # It is never down for as long as the wait, nor well for as long as the settle time.
        scenario.sees("hermes").waits(10).recovers("hermes").waits(20)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    assert scenario.waits(SETTLE).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_further_services_share_one_message() -> None:
    scenario = Scenario().sees("switch").waits(WAIT)
    scenario.sent()
    for name in ("operator", "mcp", "hermes"):
        scenario.sees(name, root="switch").waits(20)
    assert scenario.sent() == []
    assert scenario.waits(300).sent() == [(NotificationKind.CHANGED, ("switch",))]
    assert scenario.waits(600).sent() == []


def test_a_reminder_names_everything_that_is_open() -> None:
    scenario = Scenario().sees("hermes").waits(1000).sees("mcp").waits(WAIT)
    scenario.sent()
    scenario.waits(REMIND - 1000)
    assert scenario.sent() == [(NotificationKind.REMINDER, ("hermes", "mcp"))]
    scenario.waits(REMIND - 1)
    assert scenario.sent() == []
    scenario.recovers("mcp").waits(1)
    assert scenario.sent() == [(NotificationKind.REMINDER, ("hermes",))]


def test_an_acknowledged_incident_needs_no_reminder_and_its_end_is_announced() -> None:
    scenario = Scenario().sees("hermes").sees("mcp").waits(WAIT)
    scenario.sent()
    (hermes, mcp) = scenario.incidents.open
    scenario.incidents.note_acknowledgement(Acknowledgement(1, hermes.id, scenario.now, "ana"))
    assert scenario.waits(REMIND).sent() == [(NotificationKind.REMINDER, ("mcp",))]
    scenario.incidents.note_acknowledgement(Acknowledgement(2, mcp.id, scenario.now, "ana"))
    assert scenario.waits(REMIND * 3).sent() == []
    # What a person has not heard of yet is still said.
    scenario.sees("operator", root="hermes").waits(300)
    assert scenario.sent() == [(NotificationKind.CHANGED, ("hermes",))]
    scenario.recovers("hermes").waits(SETTLE - 1).sees("hermes").waits(REMIND)
    assert scenario.sent() == [], "it came back within the settle time: the same incident"
    scenario.recovers("hermes").waits(SETTLE + 1)
    assert scenario.sent() == [(NotificationKind.ENDED, ("hermes",))]
    scenario.sees("hermes").waits(WAIT)
    scenario.sent()
    assert (NotificationKind.REMINDER, ("hermes",)) in scenario.waits(REMIND).sent(), "another incident"


def test_a_message_names_who_acknowledged() -> None:
    one = incident(acknowledged=Acknowledgement(1, 7, NOW, "ana"))
    assert "\nAcknowledged by ana.\n" in composed(NotificationKind.CHANGED, one)[1]
    assert "Acknowledged" not in composed(NotificationKind.OPENED, incident())[1]


def test_reminders_can_be_turned_off() -> None:
    scenario = Scenario(remind=0).sees("hermes").waits(WAIT)
    scenario.sent()
    assert scenario.waits(8000).sent() == []


def test_maintenance_is_silent_and_what_is_down_afterwards_alerts_then() -> None:
    scenario = Scenario().sees("hermes", Health.MAINTENANCE).waits(REMIND * 2)
    assert scenario.sent() == []
    assert scenario.sees("hermes").waits(WAIT).sent() == [(NotificationKind.OPENED, ("hermes",))]


def test_maintenance_is_no_end_of_what_is_down_and_its_end_no_new_failure() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    scenario.sent()
    scenario.sees("hermes", Health.MAINTENANCE).waits(REMIND * 2)
    scenario.sees("hermes").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.REMINDER, ("hermes",))], "down before, during and after"
    scenario.sees("hermes", Health.MAINTENANCE).waits(SETTLE)
    assert scenario.sent() == []
    assert scenario.recovers("hermes").waits(SETTLE).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_maintenance_does_not_delay_the_end_of_what_recovered_before_it() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT).recovers("hermes").waits(5)
    scenario.sent()
    assert scenario.sees("hermes", Health.MAINTENANCE).waits(SETTLE).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_a_failure_that_maintenance_interrupts_before_it_was_announced_is_announced_afterwards() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT - 1).sees("hermes", Health.MAINTENANCE).waits(REMIND)
    assert scenario.sent() == []
    assert scenario.sees("hermes").waits(1).sent() == [(NotificationKind.OPENED, ("hermes",))]


def test_a_service_that_is_switched_off_is_not_over() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    scenario.sent()
    scenario.sees("hermes", Health.OFF, reason="on purpose").waits(SETTLE)
    assert scenario.sent() == [(NotificationKind.ENDED, ("hermes",))]
    (ended,) = scenario.incidents.ended
    assert composed(NotificationKind.ENDED, ended)[0] == "hermes: no longer monitored"


def test_a_message_that_is_abandoned_stays_due_with_what_is_true_then() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT, deliver=False)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    scenario.fails().sees("mcp").waits(1, deliver=False)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes", "mcp"))]
    scenario.fails().recovers("hermes").waits(1)
    assert scenario.sent() == [], "mcp has not lasted for the wait, and hermes is over"
    assert scenario.waits(WAIT).sent() == [(NotificationKind.OPENED, ("mcp",))]
    assert scenario.waits(SETTLE * 2).sent() == [], "no end of what was not announced"


def test_an_end_that_could_not_be_delivered_stays_due() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT).recovers("hermes").waits(SETTLE, deliver=False)
    scenario.sent()
    assert scenario.fails().waits(1).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_a_change_for_the_worse_while_a_message_is_in_progress_is_announced_after_it() -> None:
    scenario = Scenario()
    scenario.incidents = IncidentTracker(settle=SETTLE, degraded=True)
    scenario.sees("hermes", Health.DEGRADED).waits(WAIT, deliver=False)
    scenario.sent()
    scenario.sees("hermes").waits(5, deliver=False)
    assert scenario.sent() == []
    scenario.arrives().waits(1)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    assert scenario.waits(WAIT).sent() == []


def test_services_that_fail_while_a_message_is_in_progress_are_announced_after_it() -> None:
    scenario = Scenario().sees("switch").waits(WAIT, deliver=False).sees("mcp", root="switch").waits(1, deliver=False)
    scenario.sent()
    scenario.arrives()
    assert scenario.waits(300).sent() == [(NotificationKind.CHANGED, ("switch",))]


def test_an_announced_child_that_its_parents_incident_takes_up_ends_when_it_works_again() -> None:
    scenario = Scenario().sees("operator").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("operator",))]
    scenario.sees("switch").sees("operator", root="switch").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("switch",))]
    assert scenario.waits(SETTLE * 2).sent() == [], "it is still down"
    assert scenario.recovers("switch").recovers("operator").waits(SETTLE).sent() == [
        (NotificationKind.ENDED, ("operator", "switch"))
    ]
    assert scenario.waits(REMIND * 2).sent() == []


def test_an_announced_child_that_stays_down_after_its_parent_goes_on_with_its_own_incident() -> None:
    scenario = Scenario().sees("operator").waits(WAIT).sees("switch").sees("operator", root="switch").waits(WAIT)
    scenario.sent()
    number = next(one.id for one in scenario.incidents.ended if one.root == "operator")
    scenario.recovers("switch").waits(SETTLE + 1, "operator")
    assert scenario.sent() == [(NotificationKind.ENDED, ("switch",))]
    (goes_on,) = scenario.incidents.open
    assert (goes_on.id, goes_on.reopened, goes_on.started_at) == (number, 0, START)
    assert scenario.waits(SETTLE, "operator").sent() == []
    assert scenario.recovers("operator").waits(SETTLE).sent() == [(NotificationKind.ENDED, ("operator",))]


def test_the_end_of_an_announced_child_survives_a_restart() -> None:
    old = Scenario().sees("operator").waits(WAIT).sees("switch").sees("operator", root="switch").waits(WAIT)
    new = Scenario()
    new.now = old.now + timedelta(days=3)
    new.incidents.restore([*old.incidents.open, *old.incidents.ended], ("operator", "switch"), new.now)
    new.sees("switch").sees("operator", root="switch").waits(60)
    new.sent()
    assert new.recovers("switch", "operator").waits(SETTLE).sent() == [(NotificationKind.ENDED, ("operator", "switch"))]


def test_each_channel_has_its_own_record() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    other = AlertPolicy("archive", wait=WAIT, remind=REMIND, settle=SETTLE)
    (missed,) = other.due(scenario.incidents.notifiable, scenario.now)
    assert (missed.kind, missed.channel) == (NotificationKind.OPENED, "archive")
    scenario.recovers("hermes").waits(SETTLE)
    assert other.due(scenario.incidents.notifiable, scenario.now) == [], "it never heard of the beginning"


def test_a_moment_in_the_future_was_recorded_by_a_clock_that_was_set_back_since() -> None:
    old = Scenario().sees("hermes").waits(WAIT)
    new = Scenario()
    new.now = START - timedelta(hours=2)
    new.incidents.restore(old.incidents.open, ("hermes",), new.now)
    assert new.sees("hermes").waits(60).sent() == [(NotificationKind.REMINDER, ("hermes",))], (
        "one, as nobody knows when"
    )
    new.sees("mcp", root="hermes").waits(alerts.CHANGES_EVERY.total_seconds())
    assert new.sent() == [(NotificationKind.CHANGED, ("hermes",))]
    assert new.recovers("hermes", "mcp").waits(SETTLE).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_nothing_is_due_twice_while_a_message_is_in_progress() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT, deliver=False)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    scenario.waits(500, deliver=False).sees("mcp").waits(WAIT, deliver=False)
    assert scenario.sent() == []
    assert scenario.arrives().waits(1).sent() == [(NotificationKind.OPENED, ("mcp",))]


def test_an_incident_of_an_earlier_process_is_announced_once_it_was_observed() -> None:
    old = Scenario().sees("hermes")
    new = Scenario()
    new.now = old.now + timedelta(seconds=500)
    new.incidents.restore(old.incidents.open, ("hermes",), new.now)
    assert new.sees("hermes", Health.UNKNOWN).waits(60).sent() == []
    assert new.sees("hermes").waits(1).sent() == [(NotificationKind.OPENED, ("hermes",))]


def test_a_message_in_progress_when_a_late_database_responds_is_not_repeated() -> None:
    old = Scenario().sees("hermes")
    new = Scenario()
    new.now = old.now + timedelta(seconds=500)
    new.sees("hermes").waits(WAIT, deliver=False)
    assert new.sent() == [(NotificationKind.OPENED, ("hermes",))]
    new.incidents.restore(old.incidents.open, ("hermes",), new.now)
    assert new.arrives().waits(60).sent() == []
    assert new.recovers("hermes").waits(SETTLE).sent() == [(NotificationKind.ENDED, ("hermes",))]


def test_one_failure_that_a_late_database_responds_to_has_one_announced_end() -> None:
    old = Scenario().sees("hermes").waits(WAIT)
    new = Scenario()
    new.now = old.now + timedelta(seconds=500)
    new.sees("hermes").waits(WAIT)
    assert new.sent() == [(NotificationKind.OPENED, ("hermes",))], "nobody can know that it was announced before"
    new.incidents.restore(old.incidents.open, ("hermes",), new.now)
    assert new.recovers("hermes").waits(SETTLE + 5).sent() == [(NotificationKind.ENDED, ("hermes",))]
    merged = next(one for one in new.incidents.ended if one.part_of is not None)
    assert merged.ended_at == new.now - timedelta(seconds=SETTLE + 5), "it ended where the stored one took it up"


def test_the_end_of_an_incident_that_was_merged_by_an_earlier_version_is_sent_once() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    (whole,) = scenario.incidents.open
    part = replace(whole, id=whole.id + 1, part_of=whole.id, ended_at=scenario.now, ending="merged")
    scenario.incidents.restore([part], ("hermes",), scenario.now)
    scenario.sent()
    sent = scenario.recovers("hermes").waits(SETTLE + 60).sent()
    assert [kind for kind, _ in sent] == [NotificationKind.ENDED]


def test_an_end_that_is_long_past_is_no_news() -> None:
    old = Scenario().sees("hermes").waits(WAIT).recovers("hermes")
    for away, said in ((3600.0, [(NotificationKind.ENDED, ("hermes",))]), (2 * 86400.0, [])):
        new = Scenario()
        new.now = old.now + timedelta(seconds=away)
        new.incidents.restore(old.incidents.ended, ("hermes",), new.now)
        assert new.waits(2).sent() == said


def test_a_degraded_service_that_goes_down_is_announced_again() -> None:
    scenario = Scenario()
    scenario.incidents = IncidentTracker(settle=SETTLE, degraded=True)
    scenario.sees("hermes", Health.DEGRADED).waits(WAIT)
    scenario.sent()
    assert scenario.sees("hermes").waits(1).sent() == [(NotificationKind.OPENED, ("hermes",))]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([Health.UP, Health.DOWN]), st.integers(1, 90)), max_size=12
    )
)
def test_every_announced_failure_has_an_announced_end(steps: Iterable[tuple[str, Health, int]]) -> None:
    scenario = Scenario(remind=0)
    for name, health, pause in steps:
        scenario.sees(name, health).waits(pause)
    scenario.recovers(*"abc").waits(SETTLE + 1)
    balance = dict.fromkeys("abc", 0)
    for kind, roots in scenario.sent():
        for root in roots:
            balance[root] += 1 if kind is NotificationKind.OPENED else -1
            assert balance[root] in (0, 1), "opened and ended take turns"
    assert set(balance.values()) == {0}


# -- words -----------------------------------------------------------------------------------------------------

PAGE = "https://status.example.org/status"
AROUND = MessageContext(PAGE, lambda name: [("switch", "down")] if name == "operator" else [])
NOW = START + timedelta(minutes=25)


def incident(root: str = "hermes", **changes: Any) -> Incident:
    known = Incident(1773500966000, root, (root,), Health.DOWN, "connection refused", START, START)
    return replace(known, **changes)


def composed(kind: NotificationKind, *incidents: Incident) -> tuple[str, str]:
    message = alerts.compose_message("msg_1", Notification(kind, CHANNEL, incidents), AROUND, NOW)
    return message.title, message.text


@pytest.mark.parametrize(
    ("kind", "changes", "title"),
    [
        (NotificationKind.OPENED, {}, "hermes is down"),
        (NotificationKind.OPENED, {"severity": Health.DEGRADED}, "hermes is degraded"),
        (NotificationKind.OPENED, {"services": ("hermes", "a", "b")}, "hermes is down, and 2 with it"),
        (NotificationKind.OPENED, {"reopened": 3}, "hermes keeps failing (4 times)"),
        (NotificationKind.REMINDER, {}, "hermes is still down"),
        (NotificationKind.REMINDER, {"reopened": 3}, "hermes still keeps failing (4 times)"),
        (
            NotificationKind.CHANGED,
            {
                "services": ("hermes", "a", "b"),
                "notified": {CHANNEL: Notified(NotificationState.OPEN, START, Health.DOWN, 1)},
            },
            "hermes is down: 2 more affected",
        ),
        (NotificationKind.ENDED, {"ended_at": START + timedelta(minutes=12)}, "hermes: over after 12 min"),
    ],
)
def test_titles(kind: NotificationKind, changes: dict[str, Any], title: str) -> None:
    assert composed(kind, incident(**changes))[0] == title


def test_titles_of_several() -> None:
    many = [incident(name) for name in ("a", "b", "c", "d")]
    assert composed(NotificationKind.OPENED, *many)[0] == "4 services are down: a, b, c and 1 more"
    assert composed(NotificationKind.REMINDER, *many[:2])[0] == "2 services are still down: a, b"
    over = [replace(one, ended_at=NOW) for one in many]
    assert composed(NotificationKind.ENDED, *over[:2])[0] == "2 incidents are over: a, b"
    assert composed(NotificationKind.ENDED, over[0], over[0])[0].startswith("a: over after"), "one service"
    # What one that comes and goes does at this moment is not known.
    assert composed(NotificationKind.OPENED, many[0], incident("b", reopened=1))[0] == "2 services fail: a, b"
    assert composed(NotificationKind.REMINDER, many[0], incident("b", reopened=1))[0] == "2 services still fail: a, b"


def test_a_message_has_the_state_the_time_the_reason_the_dependencies_and_a_link() -> None:
    changes: dict[str, Any] = {"services": ("operator", "front"), "peak_error_rate": 0.964}
    assert composed(NotificationKind.OPENED, incident("operator", **changes))[1] == (
        "operator is down since 15:09 UTC (25 min): connection refused\n"
        "It depends on switch (down).\n"
        "Also affected: front.\n"
        "At worst 96% of its calls and probes failed.\n"
        "See https://status.example.org/status/incidents/1773500966000"
    )


def test_the_end_says_how_long_it_was_and_how_it_ended() -> None:
    over = incident(ended_at=START + timedelta(minutes=12), ending="It is healthy again: answered 200 in 4 ms")
    assert composed(NotificationKind.ENDED, over)[1] == (
        "hermes was down from 15:09 UTC for 12 min.\n"
        "It is healthy again: answered 200 in 4 ms\n"
        "It failed because: connection refused\n"
        "See https://status.example.org/status/incidents/1773500966000"
    )


def test_a_message_is_bounded() -> None:
    services = tuple(f"s{number}" for number in range(1000))
    many = [incident(name, services=services, reason="x" * 300) for name in services]
    message = alerts.compose_message("msg_1", Notification(NotificationKind.OPENED, CHANNEL, tuple(many)), AROUND, NOW)
    assert len(message.body) < 64 * 1024
    title, text = message.title, message.text
    assert title == "1000 services are down: s0, s1, s2 and 997 more"
    assert text.count("is down since") == alerts.MOST_DESCRIBED
    assert text.endswith(f"And 980 more: {PAGE}")


def test_the_body_is_json_in_the_form_of_standard_webhooks() -> None:
    body = json.loads(
        alerts.compose_message("msg_1", Notification(NotificationKind.OPENED, CHANNEL, (incident(),)), AROUND, NOW).body
    )
    assert (body["type"], body["timestamp"]) == ("incident.opened", "2026-03-14T15:34:26Z")
    assert body["data"]["title"] == "hermes is down"
    (one,) = body["data"]["incidents"]
    assert one == {
        "id": 1773500966000,
        "root": "hermes",
        "services": ["hermes"],
        "more_services": 0,
        "state": "down",
        "reason": "connection refused",
        "started_at": "2026-03-14T15:09:26Z",
        "ended_at": None,
        "ending": "",
        "acknowledged_by": None,
        "reopened": 0,
        "peak_error_rate": None,
        "depends_on": {},
        "url": "https://status.example.org/status/incidents/1773500966000",
    }


def test_a_test_says_that_it_is_one() -> None:
    message = trial_message("msg_1", PAGE, NOW)
    assert message.kind is NotificationKind.TEST
    assert "Nothing is wrong" in message.text


def test_what_was_delivered_is_part_of_the_incident() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    (one,) = scenario.incidents.open
    assert one.notified == {CHANNEL: Notified(NotificationState.OPEN, scenario.now, Health.DOWN, 1)}
    assert (one.alert_state, one.alerted_at) == (NotificationState.OPEN, scenario.now)


def test_a_muted_incident_is_silent_until_then_and_its_end_is_told() -> None:
    scenario = Scenario().sees("hermes").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
    scenario.mutes("hermes", minutes=REMIND * 3 / 60)
    scenario.sees("operator", root="hermes").waits(REMIND * 2)
    assert scenario.sent() == [], "no reminder, and no word of what fails with it"
    scenario.waits(REMIND)
    assert scenario.sent() == [(NotificationKind.CHANGED, ("hermes",))]
    scenario.mutes("hermes", minutes=None).waits(REMIND * 3)
    assert scenario.sent() == []
    scenario.recovers("hermes").recovers("operator").waits(SETTLE + 1)
    assert scenario.sent() == [(NotificationKind.ENDED, ("hermes",))]
    scenario.sees("hermes").waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))], "another incident"


def test_what_was_muted_from_the_beginning_is_never_announced() -> None:
    scenario = Scenario().sees("hermes").mutes("hermes", minutes=None).waits(WAIT * 3)
    scenario.recovers("hermes").waits(SETTLE + 1)
    assert scenario.sent() == []


def test_a_mute_can_be_taken_back_and_concerns_its_incident_only() -> None:
    scenario = Scenario().sees("hermes").sees("madre").mutes("hermes", minutes=None).waits(WAIT)
    assert scenario.sent() == [(NotificationKind.OPENED, ("madre",))]
    scenario.mutes("hermes", minutes=0).waits(1)
    assert scenario.sent() == [(NotificationKind.OPENED, ("hermes",))]
