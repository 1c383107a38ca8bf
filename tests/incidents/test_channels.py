"""Webhook and Apprise channels against real receivers: what is posted, and what counts as delivered."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.incidents import WebhookSettings
from tentaculo.config.reader import read
from tentaculo.incidents import channels, webhook_request
from tentaculo.incidents.alerts import Message, NotificationKind, trial_message
from tentaculo.incidents.channels import AppriseChannel, Delivery, WebhookChannel, headers
from tests.support.certificates import self_signed
from tests.support.waits import free_port
from tests.support.webhook_receiver import receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def message(number: int = 1) -> Message:
    return trial_message(f"msg_{number}", "http://127.0.0.1:8000/status", NOW)


@asynccontextmanager
async def channel_to(url: str, *secrets: str, timeout: float = 20, **more: Any) -> AsyncIterator[WebhookChannel]:
    webhook = read(WebhookSettings, {"url": url, "secrets": secrets or (SECRET,), "timeout": timeout})
    channel = WebhookChannel("duty", webhook, **more)
    try:
        yield channel
    finally:
        await channel.close()


async def test_another_implementation_accepts_the_signature() -> None:
    async with receiving() as receiver, channel_to(receiver.url) as channel:
        assert await channel.send(message()) == Delivery(True, "answered 204")
    (post,) = receiver.posts
    told = standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
    assert told == json.loads(message().body)
    assert post.headers["webhook-id"] == "msg_1"
    assert post.headers["content-type"] == "application/json"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(post.body + b" ", post.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER).verify(post.body, post.headers)


async def test_two_keys_sign_side_by_side_while_one_replaces_the_other() -> None:
    async with receiving() as receiver, channel_to(receiver.url, SECRET, OTHER) as channel:
        await channel.send(message())
    for secret in (SECRET, OTHER):
        standardwebhooks.Webhook(secret).verify(receiver.posts[0].body, receiver.posts[0].headers)


@given(st.binary(min_size=24, max_size=64), st.binary(max_size=200), st.integers(1, 2**40))
def test_the_signature_is_the_specifications_for_any_key_and_body(key: bytes, body: bytes, number: int) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    sent = Message(f"msg_{number}", NotificationKind.TEST, "", "", body)
    theirs = standardwebhooks.Webhook(secret).sign(sent.id, NOW, body.decode("latin-1"))
    text = Message(sent.id, NotificationKind.TEST, "", "", body.decode("latin-1").encode())
    assert headers(text, [key], NOW.timestamp())["webhook-signature"] == theirs


@pytest.mark.parametrize(
    ("answer", "delivery"),
    [
        (200, Delivery(True, "answered 200")),
        (202, Delivery(True, "answered 202")),
        (400, Delivery(False, "answered 400")),
        (500, Delivery(False, "answered 500")),
        (410, Delivery(False, "answered 410: it wants no more messages", is_closed=True)),
        ("redirect", Delivery(False, "answered 307: redirects are not followed")),
        ("later", Delivery(False, "answered 503", pause=120.0)),
        ("reset", Delivery(False, "closed the connection before it answered")),
        ("garbage", Delivery(False, "its response is not valid HTTP")),
        ("flood", Delivery(True, "answered 200")),
        ("stall", Delivery(True, "answered 200")),
        ("cut", Delivery(True, "answered 200")),
    ],
)
async def test_an_attempt_is_a_value_whatever_the_receiver_does(answer: int | str, delivery: Delivery) -> None:
    async with receiving(answer) as receiver, channel_to(receiver.url) as channel:
        assert await channel.send(message()) == delivery
    assert [post.path for post in receiver.posts] == ["/hook"], "no redirect is followed"


async def test_the_body_of_a_response_gets_no_more_time_than_the_head_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was accepted is not sent again because the receiver forgets to end its response."""
    monkeypatch.setattr(webhook_request, "BODY_WAIT", 0.3)
    async with receiving("stall") as receiver, channel_to(receiver.url, timeout=0.2) as channel:
        assert await channel.send(message()) == Delivery(True, "answered 200")
    assert len(receiver.posts) == 1


async def test_one_that_hangs_is_given_its_time_and_no_more() -> None:
    async with receiving("hang") as receiver, channel_to(receiver.url, timeout=0.2) as channel:
        assert await channel.send(message()) == Delivery(False, "no response within 0.2 s")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{port}/a-secret", "connection refused"),
        ("http://nowhere.invalid/a-secret", "name not found"),
        ("https://127.0.0.1:{port}/a-secret", "connection refused"),
    ],
)
async def test_a_receiver_that_is_not_there(url: str, words: str) -> None:
    async with channel_to(url.format(port=free_port())) as channel:
        delivery = await channel.send(message())
    assert delivery.words == words
    assert "a-secret" not in repr(delivery) + repr(channel)


