"""Requests at a fixed rate, whatever becomes of them: an open loop, each request on a connection of its own."""

from __future__ import annotations

import asyncio
import time

from bench import traffic
from bench.faults.catalogue import PATIENCE
from bench.faults.trace import Request
from bench.stats import percentile

PATH = "/app/work"
_BODY = b'{"task":"x"}'


def request(number: int) -> bytes:
    """Every fifth changes something, and must not be sent twice."""
    if number % 5:
        return traffic.head("GET", PATH, ("Connection", "close"))
    length = ("Content-Length", str(len(_BODY)))
    return traffic.head("POST", PATH, ("Connection", "close"), ("Content-Type", "application/json"), length) + _BODY


class Load:
    """Asks `port` from `run` to `stop`; moments are CLOCK_MONOTONIC."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._is_stopped = False
        self.requests: list[Request] = []
        self._lags: list[float] = []

    @property
    def lag(self) -> float:
        """By how many seconds requests were sent too late, at most, but for 1 % of them."""
        return percentile(self._lags, 99) if self._lags else 0.0

    def stop(self) -> None:
        """Send nothing more; `run` returns when what was sent is answered."""
        self._is_stopped = True

    async def run(self) -> None:
        """Until `stop`, and until the last answer."""
        begin, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as asking:
            while not self._is_stopped:
                due = begin + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self._lags.append(max(0.0, time.monotonic() - due))
                asking.create_task(self._ask(number, due))
                number += 1

    async def _ask(self, number: int, due: float) -> None:
        answer = b""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(request(number))
                answer = await reader.read(-1)
        except (OSError, TimeoutError):
            answer = b""
        finally:
            if writer is not None:
                writer.close()
        self.requests.append(Request(due, time.monotonic() - due, status_of(answer)))


def status_of(answer: bytes) -> int:
    """The status of a whole answer, else 0."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end or not head.startswith(b"HTTP/1."):
        return 0
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        is_whole = body.endswith(b"0\r\n\r\n")
    else:
        _, found, rest = lower.partition(b"\r\ncontent-length:")
        is_whole = not found or len(body) == int(rest.split(b"\r\n", 1)[0])
    return int(head[9:12]) if is_whole else 0
