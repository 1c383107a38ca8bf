"""Competes for the lease of all machines on one PostgreSQL, and says what follows from it for this machine.

    leader     holds the lease: probes, alerts, and records what happens to the services
    follower   another machine holds it: takes over what that one finds out
    alone      the database is away: probes for itself

The leader renews the lease three times in its length. It counts its validity by a clock that nobody sets, from before the
renewal was sent, and a second less than the database does: two machines never hold it at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, Protocol

import structlog

from tentaculo.health.steady_clock import time_since_boot
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.lease import Fence, LeaseRow, compete, release_lease

log = structlog.get_logger(__name__)

LENGTH = 10.0
"""Seconds for which the lease is valid after a renewal."""
RENEW_EVERY = LENGTH / 3
MARGIN = 1.0
"""Seconds by which the leader's own validity ends before that in the database."""
LOOK_EVERY = 1.0
"""Seconds between two looks of a machine that is not the leader. A notification makes it look at once."""
RETRY = 0.5
"""Seconds until a leader whose renewal failed tries again."""
AWAY_AFTER = 3.0
"""Seconds without the database after which a follower probes for itself."""
ALERT_AFTER = 60.0
"""Seconds without the database after which a machine that was no leader alerts too: the leader may be gone as well."""
_JUST_ENDED = 0.02


class Role(Enum):
    """What a machine does for all."""

    LEADER = "leader"
    FOLLOWER = "follower"
    ALONE = "alone"


class LeaseStore(Protocol):
    """The database, as far as the lease needs it."""

    fence: Fence | None

    def run(self, work: Query) -> Awaitable[Any]:
        """The result of `work` in a transaction of its own. Raises `StoreUnavailable`."""
        ...


class LeaseKeeper:
    """The role of this machine. `on_change` is called when the role or the lease has changed.

    `store.fence` is the lease while this machine holds it.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        instance: str,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time_since_boot,
    ) -> None:
        """`instance` is the name of this machine. `clock` also advances while the machine is suspended."""
        self.instance = instance
        self.role: Role | None = None
        """None until the database has responded, or has not."""
        self.holder: str | None = None
        """The machine that holds the lease, as far as is known."""
        self._store = store
        self._on_change = on_change
        self._clock = clock
        self._lease: Fence | None = None
        self._valid_until = 0.0
        self._responded_at = clock()
        self._alone_since = 0.0
        self._yields_until: float | None = None
        self._is_start = True
        self._bell = asyncio.Event()

    def __repr__(self) -> str:
        return f"<LeaseKeeper of {self.instance}: {self.role and self.role.value}, held by {self.holder}>"

    @property
    def is_held(self) -> bool:
        """Whether this machine holds the lease now."""
        return self.role is Role.LEADER and self._clock() < self._valid_until

    @property
    def is_in_charge(self) -> bool:
        """Whether this machine counts for all: it holds the lease, or held it when the database was lost."""
        return self.is_held or (self.role is Role.ALONE and self._lease is not None)

    def may_alert(self) -> bool:
        """Whether this machine may send alerts. Without a database two may: to alert twice is better than never."""
        is_long_alone = self.role is Role.ALONE and self._clock() - self._alone_since >= ALERT_AFTER
        return self.is_in_charge or is_long_alone

    def wake(self) -> None:
        """Look at the lease now: it may be free."""
        if self.role is not Role.LEADER:
            self._bell.set()

    async def run(self) -> None:
        """Compete until cancelled."""
        while True:
            delay = await self._step()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._bell.wait()
            self._bell.clear()

    async def release(self) -> None:
        """Give the lease up, so that another machine takes it at once. `run` has been cancelled."""
        if self.role is Role.LEADER and self._lease is not None:
            with suppress(StoreUnavailable):
                await self._store.run(partial(release_lease, fence=self._lease))
                log.info("lease released", epoch=self._lease.epoch)
            self._lease = None
        self._become(Role.FOLLOWER, None)

    async def _step(self) -> float:
        """Renew the lease, or try to take it; returns the seconds until the next step."""
        sent = self._clock()
        work = partial(
            compete,
            holder=self.instance,
            held=self._lease,
            length=LENGTH,
            may_take=self._may_take(sent),
            is_restart=self._is_start,
        )
        try:
            outcome: tuple[Fence | None, LeaseRow] = await self._store.run(work)
        except StoreUnavailable:
            return self._note_failure()
        held, row = outcome
        self._is_start, self._responded_at = False, self._clock()
        if held is not None:
            self._valid_until = sent + LENGTH - MARGIN
            self.holder = self.instance
            self._become(Role.LEADER, held)
            return RENEW_EVERY
        if self._yields_until is None:
            self._yields_until = sent + LENGTH
        self.holder = row.fence.holder
        if self.role is Role.ALONE and row.remaining <= 0:
            return LOOK_EVERY
        self._become(Role.FOLLOWER, None)
        return min(LOOK_EVERY, max(0.0, row.remaining) + _JUST_ENDED)

    def _may_take(self, now: float) -> bool:
        """After an outage the machine that held the lease before goes first, so that nothing is announced twice."""
        if self.role is not Role.ALONE or self._lease is not None:
            return True
        return self._yields_until is not None and now >= self._yields_until

    def _note_failure(self) -> float:
        now = self._clock()
        self._yields_until = None
        if self.role is Role.LEADER and now < self._valid_until:
            return RETRY
        if self.role is not Role.FOLLOWER or now - self._responded_at >= AWAY_AFTER:
            self._become(Role.ALONE, self._lease)
        return LOOK_EVERY

    def _become(self, role: Role, lease: Fence | None) -> None:
        before, self.role = (self.role, self._lease), role
        self._lease, self._store.fence = lease, lease if role is Role.LEADER else None
        if before == (role, lease):
            return
        if role is Role.ALONE:
            self._alone_since, self.holder = self._clock(), None
            log.warning("lease unknown", held_before=lease is not None)
        elif role is Role.LEADER and lease is not None and lease != before[1]:
            log.info("lease taken", instance=self.instance, epoch=lease.epoch)
        elif role is Role.FOLLOWER and before[1] is not None:
            log.warning("lease lost", holder=self.holder)
        self._on_change()
