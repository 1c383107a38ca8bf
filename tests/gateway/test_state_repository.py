"""States and heartbeats over restarts of the gateway, with a real database."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import select

from tentaculo.config.schema import Config
from tentaculo.gateway import state_repository
from tentaculo.gateway.health_service import HealthService
from tentaculo.health import steady_clock
from tentaculo.model.health import GATEWAY_NAME, Health, LastHeartbeat, StateChange
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.database import once
from tentaculo.store.errors import StoreUnavailable
from tentaculo.store.states import add_changes, latest_changes, read_changes, read_heartbeats, save_heartbeats
from tentaculo.store.tables import state_changes
from tests.support.waits import eventually

NOW = datetime.now(UTC)
JOB = {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 3600, "interval": 0.05}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_repository, "PAUSE", 0.01)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'fleet.db'}"
    migrate.upgrade(url)
    return url


@asynccontextmanager
async def running_store(url: str) -> AsyncIterator[StoreClient]:
    store = StoreClient(url)
    await store.start()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def running(url: str, **services: Any) -> AsyncIterator[HealthService]:
    async with running_store(url) as store:
        fleet = HealthService(Config.of({"services": services}), store)
        async with fleet.recording(dict), fleet.keeping_states(), fleet.probing():
            yield fleet


@asynccontextmanager
async def service() -> AsyncIterator[tuple[dict[str, Any], set[str]]]:
    """The table of a service, and a set that makes it fail while it is not empty."""
    failing: set[str] = set()

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=500 if failing else 200)

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    probe = {"interval": 0.05, "recheck": 0.05, "failures": 1, "successes": 1, "timeout": 20}
    try:
        yield {"url": "http://{}:{}".format(*runner.addresses[0][:2]), "probe": probe}, failing
    finally:
        await runner.cleanup()


async def test_a_state_and_its_beginning_survive_a_restart(url: str) -> None:
    async with service() as (table, failing):
        failing.add("all")
        async with running(url, madre=table) as fleet:
            await eventually(lambda: fleet.board.service("madre").health is Health.DOWN)
            since = fleet.board.service("madre").since
        async with running(url, madre=table) as fleet:
            view = fleet.board.service("madre")
            assert (view.health, view.since) == (Health.DOWN, since)
            await eventually(lambda: not fleet.board.service("madre").is_restored)
            assert fleet.board.service("madre").since == since
            failing.clear()
            await eventually(lambda: fleet.board.service("madre").health is Health.UP)
    changes = once(url, latest_changes)
    assert [(one.endpoint == "", one.before, one.after) for one in changes] == [
        (False, Health.DOWN, Health.UP),
        (True, Health.DOWN, Health.UP),
    ]


async def test_a_restart_in_maintenance_is_no_change_of_the_state(url: str) -> None:
    def of_service() -> StateChange:
        (found,) = [one for one in once(url, latest_changes) if not one.endpoint]
        return found

    async with service() as (table, _):
        async with running(url, madre=table) as fleet:
            await eventually(lambda: fleet.board.service("madre").health is Health.UP)
            fleet.set_maintenance("madre", "a new disk")
        began = of_service()
        assert began.after is Health.MAINTENANCE
        async with running_store(url) as store:
            again = HealthService(Config.of({"services": {"madre": table}}), store)
            async with again.recording(dict), again.keeping_states():
                assert again.board.service("madre").is_restored
                again.set_maintenance("madre", "a new disk")
        assert of_service() == began
        async with running(url, madre=table) as fleet:
            await eventually(lambda: not fleet.board.service("madre").is_restored)
        ended = of_service()
        assert (ended.before, ended.after) == (Health.MAINTENANCE, Health.UP)
        assert "before the restart" not in ended.reason


def rows(url: str) -> dict[str, list[Any]]:
    """Status, code, body and time of each row of the services' table."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        query = "SELECT service_name, status, http_code, snippet, last_check FROM copilot_runtime_services"
        return {name: found for name, *found in connection.execute(query)}


