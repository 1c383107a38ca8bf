"""The database schema is updated beside the serving gateway, and again until it works."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from tentaculo.cli import serve
from tentaculo.cli.output import StartError
from tentaculo.cli.serve import SchemaUpgrade
from tests.support.gateway_process import ROOT, TOKEN, clean_environment, running_gateway
from tests.support.service_manager import service_manager
from tests.support.waits import eventually, free_port


@pytest.mark.parametrize("reader", ["stops", "leaves"])
async def test_nobody_need_read_what_it_prints(tmp_path: Path, reader: str) -> None:
    """A pipe whose reader hangs is full soon; one whose reader has gone fails."""
    read_end, write_end = os.pipe()
    if reader == "leaves":
        os.close(read_end)
    else:
        os.set_blocking(write_end, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write_end, bytes(4096))
        os.set_blocking(write_end, True)
    port = free_port()
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'server = {{host = "127.0.0.1", port = {port}}}\nservices.s = {{url = "http://127.0.0.1:9", enabled = false}}\n'
    )
    added = {"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN, "TENTACULO_DATABASE_AUTO_UPGRADE": "false"}
    with service_manager() as manager:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tentaculo", "serve", "-c", str(file)),
            cwd=tmp_path,
            env=clean_environment({**added, "NOTIFY_SOCKET": manager.address}),
            stdout=write_end,
            stderr=write_end,
        )
        os.close(write_end)
        try:
            # It is ready behind what it prints.
            await eventually(lambda: "READY" in manager.states or process.returncode is not None, seconds=50)
            async with ClientSession(f"http://127.0.0.1:{port}") as session, session.get("/livez") as response:
                assert response.status == 200
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 50) == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if reader == "stops":
                os.close(read_end)


def test_a_start_without_threads_says_why() -> None:
    with pytest.raises(StartError, match="no thread can be started"), serve._report_start_errors():
        raise RuntimeError("can't start new thread")


def test_a_demonstration_without_a_temporary_folder_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StartError, match="can write no temporary files: No such file or directory"):
        serve.demo(None, 0)


FAILS_TWICE = """
import pathlib, sys
file = pathlib.Path(sys.argv[1])
times = len(file.read_text()) if file.exists() else 0
file.write_text("x" * (times + 1))
if times < 2:
    sys.exit("Error: the disk is full.")
"""


async def test_it_is_tried_until_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FIRST_RETRY", 0.01)
    counter = tmp_path / "times"
    upgrade = SchemaUpgrade([sys.executable, "-c", FAILS_TWICE, str(counter)], {})
    await asyncio.wait_for(upgrade.start(), serve.PATIENCE)
    async with asyncio.timeout(20):
        while len(counter.read_text()) < 3:
            await asyncio.sleep(0.02)
    await upgrade.close()
    assert len(counter.read_text()) == 3


async def test_a_machine_that_starts_no_process_now_may_do_so_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "FIRST_RETRY", 0.01)
    program, done = tmp_path / "program", tmp_path / "done"
    upgrade = SchemaUpgrade([str(program)], {})
    with capture_logs() as logs:
        await asyncio.wait_for(upgrade.start(), serve.PATIENCE)
    assert logs[0]["reason"] == "no process can be started: No such file or directory"
    draft = tmp_path / "draft"
    draft.write_text(f"#!/bin/sh\necho > {done}\n")
    draft.chmod(0o700)
    draft.rename(program)
    async with asyncio.timeout(20):
        while not done.exists():
            await asyncio.sleep(0.02)
    await upgrade.close()


async def test_one_that_hangs_delays_the_start_for_a_bounded_time_and_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "PATIENCE", 0.1)
    upgrade = SchemaUpgrade([sys.executable, "-c", "import time; time.sleep(600)"], {})
    with capture_logs() as logs:
        await asyncio.wait_for(upgrade.start(), 5)
    await asyncio.wait_for(upgrade.close(), 5)
    assert [line["event"] for line in logs] == ["database schema upgrade takes long"]


async def _ingest(session: ClientSession, headers: dict[str, str]) -> int:
    body: dict[str, Any] = {"source": "s", "type": "t", "payload": {}}
    async with session.post("/events/ingest", json=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_locked_database_delays_no_response(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "locked.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as lock:
        lock.execute("CREATE TABLE theirs (id INTEGER)")
        lock.execute("BEGIN EXCLUSIVE")
        config = {
            "server": {"workers": workers},
            "database": {"url": f"sqlite:///{file}"},
            "events": {"wait": 1},
            "services": {"s": {"url": "http://127.0.0.1:9", "enabled": False}},
        }
        async with running_gateway(config) as gateway, ClientSession(gateway.url) as session:
            assert await _ingest(session, gateway.headers) == 503
            lock.execute("ROLLBACK")
            async with asyncio.timeout(60):
                while await _ingest(session, gateway.headers) != 201:
                    await asyncio.sleep(0.1)
