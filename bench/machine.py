"""What /proc says of this machine and of a process."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def family(pid: int) -> list[int]:
    """`pid` and the processes that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_seconds(pid: int, *, gone: bool = False) -> float:
    """Processor time of `pid` alone; with `gone`, that of children that have ended and were waited for too."""
    fields = _stat(pid)
    return sum(map(int, fields[11 : 15 if gone else 13])) / _TICKS if fields else 0.0


def family_cpu_seconds(pid: int) -> float:
    """Processor time of `pid` and what descends from it and lives."""
    return sum(map(cpu_seconds, family(pid)))


def resident(pid: int) -> int:
    """Resident bytes of `pid` and what descends from it; pages that they share count for each."""
    return sum(_status(one, "VmRSS") for one in family(pid))


def peak(pid: int) -> int:
    """The most resident bytes since `forget_peak`, as the sum of each process's own peak."""
    return sum(_status(one, "VmHWM") for one in family(pid))


def forget_peak(pid: int) -> None:
    """Let `peak` count from now on."""
    for one in family(pid):
        with suppress(OSError):
            (PROC / str(one) / "clear_refs").write_text("5")


def describe() -> dict[str, str]:
    """The machine, in words."""
    model = next((line.partition(":")[2].strip() for line in _lines(PROC / "cpuinfo") if "model name" in line), "?")
    memory = next((int(line.split()[1]) for line in _lines(PROC / "meminfo") if line.startswith("MemTotal")), 0)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "?")
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{memory / 2**20:.0f} GiB",
        "system": f"{system}, Linux {platform.release()}",
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def slow_share(core: int, seconds: float = 5.0) -> float:
    """The part of the time (0 to 1) in which `core` does fixed work at less than half of its usual speed.

    A virtual machine whose host has other guests shows no stolen time in /proc/stat, and yet pauses: percentiles that
    lie beyond this share are the machine's.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        times = []
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            sum(range(20_000))
            times.append(time.perf_counter() - begin)
    finally:
        os.sched_setaffinity(0, allowed)
    return slow_part(times)


def slow_part(times: Sequence[float]) -> float:
    """The part of the seconds in `times`, each for the same work, that went into pieces of less than half the usual speed.

    The usual speed is that of the fastest tenth.
    """
    usual = statistics.quantiles(times, n=10)[0]
    return sum(one for one in times if one > 2 * usual) / sum(times)


def load_average() -> float:
    """Processes that wanted to run over the last minute, this benchmark's own included."""
    return os.getloadavg()[0]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, from the state on; empty for a process that has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _status(pid: int, key: str) -> int:
    return next((int(line.split()[1]) * 1024 for line in _lines(PROC / str(pid) / "status") if line.startswith(key)), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
