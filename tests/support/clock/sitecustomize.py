"""Imported by each Python process at its start: moves the clock of a gateway by what the test says, at any moment.

`TEST_CLOCK` names a file of eight bytes, the seconds by which the clock is ahead. A production gateway never has this
folder on its path.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from datetime import UTC, datetime
from pathlib import Path

from tentaculo.model import text

with Path(os.environ["TEST_CLOCK"]).open("rb") as _file:
    _ahead = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
_time, _time_ns = time.time, time.time_ns


def _seconds() -> int:
    seconds: int = struct.unpack_from("=q", _ahead)[0]
    return seconds


def _now() -> float:
    return _time() + _seconds()


def _now_ns() -> int:
    return _time_ns() + _seconds() * 1_000_000_000


# Nothing else in `tentaculo` reads the clock of the day; other modules take these names when they are imported.
vars(time).update(time=_now, time_ns=_now_ns)
vars(text).update(utc_now=lambda: datetime.fromtimestamp(_now(), UTC))
