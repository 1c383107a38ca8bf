"""Host names to addresses by the system's resolver, in threads of its own."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import zip_longest
from typing import NamedTuple

LOOKUPS = 16
"""Host names that are looked up at once."""
LOOKUPS_OF_SLOW = 12
"""How many of these may be names whose last look-up was slow."""
SLOW = 1.0
"""Seconds after which a look-up was slow."""

Find = Callable[[str, int], list[str]]


class _LookUp(NamedTuple):
    name: str
    port: int
    found: Future[list[str]]


class Resolver:
    """Looks names up in at most `LOOKUPS` threads, which end when nothing waits.

    A look-up cannot be ended: where the name server is silent, the system holds the thread for 10 seconds and more. So
    one look-up of a name serves all who ask meanwhile, names that were slow leave threads to the others, and the threads
    are daemons, for which the end of the process does not wait.
    """

    def __init__(self, find: Find) -> None:
        """`find` looks up one name, and blocks."""
        self._find = find
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int], Future[list[str]]] = {}
        self._waiting: deque[_LookUp] = deque()
        self._slow: set[str] = set()
        self._threads = 0
        self._threads_of_slow = 0

    def __repr__(self) -> str:
        return f"<Resolver: {len(self._under_way)} under way, {len(self._waiting)} of them wait>"

    async def look_up(self, name: str, port: int) -> list[str]:
        """The addresses of a name. Raises OSError, and UnicodeError for what is no name."""
        with self._lock:
            found = self._under_way.get((name, port))
            if found is None:
                found = self._under_way[name, port] = Future()
                # From now on those who wait cannot cancel it for the others.
                found.set_running_or_notify_cancel()
                self._waiting.append(_LookUp(name, port, found))
                self._start_thread()
        return await asyncio.wrap_future(found)

    def _start_thread(self) -> None:
        if self._threads >= LOOKUPS:
            return
        try:
            threading.Thread(target=self._work, name="look-up", daemon=True).start()
            self._threads += 1
        except RuntimeError:
            if self._threads:
                # One of these takes it next.
                return
            look_up = self._waiting.pop()
            del self._under_way[look_up.name, look_up.port]
            look_up.found.set_exception(OSError(errno.ENOMEM, "no thread for a look-up"))

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            (look_up, was_slow), began = taken, time.monotonic()
            addresses, error = list[str](), None
            try:
                addresses = self._find(look_up.name, look_up.port)
            except Exception as raised:  # noqa: BLE001 - those who wait are given it
                error = raised
            is_slow = time.monotonic() - began > SLOW
            with self._lock:
                self._threads_of_slow -= was_slow
                (self._slow.add if is_slow else self._slow.discard)(look_up.name)
                del self._under_way[look_up.name, look_up.port]
            if error is None:
                look_up.found.set_result(addresses)
            else:
                look_up.found.set_exception(error)

    def _take(self) -> tuple[_LookUp, bool] | None:
        """The next look-up and whether its name was slow, None where this thread is to end."""
        with self._lock:
            for number, look_up in enumerate(self._waiting):
                is_slow = look_up.name in self._slow
                if not is_slow or self._threads_of_slow < LOOKUPS_OF_SLOW:
                    del self._waiting[number]
                    self._threads_of_slow += is_slow
                    return look_up, is_slow
            self._threads -= 1
            return None


def find_addresses(name: str, port: int) -> list[str]:
    """The addresses of a name by the system's resolver, which blocks. Raises OSError.

    Address families alternate, so that one family without a route delays a connection by one attempt only.
    """
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # The resolver needs a descriptor too, and reports its lack as a name that cannot be looked up now.
        socket.socket().close()
        raise
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    turns = zip_longest(*families.values())
    return list(dict.fromkeys(address for turn in turns for address in turn if address is not None))


look_up = Resolver(find_addresses).look_up
"""The look-up of this process, for every event loop of it."""
