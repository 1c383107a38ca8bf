"""Requests at a fixed rate, whatever the answers take: an open loop.

    python -m bench.load.latency PORT RATE SECONDS [ingest]

With `ingest` each request stores an event; else it is a GET.

Each request has a moment at which it is due; its latency counts from that moment, also when it had to wait for a
connection or this program came late. So a stall of the proxy shows in every request that fell into it (no coordinated
omission). asyncio's timers are too coarse for this, so it is a loop around select(), whose timeout is in microseconds.
"""

from __future__ import annotations

import ctypes
import json
import re
import select
import socket
import sys
import time
from collections import deque

from bench import traffic
from bench.stats import percentile

CONNECTIONS = 64
_PR_SET_TIMERSLACK = 29


class Connection:
    """One keep-alive connection with at most one request on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._due = 0.0
        self._answer = b""

    def fileno(self) -> int:
        """For select()."""
        return self.socket.fileno()

    def send(self, request: bytes, due: float) -> None:
        """Ask; `due` is when this should have happened."""
        self._due, self._answer = due, b""
        self.socket.sendall(request)

    def receive(self) -> float | None:
        """The latency, once the answer is whole. Raises ConnectionError for a wrong one."""
        data = self.socket.recv(65536)
        self._answer += data
        if not data or not self._answer.startswith(b"HTTP/1.1 200"[: len(self._answer)]):
            raise ConnectionError(f"answered {self._answer[:100]!r}")
        _, end, body = self._answer.partition(b"\r\n\r\n")
        if (
            not end
            or len(body) < traffic.BODY_SIZE
            or (len(body) > traffic.BODY_SIZE and not body.endswith(b"0\r\n\r\n"))
        ):
            return None
        return time.perf_counter() - self._due


class IngestConnection(Connection):
    """A connection on which events are stored."""

    def receive(self) -> float | None:
        """The latency, once the answer is whole. Raises ConnectionError where the event is not stored."""
        data = self.socket.recv(65536)
        self._answer += data
        if not data or not self._answer.startswith(b"HTTP/1.1 201"[: len(self._answer)]):
            raise ConnectionError(f"answered {self._answer[:100]!r}")
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not end or length is None or len(body) < int(length[1]):
            return None
        return time.perf_counter() - self._due


def measure(port: int, rate: float, seconds: float, *, ingests: bool = False) -> dict[str, float]:
    """Percentiles of the latency in milliseconds, and by how much this program itself came late at the 99th."""
    request, kind = traffic.head("GET", traffic.SMALL), Connection
    if ingests:
        fields = (("Content-Type", "application/json"), ("Content-Length", str(len(traffic.EVENT))))
        request, kind = traffic.head("POST", traffic.INGEST, *fields) + traffic.EVENT.encode(), IngestConnection
    free = deque(kind(port) for _ in range(CONNECTIONS))
    for connection in free:
        # The first request of a connection costs more, and these are more than the slowest hundredth.
        connection.send(request, 0.0)
        while connection.receive() is None:
            pass
    busy: list[Connection] = []
    latencies: list[float] = []
    late: list[float] = []
    total = int(rate * seconds)
    begin = time.perf_counter() + 0.01
    sent = 0
    while len(latencies) < total:
        due = begin + sent / rate
        now = time.perf_counter()
        if now > begin + seconds + 30:
            raise TimeoutError(f"{total - len(latencies)} answers are missing after {seconds + 30:.0f} s")
        if sent < total and now >= due and free:
            late.append(now - due)
            connection = free.popleft()
            connection.send(request, due)
            busy.append(connection)
            sent += 1
            continue
        wait = max(0.0, due - now) if sent < total and free else 1.0
        for connection in select.select(busy, (), (), wait)[0]:
            if (latency := connection.receive()) is not None:
                latencies.append(latency)
                busy.remove(connection)
                free.append(connection)
    found = {f"p{share:g}": percentile(latencies, share) * 1000 for share in (50, 90, 99, 99.9)}
    return {**found, "late_p99": percentile(late, 99) * 1000}


if __name__ == "__main__":
    # By default the kernel may wake a sleeper 50 µs late.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    print(json.dumps(measure(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), ingests="ingest" in sys.argv)))
