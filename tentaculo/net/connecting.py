"""Connects to the first of several addresses that accepts (Happy Eyeballs, RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import Generic, TypeVar

from tentaculo.tasks import TaskGroup

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried beside those that have not responded (RFC 8305 section 5)."""
GATEWAY_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of the gateway's own machine. Another address would end in the same way."""

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Connection = TypeVar("Connection")
LookUp = Callable[[str, int], Awaitable[list[str]]]
"""From a name and a port to addresses, the best first. Raises OSError."""


async def look_up(name: str, port: int) -> list[str]:
    """The addresses of a name by the system's resolver, off the event loop. Raises OSError.

    Address families alternate, so that one family without a route delays a connection by one attempt only.
    """
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    turns = zip_longest(*families.values())
    return list(dict.fromkeys(address for turn in turns for address in turn if address is not None))


async def connect_first(
    addresses: Sequence[str],
    connect: Callable[[str], Awaitable[Connection]],
    close: Callable[[Connection], None],
    *,
    delay: float = ATTEMPT_DELAY,
) -> tuple[str, Connection]:
    """Connect to each address in order, `delay` seconds apart, or at once when the one before has failed.

    Returns the first connection and its address, and closes every other. Raises the most telling error once all have
    failed: an address without a route says less than one that refuses.
    """
    if len(addresses) == 1:
        return addresses[0], await connect(addresses[0])
    race = _Race(connect, close)
    tasks = TaskGroup("connecting")
    try:
        for address in addresses:
            race.running += 1
            tasks.start(race.attempt(address), address)
            if await race.has_ended(delay):
                break
        while race.winner is None and race.running:
            await race.has_ended(None)
    except BaseException:
        race.is_over = True
        if race.winner is not None:
            close(race.winner[1])
        raise
    finally:
        race.is_over = True
        await tasks.close()
    if race.winner is None:
        raise _most_telling(race.errors)
    return race.winner


class _Race(Generic[Connection]):
    """The attempts of one `connect_first`."""

    def __init__(self, connect: Callable[[str], Awaitable[Connection]], close: Callable[[Connection], None]) -> None:
        self._connect = connect
        self._close = close
        self._changed = asyncio.Event()
        self.winner: tuple[str, Connection] | None = None
        self.errors: list[Exception] = []
        self.running = 0
        self.is_over = False

    async def attempt(self, address: str) -> None:
        try:
            connection = await self._connect(address)
        except Exception as error:  # noqa: BLE001 - every error is one of this address
            self.errors.append(error)
        else:
            if self.winner is None and not self.is_over:
                self.winner = (address, connection)
            else:
                self._close(connection)
        finally:
            self.running -= 1
            self._changed.set()

    async def has_ended(self, seconds: float | None) -> bool:
        """Wait until an attempt has ended, at most `seconds`. Returns whether no other attempt is needed."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return self.winner is not None or any(is_shortage(error) for error in self.errors)


def is_shortage(error: BaseException) -> bool:
    """Whether the gateway's own machine lacks descriptors or memory."""
    return isinstance(error, OSError) and error.errno in GATEWAY_SHORTAGES


def _most_telling(errors: list[Exception]) -> Exception:
    def rank(error: Exception) -> int:
        return 0 if is_shortage(error) else 2 if isinstance(error, OSError) and error.errno in _UNREACHABLE else 1

    return min(errors, key=rank)
