"""What the overview costs the gateway: `python -m bench.pages [--rounds N]`.

It prints the size of the page with 90 days of history, and the processor time of making it: that of the whole process,
from the request to the response, less that of a request for a page that is kept. Processor time does not depend on what
else the machine does; the pauses of a virtual machine are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from typing import Final

from bench.stats import Spread
from tentaculo.library_imports import GC_THRESHOLDS
from tests.support.native_gateway import Gateway, State, running
from tests.support.page_samples import fill

SERVICES: Final = (9, 100, 1000)
_PATH = "/status?range=90d"


async def _request(gateway: Gateway, encoding: str) -> tuple[int, float]:
    """The bytes of the body, and the milliseconds of processor time until it is here."""
    start = time.process_time()
    async with gateway.client.get(_PATH, headers={"Accept-Encoding": encoding}) as response:
        await response.read()
        size = int(response.headers["Content-Length"])
    return size, (time.process_time() - start) * 1000


async def measure(services: int, rounds: int) -> tuple[int, int, Spread]:
    """The size of the page, that of the compressed one, and the milliseconds of making it."""
    state = State()
    fill(state, services)
    async with running(state) as gateway:
        taken = []
        for _ in range(rounds + 1):
            state.clock += 60  # nothing that was made before is kept
            # As browsers do: the compression is a part of the cost.
            compressed, made = await _request(gateway, "gzip")
            _, kept = await _request(gateway, "gzip")
            taken.append(made - kept)
        plain, _ = await _request(gateway, "identity")
    found = Spread.of(taken[1:])  # the first one compiles the template
    assert found is not None
    return plain, compressed, found


def main() -> int:
    """The exit code: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description="The size and cost of the overview.")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="pages that are made; default 20")
    rounds = parser.parse_args().rounds
    gc.set_threshold(*GC_THRESHOLDS)  # as a gateway has them
    for services in SERVICES:
        plain, compressed, found = asyncio.run(measure(services, rounds))
        sizes = f"{plain / 1000:.1f} KB, {compressed / 1000:.1f} KB compressed"
        print(f"{services} services: {sizes}; {found.median:.1f} ms ({found.low:.1f} to {found.high:.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
