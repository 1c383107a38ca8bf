"""Sessions of people who have signed in to the status pages with a token.

A session is 256 random bits in a cookie. The database has their hash, the fingerprint of the token that they were made
with, and two times of its own clock: so a session holds on every worker and machine and over a restart, and ends with its
token. A worker reads the row of a session again `CACHED` seconds after it did so last. While the database is away the
sessions that it knows continue.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from hashlib import sha256
from typing import Protocol

IDLE = 12 * 3600
"""Seconds without a request after which a session ends."""
LIFETIME = 7 * 24 * 3600
"""Seconds after which a session ends in any case."""
CACHED = 2.0
"""Seconds for which a worker uses what it has read of a session: a sign-out holds everywhere that much later."""
MARKED = 60
"""Seconds: the time of the last use is written at most so often."""
MOST_KNOWN = 1024
"""Sessions that a worker remembers."""
MOST_LOOKUPS, MOST_WAITING = 8, 64
"""Sessions that are looked up at once, and requests that wait for it: invented ones must not delay other queries."""
SWEEP = 1.0
"""Seconds between two looks at the sessions of open streams, and at what is to be written."""
_FORM = re.compile(rb"[A-Za-z0-9_-]{43}")


class SessionCheck(Enum):
    """Why a session id opens nothing."""

    REFUSED = "refused"
    """It is unknown, has ended, or its token is no longer accepted."""
    UNAVAILABLE = "unavailable"
    """This worker does not know it, and the database cannot be read."""


class SessionStore(Protocol):
    """The sessions of all workers and machines, by the SHA-256 of each in hex. Nothing here raises."""

    async def add(self, digest: str, token: str, lifetime: int) -> bool:
        """Store a new session of a token, by its fingerprint; False where that failed or is uncertain.

        Those that are older than `lifetime` seconds may be removed.
        """

    async def read(self, digests: Sequence[str]) -> Mapping[str, tuple[str, int, int]] | None:
        """Of those that are there: fingerprint of the token, seconds since it was made, and since it was last used.

        None while the database is away.
        """

    async def mark(self, digests: Sequence[str]) -> bool:
        """Note that these are used now; False where that failed or is uncertain."""

    async def remove(self, digests: Sequence[str]) -> bool:
        """Remove sessions; False where that failed or is uncertain."""


class Session:
    """One session, as this process knows it."""

    def __init__(self, session_id: bytes, digest: str) -> None:
        self.digest = digest
        self.form_token = hmac.new(session_id, b"form", sha256).hexdigest()[:32]
        """What each form of its pages carries. No other site can know it."""
        self.token = ""
        """The fingerprint of the token that it was made with: it has the scopes of that, and ends with it."""
        self.has_ended = False
        self.checked_at = 0.0
        """Time of the clock at which its row was read last."""
        self.ends_at = 0.0
        """Time of the clock at which it ends if it is not used any more."""
        self.acted_at = float("-inf")
        """When it last changed something here, of `time.monotonic`."""
        self._limit = 0.0
        self._callbacks: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return f"<Session {self.digest[:8]}{', ended' if self.has_ended else ''}>"

    @property
    def is_watched(self) -> bool:
        """Whether a stream ends with it."""
        return bool(self._callbacks)

    def note(self, now: float, token: str, age: int, idle: int) -> None:
        """Note what its row says at `now`, of the clock."""
        self.checked_at, self.token = now, token
        self._limit = now + LIFETIME - age
        self.ends_at = min(now + IDLE - idle, self._limit)

    def use(self, now: float) -> None:
        """Note that it is used at `now`, of the clock."""
        self.ends_at = min(now + IDLE, self._limit)

    def when_ended(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` when it ends, or now if it has. The result takes that back."""
        if self.has_ended:
            callback()
        else:
            self._callbacks[callback] = None

        def take_back() -> None:
            self._callbacks.pop(callback, None)

        return take_back

    def end(self) -> None:
        """It has ended."""
        self.has_ended = True
        callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks:
            callback()


