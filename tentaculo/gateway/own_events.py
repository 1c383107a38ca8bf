"""The gateway's own life in the log of events: health, breakers, incidents, alerts, starts and stops.

The events wait in memory until the database takes them. Their keys make a repeat after a lost commit the same event.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import count, islice, takewhile
from typing import Any

import structlog

from tentaculo.events.tail import EventTail
from tentaculo.model.event import Event, StoredEvent, StoreOutcome
from tentaculo.model.failure import Problem
from tentaculo.model.health import GATEWAY_NAME, BreakerState, Endpoint, Health, ServiceView, Transition
from tentaculo.model.reason import Reason, coded
from tentaculo.store.lease import LeaseLost

log = structlog.get_logger(__name__)

PREFIX = "gateway."
"""The types of all of the gateway's own events begin with it. No producer may send such a type in the gateway's name."""
MOST_WAITING = 2000
"""Events that wait for the database at most; the oldest ones are dropped."""
AT_ONCE = 200
"""Events stored in one transaction at most."""
RETRY = 5.0
"""Seconds until events that could not be stored are tried again."""
LEASE_RETRY = 0.5
"""Seconds until events about the services are tried again while it is not known which machine is their leader."""
LAST_WAIT = 2.0
"""Seconds that the stop waits for the database to take the last events."""

FLEET_TYPES = tuple(f"{PREFIX}{name}." for name in ("health", "incident", "alert", "lease"))
"""Types of events about the services, not about one machine: only the holder of the lease stores them."""

Store = Callable[[Sequence[Event]], Awaitable[list[StoredEvent]]]


class OwnEvents:
    """Records events of this process; `run` stores them in order.

    `store` stores events in one transaction, and `tail` learns of them. Each event has `instance`, the name of this
    machine, and the number of the worker where there are several. `is_available` says whether the database takes events
    now. `store_fleet` stores those about the services: it raises `LeaseLost` while another machine is their leader.
    """

    def __init__(
        self,
        store: Store,
        tail: EventTail,
        *,
        is_available: Callable[[], bool],
        now: Callable[[], datetime],
        instance: str,
        worker: int | None = None,
        store_fleet: Store | None = None,
    ) -> None:
        self._store = store
        self._store_fleet = store_fleet or store
        self._is_available = is_available
        self._tail = tail
        self._now = now
        self._instance = instance
        self._members = {"instance": instance} if worker is None else {"instance": instance, "worker": worker}
        self._run_name = secrets.token_hex(6)
        self._numbers = count(1)
        self._waiting: deque[Event] = deque()
        self._has_work = asyncio.Event()
        self._is_storing = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<OwnEvents of {self._instance}: {len(self._waiting)} waiting>"

    def record(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        """Record an event, to be stored soon; one with a `key` once, also by several processes and after a restart."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
        at = self._now()
        milliseconds = int(at.timestamp() * 1000)
        event = Event(
            int(at.timestamp() * 1_000_000),
            GATEWAY_NAME,
            PREFIX + type_,
            {**payload, **self._members, "timestamp": milliseconds},
            at,
            key=key or f"{self._run_name}-{next(self._numbers)}",
            digest="",
            severity=severity,
            stated_ms=milliseconds,
        )
        self._waiting.append(event)
        self._has_work.set()

    def note_transition(self, transition: Transition, view: ServiceView) -> None:
        """Record that the health of a service has changed."""
        self.record(
            "health.changed",
            severity="info" if transition.after.is_healthy else "warning",
            service=transition.service,
            before=transition.before.value,
            after=transition.after.value,
            reason=transition.reason,
            **reason_members(view.cause),
            **({} if transition.root is None else {"root": transition.root}),
        )

    def note_breaker(self, upstream: Endpoint, state: BreakerState, reason: Reason) -> None:
        """Record that the circuit breaker of an endpoint has opened or closed."""
        self.record(
            "breaker.changed",
            severity="info" if state is BreakerState.CLOSED else "warning",
            service=upstream.service,
            endpoint=f"{upstream.host}:{upstream.port}",
            state=state.value,
            reason=str(reason),
            **reason_members(reason),
        )

    async def run(self) -> None:
        """Store what is recorded until cancelled."""
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            while self._waiting:
                try:
                    await self._store_next()
                except LeaseLost:
                    # The lease is renewed or lost soon. Then these events are stored, or dropped.
                    await asyncio.sleep(LEASE_RETRY)
                except Problem:
                    await asyncio.sleep(RETRY)

    def drop_fleet_events(self) -> None:
        """Drop the events about the services that wait: another machine is the leader and records them."""
        kept = [event for event in self._waiting if not is_about_fleet(event)]
        self._waiting.clear()
        self._waiting.extend(kept)

    async def close(self) -> None:
        """Store what waits, within a bounded time. `run` has been cancelled."""
        await self.flush(is_last=True)
        if self._waiting:
            log.warning("own events not stored before the stop", events=len(self._waiting))

    async def flush(self, *, is_last: bool = False) -> None:
        """Store what waits now, within a bounded time.

        The last time, events about the services that another machine leads are dropped: they keep no other one waiting.
        """
        try:
            async with asyncio.timeout(LAST_WAIT):
                while self._waiting and self._is_available():
                    try:
                        await self._store_next()
                    except LeaseLost:
                        if not is_last:
                            raise
                        self.drop_fleet_events()
        except (Problem, TimeoutError):
            pass

    async def _store_next(self) -> None:
        async with self._is_storing:
            if not self._waiting:
                return
            is_fleet = is_about_fleet(self._waiting[0])
            alike = takewhile(lambda event: is_about_fleet(event) is is_fleet, self._waiting)
            events = list(islice(alike, AT_ONCE))
            results = await (self._store_fleet if is_fleet else self._store)(events)
            self._tail.note_stored([result.id for result in results if result.outcome is StoreOutcome.STORED])
            # Meanwhile some may have been dropped.
            stored = {event.key for event in events}
            while self._waiting and self._waiting[0].key in stored:
                self._waiting.popleft()


def reason_members(cause: Reason | None, name: str = "reason") -> dict[str, Any]:
    """The code and the values of a reason, as members of an event; none where it has no code, or too long values.

    `name` is the member that has its text.
    """
    if cause is None or not cause.code or not cause.is_short:
        return {}
    return coded(name, cause)


def is_about_fleet(event: Event) -> bool:
    """Whether an own event is about the services, not about one machine."""
    return event.type.startswith(FLEET_TYPES)


def log_transition(transition: Transition, _: ServiceView) -> None:
    """Log a change of health."""
    level = log.warning if transition.after is Health.DOWN else log.info
    level(
        "health changed",
        service=transition.service,
        health=transition.after.value,
        was=transition.before.value,
        reason=transition.reason,
        root=transition.root,
    )
