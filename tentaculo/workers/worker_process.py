"""One worker as the supervisor runs it: its specification, its process and place, and when it is restarted."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
from dataclasses import dataclass, field

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.schema import Config
from tentaculo.gateway.reloading import ReloadReport
from tentaculo.workers.channel import WorkerChannel


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The configuration that is served. Workers that are started later receive the same, even if the file has changed."""

    config: Config
    hashes: tuple[TokenSettings | str, ...]
    """The accepted tokens."""
    name: str
    """The gateway recognises its own requests by it, whichever worker sent them."""
    sockets: tuple[tuple[int, ...], ...] = ()
    """Descriptors of each worker's listening sockets. Every worker inherits all of them."""
    keeps_sockets: bool = False
    """Whether a service manager has the sockets, so that they stay open when the workers stop."""
    has_predecessor: bool = False
    """Whether these workers replace others, so that worker 1 waits for the order to lead."""
    last_reload: ReloadReport | None = None
    """The last reload, whether it was accepted or not; None before there was any."""
    generation: int = 1
    """Number of the configuration. A reload that is about to be reported has given it, and is not `last_reload` yet."""

    @property
    def workers(self) -> int:
        """The number of workers."""
        return self.config.server.workers

    def write(self) -> int:
        """Write it into memory and return the descriptor, for workers to read. It has secrets, so no file contains it."""
        descriptor = os.memfd_create("tentaculo-worker-spec")
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(self, file)
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> WorkerSpec:
        """The specification that another process has written. Several processes may read it at once."""
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        spec = pickle.loads(text)  # noqa: S301 - written by the supervisor, into memory that only its children have
        assert isinstance(spec, cls)
        return spec


LASTING = 10.0
"""Seconds of service after which the end of a worker does not count as one more failure in a row."""
LAST_PAUSE = 30.0
"""Seconds between two starts at most."""
ATTEMPTS = 3
"""Workers in a row that may end before they accept requests. After that none is started."""


class RestartPolicy:
    """When a worker that has ended is restarted. Pure.

    After the first failure it is restarted at once. Each further failure in a row doubles the pause, from one second to
    `LAST_PAUSE`, so that a worker that always ends at once takes little CPU time from the others.
    """

    def __init__(self) -> None:
        self._failures = 0
        self.false_starts = 0
        """Workers in a row that ended before they accepted requests."""

    def __repr__(self) -> str:
        return f"<RestartPolicy: {self._failures} failures in a row, {self.false_starts} of them before it accepted requests>"

    @property
    def is_hopeless(self) -> bool:
        """Whether `ATTEMPTS` workers in a row ended before they accepted requests."""
        return self.false_starts >= ATTEMPTS

    def pause(self, lived: float, *, was_ready: bool, was_stopped: bool) -> float:
        """Seconds until the next worker is started.

        `lived` is for how many seconds the worker accepted requests; `was_stopped` is whether a signal stopped it.
        """
        self.false_starts = 0 if was_ready else self.false_starts + 1
        if was_ready and (was_stopped or lived >= LASTING):
            self._failures = 0
            if was_stopped:
                return 0.0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(2.0 ** (self._failures - 2), LAST_PAUSE)


@dataclass(slots=True)
class Worker:
    """A worker's process."""

    number: int
    process: subprocess.Popen[bytes]
    channel: WorkerChannel
    ready_at: float | None = None
    """When it began to accept requests, by the loop's clock; None before."""
    is_stopping: bool = False
    """Whether it accepts no more connections."""
    unanswered: int = 0
    """Pings in a row without a response. Seconds would also count the time in which this process did not run."""


@dataclass(slots=True)
class WorkerSlot:
    """The place of one worker, which stays when the worker is replaced."""

    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    worker: Worker | None = None
    timer: asyncio.TimerHandle | None = None
    """For the next start; None where there is no pause."""


def how_it_ended(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
