"""A gateway as a process: its log, its signals, its garbage collector."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import partial

import structlog

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.comparison import Changes
from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.gateway import Gateway
from tentaculo.gateway.layer_reloads import LayerReloads
from tentaculo.gateway.reloading import Reloadable, Reloader
from tentaculo.net.memory import trim_memory
from tentaculo.server.handover import Handover, ProcessContext
from tentaculo.server.listeners import STOP_SIGNALS, ListeningAddresses, ignore_hangup, raise_descriptor_limit
from tentaculo.server.start_signals import end_if_stopped
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry import logging
from tentaculo.telemetry.request_log import access_logger

log = structlog.get_logger(__name__)


async def serve(
    config: Config,
    *,
    hashes: AcceptedTokens,
    ready: Callable[[ListeningAddresses], None] | None = None,
    coordination: Coordination | None = None,
    sockets: Sequence[Sequence[socket.socket]] = (),
    prepare_store: Callable[[], Awaitable[None]] | None = None,
    context: ProcessContext | None = None,
    keeps_sockets: bool = False,
    source: ConfigurationSource | None = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second signal stops it without waiting for requests in flight.

    `context` has what this process takes over, and what SIGUSR2 replaces it by. `keeps_sockets` is as for `Gateway`.

    `hashes` are the accepted tokens'. `ready` is called once requests are accepted. Raises `CannotListenError`. One
    worker of several has `coordination`. Then the supervisor may stop it too, and only the supervisor may skip the wait:
    a signal to every process of the group means one stop, not two. `sockets` are each worker's listening
    sockets; without them the gateway opens its own. `prepare_store` is awaited before the database is used; requests are
    served meanwhile. `source` is where a reload reads the configuration; a worker has none, since its supervisor has it.
    """
    raise_descriptor_limit()
    worker = None if coordination is None else coordination.number
    writer = logging.set_up(config.log, worker=worker, shares=worker is not None)
    stop, stop_now, replace = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (stop_now if stop.is_set() and coordination is None else stop).set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    context = context or ProcessContext()
    reloads = None if source is None else Reloader(source, manager=context.manager)
    layers = None
    if source is not None and source.first is not None and reloads is not None:
        layers = reloads.layers = LayerReloads(source, reloads, source.first)
    # The supervisor gets it too, and has the workers reload.
    loop.add_signal_handler(signal.SIGHUP, ignore_hangup if reloads is None else partial(reloads.request, "SIGHUP"))
    loop.add_signal_handler(signal.SIGUSR2, replace.set if coordination is None else lambda: None)
    if coordination is None:
        end_if_stopped()
    predecessor = context.predecessor
    wait_to_lead = predecessor.lead_released if predecessor is not None else None
    try:
        access_log = access_logger(config.log, writer, sys.stderr, worker)
        if coordination is not None:
            coordination.listen(on_stop=stop.set, on_stop_now=stop_now.set, on_retire=replace.set)
            if coordination.has_predecessor:
                wait_to_lead = coordination.wait_to_lead
        async with Gateway(
            config,
            hashes,
            access_log=access_log,
            stop_now=stop_now,
            coordination=coordination,
            sockets=sockets,
            keeps_sockets=keeps_sockets,
            wait_to_lead=wait_to_lead,
            prepare_store=prepare_store,
            reloads=reloads if coordination is None else coordination.reloads,
        ) as gateway:
            # What the start has made stays for good: a collection need not walk through it again.
            gc.freeze()
            # The templates were compiled, which took more than is needed from now on.
            trim_memory()
            if coordination is not None:
                coordination.reloads.open(gateway)
                coordination.report_ready()
            if predecessor is not None:
                predecessor.report_ready(gateway.running.addresses)
            if ready is not None:
                ready(gateway.running)
            if reloads is not None:
                reloads.open(partial(_apply, gateway), watch=config.reload.watch)
            if layers is not None:
                layers.open()
            is_replaced = await _stopped_or_replaced(gateway, stop, replace, context.handover, coordination, reloads)
            log.info("stopping", in_flight=gateway.proxy.traffic.in_flight)
            if not is_replaced:
                context.manager.stopping()
            if layers is not None:
                await layers.close()
            if reloads is not None:
                await reloads.close()
            if coordination is not None:
                await coordination.reloads.close()
            if is_replaced:
                await gateway.retire(() if context.handover is None else context.handover.kept, stop)
    finally:
        for number in (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR2):
            loop.remove_signal_handler(number)
        if coordination is not None:
            coordination.close()
        writer.close()


async def _apply(gateway: Reloadable, candidate: Candidate, by: str, _number: int) -> Changes:
    return gateway.swap(await gateway.prepare(candidate.config, candidate.hashes), by)


async def _stopped_or_replaced(
    gateway: Gateway,
    stop: asyncio.Event,
    replace: asyncio.Event,
    handover: Handover | None,
    coordination: Coordination | None,
    reloads: Reloader | None,
) -> bool:
    """Until `stop` is set, or a successor has taken over. Returns whether it has, and leads."""
    waits = TaskGroup("process")
    stopping = waits.start(stop.wait(), "stop")
    try:
        while not stop.is_set():
            replacing = waits.start(replace.wait(), "replace")
            await asyncio.wait([stopping, replacing], return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                break
            replace.clear()
            if coordination is not None:
                await gateway.release_lead()
                coordination.report_lead_released()
                return True
            if handover is None:
                log.warning("successor not started", reason="the demonstration cannot be replaced")
                continue
            replacing = waits.start(_hand_over(gateway, handover, reloads), "handover")
            await asyncio.wait([stopping, replacing], return_when=asyncio.FIRST_COMPLETED)
            if handover.successor is not None:
                await gateway.release_lead()
                handover.successor.release_lead()
                return True
        return False
    finally:
        # A successor that is not ready yet ends here.
        await waits.close()


async def _hand_over(gateway: Gateway, handover: Handover, reloads: Reloader | None) -> None:
    sockets = gateway.listening_sockets()
    try:
        async with nullcontext() if reloads is None else reloads.paused():
            await handover.run(sockets)
            if handover.successor is not None and reloads is not None:
                # It reads and writes the configuration from now on.
                reloads.hand_over(handover.successor.request_reload)
    finally:
        for sock in sockets:
            sock.close()
