"""Early warnings of two machines with two workers each, on one PostgreSQL: one process warns, and another continues."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tentaculo.gateway.early_warnings import LATE
from tentaculo.insight.detector import BIN
from tentaculo.model.event import EventFilter
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.history import HOUR, Period
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.event_queries import read_events
from tentaculo.store.history import add_history, history_row
from tentaculo.store.lease import Fence, compete, read_lease
from tentaculo.store.tables import early_warnings
from tests.gateway.test_early_warnings import LIMIT, START, USUAL, Bench, Loop, minutes, period, ramp
from tests.incidents.test_channels import SECRET
from tests.support.machines import Clock, Machine
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.waits import eventually
from tests.support.webhook_receiver import receiving

BEFORE = 40
"""Seconds until the bin is complete in which a warning opens, when the machines are started: four processes beside other
tests. One that starts later has nothing to warn of before the next bin."""


class Stored:
    """What the machines share."""

    def __init__(self, url: str) -> None:
        self.url = url

    def write(self, *periods: Iterable[Period]) -> None:
        rows = [history_row(one) for some in periods for one in some]
        with opened(self.url) as connection:
            for place in range(0, len(rows), 100):
                add_history(connection, rows[place : place + 100])
            connection.commit()

    def holder(self) -> str:
        with opened(self.url) as connection:
            row = read_lease(connection)
        return row.fence.holder if row is not None and row.remaining > 0 else ""

    def warnings(self) -> list[tuple[str, str]]:
        with opened(self.url) as connection:
            return [
                (row.signal, row.outcome)
                for row in connection.execute(select(early_warnings.c.signal, early_warnings.c.outcome))
            ]

    def events(self) -> list[dict[str, Any]]:
        """The events of warnings, the oldest first."""
        with opened(self.url) as connection:
            found = read_events(connection, EventFilter(sources=(GATEWAY_NAME,)), limit=500).events
        return [{**one.payload, "type": one.type} for one in found if one.type.startswith("gateway.health.warning")]


@pytest.fixture
def stored(postgresql: Server) -> Iterator[Stored]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        yield Stored(url)


@pytest.mark.timeout(240)
async def test_one_of_four_processes_warns_once_and_a_machine_that_takes_over_continues_the_warning(
    stored: Stored, tmp_path: Path
) -> None:
    true = time.time()
    end = (int(true) // BIN + 2) * BIN
    clock = Clock(tmp_path)
    clock.set(round(end + LATE - BEFORE - true))
    rising = enumerate([*[USUAL] * 56, *ramp(36)[:16]])
    stored.write(
        (period("madre", HOUR, (end // HOUR - hour) * HOUR, USUAL, 3600) for hour in range(8, 169)),
        *(minutes(end - (72 - at) * BIN, latency) for at, latency in rising),
    )

    async with receiving() as receiver:
        machines = {
            name: Machine(
                tmp_path / name,
                stored.url,
                clock,
                2,
                {
                    "server": {"host": "127.0.0.1", "port": 0, "workers": 2, "instance": name},
                    "alerts": {"wait": 0, "webhooks": {"duty": {"url": receiver.url, "secrets": [SECRET]}}},
                    "services": {
                        "madre": {"url": "http://127.0.0.1:1", "warn": True, "slow": LIMIT, "probe": {"kind": "none"}}
                    },
                },
            )
            for name in ("one", "two")
        }
        try:
            await machines["one"].start()
            await has(lambda: stored.holder() == "one")
            await machines["two"].start()
            await has(lambda: stored.warnings() == [("requests_p95", "open")])
            await receiver.has(1)
            await eventually(lambda: machines["one"].output().count('"early warning"') == 1)
            assert machines["two"].output().count('"early warning"') == 0

            # The limit is reached while no machine looks.
            stored.write(*(minutes(end + number * BIN, LIMIT * 1.3) for number in range(8)))
            clock.set(round(end + LATE + 8 * BIN + 5 - time.time()))
            await eventually(lambda: "system clock set" in machines["two"].output())
            await machines["one"].kill()
            await has(lambda: stored.holder() == "two")
            await has(lambda: stored.warnings() == [("requests_p95", "reached")])
            await has(lambda: len(stored.events()) >= 2)
            opened_, ended = stored.events()
            assert (opened_["type"], opened_["instance"]) == ("gateway.health.warning", "one")
            assert (ended["type"], ended["instance"], ended["outcome"]) == (
                "gateway.health.warning_ended",
                "two",
                "reached",
            )
            assert [json.loads(post.body)["type"] for post in receiver.posts] == ["warning.opened"]
        except BaseException:
            for name, machine in machines.items():
                print(f"Machine {name}: {machine.output()}")
            raise
        finally:
            for machine in machines.values():
                await machine.stop()


async def test_what_a_machine_finds_that_is_the_leader_no_more_is_not_stored_and_the_loop_continues(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StoreClient(stored.url)
    await store.start()
    await eventually(lambda: store.shown_problem is None)
    try:
        work = partial(compete, holder="one", held=None, length=600.0, may_take=True, is_restart=False)
        store.fence, _ = await store.run(work)
        assert store.fence is not None
        bench = Bench(stored.url, store)
        loop = Loop(bench, monkeypatch)
        stored.write(
            (period("madre", HOUR, START - hour * HOUR, USUAL, 3600) for hour in range(1, 169)),
            *(minutes(START - (at + 1) * BIN, USUAL) for at in range(48)),
        )
        warnings = loop.start(store)
        await loop.has_looked()
        held, store.fence = store.fence, Fence("another", 7)
        await loop.pass_bins(ramp(36)[:32])
        looks = loop.looks
        await eventually(lambda: loop.looks > looks + 10, "further looks")
        assert warnings._changed
        assert stored.warnings() == []
        store.fence = held
        await eventually(lambda: not warnings._changed, "a write")
        assert stored.warnings() == [("requests_p95", "open")]
        await loop.tasks.close()
    finally:
        await store.close()


async def has(holds: Callable[[], bool]) -> None:
    """Wait until the database has it. Each look is a connection of its own, so there are not many."""
    async with asyncio.timeout(BEFORE + 40):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.1)
