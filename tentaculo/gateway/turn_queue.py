"""What is to be done for each of many services, a few in one turn of the event loop.

A reload changes all services at once. A thousand log lines, events and rows take a third of a second, in which no
request would be served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

MOST = 8
"""Steps in one turn. A change of health, which costs most, takes 0.15 ms."""


class TurnQueue:
    """Takes steps in the order in which they were added: at once, or in a later turn after `most` of them in this one."""

    def __init__(self, most: int = MOST) -> None:
        self._most = self._left = most
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_watching = False

    def __repr__(self) -> str:
        return f"<TurnQueue: {len(self._waiting)} waiting>"

    def add(self, step: Callable[[], None]) -> None:
        """Take `step`. Called in the event loop; raises what it raises where it is taken at once."""
        if self._waiting or not self._left:
            self._waiting.append(step)
            return
        self._left -= 1
        self._watch()
        step()

    def extend(self, steps: Iterable[Callable[[], None]]) -> None:
        """Take all of `steps` in later turns, behind those that wait."""
        self._waiting.extend(steps)
        self._watch()

    def finish(self) -> None:
        """Take all that wait now, whatever it takes: nobody is served any more."""
        while self._waiting:
            self._waiting.popleft()()

    def _watch(self) -> None:
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_soon(self._turned)

    def _turned(self) -> None:
        self._left, self._is_watching = self._most, False
        try:
            while self._waiting and self._left:
                self._left -= 1
                self._waiting.popleft()()
        finally:
            # Once more after the last ones: what is added in this turn is over the bound, and waits for the next.
            if self._left < self._most:
                self._watch()
