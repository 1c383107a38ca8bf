"""Sends the alerts that are due, on every channel at its own pace, and reports each delivery.

A channel has its own policy, because what one channel has delivered another may not have. A message is composed when
its channel can take it. One that cannot be delivered is abandoned, but its incidents stay due: the next message says
what is true then.
"""

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
from tentaculo.incidents.alerts import (
    AlertPolicy,
    Message,
    MessageContext,
    Notification,
    NotificationKind,
    compose_message,
)
from tentaculo.incidents.channels import AppriseChannel, Channel, Delivery, WebhookChannel
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.event import RecordOwnEvent, ignore_own_event
from tentaculo.model.incident import DeliveryOutcome, DeliveryRecord, Incident
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

FIRST_PAUSE, LAST_PAUSE = 2.0, 60.0
"""Seconds between attempts: twice as long after each failure, up to the last. Each varies by a quarter."""
LAST_WAIT = 2.0
"""Seconds that the channels have to deliver pending messages when the gateway stops."""

MOST_WARNINGS = 20
"""Messages that wait on a channel, beyond which early warnings are not added to them."""

OnDelivery = Callable[[Notification, DeliveryRecord], None]

CHANNELS: Mapping[str, Callable[[Config], Iterable[Channel]]] = {
    "webhooks": lambda config: (WebhookChannel(name, one) for name, one in config.alerts.webhooks.items()),
    "apprise": lambda config: (AppriseChannel(name, url.reveal()) for name, url in config.alerts.apprise.items()),
}
"""Each kind of channel: the key in `[alerts]`, and the function that makes its channels. A new kind is one line here."""


def channels(config: Config) -> list[Channel]:
    """Every configured channel."""
    return [channel for make in CHANNELS.values() for channel in make(config)]


