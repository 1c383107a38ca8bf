"""From the name of an endpoint to a connection: looked up, then the first address that accepts (RFC 8305)."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from tentaculo.net.http1 import is_address
from tentaculo.net.resolving import look_up
from tentaculo.tasks import TaskGroup

ATTEMPT_DELAY = 0.25
"""Seconds after which the next address is tried beside those that have not responded (RFC 8305 section 5)."""
AVOIDED_FOR = 60.0
"""Seconds for which an address that did not accept in time is tried after the others."""
GATEWAY_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of the gateway's own machine. Another address would end in the same way."""

_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Connection = TypeVar("Connection")


class NoPortError(OSError):
    """All ports of this machine for connections to an address are in use."""


LookUp = Callable[[str, int], Awaitable[list[str]]]
"""From a name and a port to addresses, the best first. Raises OSError."""


class Addresses:
    """The addresses of one endpoint, in the order in which they are tried.

    A name is looked up again after `ttl` seconds, before a connection or beside those in use (`renew_soon`), and at once
    when no known address accepts: a container that was replaced has another address. A look-up that takes longer than
    those who wait for it is not lost: the next connection uses what it finds. An address that failed, or that another one
    outran, is tried last for a while.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ttl: float,
        *,
        look_up: LookUp = look_up,
        on_change: Callable[[list[str]], None] | None = None,
    ) -> None:
        """`on_change` is called with all addresses after each look-up that found some."""
        self._host = host
        self._port = port
        self._ttl = ttl
        self._look_up = look_up
        self._on_change = on_change
        self._is_literal = is_address(host)
        self.known: list[str] = [host] if self._is_literal else []
        self.due = math.inf if self._is_literal else -math.inf
        """When they are too old, by the clock of the loop."""
        self._look_ups = 0
        """Those that have ended."""
        self._under_way: asyncio.Task[Exception | None] | None = None
        self._avoided: dict[str, float] = {}
        """Until when an address is tried after the others."""
        self._tasks = TaskGroup("addresses")

    def __repr__(self) -> str:
        return f"<Addresses of {self._host}: {', '.join(self.known) or 'none'}>"

    async def connect(
        self,
        connect: Callable[[str], Awaitable[Connection]],
        close: Callable[[Connection], None],
        seconds: float,
    ) -> Connection:
        """Connect by `connect` with an address, and close unused connections by `close`.

        The caller stops this after `seconds`. Where known addresses are silent for half of them, those that a new look-up
        finds are tried beside them. Raises OSError, among them socket.gaierror and ssl.SSLError.
        """
        before = self._look_ups
        known = await self._current(seconds / 2)
        if self._is_literal or self._look_ups > before:
            return await self._connect_any(known, connect, close)

        async def others() -> list[str]:
            return [address for address in await self._renew(before, seconds / 4) if address not in known]

        return await self._connect_any(known, connect, close, others, seconds / 2)

    async def _connect_any(
        self,
        addresses: list[str],
        connect: Callable[[str], Awaitable[Connection]],
        close: Callable[[Connection], None],
        others: Callable[[], Awaitable[list[str]]] | None = None,
        seconds: float = math.inf,
    ) -> Connection:
        if len(addresses) == 1 and others is None:
            return await _connect_to(addresses[0], connect)
        now = asyncio.get_running_loop().time()
        order = sorted(addresses, key=lambda address: self._avoided.get(address, 0.0) > now)
        address, connection = await connect_first(order, connect, close, others=others, seconds=seconds)
        for loser in order[: order.index(address)] if address in order else order:
            self._avoided[loser] = now + AVOIDED_FOR
        self._avoided.pop(address, None)
        return connection

    async def _current(self, seconds: float) -> list[str]:
        """The known addresses; looked up first if they are too old, within `seconds` if any are known."""
        if self.known and asyncio.get_running_loop().time() < self.due:
            return self.known
        # Other connections use the known addresses meanwhile.
        return await self._ask(seconds)

    @property
    def is_unresolved(self) -> bool:
        """Whether no address is known, and a look-up is under way."""
        return self._under_way is not None and not self.known

    def renew_soon(self) -> None:
        """Look the name up in the background: it is due, and connections that are used again and again need none."""
        self._begin()

    async def _renew(self, before: int, seconds: float) -> list[str]:
        """The addresses by a look-up that ended after the first `before` ones; one serves all that wait for it."""
        return self.known if self._look_ups > before else await self._ask(seconds)

    async def _ask(self, seconds: float) -> list[str]:
        known = self.known
        look_up = self._begin()
        try:
            async with asyncio.timeout(seconds if known else None):
                error = await asyncio.shield(look_up)
        except TimeoutError:
            return known
        # A name server that is away or silent for a while takes nothing away that worked.
        if error is not None and not self.known:
            raise error
        return self.known

    def _begin(self) -> asyncio.Task[Exception | None]:
        """The look-up that is under way, begun if there is none."""
        if self._under_way is None:
            # Not due again before it has ended: a silent name server must not keep a thread for each `ttl`.
            self.due = math.inf
            self._under_way = self._tasks.start(self._find(), "look-up")
        return self._under_way

    async def _find(self) -> Exception | None:
        """Look the name up. Returns the error of one that failed."""
        try:
            self.known = await self._look_up(self._host, self._port)
        except Exception as error:  # noqa: BLE001 - raised where the connection is needed
            return error
        finally:
            self._under_way = None
            self._look_ups += 1
            self.due = asyncio.get_running_loop().time() + self._ttl
        self._avoided = {address: until for address, until in self._avoided.items() if address in self.known}
        if self._on_change is not None:
            self._on_change(self.known)
        return None


async def connect_first(
    addresses: Sequence[str],
    connect: Callable[[str], Awaitable[Connection]],
    close: Callable[[Connection], None],
    *,
    delay: float = ATTEMPT_DELAY,
    others: Callable[[], Awaitable[list[str]]] | None = None,
    seconds: float = math.inf,
) -> tuple[str, Connection]:
    """Connect to each address in order, `delay` seconds apart, or at once when the one before has failed.

    `others` finds further addresses. It is called once all have failed, or none has accepted for `seconds`: one that is
    only slow, as with a long TLS handshake, may still be the first. Returns the first connection and its address, and
    closes every other. Raises the most telling error once all have failed: an address without a route says less than one
    that refuses.
    """
    if len(addresses) == 1 and others is None:
        return addresses[0], await _connect_to(addresses[0], connect)
    race = _Race(connect, close)
    try:
        try:
            await race.run(addresses, delay, others, seconds)
        finally:
            race.is_over = True
            await race.tasks.close()
    except BaseException:
        # Cancelled, perhaps while the others ended: nobody gets the connection.
        if race.winner is not None:
            close(race.winner[1])
        raise
    if race.winner is None:
        raise _most_telling(race.errors)
    return race.winner


class _Race(Generic[Connection]):
    """The attempts of one `connect_first`."""

    def __init__(self, connect: Callable[[str], Awaitable[Connection]], close: Callable[[Connection], None]) -> None:
        self._connect = connect
        self._close = close
        self._changed = asyncio.Event()
        self._found: list[str] = []
        self._running = 0
        self.tasks = TaskGroup("connecting")
        self.winner: tuple[str, Connection] | None = None
        self.errors: list[Exception] = []
        self.is_over = False

    async def run(
        self,
        addresses: Sequence[str],
        delay: float,
        others: Callable[[], Awaitable[list[str]]] | None,
        seconds: float,
    ) -> None:
        """Make the attempts, until one has succeeded, all have failed, or another one would end in the same way."""
        end = asyncio.get_running_loop().time() + seconds
        await self._try(addresses, delay)
        if others is not None:
            await self._wait(end)
            if not self._is_decided:
                self._start(self._find(others), "look-up")
        while self._running and not self._is_decided:
            await self._wait(math.inf, until_found=True)
            found, self._found = self._found, []
            await self._try(found, delay)

    async def _try(self, addresses: Sequence[str], delay: float) -> None:
        for address in addresses:
            if self._is_decided:
                return
            self._start(self._attempt(address), address)
            await self._changes(delay)

    async def _wait(self, end: float, *, until_found: bool = False) -> None:
        """Wait until nothing runs any more, the race is decided, or the time `end` has come."""
        loop = asyncio.get_running_loop()
        while (
            self._running and not self._is_decided and not (until_found and self._found) and (now := loop.time()) < end
        ):
            await self._changes(None if end == math.inf else end - now)

    @property
    def _is_decided(self) -> bool:
        return self.winner is not None or any(is_shortage(error) for error in self.errors)

    def _start(self, work: Coroutine[None, None, None], name: str) -> None:
        self._running += 1
        self.tasks.start(work, name)

    async def _find(self, others: Callable[[], Awaitable[list[str]]]) -> None:
        try:
            self._found = await others()
        finally:
            self._running -= 1
            self._changed.set()

    async def _attempt(self, address: str) -> None:
        try:
            connection = await _connect_to(address, self._connect)
        except Exception as error:  # noqa: BLE001 - every error is one of this address
            self.errors.append(error)
        else:
            if self.winner is None and not self.is_over:
                self.winner = (address, connection)
            else:
                self._close(connection)
        finally:
            self._running -= 1
            self._changed.set()

    async def _changes(self, seconds: float | None) -> None:
        """Wait until something has ended, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()


