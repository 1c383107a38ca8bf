"""Sends the alerts that are due on every channel, with retries, and reports each delivery."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from tentaculo.config.schema import Config
from tentaculo.incidents.alerts import AlertPolicy, Message, MessageContext, Notification, compose_message
from tentaculo.incidents.channels import AppriseChannel, Channel, Delivery, WebhookChannel
from tentaculo.model.incident import Incident
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

MOST_WAITING = 100
"""Messages that wait for one channel; beyond that the oldest goes, since the newest say how things are."""
FIRST_PAUSE, LAST_PAUSE = 2.0, 600.0
"""Seconds between attempts: twice as long each time, up to the last, each a random half to one and a half of it."""


@dataclass(slots=True)
class DeliveryStats:
    """What has become of the messages of one channel."""

    sent: int = 0
    retried: int = 0
    """Attempts that failed and were followed by another."""
    failed: int = 0
    """Messages that were given up."""
    dropped: int = 0
    """Messages that never had their turn: too many waited, or the receiver wants none."""


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` (0 to 1) spreads many gateways' attempts."""
    pause: float = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), LAST_PAUSE)
    return pause * (0.5 + chance)


class DeliveryQueue:
    """The queue and the attempts of one channel.

    `on_done` hears of each message that left the queue, and whether it was delivered; it must not wait.
    """

    def __init__(
        self,
        channel: Channel,
        *,
        attempts: int,
        on_done: Callable[[Message, bool], None],
        pause: Callable[[int], float] = lambda failures: backoff(failures, random.random()),  # noqa: S311
    ) -> None:
        self.channel = channel
        self.counts = DeliveryStats()
        self._attempts = attempts
        self._on_done = on_done
        self._pause = pause
        self._waiting: deque[Message] = deque()
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Courier {self.channel.name}: {len(self._waiting)} waiting>"

    @property
    def is_free(self) -> bool:
        """Whether a message would be tried at once: nothing waits, nothing is under way, and the receiver wants some."""
        return self._is_idle.is_set() and not self._is_closed

    def put(self, message: Message) -> None:
        """Queue a message. Never waits and never raises."""
        if self._is_closed:
            self._drop(message)
            return
        while len(self._waiting) >= MOST_WAITING:
            self._drop(self._waiting.popleft())
        self._waiting.append(message)
        self._is_idle.clear()
        self._has_work.set()

    async def run(self) -> None:
        """Bring messages until cancelled."""
        while True:
            while self._waiting:
                await self._bring(self._waiting.popleft())
            self._is_idle.set()
            self._has_work.clear()
            await self._has_work.wait()

    async def idle(self) -> None:
        """Wait until nothing waits."""
        await self._is_idle.wait()

    async def _bring(self, message: Message) -> None:
        for failures in range(1, self._attempts + 1):
            delivery = await self.channel.send(message)
            if delivery.is_done:
                self.counts.sent += 1
                log.info("alert sent", channel=self.channel.name, message=message.id, kind=message.kind.value)
                self._on_done(message, True)
                return
            if delivery.is_closed:
                self._close(message, delivery)
                return
            if failures < self._attempts:
                self.counts.retried += 1
                pause = max(self._pause(failures), delivery.pause or 0.0)
                log.info(
                    "alert not sent yet", channel=self.channel.name, reason=delivery.words, again_in=round(pause, 1)
                )
                await asyncio.sleep(pause)
        self.counts.failed += 1
        log.error(
            "alert delivery abandoned",
            channel=self.channel.name,
            message=message.id,
            title=message.title,
            attempts=self._attempts,
            reason=delivery.words,
        )
        self._on_done(message, False)

    def _close(self, message: Message, delivery: Delivery) -> None:
        self._is_closed = True
        log.error("alert channel closed by its receiver", channel=self.channel.name, reason=delivery.words)
        self._drop(message)
        while self._waiting:
            self._drop(self._waiting.popleft())

    def _drop(self, message: Message) -> None:
        self.counts.dropped += 1
        log.warning("alert dropped", channel=self.channel.name, message=message.id, title=message.title)
        self._on_done(message, False)


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
            made = compose_message(f"msg_{secrets.token_hex(12)}", notification, self._context(), now)
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
