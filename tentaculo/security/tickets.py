"""Single-use tickets, for a browser's EventSource and WebSocket, which cannot send a header.

A ticket is the one credential that is taken from a query string. It has the rights of the caller that it was given to,
lives for a minute, and works once, on whichever worker or machine it arrives: who removes its row from the database has
redeemed it. The process that gave a ticket also holds it in memory, and takes it while the database is away. It looks
once a second which ones were redeemed elsewhere. So after a loss of the database only those of the last second before it
work once more, where they were given.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from hashlib import sha256
from typing import NamedTuple, Protocol

LIFETIME = 60
"""Seconds."""
MOST_HELD = 4096
"""Tickets that a process holds at most. The oldest one gives way: a browser uses a new one at once."""
MOST_LOOKUPS = 8
"""Tickets of other processes that are looked up at once: invented tickets must not delay other queries."""
SWEEP = 1.0
"""Seconds between two removals of what has expired, and of what other processes have redeemed."""
RETRY = 0.1
"""Seconds between two attempts to remove the row of a ticket that was used while the database was away."""
_PARAMETER = "ticket="
# The name of the process that gave it, and 192 random bits.
_VALUES = re.compile(r"(?:^|&)ticket=([^&]*)")
_FORM = re.compile(r"[0-9a-f]{8}\.[A-Za-z0-9_-]{32}")


class TicketCheck(Enum):
    """Why a ticket opens nothing."""

    REFUSED = "refused"
    """It is unknown, expired or used."""
    UNAVAILABLE = "unavailable"
    """Another process gave it, and the database is away."""


class TicketStore(Protocol):
    """The tickets of all workers and machines, by the SHA-256 of each in hex."""

    async def add(self, digest: str, issuer: str, token: str, lifetime: int) -> bool:
        """Store a ticket of a token, by its fingerprint, for `lifetime` seconds; False where that failed or is uncertain."""

    async def take(self, digest: str) -> str | None:
        """The token's fingerprint of a ticket, which is gone afterwards; empty where there was none that had not expired.

        None while the database is away.
        """

    async def remove(self, digests: Sequence[str]) -> bool:
        """Remove tickets; False where that failed or is uncertain."""

    async def unused(self, issuer: str) -> Collection[str] | None:
        """The tickets of `issuer` that are there. None while the database is away."""


class _Held(NamedTuple):
    """A ticket that this process gave."""

    deadline: float
    """Time of the clock at which it expires."""
    is_stored: bool
    """Whether the database has it too."""
    token: str
    """The fingerprint of the token that it was given to."""


class Tickets:
    """The tickets of one process."""

    def __init__(
        self,
        store: TicketStore,
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_HELD,
    ) -> None:
        """`enabled` is whether tokens are checked at all: without that no ticket has any rights, and none is kept.

        `most` is the number of tickets that are held at most.
        """
        self.name = secrets.token_hex(4)
        """The name of this process, which its tickets begin with."""
        self._store = store
        self.enabled = enabled
        """Whether tickets are needed: authentication is on."""
        self._clock = clock
        self._most = most
        self._held: dict[str, _Held] = {}
        """By digest, the oldest first."""
        self._obsolete: dict[str, None] = {}
        """Digests whose rows are to be removed, the oldest first."""
        self._lookups = asyncio.Semaphore(MOST_LOOKUPS)
        self._used_without_store = asyncio.Event()
        """Set while another process may still find the row of a ticket that was used here."""
        self._last_deadline = 0.0
        """The deadline of the last one of these."""

    def __repr__(self) -> str:
        return f"<Tickets {self.name}: {len(self._held)} held>"

    async def issue(self, token: str) -> str:
        """A new ticket for the token with the fingerprint `token`, with its scopes.

        It works everywhere, or only here if the database cannot store it now.
        """
        ticket, digest = self._make()
        if not self.enabled:
            return ticket
        deadline = self._clock() + LIFETIME
        is_stored = await self._store.add(digest, self.name, token, LIFETIME)
        if not is_stored:
            # That one may be stored later, and would then work here and elsewhere. Nobody has it.
            ticket, digest = self._make()
        self._held[digest] = _Held(deadline, is_stored, token)
        while len(self._held) > self._most:
            self._drop_oldest()
        return ticket

    async def redeem(self, ticket: str) -> str | TicketCheck:
        """Check a ticket and use it up. Returns the fingerprint of its token."""
        if not is_ticket(ticket):
            return TicketCheck.REFUSED
        digest = _digest(ticket)
        if ticket.partition(".")[0] != self.name:
            async with self._lookups:
                token = await self._store.take(digest)
            return TicketCheck.UNAVAILABLE if token is None else token or TicketCheck.REFUSED
        # Before anything is awaited: of several requests with one ticket the first one takes it.
        held = self._held.pop(digest, None)
        if held is None:
            return TicketCheck.REFUSED
        if held.deadline <= self._clock():
            self._remove_later(digest, held)
            return TicketCheck.REFUSED
        if not held.is_stored:
            return held.token
        taken = await self._store.take(digest)
        if taken is None:
            self._remove_later(digest, held)
            self._last_deadline = max(self._last_deadline, held.deadline)
            self._used_without_store.set()
        return TicketCheck.REFUSED if taken == "" else held.token

    async def run(self) -> None:
        """Remove what has expired, and from the database what was used while it was away. Never returns."""
        while True:
            try:
                async with asyncio.timeout(SWEEP):
                    await self._used_without_store.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(RETRY)
            await self.sweep()

    async def sweep(self) -> None:
        """One removal."""
        now = self._clock()
        while self._held and next(iter(self._held.values())).deadline <= now:
            self._drop_oldest()
        await self._forget_used()
        digests = tuple(self._obsolete)
        if digests and await self._store.remove(digests):
            for digest in digests:
                self._obsolete.pop(digest, None)
        if not self._obsolete or self._last_deadline <= now:
            self._used_without_store.clear()

    async def _forget_used(self) -> None:
        """Hold no ticket any more that another process has redeemed."""
        stored = [digest for digest, held in self._held.items() if held.is_stored]
        unused = await self._store.unused(self.name) if stored else None
        if unused is not None:
            for digest in stored:
                if digest not in unused:
                    self._held.pop(digest, None)

    def _make(self) -> tuple[str, str]:
        ticket = f"{self.name}.{secrets.token_urlsafe(24)}"
        return ticket, _digest(ticket)

    def _drop_oldest(self) -> None:
        digest = next(iter(self._held))
        self._remove_later(digest, self._held.pop(digest))

    def _remove_later(self, digest: str, held: _Held) -> None:
        if held.is_stored:
            self._obsolete[digest] = None
            if len(self._obsolete) > self._most:
                del self._obsolete[next(iter(self._obsolete))]


def is_ticket(text: str) -> bool:
    """Whether `text` has the form of a ticket."""
    return _FORM.fullmatch(text) is not None


def tickets_in(query: str) -> list[str]:
    """The values of the parameters called `ticket` in a raw query, with its `?` or empty. Only the plain name counts."""
    # There may be thousands of parameters: no step of Python for each.
    return _VALUES.findall(query[1:])


def without_tickets(target: str, tickets: Collection[str]) -> str:
    """`target` without the parameters `ticket` of these values. Every other byte stays."""
    path, mark, query = target.partition("?")
    gone = {_PARAMETER + ticket for ticket in tickets}
    parts = query.split("&")
    kept = [part for part in parts if part not in gone]
    return target if len(kept) == len(parts) else f"{path}{mark}{'&'.join(kept)}" if kept else path


def _digest(ticket: str) -> str:
    return sha256(ticket.encode()).hexdigest()
