"""The channels of alerts: signed webhooks (https://www.standardwebhooks.com) and Apprise (https://github.com/caronc/apprise)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Thread
from typing import Any, Protocol

import msgspec

from tentaculo import __version__
from tentaculo.config.incidents import WebhookSettings, secret_bytes
from tentaculo.config.schema import Config
from tentaculo.incidents.alerts import Message, NotificationKind
from tentaculo.incidents.webhook_request import ResponseHead, post, words_of

_LONGEST_PAUSE = 3600.0
"""Longest pause in seconds that a receiver may ask for."""
_LEAST_UNIX_TIME = 1e9
"""Seconds of Retry-After from which on they are a moment, not a duration: it was in the year 2001."""
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]*)?")


class Delivery(msgspec.Struct, frozen=True):
    """The result of one attempt. A channel returns this and never raises."""

    is_done: bool
    words: str
    """The result for people, without the channel's address: `answered 204`, `connection refused`."""
    pause: float | None = None
    """Seconds that the receiver asked to wait before the next attempt; None where it asked for nothing."""
    is_closed: bool = False
    """Whether the receiver refuses all further messages."""


class Channel(Protocol):
    """Delivers messages to one receiver."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    async def send(self, message: Message) -> Delivery:
        """Try once to deliver a message, within a bounded time."""

    async def close(self) -> None:
        """Close its connections."""


def channel_kinds(config: Config) -> dict[str, str]:
    """The kind of each configured channel, `webhook` or `apprise`, by its name."""
    return {**dict.fromkeys(config.alerts.webhooks, "webhook"), **dict.fromkeys(config.alerts.apprise, "apprise")}


def sign(key: bytes, number: str, timestamp: int, body: bytes) -> str:
    """One signature, `v1,<base64 of HMAC-SHA256>` of `id.timestamp.body` (specification, "Signature scheme")."""
    content = f"{number}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def headers(message: Message, keys: Sequence[bytes], now: float) -> dict[str, str]:
    """The headers of one attempt at `now`, seconds since 1970: one signature for each key."""
    timestamp = int(now)
    return {
        "Content-Type": "application/json",
        "User-Agent": f"tentaculo-link/{__version__}",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(key, message.id, timestamp, message.body) for key in keys),
    }


class WebhookChannel:
    """Posts messages to one address. It follows no redirect, keeps no cookie and reads a few KiB of a response."""

    def __init__(self, name: str, webhook: WebhookSettings, *, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since 1970."""
        self.name = name
        self._url = webhook.url.reveal()
        self._keys = [secret_bytes(secret.reveal()) for secret in webhook.secrets or ()]
        self._timeout = webhook.timeout
        self._now = now

    def __repr__(self) -> str:
        return f"<WebhookChannel {self.name}>"

    async def send(self, message: Message) -> Delivery:
        """Post once. Any 2xx is a delivery; 410 refuses all further messages (specification, "Response codes")."""
        fields = headers(message, self._keys, self._now())
        try:
            tls = await asyncio.to_thread(tls_context) if self._url[:6].lower() == "https:" else None
            response = await post(self._url, fields, message.body, self._timeout, tls)
        except TimeoutError:
            return Delivery(False, f"no response within {self._timeout:g} s")
        # A receiver can cause any error here.
        except Exception as error:  # noqa: BLE001
            return Delivery(False, words_of(error))
        return self._outcome(response)

    async def close(self) -> None:
        """Nothing to close: each attempt has a connection of its own."""

    def _outcome(self, response: ResponseHead) -> Delivery:
        """The result by the head of the response alone: a body that stalls does not undo a delivery."""
        words = f"answered {response.status}"
        if 200 <= response.status < 300:
            return Delivery(True, words)
        if response.status == 410:
            return Delivery(False, f"{words}: it wants no more messages", is_closed=True)
        if 300 <= response.status < 400:
            return Delivery(False, f"{words}: redirects are not followed")
        return Delivery(False, words, pause=_asked_pause(response.fields, self._now()))


