"""Many event streams; how late each event comes.

    python -m bench.load.sse PORT STREAMS SECONDS

An event says when it was sent, by the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from array import array
from typing import cast

import uvloop

from bench import traffic
from bench.stats import percentile

_EVENT = re.compile(rb"data: (\d+)\n\n")
_AT_ONCE = 64


class Stream(asyncio.Protocol):
    """One event stream."""

    def __init__(self, delays: array[float]) -> None:
        self._delays = delays
        self._buffer = b""
        self._is_open = False
        self.is_closed = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the events."""
        cast(asyncio.Transport, transport).write(traffic.head("GET", traffic.TICKS))

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember that it ended."""
        self.is_closed = True
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(f"refused: {self._buffer[:100]!r}"))

    def data_received(self, data: bytes) -> None:
        """Events, in chunks or not, whole or in parts."""
        now = time.monotonic_ns()
        self._buffer += data
        if not self._is_open and b"\r\n\r\n" in self._buffer:
            if not self._buffer.startswith(b"HTTP/1.1 200"):
                self.opened.set_exception(ConnectionError(f"refused: {self._buffer[:100]!r}"))
                return
            self._is_open = True
            self.opened.set_result(None)
        end = 0
        for event in _EVENT.finditer(self._buffer):
            self._delays.append((now - int(event[1])) / 1e6)
            end = event.end()
        if end:
            self._buffer = self._buffer[end:]


async def measure(port: int, count: int, seconds: float) -> dict[str, float]:
    """Percentiles of the delay in milliseconds, the share of the events due that came, and the seconds of all of it."""
    began = time.perf_counter()
    loop = asyncio.get_running_loop()
    delays: array[float] = array("d")
    streams: list[Stream] = []
    while len(streams) < count:
        number = min(_AT_ONCE, count - len(streams))
        made = [await loop.create_connection(lambda: Stream(delays), "127.0.0.1", port) for _ in range(number)]
        streams += [stream for _, stream in made]
        await asyncio.wait_for(asyncio.gather(*(stream.opened for stream in streams[-number:])), 30)
    del delays[:]
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    found = list(delays)
    if any(stream.is_closed for stream in streams) or not found:
        raise ConnectionError("a stream ended")
    return {
        **{f"p{share:g}": percentile(found, share) for share in (50, 99)},
        "max": max(found),
        "arrived": len(found) / (count * 10 * took),
        "took": time.perf_counter() - began,
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))))
