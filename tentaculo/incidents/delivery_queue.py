"""Couriers: each brings the messages of one channel to it, in their order, however long the channel is away."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from tentaculo.incidents.alert_message import Message

log = structlog.get_logger(__name__)

MOST_WAITING = 100
"""Messages that wait for one channel; beyond that the oldest goes, since the newest say how things are."""
FIRST_PAUSE, LAST_PAUSE = 2.0, 600.0
"""Seconds between attempts: twice as long each time, up to the last, each a random half to one and a half of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one attempt went. A channel returns this and never raises."""

    is_done: bool
    words: str
    """For people, without the channel's address: `answered 204`, `connection refused`."""
    pause: float | None = None
    """Seconds that the receiver asks to be left alone; None where it asks for nothing."""
    is_closed: bool = False
    """Whether the receiver wants no message ever again."""


class Channel(Protocol):
    """A way to people."""

    @property
    def name(self) -> str:
        """As configured."""

    async def send(self, message: Message) -> Delivery:
        """Try once, within a bounded time."""

    async def close(self) -> None:
        """Give back what it holds."""


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
