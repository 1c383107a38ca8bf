"""Sends the alerts that are due on every channel, and reports each delivery."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from tentaculo.config.schema import Config
from tentaculo.incidents.alert_message import Message, MessageContext, message
from tentaculo.incidents.alert_policy import AlertPolicy, Notification
from tentaculo.incidents.apprise_channel import AppriseChannel
from tentaculo.incidents.delivery_queue import Channel, DeliveryQueue, DeliveryStats
from tentaculo.incidents.webhook import WebhookChannel
from tentaculo.model.incident import Incident
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

LAST_WAIT = 2.0
"""Seconds that the channels have to deliver pending messages when the gateway stops."""

CHANNELS: Mapping[str, Callable[[Config], Iterable[Channel]]] = {
    "webhooks": lambda config: (WebhookChannel(name, one) for name, one in config.alerts.webhooks.items()),
    "apprise": lambda config: (AppriseChannel(name, url.reveal()) for name, url in config.alerts.apprise.items()),
}
"""Each kind of channel: the key in `[alerts]`, and what makes its channels. A further kind is one line here."""


def channels(config: Config) -> list[Channel]:
    """Every configured channel."""
    return [channel for make in CHANNELS.values() for channel in make(config)]


@dataclass(slots=True)
class _Sent:
    """A message under way."""

    notification: Notification
    waiting: int
    """Channels that have neither delivered it nor given it up."""


class Notifier:
    """Sends what is due on every channel, each at its own pace.

    A message is complete as soon as one channel has delivered it, or all have given it up. `on_notified` is called
    then. Until then its incidents cause no further message, so a channel that works gets no message twice.
    """

    def __init__(
        self,
        config: Config,
        context: Callable[[], MessageContext],
        *,
        on_notified: Callable[[Notification, datetime], None],
        now: Callable[[], datetime],
    ) -> None:
        self._alerts = AlertPolicy(wait=config.alerts.wait, remind=config.alerts.remind, settle=config.incidents.settle)
        self._context = context
        self._on_notified = on_notified
        self._now = now
        self._queues = [
            DeliveryQueue(channel, attempts=config.alerts.attempts, on_done=self._note_done)
            for channel in channels(config)
        ]
        self._sent: dict[str, _Sent] = {}

    def __repr__(self) -> str:
        return f"<Notifier: {len(self._queues)} channels, {len(self._sent)} messages in progress>"

    @property
    def counts(self) -> dict[str, DeliveryStats]:
        """What has become of the messages, by channel."""
        return {queue.channel.name: queue.counts for queue in self._queues}

    def send_due(self, incidents: Iterable[Incident]) -> None:
        """Send what is due of `incidents` now. Never waits.

        While no channel is free none is made: the next one tells in one what is true when somebody can take it.
        """
        if not any(queue.is_free for queue in self._queues):
            return
        now = self._now()
        for notification in self._alerts.due(incidents, now):
            made = message(f"msg_{secrets.token_hex(12)}", notification, self._context(), now)
            self._sent[made.id] = _Sent(notification, len(self._queues))
            for queue in self._queues:
                queue.put(made)

    @asynccontextmanager
    async def delivered(self) -> AsyncIterator[None]:
        """Bring messages to their channels from entering to leaving, and a moment longer."""
        tasks = TaskGroup("alerts")
        for queue in self._queues:
            tasks.start(queue.run(), queue.channel.name)
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(LAST_WAIT):
                    for queue in self._queues:
                        await queue.idle()
            except TimeoutError:
                log.warning("alerts not delivered before the stop", messages=len(self._sent))
            await tasks.close()
            for queue in self._queues:
                await queue.channel.close()

    def _note_done(self, made: Message, is_delivered: bool) -> None:
        sent = self._sent.get(made.id)
        if sent is None:
            return
        sent.waiting -= 1
        if is_delivered or sent.waiting == 0:
            del self._sent[made.id]
            self._alerts.done(sent.notification)
            self._on_notified(sent.notification, self._now())
