"""The update of the database schema at the start: in a child process, beside the gateway, until it works."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from tentaculo.config.database_url import is_sqlite
from tentaculo.config.environment import child_environment
from tentaculo.config.schema import Config
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

TIMEOUT = 60.0
"""Seconds until an attempt is given up."""
PATIENCE = 5.0
"""Seconds that a start waits for the first attempt. Requests are served meanwhile."""
FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds before the second attempt, and between two attempts at most."""


class SchemaUpgrade:
    """Runs `tentaculo db upgrade` until it succeeds, so that the gateway itself never loads Alembic."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """`command` updates the schema and ends with 0, or says in the last line of its errors why not."""
        self._command = command
        self._env = env
        self._tasks = TaskGroup("schema upgrade")
        self._tried = asyncio.Event()

    def __repr__(self) -> str:
        return f"<SchemaUpgrade: {' '.join(self._command)}>"

    @classmethod
    def of(cls, config: Config, file: Path | None) -> SchemaUpgrade | None:
        """The upgrade of the configured database; None where `database.auto_upgrade` says so."""
        wanted = config.database.auto_upgrade
        if not (is_sqlite(config) if wanted is None else wanted):
            return None
        command = [sys.executable, "-m", "tentaculo", "db", "upgrade"]
        if file is not None:
            command += ["-c", str(file)]
        return cls(command, child_environment(config))

    async def start(self) -> None:
        """Begin, and wait up to `PATIENCE` seconds for the first attempt to end."""
        self._tasks.start(self._run(), "run")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._tried.wait(), PATIENCE)

    async def close(self) -> None:
        """End the attempts; one under way is stopped."""
        await self._tasks.close()

    async def _run(self) -> None:
        pause = FIRST_RETRY
        while (reason := await self._attempt()) is not None:
            log.warning("database schema not upgraded", reason=reason, again_in=pause)
            self._tried.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)
        self._tried.set()

    async def _attempt(self) -> str | None:
        """Why the schema was not updated; None where it was."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
            )
        except OSError as error:
            return f"no process can be started: {error.strerror}"
        try:
            _, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
        except TimeoutError:
            return f"it took longer than {TIMEOUT:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode == 0:
            return None
        lines = errors.decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("Error: ").rstrip(".") if lines else f"it ended with {process.returncode}"
