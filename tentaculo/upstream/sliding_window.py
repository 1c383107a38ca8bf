"""The sliding window in which a circuit breaker counts the requests of its endpoint. Pure."""

from __future__ import annotations

from collections import deque

from tentaculo.model.health import Counts

_STEPS = 10
"""Marks that a window keeps: it moves in tenths of its length."""


class SlidingWindow:
    """The requests of the last `span` seconds, to a tenth of it.

    It begins with its first mark: nothing is counted, and no clock is read, while all requests succeed. The caller counts
    the successes in a plain number; the window keeps what that number was at a few moments.
    """

    __slots__ = ("_failed", "_marks", "span")

    def __init__(self, span: float) -> None:
        self.span = span
        """Seconds that count."""
        self._failed = 0
        # When, and the two counts as they were just before.
        self._marks: deque[tuple[float, int, int]] = deque()

    def __repr__(self) -> str:
        return f"<Window of {self.span:g} s, {len(self._marks)} marks>"

    def note_failure(self, moment: float, ok: int) -> None:
        """Count a failed request; `ok` requests have succeeded until now."""
        self.mark(moment, ok)
        self._failed += 1

    def mark(self, moment: float, ok: int) -> None:
        """Count from now on, if not from earlier; `ok` requests have succeeded until now."""
        marks = self._marks
        self._forget(moment)
        if not marks or moment - marks[-1][0] >= self.span / _STEPS:
            marks.append((moment, ok, self._failed))

    def counts(self, moment: float, ok: int) -> Counts:
        """The requests in the window at `moment`; `ok` requests have succeeded until now."""
        self._forget(moment)
        if not self._marks:
            return Counts()
        _, ok_before, failed_before = self._marks[0]
        return Counts(ok - ok_before, self._failed - failed_before)

    def clear(self) -> None:
        """Forget all requests."""
        self._marks.clear()

    def _forget(self, moment: float) -> None:
        marks = self._marks
        while marks and moment - marks[0][0] >= self.span:
            marks.popleft()
