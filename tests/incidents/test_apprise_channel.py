"""Apprise as it is, against a real receiver of its JSON kind; and a gateway in which it is not installed."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from tentaculo.incidents import apprise_channel
from tentaculo.incidents.alert_message import Message, trial_message
from tentaculo.incidents.alert_policy import NotificationKind
from tentaculo.incidents.apprise_channel import AppriseChannel
from tentaculo.incidents.delivery_queue import Delivery
from tests.support.waits import free_port
from tests.support.webhook_receiver import receiving

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
# Its own affair: what it imports is not up to date.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TRIAL = trial_message("msg_1", "http://127.0.0.1:8000/status", NOW)


async def test_a_message_goes_through_apprise() -> None:
    async with receiving() as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        down = Message(
            "msg_2", NotificationKind.OPENED, "hermes is down", "<b>connection refused</b>\nSee http://x", b""
        )
        assert await channel.send(down) == Delivery(True, "taken by Apprise")
    told = json.loads(receiver.posts[0].body)
    assert (told["title"], told["message"], told["type"]) == (down.title, down.text, "failure")


async def test_a_long_text_is_cut() -> None:
    async with receiving() as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        await channel.send(Message("msg_2", NotificationKind.ENDED, "over", "x" * 9000, b""))
    assert len(json.loads(receiver.posts[0].body)["message"]) == 1500


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("json://127.0.0.1:{port}/a-secret", "Apprise could not deliver it"),
        ("nosuchkind://a-secret", "Apprise does not know this kind of address"),
    ],
)
async def test_an_attempt_is_a_value(
    url: str, words: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = AppriseChannel("phone", url.format(port=free_port()))
    assert await channel.send(TRIAL) == Delivery(False, words)
    said = capsys.readouterr()
    assert "a-secret" not in caplog.text + said.out + said.err + repr(channel)


async def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    delivery = await AppriseChannel("phone", "json://127.0.0.1/").send(TRIAL)
    assert delivery == Delivery(False, "Apprise is not installed: pip install 'tentaculo-link[alerts]'")


async def test_one_that_hangs_costs_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise_channel, "_TIMEOUT", 0.2)
    async with receiving("hang") as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        assert await channel.send(TRIAL) == Delivery(False, "no answer within 0.2 s")
        assert await channel.send(TRIAL) == Delivery(False, "the attempt before has not come back yet")
