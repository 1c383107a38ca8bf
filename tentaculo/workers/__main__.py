"""`python -m tentaculo.workers NUMBER JOB LINE`: one worker, as the supervisor starts it; the last two are descriptors."""

from __future__ import annotations

import os
import socket
import sys

import click
import uvloop

from tentaculo.config.environment import widen_lookups
from tentaculo.gateway import process
from tentaculo.gateway.gateway import CannotListen
from tentaculo.workers.coordination import WorkerCoordination
from tentaculo.workers.worker_process import WorkerSpec


def work(number: int, descriptor: int, line: int) -> int:
    """Serve as worker `number` until a stop; returns the exit code. The descriptors are those of the job and the line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    job = WorkerSpec.read(descriptor)
    os.close(descriptor)
    # The one that was handed down stays open until the process ends, which is how the supervisor learns of that.
    os.set_inheritable(line, False)
    coordination = WorkerCoordination(number, job.workers, job.name, socket.socket(fileno=os.dup(line)))
    sockets = [[socket.socket(fileno=inherited) for inherited in group] for group in job.sockets]
    for sock in (sock for group in sockets for sock in group):
        sock.set_inheritable(False)
    widen_lookups()
    try:
        uvloop.run(process.serve(job.config, hashes=job.hashes, coordination=coordination, sockets=sockets))
    except CannotListen as error:
        click.echo(f"Error: worker {number} cannot listen on {error.address}: {error.strerror}", err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(work(*map(int, sys.argv[1:])))
