"""When a worker that has ended is started again. Pure; what happened is passed in."""

from __future__ import annotations

LASTING = 10.0
"""Seconds after which a worker has lasted: it then ended for a new reason."""
LAST_PAUSE = 30.0
"""Seconds between two starts at most."""
ATTEMPTS = 3
"""Workers that may end in a row before they take requests; then their place is hopeless."""


class RestartPolicy:
    """One worker's place: how often whoever held it has failed, and when the next one comes.

    The first failure is mended at once. Those that follow it in a row are each given twice the time, from one second to
    `LAST_PAUSE`: what ends at once, again and again, must not take the machine's time from those that serve.
    """

    def __init__(self) -> None:
        self._failures = 0
        self.false_starts = 0
        """Workers in a row that ended before they took requests."""

    def __repr__(self) -> str:
        return f"<Revival: {self._failures} failures in a row, {self.false_starts} of them before it took requests>"

    @property
    def is_hopeless(self) -> bool:
        """Whether it never gets as far as taking requests."""
        return self.false_starts >= ATTEMPTS

    def pause(self, lived: float, *, was_ready: bool, was_told: bool) -> float:
        """Seconds until the successor is to be started.

        `lived` is for how many seconds the worker took requests, `was_told` whether it ended in order, since somebody
        told it to stop.
        """
        self.false_starts = 0 if was_ready else self.false_starts + 1
        if was_ready and (was_told or lived >= LASTING):
            self._failures = 0
            if was_told:
                return 0.0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(2.0 ** (self._failures - 2), LAST_PAUSE)
