"""A worker's side of a reload, without a supervisor."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress

from tentaculo.gateway.reloading import start_report
from tentaculo.model.text import utc_now
from tentaculo.workers.channel import RELOADS
from tentaculo.workers.generations import Discard, Prepare, WorkerReloads, write_file


def open_files() -> int:
    """How many files of reloads this process has open."""
    found = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found += "tentaculo-reload" in os.readlink(f"/proc/self/fd/{descriptor}")
    return found


async def test_a_configuration_that_is_discarded_before_it_was_read_leaves_no_file() -> None:
    """Both messages wait for a worker whose event loop was stalled."""
    reloads = WorkerReloads(start_report(utc_now()), lambda: None)
    descriptor = write_file("a configuration with secrets")
    assert open_files() == 1
    reloads.receive(RELOADS + pickle.dumps(Prepare(1)), descriptor)
    reloads.receive(RELOADS + pickle.dumps(Discard(1)), None)
    await reloads.close()
    assert open_files() == 0
