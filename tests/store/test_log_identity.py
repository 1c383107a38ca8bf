"""The name of the log of events: random, kept, and another one for a copy of the database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tentaculo.store import client as client_module
from tentaculo.store import database, migrate
from tentaculo.store.client import StoreClient
from tentaculo.store.log_identity import LogMemory
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.store_samples import event, store
from tests.support.waits import eventually

StoreClientOn = Callable[..., StoreClient]


async def name_of(client: StoreClient) -> str:
    await client.start()
    await eventually(client.log_name)
    return client.log_name()


async def test_the_log_has_one_random_name(url: str, store_client_on: StoreClientOn) -> None:
    first, second = await name_of(store_client_on(url)), await name_of(store_client_on(url))
    assert first == second
    assert len(first) == 12


async def test_a_copy_gets_a_new_name(file: Path, tmp_path: Path, store_client_on: StoreClientOn) -> None:
    first = store_client_on(f"sqlite:///{file}")
    name = await name_of(first)
    await store(first, event(1))
    await first.close()
    copy = tmp_path / "copy.db"
    shutil.copyfile(file, copy)
    assert await name_of(store_client_on(f"sqlite:///{copy}")) != name
    assert await name_of(store_client_on(f"sqlite:///{file}")) == name


async def test_a_backup_that_is_copied_over_the_file_gets_a_new_name_and_ids_do_not_go_back(
    file: Path, tmp_path: Path, store_client_on: StoreClientOn
) -> None:
    url, backup = f"sqlite:///{file}", tmp_path / "backup.db"
    first = store_client_on(url)
    name = await name_of(first)
    await store(first, event(1))
    await first.close()
    shutil.copyfile(file, backup)
    second = store_client_on(url)
    assert await name_of(second) == name
    assert await store(second, event(500)) == 500
    await second.close()
    shutil.copyfile(backup, file)  # the same inode, and older content
    third = store_client_on(url)
    assert await name_of(third) != name
    assert await store(third, event(2)) == 501


async def test_the_last_id_is_not_written_beside_the_file_for_each_event(
    file: Path, store_client_on: StoreClientOn
) -> None:
    client, memory = store_client_on(f"sqlite:///{file}"), file.with_name(f"{file.name}-log")
    name = await name_of(client)
    for _ in range(3):
        await store(client, event(500))
    assert memory.read_text() == f"{name} 500\n"
    await client.close()
    assert memory.read_text() == f"{name} 502\n"


async def test_a_copy_on_the_same_server_gets_a_new_name(postgresql: Server, store_client_on: StoreClientOn) -> None:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        first = store_client_on(url)
        name = await name_of(first)
        await first.close()
        with postgresql.database(str(make_url(url).database)) as copy:
            second = store_client_on(copy)
            assert await name_of(second) != name
            await second.close()
        assert await name_of(store_client_on(url)) == name


async def test_data_that_is_restored_under_a_running_gateway_gets_a_new_name(
    postgresql: Server, store_client_on: StoreClientOn
) -> None:
    """Nothing but the gateway itself knows what was stored after the backup: its files have the server's numbers."""
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        client = store_client_on(url, event_wait=20)
        name = await name_of(client)
        assert await store(client, event(500)) == 500
        with opened(url) as connection:
            connection.exec_driver_sql("DELETE FROM tentaculo_events")
            connection.exec_driver_sql("UPDATE tentaculo_event_sequence SET last_id = 100")
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert await store(client, event(2)) == 501
        assert client.log_name() != name


SLOW = """CREATE FUNCTION public.pg_control_system() RETURNS TABLE (system_identifier bigint)
    LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(60)'"""
"""Stands before PostgreSQL's own function where the schema `public` is searched first."""


async def test_a_server_that_is_too_slow_to_identify_itself_is_not_another_one(
    postgresql: Server, store_client_on: StoreClientOn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SERVER_WAIT", 0.2)
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        name = await name_of(store_client_on(url))
        with opened(url) as connection:
            connection.exec_driver_sql(SLOW)
        with_public_first = f"ALTER DATABASE {make_url(url).database} SET search_path = public, pg_catalog"
        postgresql.execute(with_public_first)
        client = store_client_on(url)
        monkeypatch.setattr(client_module, "OPEN_WAIT", 0.1)
        await client.start()
        await eventually(lambda: client.problem)
        assert client.log_name() == ""
        with opened(url) as connection:
            connection.exec_driver_sql("DROP FUNCTION public.pg_control_system()")
        await eventually(client.log_name)
        assert client.log_name() == name


async def test_a_server_that_may_not_identify_itself_has_a_name_all_the_same(
    postgresql: Server, store_client_on: StoreClientOn
) -> None:
    """A service of PostgreSQL may forbid the functions; the name then depends on the table only."""
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        with opened(url) as connection:
            connection.exec_driver_sql("CREATE FUNCTION public.pg_control_system() RETURNS void LANGUAGE sql AS ''")
        postgresql.execute(f"ALTER DATABASE {make_url(url).database} SET search_path = public, pg_catalog")
        assert await name_of(store_client_on(url)) == await name_of(store_client_on(url))


def test_what_cannot_be_remembered_costs_nothing_else(tmp_path: Path) -> None:
    memory = LogMemory(tmp_path / "fleet.db")
    assert memory.recall() == ("", 0)
    memory.remember("a", 5)
    memory.remember("a", 3)
    assert memory.recall() == ("a", 5), "another process has stored later events"
    (tmp_path / "fleet.db-log").write_text("nonsense")
    assert memory.recall() == ("", 0)
    LogMemory(tmp_path / "missing" / "fleet.db").remember("a", 1)
    assert (tmp_path / "fleet.db-log").stat().st_mode & 0o777 == 0o600


def test_without_a_file_it_is_remembered_as_long_as_the_process_lives() -> None:
    memory = LogMemory(None)
    assert memory.recall() == ("", 0)
    memory.remember("a", 1)
    memory.remember("a", 2)
    assert memory.recall() == ("a", 2)
