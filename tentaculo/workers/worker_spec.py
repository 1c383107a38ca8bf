"""What every worker is to do, handed down as the supervisor read it: a successor serves what its predecessor did."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass

from tentaculo.config.schema import Config


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """The same for each worker, whenever it is started, whatever became of the configuration's file meanwhile."""

    config: Config
    hashes: tuple[str, ...]
    """Of the accepted tokens."""
    name: str
    """By which the gateway knows its own requests again, whichever worker sent them."""
    sockets: tuple[tuple[int, ...], ...] = ()
    """Descriptors of each worker's listening sockets; every worker inherits them all."""

    @property
    def workers(self) -> int:
        """How many there are."""
        return self.config.server.workers

    def write(self) -> int:
        """A descriptor of memory that holds it, for workers to read: it has secrets, which belong in no file."""
        descriptor = os.memfd_create("tentaculo-job")
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(self, file)
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> WorkerSpec:
        """The job that another process has written; several may read it at once."""
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        job = pickle.loads(text)  # noqa: S301 - written by the supervisor, into memory that only its children have
        assert isinstance(job, cls)
        return job
