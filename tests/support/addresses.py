"""Addresses of names that a test chooses, and an address that no connection reaches."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

DEAD = "127.0.0.2"


class Names:
    """A resolver with chosen results: each look-up has the next one, the last one for ever. None hangs."""

    def __init__(self, *results: list[str] | OSError | None) -> None:
        self.results = list(results)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, name: str, port: int) -> list[str]:
        self.asked.append((name, port))
        found = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if found is None:
            await asyncio.Event().wait()
            raise AssertionError
        if isinstance(found, OSError):
            raise found
        return list(found)


@contextmanager
def dead_address(port: int = 0) -> Iterator[int]:
    """A port of `DEAD`, any for 0, whose listener's queue is full: Linux drops further connections, like a dead machine."""
    with socket.socket() as listener:
        listener.bind((DEAD, port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(2)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for one in waiting:
                one.close()
