"""Many listeners and one publisher in one process, with raw sockets: how many deliveries a second, and how late each is.

    python -m bench.events.listeners KIND PORT SECONDS RATE LISTENERS STALLED

KIND is a key of `bench.events.protocols.KINDS`. `RATE` is in events a second. With 0 the next events are published when the
last have arrived everywhere. `STALLED` of the listeners never read. Every event says when it was published, by the
clock of this process.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from array import array

from bench.events.protocols import KINDS, MARK, Kind
from bench.stats import percentile

_MOMENT = re.compile(b"%b([0-9]+)%b" % (re.escape(MARK), re.escape(MARK)))
_READ = bytearray(256 * 1024)
_LOOKED_AT = 20
"""Of so many listeners one looks at the moment of each event; the others only count."""
_WINDOW = 50
"""Events that are published together, and that are under way at most, without a rate."""
_BATCHES = 50
"""Times a second that events are published at a rate."""


class Listener:
    """One connection that gets every event."""

    __slots__ = ("delays", "pending", "received", "sock")

    def __init__(self, sock: socket.socket, delays: array[float] | None) -> None:
        self.sock = sock
        self.delays = delays
        self.pending = b""
        self.received = 0

    def read(self) -> int:
        """Read once; returns how many events arrived. Raises `ConnectionError` at the end."""
        size = self.sock.recv_into(_READ)
        if not size:
            raise ConnectionError("a listener was disconnected")
        if self.delays is None:
            marks = _READ.count(MARK, 0, size) + self.received
            # Two marks make an event. A read may end between them.
            self.received = marks & 1
            return marks >> 1
        now = time.monotonic_ns()
        data, end, found = self.pending + _READ[:size], 0, 0
        for match in _MOMENT.finditer(data):
            self.delays.append((now - int(match[1])) / 1e6)
            end, found = match.end(), found + 1
        self.pending = bytes(data[end:])
        return found


class Bench:
    """The listeners, the publisher, and what was measured."""

    def __init__(self, kind: Kind, port: int, count: int, stalled: int) -> None:
        self.kind = kind
        self.delays: array[float] = array("d")
        self.poll = select.epoll()
        self.delivered = self.published = self.cut_off = 0
        self.listeners = dict[int, Listener]()
        self.stalled = [kind.listen(port, number) for number in range(stalled)]
        for number in range(count - stalled):
            sock = kind.listen(port, number)
            sock.setblocking(False)
            self.listeners[sock.fileno()] = Listener(sock, None if number % _LOOKED_AT else self.delays)
            self.poll.register(sock, select.EPOLLIN)
        self.publisher = kind.publisher(port)

    def turn(self, timeout: float) -> None:
        """Read what has arrived within `timeout` seconds."""
        for number, _ in self.poll.poll(timeout, 256):
            try:
                self.delivered += self.listeners[number].read()
            except ConnectionError:
                self.cut_off += 1
                self.poll.unregister(number)

    @property
    def under_way(self) -> float:
        """Events that have not arrived everywhere, on average."""
        return self.published - self.delivered / len(self.listeners)

    def publish(self, count: int) -> None:
        """Publish `count` events at once."""
        stamp = b"%b%d%b" % (MARK, time.monotonic_ns(), MARK)
        self.publisher.sendall(self.kind.message(stamp, count))
        self.published += count

    def run(self, seconds: float, rate: float) -> None:
        """Publish and read for `seconds`."""
        end, due = time.monotonic() + seconds, time.monotonic()
        while (now := time.monotonic()) < end:
            if rate:
                if now >= due:
                    self.publish(max(1, round(rate / _BATCHES)))
                    due += max(1, round(rate / _BATCHES)) / rate
                self.turn(min(max(due - time.monotonic(), 0), 0.05))
            else:
                if self.under_way < _WINDOW:
                    self.publish(_WINDOW)
                self.turn(0.01)
            self._take_responses()

    def settle(self) -> None:
        """Read until everything has arrived, or nothing more does."""
        quiet = time.monotonic() + 2
        while self.under_way > 0 and time.monotonic() < quiet:
            before = self.delivered
            self.turn(0.05)
            if self.delivered != before:
                quiet = time.monotonic() + 2

    def _take_responses(self) -> None:
        self.publisher.setblocking(False)
        try:
            said = self.publisher.recv(65536)
            if not said or self.kind.refuses(said):
                raise ConnectionError(f"the publisher was refused: {said[:200]!r}")
        except BlockingIOError:
            pass
        finally:
            self.publisher.setblocking(True)


def measure(bench: Bench, seconds: float, rate: float) -> dict[str, float]:
    """Deliveries a second, and percentiles of their delay in milliseconds."""
    bench.run(1, rate)
    bench.settle()
    del bench.delays[:]
    bench.delivered = bench.published = 0
    started = time.monotonic()
    bench.run(seconds, rate)
    took = time.monotonic() - started
    deliveries = bench.delivered / took
    bench.settle()
    return {
        "deliveries": deliveries,
        **{f"p{share:g}": percentile(list(bench.delays), share) for share in (50, 99)},
        "arrived": bench.delivered / max(bench.published * len(bench.listeners), 1),
        "cut_off": bench.cut_off,
    }


if __name__ == "__main__":
    kind, port, seconds, rate, count, stalled = sys.argv[1:]
    made = Bench(KINDS[kind], int(port), int(count), int(stalled))
    print(json.dumps(measure(made, float(seconds), float(rate))))