def _settings(config: Config, name: str) -> object:
    """The settings of a channel; its kind is in their type."""
    return config.alerts.webhooks.get(name) or config.alerts.apprise.get(name)


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` (0 to 1) spreads the attempts of many gateways."""
    pause: float = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 30), LAST_PAUSE)
    return pause * (0.75 + chance / 2)


@dataclass(slots=True)
class DeliveryStats:
    """What has become of the messages of one channel."""

    sent: int = 0
    retried: int = 0
    """Attempts that failed and were followed by another."""
    failed: int = 0
    """Messages that were abandoned after the last attempt."""
    dropped: int = 0
    """Messages that the receiver refused for good."""
    last_sent_at: datetime | None = None
    last_error_at: datetime | None = None
    """When an attempt last failed, whether or not another followed."""
    last_error: str = ""


class ChannelQueue:
    """The messages and the attempts of one channel.

    `on_delivery` is called with each notification that was delivered, abandoned or refused, and what became of it.
    `compose` makes its message. `record` takes what belongs in the log of events. Before each attempt `may_send` says
    whether this gateway is the one that alerts, and `is_held` whether no alert is to be sent about an incident now.
    """

    def __init__(
        self,
        channel: Channel,
        policy: AlertPolicy,
        *,
        attempts: int,
        compose: Callable[[Notification], Message],
        on_delivery: OnDelivery,
        now: Callable[[], datetime],
        record: RecordOwnEvent = ignore_own_event,
        may_send: Callable[[], bool] = lambda: True,
        is_held: Callable[[Incident], bool] = lambda incident: False,
        pause: Callable[[int], float] = lambda failures: backoff(failures, random.random()),  # noqa: S311
    ) -> None:
        self.channel = channel
        self.counts = DeliveryStats()
        self._policy = policy
        self._attempts = attempts
        self._compose = compose
        self._on_delivery = on_delivery
        self._now = now
        self._record = record
        self._may_send = may_send
        self._is_held = is_held
        self._pause = pause
        self._waiting: deque[Notification] = deque()
        self._has_work = asyncio.Event()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._failures = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<ChannelQueue {self.channel.name}: {len(self._waiting)} waiting>"

    @property
    def pending(self) -> int:
        """How many messages are waiting or in progress."""
        return len(self._waiting)

    def send_due(self, incidents: Iterable[Incident], now: datetime) -> None:
        """Queue what is due now, unless the channel is busy with what was due before. Never waits."""
        if self._is_closed or not self._is_idle.is_set() or not self._may_send():
            return
        self._waiting.extend(self._policy.due(incidents, now))
        if self._waiting:
            self._is_idle.clear()
            self._has_work.set()

    def warn(self, warning: EarlyWarning) -> None:
        """Queue the message of an early warning. Never waits; beyond `MOST_WARNINGS` waiting messages it is lost."""
        if self._is_closed or not self._may_send() or len(self._waiting) >= MOST_WARNINGS:
            return
        self._waiting.append(Notification(NotificationKind.WARNING, self.channel.name, (), warning))
        self._is_idle.clear()
        self._has_work.set()

    async def run(self) -> None:
        """Deliver messages until cancelled."""
        while True:
            await self._has_work.wait()
            while self._waiting:
                first = self._waiting[0]
                await self._deliver(first)
                # After one that was abandoned the queue has other messages, or none.
                if self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
            self._has_work.clear()
            self._is_idle.set()

    def forget(self) -> None:
        """Forget what waits after `run` was cancelled: at the next run it is due again."""
        self._waiting.clear()
        self._has_work.clear()
        self._is_idle.set()

    async def idle(self) -> None:
        """Wait until no message is waiting or in progress."""
        await self._is_idle.wait()

    async def _deliver(self, notification: Notification) -> None:
        message = self._compose(notification)
        for attempt in range(1, self._attempts + 1):
            if not self._may_send():
                self._waiting.clear()
                return
            if notification.incidents and all(map(self._is_held, notification.incidents)):
                # Where they are still open when that is over, they are due again.
                return
            delivery = await self.channel.send(message)
            if delivery.is_done:
                self._failures = 0
                self.counts.sent += 1
                self.counts.last_sent_at = self._now()
                log.info("alert sent", channel=self.channel.name, message=message.id, kind=message.kind.value)
                self._record("alert.sent", channel=self.channel.name, message_id=message.id, kind=message.kind.value)
                self._end(notification, DeliveryOutcome.DELIVERED, attempt)
                return
            self.counts.last_error_at, self.counts.last_error = self._now(), delivery.words
            if delivery.is_closed:
                self._close(delivery)
                self._end(notification, DeliveryOutcome.REFUSED, attempt, delivery.words)
                return
            self._failures += 1
            pause = max(self._pause(self._failures), delivery.pause or 0.0)
            if attempt < self._attempts:
                self.counts.retried += 1
                log.info(
                    "alert not sent yet", channel=self.channel.name, reason=delivery.words, again_in=round(pause, 1)
                )
            else:
                self._abandon(message, delivery)
                self._end(notification, DeliveryOutcome.FAILED, attempt, delivery.words)
            await asyncio.sleep(pause)

    def _end(self, notification: Notification, outcome: DeliveryOutcome, attempts: int, error: str = "") -> None:
        at = self._now()
        self._on_delivery(
            notification,
            DeliveryRecord(self.channel.name, notification.kind.value, outcome, at, at, attempts=attempts, error=error),
        )

    def _abandon(self, message: Message, delivery: Delivery) -> None:
        """Give up a message. The incidents that wait behind it become due again with its own; warnings do not."""
        self.counts.failed += 1
        _, *behind = self._waiting
        self._waiting = deque(one for one in behind if one.kind is NotificationKind.WARNING)
        log.error(
            "alert delivery abandoned",
            channel=self.channel.name,
            message=message.id,
            title=message.title,
            attempts=self._attempts,
            reason=delivery.words,
        )
        self._record(
            "alert.failed",
            severity="error",
            channel=self.channel.name,
            message_id=message.id,
            kind=message.kind.value,
            reason=delivery.words,
        )

    def _close(self, delivery: Delivery) -> None:
        self._is_closed = True
        self.counts.dropped += len(self._waiting)
        self._waiting.clear()
        log.error("alert channel closed by its receiver", channel=self.channel.name, reason=delivery.words)
        self._record("alert.failed", severity="error", channel=self.channel.name, reason=delivery.words)


class Notifier:
    """Sends what is due on every channel.

    `on_delivery` is called with each notification that a channel has delivered, abandoned or refused. Nothing is sent
    while `may_send` is False, nor a message that was composed of incidents for which all `is_held` is True by now.
    """

    def __init__(
        self,
        config: Config,
        context: Callable[[], MessageContext],
        *,
        on_delivery: OnDelivery,
        now: Callable[[], datetime],
        record: RecordOwnEvent = ignore_own_event,
        may_send: Callable[[], bool] = lambda: True,
        is_held: Callable[[Incident], bool] = lambda incident: False,
    ) -> None:
        self._now = now
        self._may_send = may_send
        self._is_held = is_held
        self._context = context
        self._on_delivery = on_delivery
        self._record = record
        self._config = config
        self._queues = [self._queue(config, channel) for channel in channels(config)]
        self._running: dict[ChannelQueue, asyncio.Task[None]] = {}
        """The task of each queue, while the messages are delivered."""
        self._is_delivering = False
        self._tasks = TaskGroup("alerts")

    def _queue(self, config: Config, channel: Channel) -> ChannelQueue:
        alerts, settle = config.alerts, config.incidents.settle
        return ChannelQueue(
            channel,
            AlertPolicy(channel.name, wait=alerts.wait, remind=alerts.remind, settle=settle),
            attempts=alerts.attempts,
            compose=self._compose,
            on_delivery=self._on_delivery,
            now=self._now,
            record=self._record,
            may_send=self._may_send,
            is_held=self._is_held,
        )

    def _compose(self, notification: Notification) -> Message:
        return compose_message(f"msg_{secrets.token_hex(12)}", notification, self._context(), self._now())

    def prepare(self, config: Config) -> Callable[[], None]:
        """Make the channels of a configuration beside those that there are; the result puts them in place.

        A channel whose settings are the same keeps its messages. What waits on another one is due again on its successor.
        """
        before = {queue.channel.name: queue for queue in self._queues}
        old, new = self._config, config
        is_same_policy = (old.alerts.wait, old.alerts.remind, old.alerts.attempts, old.incidents.settle) == (
            *(new.alerts.wait, new.alerts.remind, new.alerts.attempts, new.incidents.settle),
        )
        queues = []
        for channel in channels(config):
            known = before.get(channel.name)
            if known is not None and is_same_policy and _settings(old, channel.name) == _settings(new, channel.name):
                queues.append(known)
                continue
            queue = self._queue(config, channel)
            if known is not None:
                queue.counts = known.counts
            queues.append(queue)

        def use() -> None:
            gone = [queue for queue in self._queues if queue not in queues]
            self._config, self._queues = config, queues
            for queue in gone:
                if (task := self._running.pop(queue, None)) is not None:
                    task.cancel()
                    self._tasks.start(queue.channel.close(), "close")
            if self._is_delivering:
                self._start()

        return use

    def _start(self) -> None:
        for queue in self._queues:
            if queue not in self._running:
                self._running[queue] = self._tasks.start(queue.run(), queue.channel.name)

    def __repr__(self) -> str:
        return f"<Notifier: {len(self._queues)} channels, {self._pending} messages in progress>"

    @property
    def counts(self) -> dict[str, DeliveryStats]:
        """What has become of the messages, by channel."""
        return {queue.channel.name: queue.counts for queue in self._queues}

    @property
    def _pending(self) -> int:
        return sum(queue.pending for queue in self._queues)

    def send_due(self, incidents: Iterable[Incident]) -> None:
        """Send what is due of `incidents` now. Never waits."""
        known, now = tuple(incidents), self._now()
        for queue in self._queues:
            queue.send_due(known, now)

    def warn(self, warning: EarlyWarning) -> None:
        """Send the message of an early warning on every channel. Never waits."""
        for queue in self._queues:
            queue.warn(warning)

    @asynccontextmanager
    async def delivered(self) -> AsyncIterator[None]:
        """Deliver messages while the context is open, and for `LAST_WAIT` seconds longer."""
        self._is_delivering = True
        self._start()
        try:
            yield
        finally:
            try:
                async with asyncio.timeout(LAST_WAIT if self._may_send() else 0):
                    for queue in self._queues:
                        await queue.idle()
            except TimeoutError:
                if self._may_send():
                    log.warning("alerts not delivered before the stop", messages=self._pending)
            self._is_delivering = False
            await self._tasks.close()
            self._running.clear()
            for queue in self._queues:
                queue.forget()
                await queue.channel.close()
