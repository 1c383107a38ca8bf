"""One worker, in its own process: what it inherits, and the gateway that it runs."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace

import click
import uvloop

from tentaculo.gateway import process
from tentaculo.gateway.reloading import start_report
from tentaculo.model.text import utc_now
from tentaculo.server.listeners import CannotListenError
from tentaculo.workers.coordination import WorkerCoordination
from tentaculo.workers.worker_process import WorkerSpec


def work(number: int, descriptor: int, channel: int) -> int:
    """Serve as worker `number` until a stop; returns the exit code. `descriptor` is that of the specification."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    spec = WorkerSpec.read(descriptor)
    os.close(descriptor)
    # The inherited descriptor stays open until the process ends, so that the supervisor notices the end.
    os.set_inheritable(channel, False)
    coordination = WorkerCoordination(
        number,
        spec.workers,
        spec.name,
        socket.socket(fileno=os.dup(channel)),
        replace(spec.last_reload or start_report(utc_now()), generation=spec.generation),
        has_predecessor=spec.has_predecessor,
    )
    sockets = [[socket.socket(fileno=inherited) for inherited in group] for group in spec.sockets]
    for sock in (sock for group in sockets for sock in group):
        sock.set_inheritable(False)
    try:
        uvloop.run(
            process.serve(
                spec.config,
                hashes=spec.hashes,
                coordination=coordination,
                sockets=sockets,
                keeps_sockets=spec.keeps_sockets,
            )
        )
    except CannotListenError as error:
        click.echo(f"Error: worker {number} cannot listen on {error.address}: {error.strerror}", err=True)
        return 1
    return 0
