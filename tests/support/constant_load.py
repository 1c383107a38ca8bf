"""Clients that send requests without a pause, and count what becomes of each."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from contextlib import suppress

from tests.support.waits import eventually


class Load:
    """Clients that send requests until `stop`; each request has a number of its own."""

    def __init__(self, port: int, patience: float = 10) -> None:
        """`patience` is how many seconds a response may take."""
        self._port = port
        self._patience = patience
        self._numbers = 0
        self._is_over = False
        self.running = 0
        """Clients."""
        self.outcomes: Counter[str] = Counter()
        self.unanswered: list[str] = []

    def stop(self) -> None:
        self._is_over = True

    async def run(self) -> None:
        """Open a connection for each request."""
        self.running += 1
        while not self._is_over:
            await self._request(self._next())
        self.running -= 1

    async def run_kept(self, pause: float = 0.0) -> None:
        """Send request after request on one connection, `pause` seconds between two, and open another when it closes."""
        while not self._is_over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while not self._is_over and await self._exchange(reader, writer, self._next()):
                    await asyncio.sleep(pause)
            finally:
                writer.close()

    async def proceed(self, count: int) -> None:
        """Until `count` more requests had the response 200."""
        wanted = self.outcomes["200"] + count
        await eventually(lambda: self.outcomes["200"] >= wanted)

    def _next(self) -> str:
        self._numbers += 1
        return f"/up/{self._numbers}"

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str) -> bool:
        """One request and its response; returns whether the connection stays open."""
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._patience)).lower()
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await asyncio.wait_for(reader.readexactly(int(length[1])), self._patience)
        except (OSError, EOFError, TimeoutError):
            self.outcomes["unanswered"] += 1
            self.unanswered.append(target)
            return False
        self.outcomes[head[9:12].decode()] += 1
        return b"connection: close" not in head

    async def _request(self, target: str) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            self.outcomes["refused"] += 1
            await asyncio.sleep(0.01)
            return
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self._patience)
            self.outcomes[head[9:12].decode()] += 1
        except (OSError, EOFError, TimeoutError):
            self.outcomes["unanswered"] += 1
            self.unanswered.append(target)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
