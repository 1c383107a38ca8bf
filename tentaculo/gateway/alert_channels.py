"""What the channels of alerts have done: counted in this process, added to the totals in the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from tentaculo.config.schema import Config
from tentaculo.incidents.channels import channel_kinds
from tentaculo.incidents.notifier import DeliveryStats
from tentaculo.model.incident import ChannelTotals
from tentaculo.store import incidents as store
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.tasks import TaskGroup


class _Counted(NamedTuple):
    """The totals of a channel, and what has counted them."""

    stats: DeliveryStats
    totals: ChannelTotals


class AlertChannels:
    """The totals of each configured channel, over all starts of the gateway and whichever process sent the alerts."""

    def __init__(
        self, config: Config, store_client: StoreClient, counts: Callable[[], Mapping[str, DeliveryStats]]
    ) -> None:
        """`counts` gives what this process has counted since its start, by channel."""
        self.kinds: Mapping[str, str] = channel_kinds(config)
        """The kind of each channel, by its name."""
        self._store_client = store_client
        self._counts = counts
        self._saved: dict[str, _Counted] = {}
        self._storing = asyncio.Lock()
        self._tasks = TaskGroup("alert channels")

    def __repr__(self) -> str:
        return f"<AlertChannels: {', '.join(self.kinds) or 'none'}>"

    def use(self, config: Config) -> None:
        """Show the channels of another configuration."""
        self.kinds = channel_kinds(config)

    async def save(self) -> None:
        """Add what is new to the totals in the database. Raises `StoreUnavailable`; it is then new the next time too.

        Where the caller is cancelled the save continues, since what is stored without being noted would be added again.
        """
        saving = self._tasks.start(self._save(), "save")
        if (error := await asyncio.shield(saving)) is not None:
            raise error

    async def _save(self) -> StoreUnavailable | None:
        async with self._storing:
            counted = self._counted()
            if new := [one for one in self._new(counted).values() if one]:
                try:
                    await self._store_client.run(partial(store.add_channels, totals=new))
                except StoreUnavailable as error:
                    return error
                self._saved = counted
        return None

    async def read(self) -> tuple[list[ChannelTotals], str | None]:
        """The totals in the order of the configuration, and why they may lack those of earlier starts."""
        problem, stored = None, dict[str, ChannelTotals]()
        # What is being saved is not both stored and new.
        async with self._storing:
            try:
                if self.kinds:
                    stored = await self._store_client.run(partial(store.read_channels, names=list(self.kinds)))
            except StoreUnavailable as error:
                problem = error.detail
            new = self._new(self._counted())
        totals = {name: stored.get(name, ChannelTotals(name)) for name in self.kinds}
        return [one + new[name] if name in new else one for name, one in totals.items()], problem

    def _counted(self) -> dict[str, _Counted]:
        return {
            name: _Counted(
                stats,
                ChannelTotals(
                    name,
                    stats.sent,
                    stats.failed + stats.dropped,
                    stats.last_sent_at,
                    stats.last_error_at,
                    stats.last_error,
                ),
            )
            for name, stats in self._counts().items()
        }

    def _new(self, counted: Mapping[str, _Counted]) -> dict[str, ChannelTotals]:
        """What was counted since the last save."""
        found = {}
        for name, (stats, totals) in counted.items():
            saved = self._saved.get(name)
            # A channel that a reload has removed and another one has added counts from 0 again.
            earlier = saved.totals if saved is not None and saved.stats is stats else ChannelTotals(name)
            found[name] = totals.since(earlier)
        return found