class Sessions:
    """The sessions of one process."""

    def __init__(
        self, store: SessionStore, accepts: Callable[[str], bool], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`accepts` says whether the token of a fingerprint is accepted."""
        self._store = store
        self._accepts = accepts
        self._clock = clock
        self._known: OrderedDict[str, Session] = OrderedDict()
        """By digest, the one that was used last at the end."""
        self._ended: OrderedDict[str, None] = OrderedDict()
        """Digests of sessions that ended here, whatever their rows still say."""
        self._obsolete: dict[str, None] = {}
        """Digests whose rows are to be removed."""
        self._used: dict[str, None] = {}
        """Digests whose time of the last use is to be written."""
        self._postponed: dict[str, None] = {}
        """Digests of sessions that are known, and whose rows the next sweep reads, since too many lookups wait."""
        self._lookups = asyncio.Semaphore(MOST_LOOKUPS)
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Sessions: {len(self._known)} known>"

    def use(self, accepts: Callable[[str], bool]) -> None:
        """Accept other tokens: the sessions of the rest end now, with their streams."""
        self._accepts = accepts
        for session in [one for one in self._known.values() if not accepts(one.token)]:
            # The rows stay, as where a row is read.
            del self._known[session.digest]
            session.end()

    async def begin(self, token: str) -> str | None:
        """The id of a new session of the token with the fingerprint `token`; None while it cannot be stored."""
        session_id = secrets.token_urlsafe(32)
        is_stored = await self._store.add(_digest(session_id.encode()), token, LIFETIME)
        return session_id if is_stored else None

    async def find(self, session_id: bytes) -> Session | SessionCheck:
        """The session of an id that a client sent, which is thereby used."""
        if _FORM.fullmatch(session_id) is None:
            return SessionCheck.REFUSED
        digest = _digest(session_id)
        if digest in self._ended:
            return SessionCheck.REFUSED
        session = self._known.get(digest)
        if session is None or self._clock() - session.checked_at >= CACHED:
            found = await self._look_up(session_id, digest, session)
            if isinstance(found, SessionCheck):
                return found
            session = found
        now = self._clock()
        if session.has_ended or session.ends_at <= now:
            self._end(digest)
            return SessionCheck.REFUSED
        session.use(now)
        # Other sessions may have pushed it out while its row was read.
        self._known[digest] = session
        self._known.move_to_end(digest)
        self._forget()
        return session

    async def end(self, session: Session) -> bool:
        """End a session now. False where the database has not removed it yet: that is tried again until it has."""
        self._end(session.digest)
        await self.sweep()
        return session.digest not in self._obsolete

    async def run(self) -> None:
        """End the streams of sessions that have ended, and write what is to be written. Never returns."""
        while True:
            await asyncio.sleep(SWEEP)
            await self.sweep()

    async def sweep(self) -> None:
        """One round of `run`."""
        if (digests := tuple(self._obsolete)) and await self._store.remove(digests):
            for digest in digests:
                self._obsolete.pop(digest, None)
        used, self._used = self._used, {}
        if used:
            await self._store.mark(tuple(used))
        now = self._clock()
        postponed, self._postponed = self._postponed, {}
        old = [one for one in self._known.values() if now - one.checked_at >= CACHED]
        due = [one for one in old if one.is_watched or one.digest in postponed]
        if due and (rows := await self._store.read([one.digest for one in due])) is not None:
            for one in due:
                self._note(one, rows.get(one.digest), is_used=False)
        for one in [one for one in self._known.values() if one.is_watched and one.ends_at <= self._clock()]:
            self._end(one.digest)

    async def _look_up(self, session_id: bytes, digest: str, session: Session | None) -> Session | SessionCheck:
        """The session, by its row; the one that is known while the row cannot be read."""
        unread = session or SessionCheck.UNAVAILABLE
        if self._waiting >= MOST_WAITING:
            if session is not None:
                self._postponed[digest] = None
            return unread
        self._waiting += 1
        try:
            async with self._lookups:
                rows = await self._store.read([digest])
        finally:
            self._waiting -= 1
        if rows is None:
            return unread
        known = self._known.get(digest) or Session(session_id, digest)
        if not self._note(known, rows.get(digest), is_used=True):
            return SessionCheck.REFUSED
        self._known[digest] = known
        return known

    def _note(self, session: Session, row: tuple[str, int, int] | None, *, is_used: bool) -> bool:
        """Take over what the row of a session says. False where it has ended."""
        digest = session.digest
        if digest in self._ended:
            return False
        if row is None:
            # Somebody has removed it, or nobody has ever made it: there is nothing to remove.
            self._known.pop(digest, None)
            session.end()
            return False
        token, age, idle = row
        if not self._accepts(token):
            # The row stays: where a token is new, other machines may accept it already.
            self._known.pop(digest, None)
            session.end()
            return False
        if age >= LIFETIME or idle >= IDLE or age < -MARKED:
            self._end(digest)
            session.end()
            return False
        session.note(self._clock(), token, age, max(idle, 0))
        if is_used and idle >= MARKED:
            self._used[digest] = None
        return True

    def _end(self, digest: str) -> None:
        session = self._known.pop(digest, None)
        self._ended[digest] = self._obsolete[digest] = None
        for kept in (self._ended, self._obsolete):
            while len(kept) > MOST_KNOWN:
                del kept[next(iter(kept))]
        if session is not None:
            session.end()

    def _forget(self) -> None:
        """Forget what was used longest ago, never what is used now.

        A session that has a stream is looked at in each round, and so is kept.
        """
        while len(self._known) > MOST_KNOWN:
            newest = next(reversed(self._known))
            oldest = next((digest for digest, one in self._known.items() if not one.is_watched), newest)
            if oldest == newest:
                return
            del self._known[oldest]


def _digest(session_id: bytes) -> str:
    return sha256(session_id).hexdigest()
