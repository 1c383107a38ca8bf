"""Notices over real webhooks: what is made when nobody can take it, and what counts as told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.incidents import channels, notifier
from tentaculo.incidents.alerts import MessageContext, Notification
from tentaculo.incidents.notifier import Notifier
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tests.incidents.test_channels import SECRET
from tests.support.waits import eventually
from tests.support.webhook_receiver import Receiver, receiving

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(notifier, "LAST_PAUSE", 0.001)


def fallen(*names: str) -> list[Incident]:
    return [
        Incident(number, name, (name,), Health.DOWN, "connection refused", NOW - timedelta(minutes=1), NOW)
        for number, name in enumerate(names, 1)
    ]


@asynccontextmanager
async def told_to(*receivers: Receiver, attempts: int = 3) -> AsyncIterator[tuple[Notifier, list[Notification]]]:
    webhooks = {f"duty{n}": {"url": one.url, "secrets": [SECRET]} for n, one in enumerate(receivers)}
    config = Config.of({"alerts": {"wait": 0, "attempts": attempts, "webhooks": webhooks}})
    told: list[Notification] = []
    made = Notifier(
        config,
        lambda: MessageContext("http://127.0.0.1:8000/status", lambda _: []),
        on_notified=lambda notification, _: told.append(notification),
        now=lambda: NOW,
    )
    async with made.delivered():
        yield made, told


def titles(receiver: Receiver) -> list[str]:
    return [json.loads(post.body)["data"]["title"] for post in receiver.posts]


async def test_while_nobody_can_take_a_message_none_is_made_and_then_one_tells_all() -> None:
    async with receiving("wait") as receiver, told_to(receiver) as (made, told):
        made.send_due(fallen("hermes"))
        await receiver.has(1)
        for names in (("hermes", "mcp"), ("hermes", "mcp", "madre"), ("hermes", "madre")):
            made.send_due(fallen(*names))
        receiver.gate.set()
        await eventually(lambda: told)
        made.send_due(fallen("hermes", "madre", "switch")[1:])
        await eventually(lambda: len(told) == 2)
        assert titles(receiver) == ["hermes is down", "2 services are down: madre, switch"]


async def test_a_channel_that_hangs_delays_no_other_and_what_one_delivered_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifier, "LAST_WAIT", 0.05)
    async with receiving("hang") as stuck, receiving() as fine, told_to(stuck, fine) as (made, told):
        made.send_due(fallen("hermes"))
        await eventually(lambda: told)
        await stuck.has(1)
        made.send_due(fallen("mcp"))
        await eventually(lambda: len(told) == 2)
        assert titles(fine) == ["hermes is down", "mcp is down"]
        assert {name: one.sent for name, one in made.counts.items()} == {"duty0": 0, "duty1": 2}


async def test_what_every_channel_gave_up_counts_as_told_so_that_it_is_not_made_for_ever() -> None:
    async with receiving(*[500] * 3) as one, receiving(410) as other, told_to(one, other) as (made, told):
        made.send_due(fallen("hermes"))
        await eventually(lambda: told)
        assert (len(one.posts), len(other.posts)) == (3, 1)
        counts = made.counts
        assert (counts["duty0"].failed, counts["duty1"].dropped) == (1, 1)
        made.send_due(fallen("hermes", "mcp"))
        await eventually(lambda: len(told) == 2)
        assert len(other.posts) == 1, "it wants no more"


async def test_without_a_channel_nothing_is_told() -> None:
    async with told_to() as (made, told):
        made.send_due(fallen("hermes"))
        assert (told, made.counts) == ([], {})


async def test_at_the_end_a_channel_gets_a_moment_to_deliver(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        async with told_to(receiver) as (made, told):
            made.send_due(fallen("hermes"))
        assert (titles(receiver), len(told)) == (["hermes is down"], 1)
    monkeypatch.setattr(notifier, "LAST_WAIT", 0.05)
    async with receiving("hang") as receiver:
        async with told_to(receiver) as (made, told):
            made.send_due(fallen("hermes"))
            await receiver.has(1)
        assert told == [], "it is told by the next process"


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
