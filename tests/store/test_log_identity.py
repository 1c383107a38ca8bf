"""The name of the log of events: random, kept, and another one for a copy of the database."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tentaculo.store.client import StoreClient
from tentaculo.store.log_identity import LogMemory
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


def test_what_cannot_be_remembered_costs_nothing_else(tmp_path: Path) -> None:
    memory = LogMemory(tmp_path / "fleet.db")
    assert memory.recall() == ("", 0)
    memory.remember("a", 5, now=True)
    memory.remember("a", 3, now=True)
    assert memory.recall() == ("a", 5), "another process has stored later events"
    memory.remember("a", 9)
    assert memory.recall() == ("a", 5), "it is not written for each event"
    (tmp_path / "fleet.db-log").write_text("nonsense")
    assert memory.recall() == ("", 0)
    LogMemory(tmp_path / "missing" / "fleet.db").remember("a", 1, now=True)
    LogMemory(None).remember("a", 1, now=True)
    assert LogMemory(None).recall() == ("", 0)
    assert (tmp_path / "fleet.db-log").stat().st_mode & 0o777 == 0o600
