"""Alerts over real webhooks: when a message is composed, attempted, abandoned and delivered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks

from tentaculo.config.schema import Config
from tentaculo.incidents import channels, notifier
from tentaculo.incidents.alerts import MessageContext, Notification, NotificationKind
from tentaculo.incidents.notifier import ChannelQueue, Notifier
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.health import Health
from tentaculo.model.incident import DeliveryOutcome, DeliveryRecord, Incident
from tests.incidents.test_channels import SECRET
from tests.support.waits import eventually
from tests.support.webhook_receiver import Receiver, receiving

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChannelQueue.__init__, "__kwdefaults__", {"pause": lambda _: 0.001})


class Recorded:
    """Incidents that are down, and what the channels have delivered of them."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self.delivered: list[tuple[str, NotificationKind]] = []
        self.deliveries: list[DeliveryRecord] = []
        self.held: set[str] = set()
        """Roots about which nothing is to be sent now."""
        self.after_delivery: Callable[[int], None] = lambda _: None
        """Called with the number of deliveries."""
        self.events: list[tuple[str, str, object]] = []
        """Type, severity and channel of what goes into the log of events."""

    def record(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        self.events.append((type_, severity, payload["channel"]))

    def down(self, *names: str, **changes: Any) -> Recorded:
        for name in names:
            begun = NOW - timedelta(minutes=1)
            number = len(self.incidents) + 1
            known = Incident(number, name, (name,), Health.DOWN, "connection refused", begun, NOW)
            self.incidents[name] = replace(self.incidents.get(name, known), **changes)
        return self

    def over(self, name: str) -> Recorded:
        return self.down(name, ended_at=NOW - timedelta(minutes=1), ending="It is healthy again: answered 200")

    def note(self, notification: Notification, delivery: DeliveryRecord) -> None:
        self.deliveries.append(delivery)
        self.after_delivery(len(self.deliveries))
        if delivery.outcome is not DeliveryOutcome.DELIVERED:
            return
        self.delivered.append((notification.channel, notification.kind))
        for one in notification.incidents:
            known = self.incidents[one.root]
            record = {notification.channel: notification.record(one, delivery.at)}
            self.incidents[one.root] = replace(known, notified={**known.notified, **record})


@asynccontextmanager
async def notifying(*receivers: Receiver, attempts: int = 3) -> AsyncIterator[tuple[Notifier, Recorded]]:
    webhooks = {f"duty{n}": {"url": one.url, "secrets": [SECRET]} for n, one in enumerate(receivers)}
    config = Config.of(
        {"alerts": {"wait": 0, "attempts": attempts, "webhooks": webhooks}, "incidents": {"settle": 0.001}}
    )
    recorded = Recorded()
    made = Notifier(
        config,
        lambda: MessageContext("http://127.0.0.1:8000/status", lambda _: []),
        on_delivery=recorded.note,
        now=lambda: NOW,
        record=recorded.record,
        is_held=lambda incident: incident.root in recorded.held,
    )
    async with made.delivered():
        yield made, recorded


async def ticking(made: Notifier, recorded: Recorded, holds: Callable[[], object]) -> None:
    """Send what is due again and again until `holds()`."""

    def tick() -> object:
        made.send_due(recorded.incidents.values())
        return holds()

    await eventually(tick)


def record_of(delivery: DeliveryRecord) -> tuple[str, str, DeliveryOutcome, int, str]:
    return delivery.channel, delivery.kind, delivery.outcome, delivery.attempts, delivery.error


def titles(receiver: Receiver) -> list[str]:
    return [json.loads(post.body)["data"]["title"] for post in receiver.posts]


async def test_while_a_channel_is_busy_nothing_is_composed_and_then_one_message_has_it_all() -> None:
    async with receiving("wait") as receiver, notifying(receiver) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await receiver.has(1)
        made.send_due(recorded.down("mcp").incidents.values())
        made.send_due(recorded.down("madre").incidents.values())
        receiver.gate.set()
        await ticking(made, recorded, lambda: len(receiver.posts) == 2)
        assert titles(receiver) == ["hermes is down", "2 services are down: mcp, madre"]


async def test_a_receiver_that_is_away_for_all_attempts_gets_the_alert_when_it_returns() -> None:
    async with receiving(*[502] * 7) as receiver, notifying(receiver, attempts=2) as (made, recorded):
        await ticking(made, recorded.down("hermes"), lambda: recorded.delivered)
        assert recorded.delivered == [("duty0", NotificationKind.OPENED)]
        assert len(receiver.posts) == 8
        assert made.counts["duty0"].failed == 3, "messages that were abandoned"
        failed, sent = ("alert.failed", "error", "duty0"), ("alert.sent", "info", "duty0")
        assert recorded.events == [failed, failed, failed, sent]
        away = ("duty0", "incident.opened", DeliveryOutcome.FAILED, 2, "answered 502")
        there = ("duty0", "incident.opened", DeliveryOutcome.DELIVERED, 2, "")
        assert list(map(record_of, recorded.deliveries)) == [away, away, away, there]
        assert made.counts["duty0"].last_sent_at == made.counts["duty0"].last_error_at == NOW
        assert made.counts["duty0"].last_error == "answered 502"
        assert titles(receiver) == ["hermes is down"] * 8
        made.send_due(recorded.incidents.values())
        recorded.over("hermes")
        await ticking(made, recorded, lambda: len(recorded.delivered) == 2)
        assert titles(receiver)[8:] == ["hermes: over after 0 s"]


async def test_a_receiver_that_returns_after_the_end_gets_neither_message() -> None:
    async with receiving(*[502] * 2) as receiver, notifying(receiver, attempts=2) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await eventually(lambda: made.counts["duty0"].failed == 1)
        recorded.over("hermes").down("mcp")
        await ticking(made, recorded, lambda: recorded.delivered)
        assert titles(receiver)[2:] == ["mcp is down"]


async def test_a_message_whose_incident_ends_during_its_attempts_is_followed_by_that_end() -> None:
    """Its first attempt may have arrived, although the response did not."""
    async with receiving("reset") as receiver, notifying(receiver) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await receiver.has(1)
        recorded.over("hermes")
        await ticking(made, recorded, lambda: len(recorded.delivered) == 2)
        assert titles(receiver) == ["hermes is down", "hermes is down", "hermes: over after 0 s"]


async def test_a_message_is_not_repeated_where_its_incidents_were_muted_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"hermes"}

    def mutes(_: int) -> float:
        recorded.held |= held
        return 0.001

    monkeypatch.setattr(ChannelQueue.__init__, "__kwdefaults__", {"pause": mutes})
    async with receiving(502) as receiver, notifying(receiver) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await receiver.has(1)
        # A message about others is sent behind it, also where it is about the muted one as well.
        await ticking(made, recorded.down("mcp"), lambda: recorded.delivered)
        assert titles(receiver)[0] == "hermes is down"
        assert "mcp" in titles(receiver)[1]
        assert made.counts["duty0"].failed == 0
        assert [one.outcome for one in recorded.deliveries] == [DeliveryOutcome.DELIVERED]


