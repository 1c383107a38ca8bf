"""The deliveries of an incident and the totals of a channel: bounded, and never counted twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.health import Health
from tentaculo.model.incident import (
    EVERY_CHANNEL,
    MOST_DELIVERIES,
    MOST_OF_CHANNEL,
    ChannelTotals,
    DeliveryOutcome,
    DeliveryRecord,
    Incident,
    NotificationState,
    Notified,
    add_delivery,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FAILED, DELIVERED = DeliveryOutcome.FAILED, DeliveryOutcome.DELIVERED


def record(
    minute: int, outcome: DeliveryOutcome = FAILED, channel: str = "duty", kind: str = "opened"
) -> DeliveryRecord:
    at = NOON + timedelta(minutes=minute)
    return DeliveryRecord(
        channel, kind, outcome, at, at, attempts=10, error="answered 502" if outcome is FAILED else ""
    )


def test_a_receiver_that_is_away_for_hours_is_one_record() -> None:
    known: tuple[DeliveryRecord, ...] = ()
    for minute in range(0, 60, 6):
        known = add_delivery(known, record(minute))
    assert known == (replace(record(54), first_at=NOON, messages=10, attempts=100),)
    known = add_delivery(add_delivery(known, record(55, DELIVERED)), record(60, DELIVERED, kind="ended"))
    assert [(one.outcome, one.kind) for one in known] == [
        (FAILED, "opened"),
        (DELIVERED, "opened"),
        (DELIVERED, "ended"),
    ]


def test_channels_do_not_displace_each_other() -> None:
    known = add_delivery((), record(0, DELIVERED, "phone"))
    for minute in range(1, 200):
        known = add_delivery(known, record(minute, (FAILED, DELIVERED)[minute % 2]))
    assert [one.channel for one in known] == ["phone"] + ["duty"] * MOST_OF_CHANNEL
    assert [one.at.minute + 60 * (one.at.hour - 12) for one in known[1:]] == [1, *range(191, 200)], (
        "the first and the last"
    )


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(DeliveryOutcome), st.sampled_from("ab")), max_size=400))
def test_they_are_bounded_and_in_order_whatever_comes(came: list[tuple[int, DeliveryOutcome, str]]) -> None:
    known: tuple[DeliveryRecord, ...] = ()
    for minute, (channel, outcome, kind) in enumerate(came):
        known = add_delivery(known, record(minute, outcome, str(channel), kind))
    assert len(known) <= MOST_DELIVERIES
    assert sorted(known, key=lambda one: one.at) == list(known)
    if came:
        assert (known[-1].channel, known[-1].outcome, known[-1].kind) == (str(came[-1][0]), came[-1][1], came[-1][2])
        assert sum(one.messages for one in known) <= len(came)


def test_what_an_earlier_version_knew_is_a_delivery_too() -> None:
    opened = Notified(NotificationState.OPEN, NOON, Health.DOWN, 1)
    ended = Notified(NotificationState.ENDED, NOON - timedelta(hours=1), Health.DOWN, 1)
    old = Incident(
        1, "hermes", ("hermes",), Health.DOWN, "", NOON, NOON, notified={"duty": opened, EVERY_CHANNEL: ended}
    )
    assert [(one.channel, one.kind, one.at) for one in old.delivery_log] == [
        (EVERY_CHANNEL, "incident.ended", ended.at),
        ("duty", "incident.opened", NOON),
    ]
    new = replace(old, deliveries=(record(0),))
    assert new.delivery_log == new.deliveries


def test_totals_are_added_by_what_came_since() -> None:
    first = ChannelTotals("duty", 3, 1, NOON, NOON, "answered 502")
    later = replace(first, sent=5, last_sent_at=NOON + timedelta(hours=1))
    new = later.since(first)
    assert new == ChannelTotals("duty", 2, 0, later.last_sent_at)
    assert first + new == later
    assert not later.since(later)
    failing = replace(later, last_error_at=NOON + timedelta(hours=2), last_error="connection refused")
    assert failing.since(later), "an attempt that failed is news, though no message was abandoned yet"
    assert later + failing.since(later) == failing
