"""A soak: `python -m tests.soak --requests 1000000`.

It sends mixed exchanges through a gateway process, samples that process every second, and writes `soak.svg` and
`soak.md`. The exit code is 0 when memory is flat, nothing is left open and every exchange had the expected result; else
1. With fewer than 30 samples in the second half (a soak of less than a minute) memory is not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from tentaculo.tasks import TaskGroup
from tests.soak.abuses import ABUSES
from tests.soak.breakdowns import BREAKDOWNS
from tests.soak.exchanges import EXCHANGES
from tests.soak.gateway import Watched, left_over, settled, watched_gateway
from tests.soak.kinds import Kind
from tests.soak.listeners import Listener, listening
from tests.soak.load import Load
from tests.soak.report import MIB, Sample, Soak, write
from tests.soak.upstream import moody_upstream
from tests.support.gateway_process import ROOT

LIMITS = {"head_time": 1, "body_grace": 2, "body_idle": 2, "idle": 5, "stall": 5, "subscriber_queue": 10_000}
LISTENERS = 8
SETTLED = 30.0
"""Seconds after the last exchange within which every connection and task must have ended."""
WEIGHTS = {
    "get": 620.0,
    "get_and_close": 40.0,
    "get_until_close": 10.0,
    "head": 30.0,
    "no_content": 20.0,
    "upload": 90.0,
    "upload_chunked": 40.0,
    "expect_continue": 5.0,
    "interim": 5.0,
    "slow": 15.0,
    "event_stream": 5.0,
    "tunnel": 8.0,
    "subscription": 4.0,
    "event": 10.0,
    "event_broadcast": 5.0,
    "page": 8.0,
}
"""Of about a thousand. Each bad exchange has the weight 2; one that is slow or fills every buffer has 0.1."""
RARE = (
    *("left_an_upload_to_one_who_does_not_read", "left_without_reading", "upstream_does_not_read"),
    *("tunnel_left_with_the_client_not_reading", "tunnel_left_with_the_upstream_not_reading"),
    *("late_head", "late_body", "answer_is_cut", "upstream_hangs", "left_within_the_answer"),
)


def kinds() -> dict[str, tuple[Kind, float]]:
    """Every kind of exchange, with its weight."""
    bad = {name: (kind, 0.1 if name in RARE else 2.0) for name, kind in (ABUSES | BREAKDOWNS).items()}
    return {name: (kind, WEIGHTS[name]) for name, kind in EXCHANGES.items()} | bad


class Watch:
    """Samples the gateway once a second while a load runs."""

    def __init__(self, gateway: Watched, load: Load, total: int) -> None:
        self._gateway = gateway
        self._load = load
        self._total = total
        self.samples: list[Sample] = []
        self.errors: list[str] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._gateway.client() as client:
            while True:
                look = await self._gateway.look(client)
                seconds, done = loop.time() - began, self._load.total
                self.samples.append(Sample(seconds, done, look.rss, len(look.descriptors), look.in_flight))
                self.errors += await asyncio.to_thread(self._gateway.errors)
                if len(self.samples) % 15 == 0:
                    words = f"{done:,} of {self._total:,} in {seconds:.0f} s, {look.rss / MIB:.1f} MiB"
                    print(f"{words}, {self._load.surprised} unexpected", file=sys.stderr, flush=True)
                await asyncio.sleep(1)


async def soak(requests: int, workers: int, seed: int, allowance: int) -> Soak:
    """Run the soak with `workers` clients at once; `allowance` is in bytes."""
    async with moody_upstream() as upstream, watched_gateway(upstream.port, LIMITS) as gateway:
        load = Load(gateway, seed=seed)
        watch = Watch(gateway, load, requests)
        async with gateway.client() as client:
            # What is loaded and opened at its first use is no leak.
            await client.ask("POST", "/events/ingest", "Content-Type: application/json", body=b"{}")
            await client.ask("GET", "/events?limit=1")
        before = await settled(gateway, upstream, SETTLED)
        tasks = TaskGroup("soak")
        async with listening(gateway, LISTENERS) as listeners:
            watching = tasks.start(watch.run(), "watch")
            await load.drive(kinds(), requests, workers, good_every=0)
            await _all_received(listeners, load)
            await asyncio.sleep(2)
            watching.cancel()
            await tasks.close()
            incomplete = [item.events for item in listeners if item.events != load.done["event_broadcast"]]
        after = await settled(gateway, upstream, SETTLED, before)
        faults = [*load.surprises, *watch.errors, *gateway.errors()]
        if incomplete:
            faults.append(f"subscribers received {incomplete} of {load.done['event_broadcast']} events")
        if left := left_over(after, before):
            faults.append(f"left over: {', '.join(left)}")
        if after.shed:
            faults.append(f"{after.shed} requests were refused at a concurrency limit, and no service was overloaded")
        if await gateway.running.stop() != 0:
            faults.append("the gateway did not exit with code 0")
    at_end = f"{len(after.descriptors)} descriptors of {len(before.descriptors)}, {after.tasks} tasks of {before.tasks}"
    machine = (
        f"{os.cpu_count()} processors, {platform.system()} on {platform.machine()}, Python {platform.python_version()}"
    )
    return Soak(
        requests, watch.samples, load.done, faults, allowance, f"{machine}, load and upstream on the same", at_end
    )


async def _all_received(listeners: Sequence[Listener], load: Load) -> None:
    deadline = asyncio.get_running_loop().time() + SETTLED
    while asyncio.get_running_loop().time() < deadline:
        if all(listener.events == load.done["event_broadcast"] for listener in listeners):
            return
        await asyncio.sleep(0.1)


def main() -> int:
    """Run the soak from the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Soak a gateway and report its memory.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="exchanges to send (default 1000000)")
    parser.add_argument("--workers", type=int, default=64, help="clients at once (default 64)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the exchanges (default 1)")
    parser.add_argument(
        "--allowance", type=float, default=4, help="MiB that memory may rise over the second half (default 4)"
    )
    parser.add_argument("--report", type=Path, default=ROOT / "docs", help="folder for soak.svg and soak.md (docs)")
    arguments = parser.parse_args()
    run = soak(arguments.requests, arguments.workers, arguments.seed, round(arguments.allowance * MIB))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(run)
    write(found, arguments.report)
    for fault in found.faults:
        print(f"unexpected: {fault}")
    sizes = ", ".join(f"{found.rss_at(share) / MIB:.1f} MiB at {share:.0%}" for share in (0.1, 0.5, 1))
    print(
        f"{found.samples[-1].done:,} exchanges in {found.seconds:.0f} s; resident memory {sizes};"
        f" second half {found.verdict.replace('**', '')}; {found.at_end}; {len(found.faults)} unexpected"
    )
    return 1 if found.has_grown or found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