@cache
def tls_context() -> ssl.SSLContext:
    """Trusts what the system trusts. Loading that takes 30 ms and 1 MB: once, for all channels."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(("http/1.1",))
    return context


def _asked_pause(found: Mapping[str, str], now: float) -> float | None:
    """The seconds of Retry-After, which is a number or a date (RFC 9110 section 10.2.3), up to `_LONGEST_PAUSE`.

    A date is compared with the receiver's own `Date`, where the response has one: the two clocks may differ. So is a
    number of more than thirty years: some receivers send the seconds since 1970.
    """
    value = found.get("retry-after", "").strip()
    present = _http_date(found.get("date", "")) or datetime.fromtimestamp(now, UTC)
    if _SECONDS.fullmatch(value):
        seconds = float(value[:12])
        if seconds >= _LEAST_UNIX_TIME:
            seconds -= present.timestamp()
    elif (moment := _http_date(value)) is not None:
        seconds = (moment - present).total_seconds()
    else:
        return None
    return min(max(seconds, 0.0), _LONGEST_PAUSE)


def _http_date(value: str) -> datetime | None:
    """A date in any of the three forms of RFC 9110 section 5.6.7, or of RFC 3339. Without a zone it is UTC."""
    text = value.strip()[:64]
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


_TIMEOUT = 30.0
"""Seconds that one attempt may take. Apprise's own limits on sockets are shorter."""
_TAKEN = "taken by Apprise"
_LONGEST_TEXT = 1500
"""Characters of a text: the smallest of its channels cut at about as many."""
_LOOKS = {
    NotificationKind.OPENED: "failure",
    NotificationKind.REMINDER: "failure",
    NotificationKind.CHANGED: "warning",
    NotificationKind.WARNING: "warning",
    NotificationKind.ENDED: "success",
}


class AppriseChannel:
    """One Apprise address. The library blocks, so each attempt runs in a thread of its own, one at a time."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._thread: Thread | None = None
        self._delivered = ""
        """Id of the last message that was delivered, also by an attempt that came back too late."""

    def __repr__(self) -> str:
        return f"<AppriseChannel {self.name}>"

    async def send(self, message: Message) -> Delivery:
        """Notify once, off the event loop."""
        if self._thread is not None and self._thread.is_alive():
            return Delivery(False, "the attempt before has not come back yet")
        if self._delivered == message.id:
            return Delivery(True, _TAKEN)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Delivery] = loop.create_future()

        def work() -> None:
            delivery = self._notify(message)
            if delivery.is_done:
                self._delivered = message.id
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_answer, answer, delivery)

        # A daemon, so that a receiver that hangs does not delay the end of the process.
        self._thread = Thread(target=work, name=f"tentaculo-apprise-{self.name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            return Delivery(False, "not sent: the gateway's machine has no thread left")
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await answer
        except TimeoutError:
            return Delivery(False, f"no response within {_TIMEOUT:g} s")

    async def close(self) -> None:
        """Nothing to close."""

    def _notify(self, message: Message) -> Delivery:
        try:
            make = _library()
        except ImportError:
            return Delivery(False, "Apprise is not installed: pip install 'tentaculo-link[alerts]'")
        # Apprise calls the code of many services. Their errors may contain the address, so only their kind is shown.
        try:
            target = make()
            if not target.add(self._url):
                return Delivery(False, "Apprise does not know this kind of address")
            text = message.text if len(message.text) <= _LONGEST_TEXT else message.text[: _LONGEST_TEXT - 1] + "…"
            is_sent = target.notify(
                body=text,
                title=message.title,
                notify_type=_LOOKS.get(message.kind, "info"),
                # The text contains text of services, which no channel may read as markup.
                body_format="text",
            )
        except Exception as error:  # noqa: BLE001
            return Delivery(False, f"Apprise failed ({type(error).__name__})")
        return Delivery(True, _TAKEN) if is_sent else Delivery(False, "Apprise could not deliver it")


def is_apprise_url(url: str) -> bool:
    """Whether Apprise knows this kind of address and finds all its parts; nothing is sent. Raises ImportError."""
    make = _library()
    try:
        return bool(make().add(url))
    except Exception:  # noqa: BLE001 - the code of many services, which may refuse an address in any way
        return False


def _library() -> Callable[[], Any]:
    import logging

    from apprise import Apprise

    # It logs addresses, tokens included.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return Apprise


def _answer(future: asyncio.Future[Delivery], delivery: Delivery) -> None:
    if not future.done():
        future.set_result(delivery)
