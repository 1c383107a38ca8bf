"""Signals that arrive while the modules of a gateway are still imported, which is most of its start."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.support.gateway_process import ROOT, clean_environment

LIMIT = 15.0
# Each way of sending a signal to oneself.
PLAINLY = "os.kill(os.getpid(), {number}); sys.exit('it continued')"
IN_A_FINALIZER = "Finalized()"
_SIGNALLED = """
import os, runpy, signal, sys

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), {number})

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            {send}

sys.meta_path.insert(0, Sender())
sys.argv = ["tentaculo", {command!r}]
runpy.run_module("tentaculo", run_name="__main__")
"""


async def signalled(
    command: str,
    number: signal.Signals,
    module: str = "tentaculo.cli.main",
    *,
    send: str = PLAINLY,
    folder: Path | None = None,
) -> tuple[int | None, str]:
    """Exit code and errors of `command` that gets signal `number` as soon as it imports `module`."""
    sending = send.format(number=int(number))
    program = _SIGNALLED.format(number=int(number), command=command, module=module, send=sending)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        stdout=PIPE,
        stderr=PIPE,
        cwd=folder,
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), LIMIT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, errors.decode().strip()


@pytest.mark.parametrize("module", ["mimetypes", "tentaculo.cli.main"])
@pytest.mark.parametrize("command", ["serve", "demo"])
async def test_a_gateway_that_is_stopped_while_it_starts_ends_quietly(command: str, module: str) -> None:
    """The first process of a container gets no signal that it does not handle, and would be killed ten seconds later."""
    assert await signalled(command, signal.SIGTERM, module) == (128 + signal.SIGTERM, "")


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("module", "workers"),
    [("tentaculo.cli.main", 1), ("tentaculo.gateway.process", 1), ("tentaculo.workers.supervising", 2)],
)
async def test_a_stop_is_heard_also_where_python_drops_its_exception(module: str, workers: int, tmp_path: Path) -> None:
    """As in finalizers, and in callbacks of the importer."""
    text = (
        f"[server]\nport = 0\nworkers = {workers}\n[auth]\nenabled = false\n[services.s]\nurl = 'http://127.0.0.1:1'\n"
    )
    (tmp_path / "tentaculo.toml").write_text(text)
    code, errors = await signalled("serve", signal.SIGTERM, module, send=IN_A_FINALIZER, folder=tmp_path)
    assert code == 128 + signal.SIGTERM
    assert "Exception ignored in: <function Finalized.__del__" in errors


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
@pytest.mark.parametrize("command", ["serve", "demo"])
async def test_a_signal_of_a_running_gateway_does_not_end_one_that_starts(command: str, number: signal.Signals) -> None:
    assert await signalled(command, number) == (1, "it continued")


async def test_other_commands_leave_signals_as_they_are() -> None:
    assert await signalled("check", signal.SIGTERM) == (-signal.SIGTERM, "")
