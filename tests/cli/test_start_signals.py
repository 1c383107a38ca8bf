"""Signals that arrive while the modules of a gateway are still imported, which is most of its start."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

LIMIT = 60.0
_SIGNALLED = """
import os, runpy, signal, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "tentaculo.cli.main":
            os.kill(os.getpid(), {number})
            sys.exit("it continued")

sys.meta_path.insert(0, Sender())
sys.argv = ["tentaculo", {command!r}]
runpy.run_module("tentaculo", run_name="__main__")
"""


async def signalled(command: str, number: signal.Signals) -> tuple[int | None, str]:
    """Exit code and errors of `command` that gets signal `number` as soon as it imports the command line."""
    program = _SIGNALLED.format(number=int(number), command=command)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=PIPE, stderr=PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), LIMIT)
    return process.returncode, errors.decode().strip()


@pytest.mark.parametrize("command", ["serve", "demo"])
async def test_a_gateway_that_is_stopped_while_it_starts_ends_quietly(command: str) -> None:
    """The first process of a container gets no signal that it does not handle, and would be killed ten seconds later."""
    assert await signalled(command, signal.SIGTERM) == (128 + signal.SIGTERM, "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
@pytest.mark.parametrize("command", ["serve", "demo"])
async def test_a_signal_of_a_running_gateway_does_not_end_one_that_starts(command: str, number: signal.Signals) -> None:
    assert await signalled(command, number) == (1, "it continued")


async def test_other_commands_leave_signals_as_they_are() -> None:
    assert await signalled("check", signal.SIGTERM) == (-signal.SIGTERM, "")
