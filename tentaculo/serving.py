"""A gateway as a process: its log, its signals, and its life from the start to the stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from tentaculo import logs
from tentaculo.access_log import access_logger
from tentaculo.app import Gateway
from tentaculo.config.schema import Config
from tentaculo.web.admission import raise_descriptor_limit
from tentaculo.web.listen import Running

if TYPE_CHECKING:
    from tentaculo.workers.colleagues import Colleagues

log = structlog.get_logger(__name__)

GC_THRESHOLDS = (10_000, 5, 5)
"""Allocations between two collections of the youngest, and of them between those of the older.

Neither a request nor what goes wrong with it makes cycles (tests/wire/test_garbage.py); with Python's own 700 the
collector walked through what thousands of requests in flight hold, time and again."""


async def serve(
    config: Config,
    *,
    hashes: Sequence[str],
    ready: Callable[[Running], None] | None = None,
    colleagues: Colleagues | None = None,
) -> None:
    """Run the gateway until SIGTERM or SIGINT; a second signal stops it without waiting for requests in flight.

    `hashes` are the accepted tokens. `ready` is called once requests are taken. Raises `CannotListen`. One worker of
    several has `colleagues`: their supervisor stops it too, and it alone hurries it, since whoever signals every
    process means one stop.
    """
    raise_descriptor_limit()
    worker = None if colleagues is None else colleagues.number
    writer = logs.set_up(config.log, worker=worker, shares=worker is not None)
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        (hurry if stop.is_set() and colleagues is None else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        access_log = access_logger(config.log, writer, sys.stderr, worker)
        if colleagues is not None:
            colleagues.listen(on_stop=stop.set, on_hurry=hurry.set)
        async with Gateway(config, hashes, access_log=access_log, hurry=hurry, colleagues=colleagues) as gateway:
            # What the start has made stays for good: a collection need not walk through it again.
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            if colleagues is not None:
                colleagues.tell_ready()
            if ready is not None:
                ready(gateway.running)
            await stop.wait()
            log.info("stopping", in_flight=gateway.proxy.traffic.in_flight)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        if colleagues is not None:
            colleagues.close()
        writer.close()
