"""The hub: the subscribers and their queues. Publishing never waits for a subscriber.

    publish(event) ─▶ each queue (the same bytes for all) … deliver() ─▶ one write for each client that takes it

What was published since the last `deliver` is one write. A client whose send buffer is full keeps its queue, and its own
task writes it when there is room.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Protocol

import msgspec
import structlog

from tentaculo.model.event import Event, EventFilter
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import fold_case

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 5.0
"""Seconds that `Hub.close` waits until every subscriber has disconnected."""


QUEUE_BYTES = 40 * 1024
"""Bytes that may wait for one subscriber, unless a single event has more."""

WRITE_BYTES = 8 * 1024
"""Bytes of waiting events that are written together, unless the first has more."""
SHARE = 64
"""Clients that are written to in one turn of the event loop."""
CONTROL = "control"
"""The `channel` of the gateway's own messages to a WebSocket client. No broadcast has it."""


Encode = Callable[[Event], bytes]
"""The form in which a subscriber gets an event. Equal functions share what they encode."""
BROADCASTS = EventFilter(is_broadcast=True)


class Sink(Protocol):
    """The connection of a subscriber."""

    @property
    def is_paused(self) -> bool:
        """Whether the send buffer is full."""

    def send(self, frames: bytes) -> None:
        """Send whole encoded events now. Does nothing where the connection has ended."""


class End(Enum):
    """Why the hub ends a subscription."""

    TOO_SLOW = "too slow"
    STOPPING = "the gateway is stopping"
    SIGNED_OUT = "the sign-in has ended"
    """Or the token is no longer accepted."""


