"""Memory held for clients and services: counted against a budget, and given back to the system.

Bytes are counted where they wait: in a send buffer whose reader is slow, behind a connection that is not read because
its other side is slow, in a queue for a turn of the event loop, in WebSocket messages and bodies of native requests that
have not ended, and in the heads of requests, which wait for their end or for a response. Everything else passes through
within one turn of the event loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tentaculo.model.failure import Failure, Problem

DEFAULT_BUDGET = 256 * 1024 * 1024
"""Bytes that may be held where no container limits the memory."""
TRIM_SECONDS = 3.0
"""Seconds between two looks at the resident memory."""
TRIM_BYTES = 8 * 1024 * 1024
"""Growth of the resident memory after which free memory is given back to the system."""
FREEZE_FROM = 5_000
"""Objects made without a collection from which on they are frozen: to walk through as many takes up to a millisecond."""
_UNLIMITED = 1 << 60


class MemoryBudget:
    """Counts the bytes that are held. Over the limit, new requests are refused."""

    __slots__ = ("_shares", "_sizes", "held", "limit")

    def __init__(self, limit: int = DEFAULT_BUDGET) -> None:
        self.limit = limit
        self.held = 0
        """Bytes held now."""
        self._shares: dict[int, int] = {}
        self._sizes: dict[object, int] = {}

    def __repr__(self) -> str:
        return f"<MemoryBudget: {self.held} of {self.limit} bytes>"

    @property
    def is_exhausted(self) -> bool:
        """Whether as many bytes are held as may be."""
        return self.held >= self.limit

    def hold(self, owner: object, size: int) -> None:
        """`owner` holds `size` bytes from now on."""
        self.held += size - self._sizes.get(owner, 0)
        self._sizes[owner] = size

    def release(self, owner: object) -> None:
        """`owner` holds nothing any more."""
        self.held -= self._sizes.pop(owner, 0)

    def share(self, body: bytes) -> None:
        """`body` is being sent to one more client, and is counted once for all of them."""
        readers = self._shares.get(id(body), 0)
        self._shares[id(body)] = readers + 1
        if not readers:
            self.held += len(body)

    def unshare(self, body: bytes) -> None:
        """`body` is no longer sent to one of its clients."""
        readers = self._shares.pop(id(body)) - 1
        if readers:
            self._shares[id(body)] = readers
        else:
            self.held -= len(body)


def exhausted() -> Problem:
    """The refusal of a new request while the budget is exhausted."""
    return Problem(Failure.OVERLOADED, "The gateway holds too many bytes.", headers={"Retry-After": "1"})


def memory_limit(configured: int, processes: int, root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that one of `processes` may hold: `configured`, or by default half of what the container allows."""
    found = min(_container_limits(root), default=None)
    whole = configured or (DEFAULT_BUDGET if found is None else found // 2)
    return max(1, whole // processes)


def _container_limits(root: Path) -> Iterator[int]:
    """The memory limits of this process's control groups (version 2 and 1)."""
    folders = [root, root / "memory"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                group = root / controllers / path.lstrip("/")
                folders += [group, *(parent for parent in group.parents if parent.is_relative_to(root))]
    for folder in folders:
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limit = int((folder / name).read_text("ascii"))
                if 0 < limit < _UNLIMITED:
                    yield limit


def resident_memory() -> int:
    """Bytes of this process in memory; 0 if the system does not provide it."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


class _Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    )


@contextmanager
def without_collections() -> Iterator[None]:
    """No garbage collection while many objects are made that stay: each walks through them, and every thread waits for it.

    Those of a large fleet are frozen at the end: the first collections would walk through all of them. What replaces them
    must leave them to their reference counts then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_count()[0] > FREEZE_FROM:
                gc.freeze()
            gc.enable()


def trim_memory() -> None:
    """Give the memory that is free now back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def give_back_memory() -> None:
    """Give free memory back to the system after each peak; glibc keeps most of it. Runs until it is cancelled."""
    libc = ctypes.CDLL(None)
    trim, heap = getattr(libc, "malloc_trim", None), getattr(libc, "mallinfo2", None)
    if trim is None or heap is None:
        return
    heap.restype = _Heap
    resident, free = resident_memory(), 0
    while True:
        await asyncio.sleep(TRIM_SECONDS)
        now, found = resident_memory(), int(heap().fordblks)
        # What was given back is still counted as free, so that a second trim would find nothing.
        if found > TRIM_BYTES and (now > resident + TRIM_BYTES or found > free + TRIM_BYTES):
            trim(0)
            resident, free = resident_memory(), found
        else:
            resident, free = min(resident, now), min(free, found)
