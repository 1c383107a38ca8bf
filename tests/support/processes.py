"""Processes from outside: the children of one, and the end of a whole family at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_GONE_WAIT = 10.0


def descendants(pid: int) -> list[int]:
    """The processes below `pid`, each parent before its children."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of the program, in parentheses, may have spaces.
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = list(children.get(pid, ()))
    for child in found:
        found += children.get(child, ())
    return found


def kill_family(pid: int) -> None:
    """SIGKILL to `pid` and all its descendants, as a power cut would end them; returns once they are gone."""
    # A parent that has stopped neither starts another child nor acts on the end of one.
    _signal([pid], signal.SIGSTOP)
    family = [pid, *descendants(pid)]
    _signal(family, signal.SIGKILL)
    deadline = time.monotonic() + _GONE_WAIT
    while any(map(_is_running, family)):
        assert time.monotonic() < deadline, f"{family} did not end"
        time.sleep(0.005)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Its parent has not asked for its exit code yet, or never will.
    return state not in "ZX"
