"""Calls of functions, counted: what some work costs, the same on a busy machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import tentaculo

_PACKAGE = str(Path(tentaculo.__file__).parent)


class Calls:
    """How many functions have been called, those in C included; and of them those of the package."""

    def __init__(self) -> None:
        self.total = 0
        self.own = 0

    def count(self, frame: FrameType, event: str, _argument: object) -> None:
        """For `sys.setprofile`."""
        if event in ("call", "c_call"):
            self.total += 1
            self.own += event == "call" and frame.f_code.co_filename.startswith(_PACKAGE)


@contextmanager
def counting_calls() -> Iterator[Calls]:
    """Count the calls of this thread. The garbage of earlier tests, whose end calls functions too, is not collected meanwhile."""
    calls = Calls()
    gc.disable()
    sys.setprofile(calls.count)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        gc.enable()
