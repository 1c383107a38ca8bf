"""The competition for the lease on a real PostgreSQL, with clocks that a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from tentaculo.gateway import lease_keeper
from tentaculo.gateway.lease_keeper import ALERT_AFTER, AWAY_AFTER, LENGTH, LeaseKeeper, Role
from tentaculo.store import migrate
from tentaculo.store.database import once
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.events import Query
from tentaculo.store.lease import Fence, read_lease
from tentaculo.tasks import TaskGroup
from tests.support.postgresql import Server
from tests.support.waits import eventually


class Machine:
    """A machine with its own way to the database and its own clock."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.is_cut_off = False
        self.time = 1000.0
        self.steps = 0
        self.fence: Fence | None = None
        self.keeper = LeaseKeeper(self, instance=name, on_change=lambda: None, clock=lambda: self.time)

    async def run(self, work: Query) -> Any:
        self.steps += 1
        if self.is_cut_off:
            raise StoreUnavailable("away")
        return await asyncio.to_thread(once, self.url, work)

    async def steps_more(self, number: int = 2) -> None:
        """Wait until it has looked so many times from now on."""
        wanted = self.steps + number
        await eventually(lambda: self.steps >= wanted)

    async def becomes(self, role: Role) -> None:
        await eventually(lambda: self.keeper.role is role, f"{self.keeper!r}, {role}")


class Race:
    """Machines on one database."""

    def __init__(self, url: str, tasks: TaskGroup) -> None:
        self.url = url
        self.tasks = tasks

    def start(self, name: str) -> Machine:
        machine = Machine(self.url, name)
        self.tasks.start(machine.keeper.run(), name)
        return machine

    def end_lease(self) -> None:
        """As if its length had passed."""
        once(self.url, lambda connection: connection.execute(text("UPDATE tentaculo_lease SET ends_ms = 1")))


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as made:
        yield made


@pytest.fixture
async def race(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Race]:
    for name in ("RENEW_EVERY", "LOOK_EVERY", "RETRY"):
        monkeypatch.setattr(lease_keeper, name, 0.02)
    tasks = TaskGroup("race")
    yield Race(url, tasks)
    await tasks.close()


async def test_one_leads_and_the_other_follows_until_it_is_released(race: Race) -> None:
    one = race.start("one")
    await one.becomes(Role.LEADER)
    two = race.start("two")
    await two.becomes(Role.FOLLOWER)
    assert (one.fence, two.fence) == (Fence("one", 1), None)
    assert (one.keeper.may_alert(), two.keeper.may_alert()) == (True, False)
    assert two.keeper.holder == "one"
    await race.tasks.close()
    await one.keeper.release()
    assert (one.keeper.role, one.fence) == (Role.FOLLOWER, None)
    race.tasks = TaskGroup("again")
    race.tasks.start(two.keeper.run(), "two")
    await two.becomes(Role.LEADER)
    assert two.fence == Fence("two", 2)
    await race.tasks.close()


async def test_a_leader_does_not_believe_in_its_lease_longer_than_the_database(race: Race) -> None:
    one = race.start("one")
    await one.becomes(Role.LEADER)
    one.is_cut_off = True
    await one.steps_more()
    assert one.keeper.is_held
    one.time += LENGTH - 1.0
    assert not one.keeper.is_held
    assert not one.keeper.may_alert()
    await one.becomes(Role.ALONE)
    assert one.fence is None


async def test_a_machine_that_was_suspended_finds_the_lease_taken(race: Race) -> None:
    one = race.start("one")
    await one.becomes(Role.LEADER)
    await race.tasks.close()
    race.end_lease()
    race.tasks = TaskGroup("again")
    two = race.start("two")
    await two.becomes(Role.LEADER)
    one.time += 60
    race.tasks.start(one.keeper.run(), "one")
    await one.becomes(Role.FOLLOWER)
    assert (one.fence, two.fence) == (None, Fence("two", 2))
    await race.tasks.close()


async def test_a_follower_is_alone_only_after_a_while_and_alerts_only_after_a_minute(race: Race) -> None:
    one = race.start("one")
    await one.becomes(Role.LEADER)
    two = race.start("two")
    await two.becomes(Role.FOLLOWER)
    two.is_cut_off = True
    await two.steps_more()
    assert two.keeper.role is Role.FOLLOWER
    two.time += AWAY_AFTER
    await two.becomes(Role.ALONE)
    assert not two.keeper.may_alert()
    assert not two.keeper.is_in_charge
    two.time += ALERT_AFTER
    assert two.keeper.may_alert()


async def test_after_an_outage_the_last_leader_goes_first(race: Race) -> None:
    one = race.start("one")
    await one.becomes(Role.LEADER)
    two = race.start("two")
    await two.becomes(Role.FOLLOWER)
    one.is_cut_off = two.is_cut_off = True
    one.time += LENGTH
    two.time += LENGTH
    await one.becomes(Role.ALONE)
    await two.becomes(Role.ALONE)
    assert (one.keeper.is_in_charge, one.keeper.may_alert()) == (True, True)
    race.end_lease()
    two.is_cut_off = False
    await two.steps_more(4)
    assert two.keeper.role is Role.ALONE, "it waits"
    one.is_cut_off = False
    await one.becomes(Role.LEADER)
    await two.becomes(Role.FOLLOWER)
    assert one.fence == Fence("one", 1), "the same lease"


async def test_a_machine_that_is_left_alone_leads_when_the_last_leader_does_not_come_back(race: Race) -> None:
    two = race.start("two")
    two.is_cut_off = True
    await two.becomes(Role.ALONE)
    once(race.url, lambda connection: connection.execute(text("INSERT INTO tentaculo_lease VALUES (1, 'one', 7, 1)")))
    two.is_cut_off = False
    await two.steps_more(4)
    assert two.keeper.role is Role.ALONE
    two.time += LENGTH
    await two.becomes(Role.LEADER)
    assert two.fence == Fence("two", 8)


async def test_a_restarted_leader_continues_at_once_and_one_of_the_same_name_takes_it_once(race: Race) -> None:
    first = race.start("one")
    await first.becomes(Role.LEADER)
    second = race.start("one")
    await second.becomes(Role.LEADER)
    await first.becomes(Role.FOLLOWER)
    await first.steps_more(4)
    await second.steps_more(4)
    assert (first.keeper.role, second.keeper.role) == (Role.FOLLOWER, Role.LEADER)
    row = once(race.url, read_lease)
    assert row is not None
    assert row.fence == Fence("one", 2)
