"""The watch over the files of the configuration: what is a change, and what is none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tentaculo.gateway import file_watch as module
from tentaculo.gateway.configuration_source import ConfigurationSource, look_at
from tentaculo.security.tokens import hash_token
from tentaculo.tasks import TaskGroup
from tests.support.waits import eventually

SERVICE = f'[auth]\ntokens = ["{hash_token("a-token")}"]\n[services.one]\nurl = "http://127.0.0.1:1"\n'


class Watched:
    """A source that is watched, and how often it was read since."""

    def __init__(self, file: Path) -> None:
        self.source = ConfigurationSource(file)
        self.source.load()
        self.changes = 0

    async def reload(self) -> None:
        try:
            await asyncio.to_thread(self.source.load)
        finally:
            # Not before: this may read what the test writes for its next change.
            self.changes += 1


@asynccontextmanager
async def watched(file: Path, monkeypatch: pytest.MonkeyPatch, every: float = 0.02) -> AsyncIterator[Watched]:
    monkeypatch.setattr(module, "LOOK_EVERY", every)
    made = Watched(file)
    tasks = TaskGroup("watch")
    tasks.start(module.FileWatch(made.source, made.reload).run(), "watch")
    try:
        yield made
    finally:
        await tasks.close()


async def test_each_change_of_the_file_is_one_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(SERVICE)
    async with watched(file, monkeypatch) as here:
        for number in range(1, 4):
            file.write_text(SERVICE + f"# {number}\n")
            await eventually(lambda number=number: here.changes == number)  # type: ignore[misc]
        # A later change proves that there was none before it.
        os.utime(file, (1, 1))
        await eventually(lambda: here.changes == 4)


async def test_files_that_it_names_are_watched_too_and_those_that_were_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, secret, tokens = tmp_path / "gateway.toml", tmp_path / "secret", tmp_path / "data" / "token"
    secret.write_text("one")
    file.write_text(SERVICE + 'token_file = "secret"\n')
    async with watched(file, monkeypatch) as here:
        # Replaced as editors and Kubernetes do: another file under the same name, of the same size.
        (tmp_path / "new").write_text("two")
        os.replace(tmp_path / "new", secret)
        await eventually(lambda: here.changes == 1)
        tokens.parent.mkdir()
        tokens.write_text(hash_token("another"))
        await eventually(lambda: here.changes == 2)
        tokens.unlink()
        await eventually(lambda: here.changes == 3)


async def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.toml").write_text(SERVICE)
    (tmp_path / "current").symlink_to("first")
    async with watched(tmp_path / "current" / "gateway.toml", monkeypatch) as here:
        (tmp_path / "next").symlink_to("second")
        os.replace(tmp_path / "next", tmp_path / "current")
        await eventually(lambda: here.changes == 1)


async def test_a_file_that_is_being_written_is_left_to_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(SERVICE)
    async with watched(file, monkeypatch, every=0.1) as here:
        # Twice as often as it looks, for ten looks.
        for number in range(20):
            file.write_text(SERVICE + number * "#")
            await asyncio.sleep(0.05)
        assert here.changes == 0
        await eventually(lambda: here.changes == 1)


async def test_what_another_reload_has_read_is_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(SERVICE)
    looks = 0

    def look(files: Sequence[Path]) -> Any:
        nonlocal looks
        looks += 1
        return look_at(files)

    monkeypatch.setattr(module, "look_at", look)
    async with watched(file, monkeypatch) as here:
        file.write_text(SERVICE + "# by SIGHUP\n")
        here.source.load()
        await eventually(lambda: looks > 3)
        assert here.changes == 0
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "token").write_text(hash_token("another"))
        await eventually(lambda: here.changes == 1)


async def test_a_reload_that_fails_does_not_end_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(SERVICE)
    async with watched(file, monkeypatch) as here:
        with capture_logs() as logs:
            file.write_text("][")
            await eventually(lambda: any(line["event"] == "configuration files not watched" for line in logs))
        file.write_text(SERVICE + "# mended\n")
        await eventually(lambda: here.changes == 2)
