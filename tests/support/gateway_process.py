"""The gateway as a process of its own, as an operator starts it: `python -m tentaculo serve -c FILE`."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from tentaculo.store import migrate

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-for-tests"
START_TIMEOUT = 50.0
STOP_TIMEOUT = 50.0
"""Both only end what hangs, before the test's own limit of a minute does: how long it takes is the machine's affair."""
_ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):\d+")


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers."""

    url: str
    """Its origin, without a slash at the end."""
    token: str
    process: Process
    folder: Path
    """Where its configuration file is, and by default its data."""
    output: Path
    """What it prints, standard output and error together."""

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    @property
    def headers(self) -> dict[str, str]:
        """What a caller sends to be let in."""
        return {"X-VX11-Token": self.token}

    def logged(self, event: str | None = None) -> list[dict[str, Any]]:
        """What it and its children have logged, all or those of one name. A line that is being written is not there yet."""
        lines = self.output.read_text(encoding="utf-8").split("\n")[:-1]
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in found if event in (None, entry["event"])]

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), STOP_TIMEOUT)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything that the gateway would read, and with `extra`."""
    ours = ("TENTACULO_", "VX11_", "SHUB_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(extra or {})


def to_toml(value: Any) -> str:
    """A value as TOML writes it in one line; None is not a value of TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {to_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, (str, bool, int, float)):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError(f"{type(value).__name__} is not a value of TOML")


@asynccontextmanager
async def running_process(
    command: Sequence[str], folder: Path, env: Mapping[str, str], *, token: str = TOKEN
) -> AsyncIterator[Running]:
    """Start `command` in `folder`, wait until the address that it prints answers, and end it with the context."""
    output = folder / "output.txt"
    with output.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=dict(env), stdin=DEVNULL, stdout=sink, stderr=STDOUT
        )
    try:
        url = await _answering(process, output)
        yield Running(url, token, process, folder, output)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def running_gateway(config: Mapping[str, Any], env: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A gateway with `config`, TOML-shaped, on a free port where it names none; its token is in the environment.

    `env` is added to the environment. Its folder is a temporary one, gone afterwards. Where neither names a database, it
    has a migrated one, so that no process upgrades it: that is half of a start.
    """
    server = {"host": "127.0.0.1", "port": 0, **config.get("server", {})}
    tables = {**config, "server": server}
    with TemporaryDirectory(prefix="tentaculo-") as name:
        folder = Path(name)
        file = folder / "gateway.toml"
        file.write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items()))
        added = {"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN, **(env or {})}
        if "database" not in config and not any(name.startswith("TENTACULO_DATABASE_") for name in added):
            added["TENTACULO_DATABASE_AUTO_UPGRADE"] = "false"
            database = folder / "data/tentaculo.db"
            database.parent.mkdir()
            shutil.copyfile(_migrated_file(), database)
            database.chmod(0o600)
        environment = clean_environment(added)
        command = (sys.executable, "-m", "tentaculo", "serve", "-c", str(file))
        async with running_process(command, folder, environment) as running:
            yield running


@cache
def _migrated_file() -> Path:
    folder = TemporaryDirectory(prefix="tentaculo-template-")
    atexit.register(folder.cleanup)
    file = Path(folder.name, "tentaculo.db")
    migrate.upgrade(f"sqlite:///{file}")
    return file


async def _answering(process: Process, output: Path) -> str:
    try:
        async with asyncio.timeout(START_TIMEOUT), ClientSession(timeout=ClientTimeout(total=5)) as session:
            while process.returncode is None:
                found = _ADDRESS.search(output.read_text(errors="replace"))
                if found and await _is_live(session, found[0]):
                    return found[0]
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    said = output.read_text(errors="replace")
    raise AssertionError(f"the gateway did not start (exit code {process.returncode}):\n{said}")


async def _is_live(session: ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/livez") as response:
            return response.status == 200
    except (ClientError, TimeoutError):
        return False
