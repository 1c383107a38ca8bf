"""What this machine does for the fleet, as its role says: lead, follow the leader, or probe alone without a database."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import structlog

from tentaculo.config.schema import Config
from tentaculo.events.clock_offsets import ClockOffsets
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.lease_keeper import LOOK_EVERY, LeaseKeeper, Role
from tentaculo.gateway.own_events import OwnEvents
from tentaculo.gateway.service_clocks import ClockExchange
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.lease import Fence
from tentaculo.store.runtime_table import read_details
from tentaculo.store.states import changes_after
from tentaculo.tasks import TaskGroup
from tentaculo.web.metrics_sources import LeaseView

log = structlog.get_logger(__name__)

START_WAIT = 1.0
"""Seconds that the start waits until the role of this machine is known."""
MIRROR_EVERY = 5
"""Looks between two reads of all incidents. A notification makes a follower read them at once."""


def instance_name(config: Config) -> str:
    """The name of this machine: `server.instance`, or one that stays over restarts and does not show the host's name.

    Where any free port is used, nothing tells this gateway from others on the host, and the name is random.
    """
    if config.server.instance is not None:
        return config.server.instance
    addresses = config.server.addresses
    if any(port == 0 for _, port in addresses):
        return secrets.token_hex(6)
    facts = (socket.gethostname(), _machine_id(), addresses)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(errors="replace").strip()
    except OSError:
        return ""


class MachineRole:
    """Applies the role of this machine while it runs. `lead` is the context in which it probes and alerts."""

    def __init__(
        self,
        store: StoreClient,
        health_service: HealthService,
        incident_service: IncidentService,
        own_events: OwnEvents,
        *,
        instance: str,
        lead: Callable[[], AbstractAsyncContextManager[None]],
        offsets: ClockOffsets,
    ) -> None:
        self.keeper = LeaseKeeper(store, instance=instance, on_change=self._ring)
        self._store = store
        self._health_service = health_service
        self._incident_service = incident_service
        self._own_events = own_events
        self._lead = lead
        self._clocks = ClockExchange(store, offsets)
        self._leading: AsyncExitStack | None = None
        self._announced: Fence | None = None
        self._position: int | None = None
        self._looks = 0
        self._bell = asyncio.Event()
        self._is_applied = asyncio.Event()
        self._closing = asyncio.Lock()
        self._tasks = TaskGroup("role")

    def __repr__(self) -> str:
        return f"<MachineRole: {self.keeper!r}>"

    @asynccontextmanager
    async def competing(self) -> AsyncIterator[None]:
        """Compete for the lease while the context is open."""
        await self.start()
        try:
            yield
        finally:
            await self.close()

    async def start(self) -> None:
        """Compete for the lease, and apply what follows from it. Waits a moment for the first role."""
        self._health_service.follow_fleet()
        self._tasks.start(self.keeper.run(), "lease")
        self._tasks.start(self._run(), "role")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_applied.wait(), START_WAIT)

    def view(self) -> LeaseView:
        """The lease as `/metrics` shows it."""
        fence = self._store.fence if self.keeper.is_held else None
        return LeaseView(self.keeper.instance, fence is not None, 0 if fence is None else fence.epoch)

    async def close(self) -> None:
        """Stop what the role says, and give the lease up. The states stay as they are. A second call waits for the first."""
        async with self._closing:
            await self._tasks.close()
            await self._stop_leading()
            await self._own_events.flush()
            await self.keeper.release()

    def look(self) -> None:
        """Look now: another machine has changed the lease, a state, an incident or a heartbeat."""
        self.keeper.wake()
        self._looks = 0
        self._bell.set()

    def _ring(self) -> None:
        self._bell.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._apply()
                await self._read()
            except StoreUnavailable:
                # The states are read again as a whole: a backup may have been restored.
                self._position = None
            except Exception:  # one failed look must not end the next ones
                log.exception("role update failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._bell.wait()
            self._bell.clear()

    async def _apply(self) -> None:
        """Start and stop what the role says."""
        role = self.keeper.role
        if role is None:
            return
        if role is Role.FOLLOWER:
            await self._follow()
        elif self._leading is None:
            await self._start_leading(role)
        self._health_service.set_in_charge(self.keeper.is_in_charge)
        fence = self._store.fence
        if fence is not None and fence != self._announced:
            self._announced = fence
            self._own_events.record("lease.taken", holder=fence.holder)
        self._is_applied.set()

    async def _follow(self) -> None:
        if self._leading is not None:
            # The lease is lost: what waits to be stored or sent is the new leader's.
            self._health_service.follow_fleet()
            self._own_events.drop_fleet_events()
            await self._stop_leading()
            self._own_events.drop_fleet_events()
            self._position, self._looks = None, 0

    async def _start_leading(self, role: Role) -> None:
        if role is Role.LEADER:
            with suppress(StoreUnavailable):
                await self._read_states()
                await self._incident_service.mirror(is_last=True)
        self._health_service.lead_fleet()
        stack = AsyncExitStack()
        await stack.enter_async_context(self._lead())
        self._leading = stack

    async def _stop_leading(self) -> None:
        if self._leading is not None:
            stack, self._leading = self._leading, None
            await stack.aclose()

    async def _read(self) -> None:
        """Read what other machines have stored."""
        role = self.keeper.role
        if role is Role.FOLLOWER:
            await self._read_states()
            await self._health_service.states.exchange_heartbeats()
            if self._looks % MIRROR_EVERY == 0:
                await self._incident_service.mirror()
                with suppress(StoreUnavailable):
                    # Another product's table, which may be locked: on the connection that only reads.
                    self._health_service.accept_details(await self._store.read(read_details))
            self._looks += 1
            self._incident_service.apply_calendar()
            await self._clocks.read()
        elif role is Role.LEADER:
            await self._health_service.states.read_heartbeats()
            await self._clocks.store()

    async def _read_states(self) -> None:
        position, changes = await self._store.run(partial(changes_after, position=self._position))
        self._health_service.accept_changes(changes)
        self._position = position
