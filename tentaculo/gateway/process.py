"""A gateway as a process: its log, its signals, its garbage collector."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.schema import Config
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.gateway import Gateway
from tentaculo.net.memory import trim_memory
from tentaculo.server.listeners import STOP_SIGNALS, ListeningAddresses, ignore_hangup, raise_descriptor_limit
from tentaculo.telemetry import logging
from tentaculo.telemetry.request_log import access_logger

log = structlog.get_logger(__name__)

GC_THRESHOLDS = (10_000, 5, 5)
"""Allocations between two collections of the youngest, and of them between those of the older.

Neither a request nor what goes wrong with it makes cycles (tests/wire/test_garbage.py); with Python's own 700 the
collector walked through what thousands of requests in flight hold, time and again."""


async def serve(
    config: Config,
    *,
    hashes: AcceptedTokens,
    ready: Callable[[ListeningAddresses], None] | None = None,
    coordination: Coordination | None = None,
    sockets: Sequence[Sequence[socket.socket]] = (),
    prepare_store: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second signal stops it without waiting for requests in flight.

    `hashes` are the accepted tokens'. `ready` is called once requests are accepted. Raises `CannotListenError`. One
    worker of several has `coordination`. Then the supervisor may stop it too, and only the supervisor may skip the wait:
    a signal to every process of the group means one stop, not two. `sockets` are each worker's listening
    sockets; without them the gateway opens its own. `prepare_store` is awaited before the database is used; requests are
    served meanwhile.
    """
    raise_descriptor_limit()
    worker = None if coordination is None else coordination.number
    writer = logging.set_up(config.log, worker=worker, shares=worker is not None)
    stop, stop_now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (stop_now if stop.is_set() and coordination is None else stop).set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, ignore_hangup)
    try:
        access_log = access_logger(config.log, writer, sys.stderr, worker)
        if coordination is not None:
            coordination.listen(on_stop=stop.set, on_stop_now=stop_now.set)
        async with Gateway(
            config,
            hashes,
            access_log=access_log,
            stop_now=stop_now,
            coordination=coordination,
            sockets=sockets,
            prepare_store=prepare_store,
        ) as gateway:
            # What the start has made stays for good: a collection need not walk through it again.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            # The templates were compiled, which took more than is needed from now on.
            trim_memory()
            if coordination is not None:
                coordination.report_ready()
            if ready is not None:
                ready(gateway.running)
            await stop.wait()
            log.info("stopping", in_flight=gateway.proxy.traffic.in_flight)
    finally:
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
        if coordination is not None:
            coordination.close()
        writer.close()
