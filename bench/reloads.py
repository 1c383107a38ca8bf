"""How long a reload holds the event loop: `python -m bench.reloads [--services N] [--rounds N]`.

For each kind of change it prints the processor time of the turn of the loop that puts the configuration in place, and the
latest timer from the beginning of the reload until half a second after it. Timers are late by what else the machine does
too, so the second number means something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import structlog
import uvloop

from bench.stats import Spread
from tentaculo.config.schema import Config
from tentaculo.gateway.loading import beside_the_loop
from tentaculo.library_imports import GC_THRESHOLDS
from tests.support.reloading import Served, serving

TICK = 0.0005
"""Seconds between two timers."""
REST = 0.5
"""Seconds until a reload is over: what it replaced has been freed."""
Service = dict[str, Any]


class Kind(NamedTuple):
    """What a reload changes. The next one changes it back."""

    label: str
    change: Callable[[int], Service | None]
    """The service of a number, in part; None where it is gone."""
    before: Callable[[int], Service] = lambda number: {}


def _dependent(number: int) -> Service:
    return {"depends_on": ["s0"]} if number else {}


def _with_time_limit(number: int) -> Service:
    return {"routes": [{"prefix": f"/s{number}", "timeout": 31}]}


def _at_other_address(number: int) -> Service:
    return {"url": f"http://127.0.0.1:{30000 + number}"}


KINDS: Final = (
    Kind("the time limit of one", lambda number: {} if number else _with_time_limit(number)),
    Kind("all time limits", _with_time_limit),
    Kind("all addresses", _at_other_address),
    Kind("all addresses, where all depend on one", _at_other_address, _dependent),
    Kind("all switched off", lambda number: {"enabled": False}),
    Kind("all but one removed", lambda number: None if number else {}),
)


def _services(count: int, kind: Kind, *, changed: bool) -> dict[str, Service]:
    found: dict[str, Service] = {}
    for number in range(count):
        change = kind.change(number) if changed else {}
        if change is None:
            continue
        found[f"s{number}"] = {
            "url": f"http://127.0.0.1:{20000 + number}",
            "probe": {"kind": "none"},
            "routes": [{"prefix": f"/s{number}"}],
            **kind.before(number),
            **change,
        }
    return found


class _Timers:
    """The latest of timers that are due every `TICK`."""

    def __init__(self) -> None:
        self.latest = 0.0
        """Seconds."""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        handle = loop.call_soon(lambda: None)

        def due(at: float) -> None:
            nonlocal handle
            now = loop.time()
            self.latest = max(self.latest, now - at)
            handle = loop.call_later(TICK, due, now + TICK)

        due(loop.time())
        try:
            yield
        finally:
            handle.cancel()


async def _reload(served: Served, services: dict[str, Service]) -> tuple[float, float]:
    """The seconds of processor time of the swap, and the latest timer."""
    data, timers = {**served.data, "services": services}, _Timers()
    async with timers.watched():
        config = await beside_the_loop(lambda: Config.of(data))
        generation = await served.gateway.prepare(config, None)
        start = time.thread_time()
        served.gateway.swap(generation)
        taken = time.thread_time() - start
        await asyncio.sleep(REST)
    return taken, timers.latest


async def measure(count: int, rounds: int, kind: Kind) -> tuple[Spread, Spread]:
    """The milliseconds of processor time of the swap, and those of the latest timer, of `rounds` changes there and back."""
    swaps, latest = list[float](), list[float]()
    with TemporaryDirectory() as folder:
        async with serving(Path(folder), _services(count, kind, changed=False), probes=True) as served:
            await asyncio.sleep(REST)
            for number in range(2 * rounds):
                swap, late = await _reload(served, _services(count, kind, changed=number % 2 == 0))
                swaps.append(swap * 1000)
                latest.append(late * 1000)
    found = Spread.of(swaps), Spread.of(latest)
    assert found[0] is not None
    assert found[1] is not None
    return found[0], found[1]


def main() -> int:
    """The exit code: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.reloads", description="How long a reload holds the loop.")
    parser.add_argument("--services", type=int, default=1000, metavar="N", help="default 1000")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="reloads there and back; default 5")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.set_threshold(*GC_THRESHOLDS)  # as a gateway has them
    print(f"| of {options.services:,} services | swap, processor time | latest timer |")
    print("|---|---|---|")
    for kind in KINDS:
        swap, late = uvloop.run(measure(options.services, options.rounds, kind))
        print(
            f"| {kind.label} | {swap.median:.1f} ms ({swap.low:.1f} to {swap.high:.1f})"
            f" | {late.median:.1f} ms ({late.low:.1f} to {late.high:.1f}) |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