@pytest.fixture
def fresh_trust() -> Iterator[None]:
    channels.tls_context.cache_clear()
    yield
    channels.tls_context.cache_clear()


@pytest.mark.usefixtures("fresh_trust")
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_a_receiver_over_tls_must_be_trusted(
    is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = self_signed(tmp_path)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    heads: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0, ssl=made.server_context()) as server:
        port = server.sockets[0].getsockname()[1]
        async with channel_to(f"https://localhost:{port}/hook") as channel:
            delivery = await channel.send(message())
    assert delivery.is_done is is_trusted, delivery
    assert [head.split(b"\r\n")[0] for head in heads] == [b"POST /hook HTTP/1.1"] * is_trusted


async def test_a_receiver_that_says_later_as_a_date() -> None:
    from tentaculo.incidents.channels import _asked_pause

    now = NOW.timestamp()
    for value, pause in (
        ("Sat, 14 Mar 2026 15:10:26 GMT", 60.0),
        ("Sat, 14 Mar 2026 15:00:00 GMT", 0.0),
        ("Saturday, 14-Mar-26 15:10:26 GMT", 60.0),
        ("Sat Mar 14 15:10:26 2026", 60.0),
        ("Sat, 14 Mar 2026 15:10:26 -0000", 60.0),
        ("Sat, 14 Mar 2026 16:10:26 +0100", 60.0),
        ("2026-03-14T15:10:26Z", 60.0),
        ("2026-03-14T15:10:26", 60.0),
        ("Sat, 14 Mar 9999 15:10:26 GMT", 3600.0),
        ("120", 120.0),
        ("1.5", 1.5),
        (str(int(now) + 60), 60.0),
        (str(int(now) - 60), 0.0),
        ("999999999", 3600.0),
        ("99999999999999999999", 3600.0),
        ("9" * 400, 3600.0),
        (f"{now * 1000:.0f}", 3600.0),
        ("3601", 3600.0),
        ("-1", None),
        ("soon", None),
        ("Sat, 99 Mar 2026 15:10:26 GMT", None),
        ("9" * 30 + "-" + "9" * 30, None),
        ("", None),
    ):
        assert _asked_pause({"retry-after": value}, now) == pause, value
    # The receiver's clock is an hour ahead, and it asks for a minute.
    ahead = {"retry-after": "Sat, 14 Mar 2026 16:10:26 GMT", "date": "Sat, 14 Mar 2026 16:09:26 GMT"}
    assert _asked_pause(ahead, now) == 60.0
    assert _asked_pause({**ahead, "retry-after": str(int(now) + 3600 + 5)}, now) == 5.0


# -- Apprise ----------------------------------------------------------------------------------------------------

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


async def test_a_machine_without_a_thread_left_is_a_failed_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with receiving() as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        with monkeypatch.context() as shortage:
            shortage.setattr(Thread, "start", refuse)
            words = "not sent: the gateway's machine has no thread left"
            assert await channel.send(TRIAL) == Delivery(False, words)
        assert (await channel.send(TRIAL)).is_done, "the next attempt is another one"


async def test_one_that_hangs_costs_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_TIMEOUT", 0.2)
    async with receiving("hang") as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        assert await channel.send(TRIAL) == Delivery(False, "no response within 0.2 s")
        assert await channel.send(TRIAL) == Delivery(False, "the attempt before has not come back yet")


async def test_an_attempt_that_comes_back_late_with_success_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_TIMEOUT", 0.2)
    async with receiving("wait") as receiver:
        channel = AppriseChannel("phone", receiver.url.replace("http://", "json://"))
        assert await channel.send(TRIAL) == Delivery(False, "no response within 0.2 s")
        receiver.gate.set()
        monkeypatch.setattr(channels, "_TIMEOUT", 20.0)
        found: list[Delivery] = []
        while not found or not found[-1].is_done:
            found.append(await channel.send(TRIAL))
            await asyncio.sleep(0.01)
        assert len(receiver.posts) == 1
        other = Message("msg_2", NotificationKind.ENDED, "over", "over", b"")
        assert await channel.send(other) == Delivery(True, "taken by Apprise")
        assert len(receiver.posts) == 2