async def test_a_message_that_was_abandoned_is_composed_again_with_what_is_true_then() -> None:
    async with receiving(*[502] * 2) as receiver, notifying(receiver, attempts=2) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await eventually(lambda: made.counts["duty0"].failed == 1)
        await ticking(made, recorded.down("mcp"), lambda: recorded.delivered)
        assert titles(receiver)[2:] == ["2 services are down: hermes, mcp"]
        ids = [post.headers["webhook-id"] for post in receiver.posts]
        assert ids[0] == ids[1] != ids[2], "another message has another id"


async def test_a_change_for_the_worse_during_the_attempts_is_announced_after_them() -> None:
    async with receiving("wait") as receiver, notifying(receiver) as (made, recorded):
        made.send_due(recorded.down("hermes", severity=Health.DEGRADED).incidents.values())
        await receiver.has(1)
        made.send_due(recorded.down("hermes", severity=Health.DOWN).incidents.values())
        receiver.gate.set()
        await ticking(made, recorded, lambda: len(recorded.delivered) == 2)
        made.send_due(recorded.incidents.values())
        assert titles(receiver) == ["hermes is degraded", "hermes is down"]


async def test_a_channel_that_is_away_delays_no_other_and_catches_up() -> None:
    async with (
        receiving(*[500] * 20) as away,
        receiving() as fine,
        notifying(away, fine, attempts=2) as (made, recorded),
    ):
        await ticking(made, recorded.down("hermes"), lambda: ("duty1", NotificationKind.OPENED) in recorded.delivered)
        await ticking(made, recorded.down("mcp"), lambda: len(fine.posts) == 2)
        assert titles(fine) == ["hermes is down", "mcp is down"]
        await ticking(made, recorded, lambda: ("duty0", NotificationKind.OPENED) in recorded.delivered)
        assert titles(away)[-1] == "2 services are down: hermes, mcp"
        made.send_due(recorded.incidents.values())
        assert len(fine.posts) == 2, "the one that works gets nothing twice"


async def test_the_attempts_of_one_message_have_one_id_each_its_own_signature() -> None:
    async with (
        receiving(500, "redirect", "reset", 200) as receiver,
        notifying(receiver, attempts=5) as (made, recorded),
    ):
        await ticking(made, recorded.down("hermes"), lambda: recorded.delivered)
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == 1
    for post in receiver.posts:
        standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    counts = made.counts["duty0"]
    assert (counts.sent, counts.retried, counts.failed) == (1, 3, 0)


async def test_a_receiver_that_refuses_all_messages_gets_no_more() -> None:
    async with receiving(200, 410) as receiver, notifying(receiver) as (made, recorded):
        await ticking(made, recorded.down("hermes"), lambda: recorded.delivered)
        await ticking(made, recorded.down("mcp"), lambda: made.counts["duty0"].dropped)
        made.send_due(recorded.down("madre").incidents.values())
    assert len(receiver.posts) == 2
    assert (made.counts["duty0"].sent, made.counts["duty0"].dropped) == (1, 1)
    refused = ("duty0", "incident.opened", DeliveryOutcome.REFUSED, 1, "answered 410: it wants no more messages")
    assert record_of(recorded.deliveries[-1]) == refused
    assert recorded.events == [("alert.sent", "info", "duty0"), ("alert.failed", "error", "duty0")]


