"""Connects the groups of targets with what they learn with, with the log of events, and with the state of before a restart.

One event for all requests of some minutes: one for each would be as much as the requests themselves. The event holds what
was learned too, and the next process of the same machine and worker number begins with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog

from tentaculo.config.rotation import RotationSettings
from tentaculo.gateway.own_events import PREFIX
from tentaculo.model.event import Event, EventFilter, RecordOwnEvent
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.proxy.state import Chooser, Rewards
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

if TYPE_CHECKING:
    from tentaculo.proxy.target_group import TargetGroup

log = structlog.get_logger(__name__)

EVERY: Final = 300.0
"""Seconds between two events of a group that had requests meanwhile."""
RETRY: Final = 5.0
"""Seconds until the log is read again, where the database did not respond."""
TYPE: Final = "rotation.counted"
MOST_READ: Final = 500
"""Latest of these events that are read at the start."""

ReadNewest = Callable[[int], Awaitable[Sequence[Event]]]
"""The newest events of `TYPE`, so many at most, the newest first. Raises `StoreUnavailable`."""


def learning(settings: RotationSettings) -> tuple[Chooser, Rewards]:
    """What the group of `settings` learns with."""
    # Only a gateway with groups pays for it.
    from tentaculo.insight.rotation import RewardRule, Rotation

    rewards = RewardRule(
        latency_limit=settings.latency_limit,
        latency_weight=settings.latency_weight,
        cost_limit=settings.cost_limit,
        cost_weight=settings.cost_weight,
    )
    return Rotation(len(settings.targets), floor=settings.floor), rewards


def read_newest(store_client: StoreClient) -> ReadNewest:
    """Reads the events from the log."""

    async def read(limit: int) -> Sequence[Event]:
        wanted = EventFilter(types=(PREFIX + TYPE,), sources=(GATEWAY_NAME,))
        return (await store_client.read_events(wanted, limit=limit, newest_first=True)).events

    return read


class TargetRotation:
    """The groups of this process, and their events."""

    def __init__(
        self,
        groups: Sequence[TargetGroup],
        record: RecordOwnEvent,
        read_newest: ReadNewest,
        *,
        instance: str,
        worker: int | None,
    ) -> None:
        """`instance` and `worker` are those of this process, by which it finds its own events."""
        self._groups = groups
        self._record = record
        self._read_newest = read_newest
        self._own = (instance, worker)
        self._recorded = [[0] * len(group.targets) for group in groups]

    def __repr__(self) -> str:
        return f"<TargetRotation: {len(self._groups)} groups>"

    def use(self, groups: Sequence[TargetGroup]) -> None:
        """Record the events of these groups from now on; they continue what the groups before have counted."""
        self.record()
        self._groups = groups
        self._recorded = [[target.calls for target in group.targets] for group in groups]

    async def run(self) -> None:
        """Continue with what was learned before, then record until cancelled."""
        while True:
            try:
                self.restore(await self._read_newest(MOST_READ))
                break
            except StoreUnavailable:
                await asyncio.sleep(RETRY)
        while True:
            await asyncio.sleep(EVERY)
            self.record()

    def record(self) -> None:
        """Record an event for each group that had requests since the last one."""
        for group, before in zip(self._groups, self._recorded, strict=True):
            calls = [target.calls for target in group.targets]
            if calls != before:
                view = group.view()
                self._record(
                    TYPE,
                    service=view.service,
                    route=view.route,
                    requests=sum(calls) - sum(before),
                    targets=[
                        {
                            "target": one.name,
                            "requests": count - known,
                            "probability": round(one.probability, 4),
                            "reward": None if one.mean is None else round(one.mean, 4),
                            "learned": [round(value, 6) for value in state],
                        }
                        for one, count, known, state in zip(
                            view.targets, calls, before, group.chooser.state(), strict=True
                        )
                    ],
                )
                before[:] = calls

    def restore(self, events: Iterable[Event]) -> None:
        """Continue with the newest of `events` that this process, or the one before it, recorded of each group."""
        open_groups = {(group.key.service, group.key.route): group for group in self._groups}
        for event in events:
            payload = event.payload
            key = (payload.get("service"), payload.get("route"))
            if (payload.get("instance"), payload.get("worker")) == self._own and key in open_groups:
                _restore(open_groups.pop(key), payload.get("targets"))


def _restore(group: TargetGroup, targets: Any) -> None:
    """Add what an event says of the targets that the group still has to what was learned since the start.

    That may be much, where the database was away. What is older counts less.
    """
    faded = group.chooser.faded
    names = {target.name: number for number, target in enumerate(group.targets)}
    for one in targets if isinstance(targets, list) else ():
        try:
            number = names[one["target"]]
            count, total = one["learned"]
            known, sum_known = group.chooser.state()[number]
            group.chooser.restore(number, known + faded * count, sum_known + faded * total)
        except (KeyError, TypeError, ValueError):
            log.warning("state of a target not restored", service=group.key.service, target=str(one)[:100])