def write_row(url: str, name: str) -> None:
    """As another producer does."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("DELETE FROM copilot_runtime_services WHERE service_name = ?", (name,))
        values = "(service_name, host, port, status, http_code) VALUES (?, 'h', 1, 'OK', 204)"
        connection.execute(f"INSERT INTO copilot_runtime_services {values}", (name,))


async def test_the_row_of_a_service_that_was_removed_while_nothing_ran_says_so(url: str) -> None:
    """It said OK 200 for ever. Rows that this gateway did not write stay."""
    async with service() as (table, _):
        async with running(url, madre=table, old=table, kept=table):
            await eventually(lambda: {name for name, row in rows(url).items() if row[0] == "OK"} >= {"old", "kept"})
            await eventually(lambda: once(url, latest_changes) and rows(url).get("madre", [""])[0] == "OK")
        write_row(url, "other")
        checked_at = rows(url)["madre"][3]
        async with running(url, kept={**table, "aliases": ["old"]}) as fleet:
            gone = ["UNKNOWN", None, "The service was removed from the configuration.", checked_at]
            await eventually(lambda: rows(url)["madre"] == gone)
            await eventually(lambda: not fleet.board.service("kept").is_restored)
        assert (rows(url)["other"][:2], rows(url)["old"][0], rows(url)["kept"][0]) == (["OK", 204], "OK", "OK")
        (said,) = [one for one in once(url, latest_changes) if (one.service, one.endpoint) == ("madre", "")]
        assert (said.after, said.why.code) == (Health.OFF, "removed")  # type: ignore[attr-defined]
        # Whoever has written it since, it is theirs now.
        write_row(url, "madre")
        async with running(url, kept=table) as fleet:
            await eventually(lambda: not fleet.board.service("kept").is_restored)
            await eventually(lambda: rows(url)["old"][0] == "UNKNOWN")
        assert rows(url)["madre"][:2] == ["OK", 204]
        async with running(url, madre=table):
            await eventually(lambda: rows(url)["madre"][:2] == ["OK", 200])


async def test_a_table_of_another_shape_stays_as_it_is(url: str) -> None:
    async with service() as (table, _):
        async with running(url, madre=table):
            await eventually(lambda: len(once(url, latest_changes)) == 2)
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            connection.execute("DROP TABLE copilot_runtime_services")
            connection.execute("CREATE TABLE copilot_runtime_services (service_name TEXT, note TEXT)")
            connection.execute("INSERT INTO copilot_runtime_services VALUES ('madre', 'mine')")
        async with running(url, kept=table) as fleet:
            await eventually(lambda: not fleet.board.service("kept").is_restored)
            await eventually(lambda: any(one.service == "kept" for one in once(url, latest_changes)))
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            assert connection.execute("SELECT * FROM copilot_runtime_services").fetchall() == [("madre", "mine")]


async def test_a_heartbeat_survives_a_restart(url: str) -> None:
    async with running(url, job=JOB) as fleet:
        fleet.beat("job", b'{"status": "degraded"}')
        await eventually(lambda: fleet.board.service("job").health is Health.DEGRADED)
    async with running(url, job=JOB) as fleet:
        last = fleet.heartbeats.last("job")
        assert last is not None
        assert last[1] == b'{"status": "degraded"}'
        assert fleet.board.service("job").health is Health.DEGRADED


@pytest.mark.thorough
async def test_a_job_that_died_is_noticed_although_the_gateway_is_restarted_more_often(url: str) -> None:
    begun = NOW - timedelta(seconds=3000)
    beats = [
        LastHeartbeat("job", begun, b""),
        LastHeartbeat("new", begun, None),
        LastHeartbeat(GATEWAY_NAME, NOW, None),
    ]
    once(url, lambda connection: save_heartbeats(connection, beats))
    for _ in range(2):
        async with running(url, job=JOB, new=JOB) as fleet:
            last = fleet.heartbeats.last("job")
            assert last is not None
            assert 3000 <= last[0] < 3600
            assert fleet.heartbeats.last("new") is None
    # Two hours later by its own account, in which no heartbeat came.
    alive = LastHeartbeat(GATEWAY_NAME, NOW + timedelta(seconds=7200), None)
    once(url, lambda connection: save_heartbeats(connection, [alive]))
    async with running(url, job=JOB, new=JOB) as fleet:
        for name in ("job", "new"):
            await eventually(lambda name=name: fleet.board.service(name).health is Health.DOWN)  # type: ignore[misc]


async def test_the_time_in_which_the_gateway_did_not_run_is_no_silence(url: str) -> None:
    long_ago = NOW - timedelta(days=3)
    beats = [LastHeartbeat("job", long_ago, b""), LastHeartbeat(GATEWAY_NAME, long_ago + timedelta(seconds=60), None)]
    once(url, lambda connection: save_heartbeats(connection, beats))
    for _ in range(2):
        async with running(url, job=JOB) as fleet:
            await eventually(lambda: fleet.board.service("job").health is Health.UP)
            last = fleet.heartbeats.last("job")
            assert last is not None
            assert 60 <= last[0] < 600


async def test_a_clock_that_was_set_back_makes_no_silence(url: str) -> None:
    beats = [LastHeartbeat("job", NOW, b""), LastHeartbeat(GATEWAY_NAME, NOW - timedelta(days=1), None)]
    once(url, lambda connection: save_heartbeats(connection, beats))
    async with running(url, job=JOB) as fleet:
        last = fleet.heartbeats.last("job")
        assert last is not None
        assert last[0] < 600


async def test_what_changes_while_the_database_is_locked_is_stored_afterwards(url: str) -> None:
    three_hours_ago = NOW - timedelta(hours=3)
    async with service() as (table, _):
        where = table["url"].removeprefix("http://")
        stored = [
            StateChange("madre", one, Health.UNKNOWN, Health.UP, "as found", three_hours_ago) for one in ("", where)
        ]
        once(url, lambda connection: add_changes(connection, stored))
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            async with running(url, madre=table, job=JOB) as fleet:
                await eventually(lambda: fleet.board.service("madre").health is Health.UP)
                assert fleet.board.service("madre").since > three_hours_ago
                fleet.beat("job", b"")
                other.execute("ROLLBACK")
                await eventually(lambda: fleet.board.service("madre").since == three_hours_ago)
                await eventually(lambda: "job" in once(url, read_heartbeats))
        found = {(one.service, one.endpoint): one for one in once(url, latest_changes)}
        assert found["madre", ""].at == three_hours_ago, "it was up all the time, as far as is known"
        assert ("job", "") in found


@pytest.mark.thorough
async def test_a_change_whose_first_attempt_is_stored_late_is_stored_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[Any] = []

    async def slow(self: StoreClient, work: Any) -> Any:
        done = await run_as_holder(self, work)
        if work.func is add_changes:
            attempts.append(work)
            if len(attempts) == 1:
                raise StoreUnavailable("The database did not respond in time.")
        return done

    run_as_holder = StoreClient.run_as_holder
    monkeypatch.setattr(StoreClient, "run_as_holder", slow)
    async with service() as (table, _), running(url, madre=table):
        await eventually(lambda: len(attempts) > 1)
    everything = select(state_changes).where(state_changes.c.service == "madre")
    found = once(url, lambda connection: read_changes(connection, everything))
    assert sorted(one.endpoint for one in found) == ["", table["url"].removeprefix("http://")]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens while the next changes are stored."""
    steps: list[Callable[[], None]] = []

    async def slow(self: StoreClient, work: Any) -> Any:
        done = await run_as_holder(self, work)
        if work.func is add_changes and steps:
            steps.pop()()
        return done

    run_as_holder = StoreClient.run_as_holder
    monkeypatch.setattr(StoreClient, "run_as_holder", slow)
    return steps


