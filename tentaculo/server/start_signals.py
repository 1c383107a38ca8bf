"""Signals between the first lines of Python and the event loop, which has handlers of its own.

The kernel discards a signal to the first process of a container that has no handler for it, and SIGHUP and SIGUSR2 would
end any other process. This module imports next to nothing, since it is imported before everything else.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

_received: list[int] = []
"""The numbers of the SIGTERMs that have come."""


def handle_start_signals() -> None:
    """From now on SIGTERM ends the start, and SIGHUP and SIGUSR2 do nothing."""
    signal.signal(signal.SIGTERM, _end)
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda _number, _frame: None)


def end_if_stopped() -> None:
    """Raises SystemExit if SIGTERM has come, and Python has dropped the exception.

    It does so in finalizers and in callbacks of weak references, of which importing a module has many.
    """
    if _received:
        sys.exit(128 + _received[0])


def _end(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    end_if_stopped()
