"""Addresses of names that a test chooses, and an address that no connection reaches."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

DEAD = "127.0.0.2"


class Names:
    """A resolver with chosen results: each call returns the next list, the last one for ever."""

    def __init__(self, *results: list[str] | OSError) -> None:
        self.results = list(results)
        self.calls = 0

    async def __call__(self, name: str, port: int) -> list[str]:
        self.calls += 1
        found = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(found, OSError):
            raise found
        return list(found)


@contextmanager
def dead_address(port: int) -> Iterator[None]:
    """`port` of `DEAD` has a listener whose queue is full: Linux drops further connections, like a dead machine."""
    with socket.socket() as listener:
        listener.bind((DEAD, port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(2)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((DEAD, port))
        try:
            yield
        finally:
            for one in waiting:
                one.close()