class Subscriber:
    """One subscriber and its queue. Made by `Hub.subscribe`; equal client ids are different subscribers."""

    def __init__(self, client_id: str, size: int, wanted: EventFilter, encode: Encode, *, is_live: bool) -> None:
        self.client_id = client_id
        self.wanted = wanted
        self.encode = encode
        self.end: End | None = None
        """Why its subscription has ended; None while it lasts."""
        self.is_live = is_live
        """Whether it gets events. Without that it only holds a place, until `start`."""
        self.after = 0
        """It gets no event up to this id."""
        self.own: set[int] = set()
        """Ids of its own events that were published before it was live: they are not sent back to it."""
        self._size = size
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._collected: list[bytes] | None = None
        self._collected_bytes = 0
        self._sink: Sink | None = None
        self._stalled = asyncio.Event()
        self._on_end: Callable[[], None] | None = None

    def __repr__(self) -> str:
        state = self.end.value if self.end else f"{len(self._frames)} of {self._size} waiting"
        return f"<Subscriber {self.client_id!r}: {state}>"

    @property
    def waiting(self) -> int:
        """Events that wait for it."""
        return len(self._frames)

    @property
    def is_collecting(self) -> bool:
        """Whether it has all events since `collect`."""
        return self._collected is not None

    def collect(self, after: int) -> None:
        """Keep the events with ids greater than `after` for `start`, as long as they have room, while it reads up to there."""
        self._collected, self._collected_bytes, self.after = [], 0, after

    def keep(self, frame: bytes) -> None:
        """Keep an event for `start`. Without room it is not collecting any more, and has to read on."""
        if self._collected is None:
            return
        self._collected.append(frame)
        self._collected_bytes += len(frame)
        if len(self._collected) > self._size or self._collected_bytes > QUEUE_BYTES:
            self._collected = None

    def start(self, after: int) -> None:
        """From now on it gets the events with ids greater than `after`, those first that it has collected."""
        self.is_live, self.after = True, after
        self.own.clear()
        if self._collected is not None:
            self._frames.extend(self._collected)
            self._bytes += self._collected_bytes
            self._collected = None

    def attach(self, sink: Sink | None) -> None:
        """From now on write what waits to `sink`; None keeps it in the queue."""
        self._sink = sink
        self.flush()

    def flush(self) -> None:
        """Write what waits, until the client takes no more."""
        sink = self._sink
        if sink is None:
            return
        while self._frames:
            if sink.is_paused:
                self._stalled.set()
                return
            sink.send(self.take(WRITE_BYTES))

    async def wait_stalled(self) -> None:
        """Wait until something waits that the client did not take. `flush` it when the client has room."""
        await self._stalled.wait()
        self._stalled.clear()

    def take(self, most: int) -> bytes:
        """What waits now, up to `most` bytes of whole events and at least one; empty where there is none."""
        frames = self._frames
        if self._bytes <= most or len(frames) == 1:
            taken = b"".join(frames)
            frames.clear()
        else:
            found = [frames.popleft()]
            most -= len(found[0])
            while len(frames[0]) <= most:
                most -= len(frames[0])
                found.append(frames.popleft())
            taken = b"".join(found)
        self._bytes -= len(taken)
        return taken

    def when_ended(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once when the subscription ends, or now if it has ended. None removes the callback."""
        self._on_end = callback
        if self.end is not None and callback is not None:
            callback()

    def offer(self, frame: bytes) -> bool:
        """Queue `frame`; False when the queue is full of what the client does not take."""
        if not self._has_room(frame):
            # Perhaps all of it came in this turn, before `Hub.deliver`.
            self.flush()
            if not self._has_room(frame):
                return False
        self._frames.append(frame)
        self._bytes += len(frame)
        return True

    def _has_room(self, frame: bytes) -> bool:
        return not self._frames or (len(self._frames) < self._size and self._bytes + len(frame) <= QUEUE_BYTES)

    def finish(self, end: End) -> None:
        """End the subscription, and drop what is queued."""
        if self.end is not None:
            return
        self.end = end
        self._frames.clear()
        self._bytes = 0
        if self._on_end is not None:
            self._on_end()


class Hub:
    """Hands every event to the subscribers that want it.

    `limit` is the number of subscribers and `queue` the number of events that may wait for one of them, `QUEUE_BYTES`
    at most. A subscriber whose queue is full is disconnected; the others are not affected.
    """

    def __init__(self, *, limit: int, queue: int) -> None:
        self._limit = limit
        self._queue = queue
        self._subscribers: dict[Subscriber, None] = {}
        self._ready: dict[Subscriber, None] = {}
        """Those that got events since the last `deliver`."""
        self._is_stopping = False
        self._empty = asyncio.Event()
        self.first_at = 0
        """When the first of the subscribers came, microseconds since 1970: ids of later events are greater."""
        self.cut_off = 0
        """Subscribers that were disconnected because they were slow, since the start."""

    def use(self, *, limit: int, queue: int) -> None:
        """Have these limits from now on. Subscribers that are there stay, each with its queue."""
        self._limit, self._queue = limit, queue

    def __repr__(self) -> str:
        return f"<Hub: {len(self._subscribers)} of {self._limit} subscribers, {self.cut_off} cut off>"

    def __len__(self) -> int:
        return len(self._subscribers)

    def subscribe(
        self,
        client_id: str,
        wanted: EventFilter | None = None,
        encode: Encode | None = None,
        *,
        is_live: bool = True,
    ) -> Subscriber:
        """Add a subscriber, which gets the events that it wants from now on; remove it with `unsubscribe`.

        Without `wanted` it gets the broadcasts, and without `encode` in the form of `/ws`. One that is not `is_live` gets
        none before its `start`.

        Raises `Problem` (OVERLOADED, STOPPING) if the limit is reached or the gateway is stopping.
        """
        if self._is_stopping:
            raise Problem(Failure.STOPPING, headers={"Retry-After": "5"})
        if len(self._subscribers) >= self._limit:
            detail = f"All {self._limit} places for subscribers are taken."
            raise Problem(Failure.OVERLOADED, detail, headers={"Retry-After": "5"})
        if not self._subscribers:
            self.first_at = time.time_ns() // 1000
        if wanted is None:
            wanted = BROADCASTS
        subscriber = Subscriber(client_id, self._queue, wanted, encode or encode_broadcast, is_live=is_live)
        self._subscribers[subscriber] = None
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove `subscriber`, if it is there."""
        self._subscribers.pop(subscriber, None)
        subscriber.attach(None)
        if not self._subscribers:
            self._empty.set()

    def publish(self, event: Event, *, exclude: Subscriber | None = None) -> int:
        """Queue `event` for every subscriber that wants it but `exclude`. Never waits; each form is encoded once.

        Call `deliver` then, after one or several events.
        Returns the bytes of its longest form, 0 where no subscriber wants it.
        """
        frames: dict[Encode, bytes] = {}
        searched: str | None = None
        for subscriber in list(self._subscribers):
            if subscriber is exclude and not subscriber.is_live:
                subscriber.own.add(event.id)
            if subscriber is exclude or subscriber.end is not None or event.id <= subscriber.after:
                continue
            if not (subscriber.is_live or subscriber.is_collecting):
                continue
            wanted = subscriber.wanted
            if not wanted.matches(event):
                continue
            if wanted.text:
                searched = searched if searched is not None else searched_text(event)
                if fold_case(wanted.text) not in searched:
                    continue
            frame = frames.get(subscriber.encode)
            if frame is None:
                frame = frames[subscriber.encode] = subscriber.encode(event)
            if not subscriber.is_live:
                subscriber.keep(frame)
            elif subscriber.offer(frame):
                self._ready[subscriber] = None
            else:
                self.cut_off += 1
                log.warning("slow subscriber disconnected", client_id=subscriber.client_id, waiting=subscriber.waiting)
                subscriber.finish(End.TOO_SLOW)
        return max(map(len, frames.values()), default=0)

    async def deliver(self) -> None:
        """Write what was published to the clients that take it: `SHARE` of them in one turn of the event loop."""
        ready, self._ready = self._ready, {}
        for number, subscriber in enumerate(ready, 1):
            subscriber.flush()
            if number % SHARE == 0:
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End every subscription, accept no new one, and wait until all have disconnected, at most `CLOSE_SECONDS`."""
        self._is_stopping = True
        if not self._subscribers:
            return
        self._empty.clear()
        for subscriber in list(self._subscribers):
            subscriber.finish(End.STOPPING)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._empty.wait()
        except TimeoutError:
            log.warning("subscribers did not disconnect in time", left=len(self._subscribers))


def to_json(value: object) -> bytes:
    """`value` as JSON. A lone surrogate or an integer of more than 64 bits, which some rows have, does not fail."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return json.dumps(value, separators=(",", ":"), default=_iso).encode()


def _iso(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat().replace("+00:00", "Z")


def searched_text(event: Event) -> str:
    """What the text of a filter is looked for in, with small letters."""
    texts = (event.source, event.type, to_json(event.payload).decode(), to_json(event.metadata).decode())
    return fold_case("\0".join(texts))


def encode_broadcast(event: Event) -> bytes:
    """Encode `event` as subscribers get it: one JSON object of the gateway's four keys and the fields of the payload.

    `type`, `source` and `event_id` are the gateway's, also where the payload has such a key; `id` stays the payload's,
    since it joins events of one producer. `timestamp` is the payload's, else the time of receipt in milliseconds. A
    `channel` of value "control" is left out: it marks the gateway's own
    messages.
    """
    received = int(event.received_at.timestamp() * 1000)
    members = {"type": event.type, "source": event.source, "event_id": event.id, "timestamp": received}
    members.update((name, value) for name, value in event.payload.items() if name not in ("type", "source", "event_id"))
    if members.get("channel") == CONTROL:
        del members["channel"]
    return to_json(members)
