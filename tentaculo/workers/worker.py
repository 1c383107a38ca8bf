"""One worker: a whole gateway, in a process that the supervisor has started."""

from __future__ import annotations

import os
import socket
import sys

import click
import uvloop

from tentaculo import serving
from tentaculo.app import CannotListen
from tentaculo.config.environment import widen_lookups
from tentaculo.console import FAILED
from tentaculo.workers.colleagues import Colleagues
from tentaculo.workers.job import Job


def work(number: int, descriptor: int, line: int) -> int:
    """Serve as worker `number` until told to stop; gives the exit code. The descriptors are of the job and the line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    job = Job.read(descriptor)
    os.close(descriptor)
    # The one that was handed down stays open until the process ends, which is how the supervisor learns of that.
    os.set_inheritable(line, False)
    colleagues = Colleagues(number, job.workers, job.name, socket.socket(fileno=os.dup(line)))
    widen_lookups()
    try:
        uvloop.run(serving.serve(job.config, hashes=job.hashes, colleagues=colleagues))
    except CannotListen as error:
        click.echo(f"Error: worker {number} cannot listen on {error.address}: {error.strerror}", err=True)
        return FAILED
    return 0
