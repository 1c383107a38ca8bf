"""A service that does real work, with a fault: the upstream of the recorded traces.

    python -m bench.early_warning.service PORT SEED FAULT

One process responds to one request at a time, so that requests wait for each other as those of a real service do.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
import time

ROWS = 20_000
"""Rows of its table."""
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Service:
    """The state of the service."""

    def __init__(self, seed: int, fault: str) -> None:
        self._random = random.Random(seed)
        self._fault = fault
        self._next_pause = time.monotonic()
        self._table = sqlite3.connect(":memory:")
        self._table.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount REAL)")
        rows = ((self._random.randrange(500), self._random.random()) for _ in range(ROWS))
        self._table.executemany("INSERT INTO orders (customer, amount) VALUES (?, ?)", rows)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond to the requests of one connection, which have no bodies."""
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET "):
                if self._fault == "resets" and b"/health" not in head and self._random.random() < 0.05:
                    writer.transport.abort()
                    return
                if self._fault == "slow replica":
                    await asyncio.sleep(0.02)
                body = self._work(is_small=b"/health" in head)
                writer.write(_HEAD % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _work(self, *, is_small: bool) -> bytes:
        """A query whose size varies. The process does nothing else meanwhile."""
        if self._fault == "pauses" and time.monotonic() >= self._next_pause:
            # As a garbage collector or a checkpoint does.
            time.sleep(self._random.uniform(0.05, 0.3))
            self._next_pause = time.monotonic() + self._random.expovariate(1 / 3)
        times = 1 if is_small else 1 + int(self._random.expovariate(1 / (6 if self._fault == "busy" else 2)))
        total = 0.0
        for _ in range(times):
            query = "SELECT sum(amount) FROM orders WHERE customer = ?"
            total += self._table.execute(query, (self._random.randrange(500),)).fetchone()[0] or 0.0
        return b'{"status":"ok","total":%.3f}' % total


async def _serve(port: int, seed: int, fault: str) -> None:
    server = await asyncio.start_server(Service(seed, fault).connect, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
