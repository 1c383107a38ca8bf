"""Turns of the event loop, shared fairly: how much is read in one turn, and by which connection.

libuv reads from a socket up to 32 times, and asks for ready sockets up to 48 times, before it runs anything else:
timers, tasks, new connections. A few peers that send without a pause would so fill turns of seconds. So every
connection of the gateway, with a client, with a service or through a tunnel, is a `TurnReader`:

- one read brings at most `READ_SIZE` bytes; while nobody waits, up to `MOST_READ` of what the socket of the receiver
  has room for, which counts as so many reads; where that has less room, no more than it has, and at least `SMALL_READ`;
- one turn handles at most `MOST` reads, and no more than `LOOK` of one connection that sends without a pause;
- a connection over this is not read until its turn comes, first come, first served;
- one that had no turn while all others that wait had theirs, or while one of them took as long as that, goes before
  them, with at most half of each turn. So a request waits for a few turns of the loop, however many others read or send
  without a pause.

A parser that needs many steps for few bytes reports them with `charge`, and they count as reads. Tasks that handle many
messages take turns in the same queue (`TurnScheduler.turn`).
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from mmap import mmap
from time import perf_counter
from typing import Protocol

from tentaculo.net.memory import MemoryBudget
from tentaculo.net.stalls import StallWatch

READ_SIZE = 16 * 1024
"""Bytes of one read, where nothing says that more would not have to wait in this process."""
SMALL_READ = 2 * 1024
"""Bytes of one read, where the receiver takes fewer at the moment: the rest waits in this process."""
MOST_READ = 256 * 1024
"""Bytes of one read of a body, or through a tunnel, whose receiver takes them at once. A read costs as much as copying these."""
MOST_WRITTEN = 8 * 1024
"""Bytes that may wait in a send buffer before the other side is no longer read."""
LOOK = 16
"""Reads before the scheduler watches whether the loop has turned. Watching costs one more turn."""
MOST = 32
"""Reads handled in one turn. More at once are no faster: their data leaves the processor's cache."""
_NEVER = -sys.maxsize
STEPS = 64
"""Steps of a parser, such as chunks or frames, that cost as much as one read."""


class _Waiting(Protocol):
    def take_turn(self) -> None:
        """Do what was put off."""


