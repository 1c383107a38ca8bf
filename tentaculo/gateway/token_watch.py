"""Watches the accepted tokens while the gateway runs: their ends, their last uses, and the streams that end with them.

The request path only counts. What follows of it is found here, once a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import structlog

from tentaculo.config.accepted_tokens import TokenSettings, format_moment
from tentaculo.security.token_file import TokenFileError, WatchedTokenFile
from tentaculo.security.tokens import Tokens, name_of

log = structlog.get_logger(__name__)

SWEEP = 1.0
"""Seconds between two looks: a stream ends that much later than its token."""
STORED = 60.0
"""Seconds: the last use of a token is written at most so often."""
OLD = 24 * 3600
"""Seconds: of a token that has expired longer ago nothing is said when the gateway starts."""


class Record(Protocol):
    """Records an event of the gateway's own."""

    def __call__(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        """As `OwnEvents.record`."""


class KeepsUses(Protocol):
    """Where last uses are kept. Nothing here raises."""

    async def note(self, ages: Mapping[str, int]) -> bool:
        """Note that tokens were used so many seconds ago; False where that failed or is uncertain."""

    async def read(self) -> Mapping[str, int] | None:
        """The seconds since each last use; None while the database is away."""


class TokenWatch:
    """The watch of one process."""

    def __init__(
        self,
        tokens: Callable[[], Tokens],
        replace: Callable[[Tokens], None],
        store: KeepsUses,
        record: Record,
        *,
        file: WatchedTokenFile | None = None,
        is_leader: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`tokens` gives those that are accepted now, and `replace` puts others in their place.

        `file` is the token file, which is read again when it has changed. Of several workers the leader says what becomes
        of the tokens.
        """
        self._tokens = tokens
        self._replace = replace
        self.file = file
        """The token file; another one after a reload."""
        self._store = store
        self._record = record
        self._is_leader = is_leader
        self._clock = clock
        self._known: Tokens | None = None
        self._seen: dict[str, int] = {}
        """Requests of each token at the last look, by fingerprint."""
        self._used: dict[str, float] = {}
        """When each was used last in this process, of the clock."""
        self._stored: dict[str, float] = {}
        """When its last use was stored, of the clock."""
        self._over: set[tuple[str, float]] = set()
        """Tokens whose end has been said."""

    def __repr__(self) -> str:
        return f"<TokenWatch: {len(self._used)} in use>"

    async def run(self) -> None:
        """Look once a second. Never returns."""
        while True:
            await self._read_file()
            # A thousand tokens take some milliseconds here, and again to say what has changed of them.
            await asyncio.sleep(0)
            self.look()
            await self._store_uses(STORED)
            await asyncio.sleep(SWEEP)

    def begin(self) -> None:
        """Accept what the token file has now, before anything is served: it may have changed since it was read.

        A worker that replaces one that ended gets the tokens of the last reload. It blocks.
        """
        if self.file is not None and self.file.has_changed:
            with self._reported():
                self._accept(self.file, self.file.read_again())

    async def _read_file(self) -> None:
        """Accept what the token file has now. One that is faulty changes nothing."""
        file = self.file
        if file is not None and file.has_changed:
            with self._reported():
                # In a thread, which an idle gateway does not need.
                self._accept(file, await asyncio.to_thread(file.read_again))

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (OSError, TokenFileError) as error:
            log.error("token file not read", reason=str(error))
            if self._is_leader:
                self._record("tokens.rejected", severity="error", reason=str(error))

    def _accept(self, file: WatchedTokenFile, found: list[TokenSettings] | None) -> None:
        if found is None or file is not self.file:
            return
        before = self._tokens()
        known = [settings for settings, _, _ in before.listed]
        tokens = file.with_others(known, found)
        if tokens != known:
            self._replace(before.replaced_by(tokens))

    async def close(self) -> None:
        """Store the last uses that are not stored yet."""
        self.look()
        await self._store_uses(0.0)

    def look(self) -> None:
        """One look: end streams, say what has expired, note what was used."""
        tokens, now = self._tokens(), self._clock()
        if self._is_leader:
            if self._known is not None and self._known is not tokens:
                self._say_changes(self._known, tokens)
            self._say_ends(tokens)
        self._known = tokens
        tokens.end_streams()
        for fingerprint, use in tokens.uses.items():
            if fingerprint and use.requests != self._seen.get(fingerprint, 0):
                self._seen[fingerprint] = use.requests
                self._used[fingerprint] = now

    async def last_uses(self) -> Mapping[str, int]:
        """The seconds since the last use of each token that was used, by fingerprint, here and elsewhere."""
        self.look()
        now, found = self._clock(), dict(await self._store.read() or {})
        for fingerprint, used_at in self._used.items():
            age = int(now - used_at)
            found[fingerprint] = min(age, found.get(fingerprint, age))
        return found

    async def _store_uses(self, least: float) -> None:
        now = self._clock()
        due = {
            fingerprint: int(now - used_at)
            for fingerprint, used_at in self._used.items()
            if used_at > self._stored.get(fingerprint, float("-inf"))
            and now - self._stored.get(fingerprint, float("-inf")) >= least
        }
        if due and await self._store.note(due):
            self._stored.update(dict.fromkeys(due, now))

    def _say_ends(self, tokens: Tokens) -> None:
        now = tokens.acceptance.clock()
        for settings, fingerprint, _ in tokens.listed:
            if settings.expires is None:
                continue
            ends_at = settings.expires.timestamp()
            if ends_at > now or now - ends_at > OLD or (fingerprint, ends_at) in self._over:
                continue
            self._over.add((fingerprint, ends_at))
            name, text = name_of(settings), format_moment(settings.expires)
            # Not `token`: what has that name is hidden in the log.
            log.warning("token expired", caller=name, at=text)
            # Once, though every machine says it, and each start within a day.
            self._record(
                "token.expired", key=f"token-{fingerprint}-{int(ends_at)}", severity="warning", token=name, at=text
            )

    def _say_changes(self, before: Tokens, after: Tokens) -> None:
        """Say which tokens are accepted from now on, and which no longer are."""
        old, new = ({one.hash: one for one, _, _ in tokens.listed} for tokens in (before, after))
        added = sorted(name_of(new[one]) for one in new.keys() - old.keys())
        removed = sorted(name_of(old[one]) for one in old.keys() - new.keys())
        changed = sorted(
            name_of(new[one])
            for one in new.keys() & old.keys()
            if new[one].replace(source="") != old[one].replace(source="")
        )
        if added or removed or changed:
            log.info("tokens changed", added=added, removed=removed, changed=changed)
            self._record("tokens.changed", added=added, removed=removed, changed=changed)