async def test_it_waits_as_long_as_the_receiver_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "LAST_WAIT", 0.01)
    async with receiving("later") as receiver, notifying(receiver) as (made, recorded):
        await ticking(made, recorded.down("hermes"), lambda: made.counts["duty0"].retried)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(receiver.posts), recorded.delivered) == (1, [])


async def test_without_a_channel_nothing_is_sent() -> None:
    async with notifying() as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        assert (recorded.delivered, made.counts) == ([], {})


async def test_at_the_end_a_channel_gets_a_moment_to_deliver(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        async with notifying(receiver) as (made, recorded):
            made.send_due(recorded.down("hermes").incidents.values())
        assert (titles(receiver), len(recorded.delivered)) == (["hermes is down"], 1)
    monkeypatch.setattr(notifier, "LAST_WAIT", 0.05)
    async with receiving("hang") as receiver:
        async with notifying(receiver) as (made, recorded):
            made.send_due(recorded.down("hermes").incidents.values())
            await receiver.has(1)
        assert recorded.delivered == [], "the next process announces it"


def test_pauses_grow_to_a_bound_and_are_spread() -> None:
    assert [notifier.backoff(failures, 0.5) for failures in (1, 2, 3, 4)] == [2.0, 4.0, 8.0, 16.0]
    assert [notifier.backoff(10**6, chance) for chance in (0.0, 0.5, 1.0)] == [45.0, 60.0, 75.0]


def test_a_further_kind_of_channel_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pigeon:
        name = "pigeon"

        async def send(self, message: Any) -> channels.Delivery:
            return channels.Delivery(True, "flew")

        async def close(self) -> None:
            pass

    def pigeons(_: Config) -> Iterable[channels.Channel]:
        yield Pigeon()

    monkeypatch.setattr(notifier, "CHANNELS", {**notifier.CHANNELS, "pigeons": pigeons})
    assert [one.name for one in notifier.channels(Config())] == ["pigeon"]


WARNING = EarlyWarning("madre", "requests_p95", NOW, "level", 0.4, 0.1, 0.5, NOW)


async def test_an_early_warning_is_one_message_and_no_incident() -> None:
    async with receiving() as receiver, notifying(receiver) as (made, recorded):
        made.warn(WARNING)
        await receiver.has(1)
        await eventually(lambda: recorded.deliveries)
    body = json.loads(receiver.posts[0].body)
    assert body["type"] == "warning.opened"
    data = body["data"]
    assert data["title"] == "Early warning of madre: the p95 of requests is on its way to its limit"
    assert "is 400 ms: 86 % of the way from its usual 100 ms to 500 ms." in data["text"]
    assert data["incidents"] == []
    warning = data["warning"]
    assert (warning["service"], warning["limit"], warning["expected_at"]) == ("madre", 0.5, None)
    assert warning["url"] == "http://127.0.0.1:8000/status/services/madre"
    assert record_of(recorded.deliveries[0])[:3] == ("duty0", "warning.opened", DeliveryOutcome.DELIVERED)


async def test_warnings_wait_for_a_busy_channel_up_to_a_number() -> None:
    async with receiving("wait") as receiver, notifying(receiver) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        await receiver.has(1)
        for number in range(50):
            made.warn(replace(WARNING, service=f"s{number}"))
        receiver.gate.set()
        await eventually(lambda: len(recorded.deliveries) == notifier.MOST_WARNINGS)
    assert [title.split()[3] for title in titles(receiver)[1:]] == [
        f"s{at}:" for at in range(notifier.MOST_WARNINGS - 1)
    ]


async def test_a_warning_that_comes_while_a_message_is_abandoned_is_sent() -> None:
    async with receiving(500, 200) as receiver, notifying(receiver, attempts=1) as (made, recorded):
        recorded.after_delivery = lambda count: made.warn(WARNING) if count == 1 else None
        made.warn(WARNING)
        await eventually(lambda: len(recorded.deliveries) == 2)
    assert [one.outcome for one in recorded.deliveries] == [DeliveryOutcome.FAILED, DeliveryOutcome.DELIVERED]


async def test_a_warning_that_waits_behind_an_abandoned_message_is_sent_after_it() -> None:
    """Incidents become due again by themselves; nothing would bring the warning back."""
    async with receiving(502, 502) as receiver, notifying(receiver, attempts=2) as (made, recorded):
        made.send_due(recorded.down("hermes").incidents.values())
        made.warn(WARNING)
        await eventually(lambda: len(recorded.deliveries) == 2)
    kinds = [(one.kind, one.outcome) for one in recorded.deliveries]
    assert kinds == [("incident.opened", DeliveryOutcome.FAILED), ("warning.opened", DeliveryOutcome.DELIVERED)]
