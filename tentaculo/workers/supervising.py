"""Runs a supervisor with its workers as a process: opens the sockets, and prepares the database beside it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Protocol

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import ConfigurationSource
from tentaculo.server.handover import ProcessContext
from tentaculo.server.listeners import ListeningAddresses, format_address
from tentaculo.server.listening_sockets import open_sockets
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry import logging
from tentaculo.workers.supervisor import Supervisor
from tentaculo.workers.worker_process import WorkerSpec


class StorePreparation(Protocol):
    """Prepares the database while the workers serve."""

    async def start(self) -> None:
        """Start, and wait a few seconds for the first attempt."""

    async def close(self) -> None:
        """End it."""


def supervise(
    config: Config,
    hashes: AcceptedTokens,
    ready: Callable[[ListeningAddresses], None],
    prepare: Callable[[], StorePreparation | None] = lambda: None,
    context: ProcessContext | None = None,
    source: ConfigurationSource | None = None,
) -> None:
    """Run `server.workers` gateways until SIGTERM or SIGINT; a second signal stops them without waiting.

    `ready` is called once every worker accepts requests. What `prepare` makes prepares the database. `context` has what
    this process takes over, and what SIGUSR2 replaces it by. `source` is where a reload reads the configuration. Raises
    `CannotListenError`, and `WorkersFailed` if the workers end before they are ready.
    """
    context = context or ProcessContext()
    predecessor = context.predecessor
    with open_sockets(config.server.addresses, config.server.workers, context.inherited) as sockets:
        names = dict.fromkeys(sock.getsockname()[:2] for sock in sockets[0])
        addresses = tuple((str(host), int(port)) for host, port in names)
        listen = tuple(format_address(host, port) for host, port in addresses)
        read, config = config, config.replace(server=config.server.replace(listen=listen))
        descriptors = tuple(tuple(sock.fileno() for sock in group) for group in sockets)
        job = WorkerSpec(
            config,
            tuple(hashes),
            f"tentaculo-link-{secrets.token_hex(4)}",
            descriptors,
            keeps_sockets=context.inherited.is_activated,
            has_predecessor=predecessor is not None,
        )
        writer = logging.set_up(config.log, shares=True)

        def on_ready() -> None:
            if predecessor is not None:
                predecessor.report_ready(addresses)
            ready(ListeningAddresses(addresses))

        supervisor = Supervisor(job, on_ready, sockets=sockets, context=context)
        try:
            if source is not None:
                supervisor.reload_from(source, read)
            asyncio.run(_run(supervisor, prepare()))
        finally:
            writer.close()


async def _run(supervisor: Supervisor, preparation: StorePreparation | None) -> None:
    tasks = TaskGroup("preparation")
    if preparation is not None:
        tasks.start(preparation.start(), "start")
    try:
        await supervisor.run()
    finally:
        await tasks.close()
        if preparation is not None:
            await preparation.close()
