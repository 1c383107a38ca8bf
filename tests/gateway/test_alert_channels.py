"""The totals of alert channels, in a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tentaculo.config.schema import Config
from tentaculo.gateway.alert_channels import AlertChannels
from tentaculo.incidents.notifier import DeliveryStats
from tentaculo.store.client import StoreClient

CONFIG = Config.of({"alerts": {"webhooks": {"duty": {"url": "http://127.0.0.1:1/"}}}})


async def sent(channels: AlertChannels) -> int:
    (totals,), problem = await channels.read()
    assert problem is None
    return totals.sent


@pytest.fixture
async def client(file: Path) -> StoreClient:
    return StoreClient(f"sqlite:///{file}")


async def test_what_is_saved_twice_at_once_counts_once(client: StoreClient) -> None:
    await client.start()
    counts = {"duty": DeliveryStats(sent=1)}
    channels = AlertChannels(CONFIG, client, lambda: counts)
    await asyncio.gather(channels.save(), channels.save(), channels.save())
    assert await sent(channels) == 1
    counts["duty"].sent = 2
    _, found, _ = await asyncio.gather(channels.save(), sent(channels), channels.save())
    assert found == 2
    assert await sent(AlertChannels(CONFIG, client, dict)) == 2, "as another process reads it"
    await client.close()


async def test_a_save_that_is_cut_off_counts_once(client: StoreClient) -> None:
    """At a stop the task that saves is cancelled, and what is left is saved again."""
    await client.start()
    counts = {"duty": DeliveryStats(sent=1)}
    channels = AlertChannels(CONFIG, client, lambda: counts)
    for _ in range(5):
        counts["duty"].sent += 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await channels.save()
        await channels.save()
    assert await sent(AlertChannels(CONFIG, client, dict)) == 6
    await client.close()


async def test_a_channel_that_is_removed_and_added_again_counts_on(client: StoreClient) -> None:
    """A reload has it count from 0, and what had been counted before was taken from the totals."""
    await client.start()
    counts = {"duty": DeliveryStats(sent=3, failed=1)}
    channels = AlertChannels(CONFIG, client, lambda: counts)
    await channels.save()
    del counts["duty"]
    await channels.save()
    counts["duty"] = DeliveryStats()
    await channels.save()
    assert await sent(channels) == 3
    counts["duty"].sent = 1
    assert await sent(channels) == 4
    await channels.save()
    assert await sent(AlertChannels(CONFIG, client, dict)) == 4
    await client.close()