async def _connect_to(address: str, connect: Callable[[str], Awaitable[Connection]]) -> Connection:
    try:
        return await connect(address)
    except UnicodeDecodeError:
        # Python reads the whole certificate in the handshake.
        refused = ssl.SSLCertVerificationError("a name in the certificate is no UTF-8")
        refused.verify_message = "a name in it is not valid UTF-8"
        raise refused from None
    except MemoryError:
        raise OSError(errno.ENOMEM, "no memory") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL and _has_source(address):
            raise NoPortError(errno.EADDRNOTAVAIL, "no port is left") from None
        raise


def _has_source(address: str) -> bool:
    """Whether this machine has an address from which `address` could be reached. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
    except OSError as error:
        return is_shortage(error)
    return True


def is_shortage(error: BaseException) -> bool:
    """Whether the gateway's own machine lacks descriptors, memory or ports."""
    if isinstance(error, OSError):
        return isinstance(error, NoPortError) or error.errno in GATEWAY_SHORTAGES
    return isinstance(error, MemoryError)


def _most_telling(errors: list[Exception]) -> Exception:
    def rank(error: Exception) -> int:
        return 0 if is_shortage(error) else 2 if isinstance(error, OSError) and error.errno in _UNREACHABLE else 1

    return min(errors, key=rank)
