"""The applications' own environment, and how a test runs one of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.gateway_process import ROOT, Running, running_gateway
from tests.support.needs import need
from tests.support.waits import free_port

ENVIRONMENT = ROOT / ".venv-applications"
"""`tools/bootstrap.sh conformance` fills it; its packages would not fit into the project's own environment."""
PROGRAMS = Path(__file__).parent / "programs"
START_TIMEOUT = 60.0
RUN_TIMEOUT = 90.0


def command(name: str) -> str:
    """The path of a command of the applications' environment; the test is skipped where it is not installed."""
    folders = (ENVIRONMENT / "bin", ENVIRONMENT / "node" / "node_modules" / ".bin")
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    need(found, f"{name} (tools/bootstrap.sh conformance)")
    assert found is not None
    return found


def system_command(name: str, package: str) -> str:
    """The path of a command of the system; the test is skipped where Debian's `package` is not installed."""
    found = shutil.which(name)
    need(found, f"{name} (Debian: {package})")
    assert found is not None
    return found


async def run(argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a client to its end and return what it printed; the test fails if its exit code is not 0."""
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=folder, env={**os.environ, **(env or {})}, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RUN_TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    printed = output.decode(errors="replace")
    assert process.returncode == 0, f"{' '.join(argv)} ended with {process.returncode}:\n{printed}"
    return printed


async def run_program(name: str, *arguments: str, folder: Path) -> str:
    """Run `programs/NAME.py` with the applications' Python."""
    return await run([command("python"), str(PROGRAMS / f"{name}.py"), *arguments], folder)


@asynccontextmanager
async def server(argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[int]:
    """Run a server until the context ends, and yield its port.

    `{port}` in an argument is replaced by a free port. The server is ready when it accepts a connection.
    """
    port = free_port()
    log = folder / "server.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(part.replace("{port}", str(port)) for part in argv),
            cwd=folder,
            env={**os.environ, "HOME": str(folder), **(env or {})},
            stdin=DEVNULL,
            stdout=sink,
            stderr=STDOUT,
        )
    try:
        await _accepts(port, process, log)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


@asynccontextmanager
async def gateway_to(port: int, *routes: Mapping[str, Any], **service: Any) -> AsyncIterator[Running]:
    """Run a gateway with one service, on 127.0.0.1:`port`, whose routes need no token."""
    table = {
        "url": f"http://127.0.0.1:{port}",
        "probe": {"kind": "tcp"},
        "routes": [{"auth": "none", **route} for route in routes],
        **service,
    }
    async with running_gateway({"services": {"application": table}}) as gateway:
        yield gateway


async def _accepts(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            ended = process.returncode is not None
            assert not ended, f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
