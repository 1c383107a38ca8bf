"""A mute for so many minutes lasts that long, whatever happens to the system clock."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tentaculo.model.mute import Mute
from tentaculo.store.database import once
from tentaculo.store.incidents import latest_mutes
from tests.conftest import Start
from tests.gateway.test_actions import broken, incident_of, read, signed_in
from tests.support.clock_steps import clock_ahead
from tests.support.databases import sqlite
from tests.support.waits import eventually


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how many seconds the system clock of the gateway is ahead."""
    return clock_ahead(monkeypatch)


def stored(file: Path, number: int) -> Mute:
    return once(sqlite(file), lambda connection: latest_mutes(connection, [number]))[number]


@pytest.mark.parametrize("by", [7200.0, -400 * 86400.0])
async def test_a_timed_mute_keeps_its_length_when_the_clock_is_set(
    start: Start, file: Path, refusing_port: int, ahead: list[float], by: float
) -> None:
    ahead[0] = by
    live = await broken(start, file, refusing_port)
    number = (await incident_of(live))["id"]
    browser, form = await signed_in(live)
    await browser.send("/status/actions", form=form, action="mute", incident=str(number), until="60")
    before = (await read(live, f"/vx11/incidents/{number}"))["muted"]
    ahead[0] = 0.0
    muted: dict[str, Any] = before
    async with asyncio.timeout(20):
        while muted == before:
            muted = (await read(live, f"/vx11/incidents/{number}"))["muted"]
            await asyncio.sleep(0.01)
    at, until = (datetime.fromisoformat(muted[name]) for name in ("at", "until"))
    assert until - at == timedelta(minutes=60)
    assert timedelta() <= datetime.now(UTC) - at < timedelta(minutes=1)
    assert "Alerts are muted until " in (await browser.ask(f"/status/incidents/{number}")).body.decode()
    await eventually(lambda: stored(file, number).until == until)
    # What the database said before it was stored must not come back.
    assert (await read(live, f"/vx11/incidents/{number}"))["muted"] == muted


async def test_one_that_a_follower_took_is_stored_too(
    start: Start, file: Path, refusing_port: int, ahead: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await broken(start, file, refusing_port)
    number = (await incident_of(leader))["id"]
    monkeypatch.setattr("tentaculo.gateway.leading.Leading.leading", lambda *_: nullcontext())
    follower = await broken(start, file, refusing_port)
    browser, form = await signed_in(follower)
    ahead[0] = 7200.0
    await eventually(lambda: follower.gateway._clock.now() > datetime.now(UTC) + timedelta(hours=1))
    await browser.send("/status/actions", form=form, action="mute", incident=str(number), until="60")
    ahead[0] = 0.0
    await eventually(lambda: abs(stored(file, number).at - datetime.now(UTC)) < timedelta(minutes=1))
    mute = stored(file, number)
    assert mute.until is not None
    assert mute.until - mute.at == timedelta(minutes=60)
