"""How many requests went well and how many failed within the last seconds, without a clock where all goes well. Pure.

A request that succeeds costs one addition to a plain number, which its owner keeps. The window only looks at that
number when there is reason to: when a request fails, or while somebody doubts. It remembers what the number was at a
few moments, and what has come since the oldest one that is not too old is what it tells.
"""

from __future__ import annotations

from collections import deque

from tentaculo.model.endpoint import Counts

_STEPS = 10
"""Moments that are remembered, and so how finely the window moves on."""


class SlidingWindow:
    """Requests within the last `span` seconds, to a tenth of it.

    It begins with the first moment that it is told of: without failures or doubts nothing is counted.
    """

    __slots__ = ("_failed", "_marks", "_span")

    def __init__(self, span: float) -> None:
        self._span = span
        self._failed = 0
        # When, and the two counts as they were just before.
        self._marks: deque[tuple[float, int, int]] = deque()

    def __repr__(self) -> str:
        return f"<Window of {self._span:g} s, {len(self._marks)} marks>"

    def note_failure(self, moment: float, ok: int) -> None:
        """A request has failed; `ok` have succeeded up to now."""
        self.mark(moment, ok)
        self._failed += 1

    def mark(self, moment: float, ok: int) -> None:
        """Count from here on, if not from earlier; `ok` have succeeded up to now."""
        marks = self._marks
        self._forget(moment)
        if not marks or moment - marks[-1][0] >= self._span / _STEPS:
            marks.append((moment, ok, self._failed))

    def counts(self, moment: float, ok: int) -> Counts:
        """What the window holds at `moment`; `ok` have succeeded up to now."""
        self._forget(moment)
        if not self._marks:
            return Counts()
        _, ok_before, failed_before = self._marks[0]
        return Counts(ok - ok_before, self._failed - failed_before)

    def clear(self) -> None:
        """Begin anew."""
        self._marks.clear()

    def _forget(self, moment: float) -> None:
        marks = self._marks
        while marks and moment - marks[0][0] >= self._span:
            marks.popleft()