class TurnScheduler:
    """The queue of one event loop."""

    __slots__ = (
        *("_is_owed", "_last", "_light", "_number", "_waiting"),
        *(
            "buffer",
            "encrypted",
            "free",
            "handled",
            "incoming",
            "large_buffer",
            "memory",
            "outgoing",
            "pages",
            "reads",
            "stalls",
        ),
    )

    def __init__(self, memory: MemoryBudget | None = None, stall: float = 60.0) -> None:
        """`stall`: seconds after which a connection ends whose peer takes nothing of what it is sent."""
        self.memory = memory or MemoryBudget()
        """Counts what the connections hold."""
        self.stalls = StallWatch(stall)
        """Ends those whose peer takes nothing of what it is sent."""
        self._last: object | None = None
        self._waiting: deque[tuple[int, _Waiting]] = deque()
        """Each with a number that grows."""
        self._light: deque[tuple[int, _Waiting]] = deque()
        """Those that go before the others."""
        self._is_owed = False
        """Whether none of the others had a turn in the last one, which may happen where one read costs as much as many."""
        self._number = 0
        self.handled = 0
        """Turns that those that waited have had, and the reads that `charge` has counted."""
        self.reads = 0
        """Reads of this turn; until turns are watched, of the last turns together."""
        self.free = LOOK
        """Reads that need not ask `admits`; 0 while turns are watched."""
        # They take no memory before they are used.
        self.pages = mmap(-1, MOST_READ)
        """Where every read goes first. What was read is copied at once."""
        self.large_buffer = memoryview(self.pages)
        self.buffer = self.large_buffer[:READ_SIZE]
        """The part of it for usual reads."""
        self.encrypted = memoryview(mmap(-1, MOST_READ))
        """The same for what is decrypted into the other one."""
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        """What OpenSSL reads and has written for one connection with TLS. Both are empty whenever another one runs."""

    def __repr__(self) -> str:
        return f"<TurnScheduler: {self.reads} reads, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting) + len(self._light)

    def admits(self, reader: object) -> bool:
        """Whether `reader` may handle what it has read in this turn. Ask only where `reads` is over `free`."""
        if self.free:
            self._watch()
        if self._waiting or self._light or self.reads > (LOOK if self._last is reader else MOST):
            return False
        self._last = reader
        return True

    def charge(self, steps: int) -> None:
        """Count `steps` of a parser as the reads that cost as much."""
        self.reads += steps // STEPS
        self.handled += steps // STEPS

    def wait(self, waiting: _Waiting, *, is_light: bool = False) -> None:
        """Call `waiting.take_turn` in a later turn, after those that wait already; if it `is_light`, before most."""
        self._number += 1
        (self._light if is_light else self._waiting).append((self._number, waiting))
        if self.free:
            self._watch()

    async def turn(self) -> None:
        """Wait for a later turn, for a task that has had its share of this one."""
        pause = _Pause()
        self.wait(pause)
        await pause.over

    def _watch(self) -> None:
        self.free = 0
        asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        self.reads = 0
        self._last = None
        is_owed, self._is_owed = self._is_owed, bool(self._waiting)
        try:
            # A connection that sends on while its data is handled goes to the end, and is not counted here.
            for _ in range(self.waiting):
                if self.reads >= MOST:
                    break
                queue = self._next_queue(MOST if is_owed else self.reads)
                if queue is self._waiting:
                    is_owed = self._is_owed = False
                _, waiting = queue.popleft()
                self.reads += 1
                self.handled += 1
                waiting.take_turn()
        finally:
            if self.reads:
                self._watch()
            else:
                self.free = LOOK

    def _next_queue(self, reads: int) -> deque[tuple[int, _Waiting]]:
        """Where the next one waits. Beyond half of a turn, those that go first have no more than their place in time."""
        light, others = self._light, self._waiting
        return light if light and (not others or reads < MOST // 2 or light[0] < others[0]) else others


class _Pause:
    """A task that waits for its turn."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_turn(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class TurnReader(asyncio.BufferedProtocol, ABC):
    """A protocol whose reads are bounded, and handled in turns. A subclass handles them in `receive`."""

    __slots__ = ("_handled", "_held_at", "_is_costly", "_is_full", "_size", "held", "read_room", "turns", "waited")

    transport: asyncio.Transport | None
    """None once the connection is lost."""

    def __init__(self, turns: TurnScheduler) -> None:
        self.turns = turns
        self.held = b""
        """What was read and waits for a turn."""
        self._held_at = 0.0
        self.waited = 0.0
        """Seconds for which what was read has waited for turns. A subclass sets it back."""
        self.read_room: Callable[[], int] | None = None
        """How many bytes of a body, or of a tunnel, the socket of the receiver takes at once; None for usual reads."""
        self._is_full = False
        """Whether the last read was as large as usual ones can be, or the receiver had too little room for that."""
        self._size = READ_SIZE
        """Bytes that the next read may bring; no more than those of usual reads."""
        self._handled = _NEVER
        """`TurnScheduler.handled` at its last turn."""
        self._is_costly = False
        """Whether its last turn cost so much that it does not go before others."""

    @property
    def may_read(self) -> bool:
        """Whether flow control lets it read on after its turn."""
        return True

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Bytes from the peer, at their turn."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        if self.read_room is None:
            return self.turns.buffer
        return self._buffer_for(self.read_room)

    def _buffer_for(self, read_room: Callable[[], int]) -> memoryview:
        """Where the next bytes of a body or of a tunnel go, whose receiver has `read_room`."""
        turns = self.turns
        self._size = READ_SIZE
        if not self._is_full:
            return turns.buffer
        room = read_room()
        if room >= READ_SIZE:
            may_be_large = turns.reads < LOOK and not turns.waiting
            return turns.large_buffer[:room] if may_be_large else turns.buffer
        self._size = max(room, SMALL_READ)
        return turns.buffer[: self._size]

    def buffer_updated(self, nbytes: int) -> None:
        """The peer has sent `nbytes`."""
        turns = self.turns
        data = turns.pages[:nbytes]
        if nbytes < READ_SIZE and self.read_room is None:
            turns.reads += 1  # as most reads are
        else:
            self._is_full = nbytes >= self._size or self._size < READ_SIZE
            turns.reads += nbytes // READ_SIZE or 1
        if turns.reads <= turns.free or (not self.held and turns.admits(self)):
            self.receive(data)
            return
        self.put_off(data)

    def put_off(self, data: bytes) -> None:
        """Handle `data` in a later turn, and read nothing more until then."""
        turns = self.turns
        turns.memory.held += len(data)
        if self.held:
            self.held += data
        else:
            self.held = data
            self._held_at = perf_counter()
            turns.wait(self, is_light=not self._is_costly and turns.handled - self._handled > turns.waiting)
        if self.transport is not None:
            self.transport.pause_reading()

    def take_turn(self) -> None:
        """Handle what was held, and read on."""
        turns, transport = self.turns, self.transport
        before = self._handled = turns.handled
        if transport is not None and not transport.is_closing():
            self.release()
            self._handled = turns.handled
            self._is_costly = turns.handled > before + MOST // 4
            if self.may_read:
                transport.resume_reading()

    def release(self) -> None:
        """Handle what is held now: at its turn, or before the connection is lost."""
        data = self.held
        if data:
            self.waited += perf_counter() - self._held_at
            self.drop_held()
            self.receive(data)

    def drop_held(self) -> None:
        """Forget what is held, and count it no more."""
        self.turns.memory.held -= len(self.held)
        self.held = b""