async def test_changes_that_come_while_others_are_stored_are_not_lost(
    url: str, monkeypatch: pytest.MonkeyPatch, meanwhile: list[Callable[[], None]]
) -> None:
    monkeypatch.setattr(state_repository, "_MOST_WAITING", 2)
    async with running_store(url) as store:
        fleet = HealthService(
            Config.of({"services": {f"s{n}": JOB | {"url": f"http://h:{n}"} for n in range(1, 5)}}), store
        )
        for number in (1, 2):
            fleet.states.note(replace(fleet.board.service(f"s{number}"), health=Health.UP), NOW)

        def others_come() -> None:
            for number in (3, 4):
                fleet.states.note(replace(fleet.board.service(f"s{number}"), health=Health.UP), NOW)

        meanwhile.append(others_come)
        await fleet.states.save()
        found = {one.service for one in once(url, latest_changes)}
    assert found == {"s1", "s2", "s3", "s4"}


async def test_another_machine_may_take_the_lead_while_changes_are_stored(
    url: str, meanwhile: list[Callable[[], None]]
) -> None:
    async with running_store(url) as store:
        fleet = HealthService(Config.of({"services": {"job": JOB}}), store)
        fleet.states.note(replace(fleet.board.service("job"), health=Health.UP), NOW)
        meanwhile.append(fleet.states.reset)
        await fleet.states.save()
    assert repr(fleet.states) == "<StateRepository: 0 changes waiting>"


async def test_changes_that_are_too_old_are_removed_and_the_last_ones_stay(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady_clock, "STEADY", 0.0)
    long_ago = NOW - timedelta(days=9999)
    old = [StateChange("gone", "", Health.UP, Health.DOWN, "as found", long_ago) for _ in range(5)]
    once(url, lambda connection: add_changes(connection, old))

    def count() -> int:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
            (found,) = other.execute("SELECT count(*) FROM tentaculo_state_changes").fetchone()
        return int(found)

    async with running(url, job=JOB):
        await eventually(lambda: count() == 1)
