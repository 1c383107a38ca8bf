"""A hundred other channels through Apprise (https://github.com/caronc/apprise), which is installed only if wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

from tentaculo.incidents.alert_message import Message
from tentaculo.incidents.alert_policy import NotificationKind
from tentaculo.incidents.delivery_queue import Delivery

_TIMEOUT = 30.0
"""Seconds that one attempt may take. Apprise's own limits on sockets are shorter."""
_LONGEST_TEXT = 1500
"""Characters of a text: the smallest of its channels cut at about as many."""
_LOOKS = {
    NotificationKind.OPENED: "failure",
    NotificationKind.REMINDER: "failure",
    NotificationKind.CHANGED: "warning",
    NotificationKind.ENDED: "success",
}


class AppriseChannel:
    """One Apprise address. Its library blocks, so each attempt has a thread of its own, and one at a time."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._thread: Thread | None = None

    def __repr__(self) -> str:
        return f"<AppriseChannel {self.name}>"

    async def send(self, message: Message) -> Delivery:
        """Notify once, off the event loop."""
        if self._thread is not None and self._thread.is_alive():
            return Delivery(False, "the attempt before has not come back yet")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Delivery] = loop.create_future()

        def work() -> None:
            delivery = self._notify(message)
            # The loop may have ended meanwhile, and then nobody waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_answer, answer, delivery)

        # A daemon, so that a receiver that hangs cannot hold up the end of the process.
        self._thread = Thread(target=work, name=f"tentaculo-apprise-{self.name}", daemon=True)
        self._thread.start()
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await answer
        except TimeoutError:
            return Delivery(False, f"no answer within {_TIMEOUT:g} s")

    async def close(self) -> None:
        """There is nothing to give back."""

    def _notify(self, message: Message) -> Delivery:
        try:
            make = _library()
        except ImportError:
            return Delivery(False, "Apprise is not installed: pip install 'tentaculo-link[alerts]'")
        # The boundary to a hundred services' code: its errors may hold the address, so only their kind is told.
        try:
            target = make()
            if not target.add(self._url):
                return Delivery(False, "Apprise does not know this kind of address")
            text = message.text if len(message.text) <= _LONGEST_TEXT else message.text[: _LONGEST_TEXT - 1] + "…"
            is_sent = target.notify(
                body=text,
                title=message.title,
                notify_type=_LOOKS.get(message.kind, "info"),
                # What came from services is text: no channel may read it as its own markup.
                body_format="text",
            )
        except Exception as error:  # noqa: BLE001
            return Delivery(False, f"Apprise failed ({type(error).__name__})")
        return Delivery(True, "taken by Apprise") if is_sent else Delivery(False, "Apprise could not deliver it")


def _library() -> Callable[[], Any]:
    import logging

    from apprise import Apprise

    # It logs addresses, tokens included.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return Apprise


def _answer(future: asyncio.Future[Delivery], delivery: Delivery) -> None:
    if not future.done():
        future.set_result(delivery)
