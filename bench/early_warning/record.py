"""Records latencies of requests through a real gateway, with a fault each, and writes them to `traces/`.

    python -m bench.early_warning.record [SECONDS]

Each trace is the latencies of the requests in the order in which they were sent, in units of 10 microseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from bench import process, traffic
from bench.peers.ours import python
from bench.peers.peer import ROOT

FOLDER = Path(__file__).parent / "traces"
RATE = 40.0
"""Requests a second, at random moments."""
SECONDS = 90.0
UNIT = 1e-5
"""Seconds of the unit in the files."""
FAULTS = {
    "quiet": ("none",),
    "busy": ("busy",),
    "pauses": ("pauses",),
    "resets": ("resets",),
    "unequal": ("none", "slow replica"),
    "neighbour": ("none",),
}
"""The fault of each replica, by trace. "neighbour" has a program beside it that takes a core for two seconds of six."""
_NEIGHBOUR = "import time\nwhile True:\n    end = time.monotonic() + 2\n    while time.monotonic() < end: pass\n    time.sleep(4)"
_CONFIG = """
[server]
port = {port}

[services.orders]
urls = [{urls}]
health = ["/health"]
routes = [{{ prefix = "/orders" }}]
"""


async def record(name: str, seconds: float, folder: Path) -> list[float]:
    """The latencies in seconds of the requests with status 200 under one fault."""
    ports = process.free_ports()
    port, *places = islice(ports, 1 + len(FAULTS[name]))
    env = {"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": traffic.TOKEN}
    async with AsyncExitStack() as stack:

        def start(argv: Sequence[str], title: str) -> process.Process:
            started = process.start(argv, core=None, folder=folder, name=title, env=env)
            stack.callback(started.stop)
            return started

        for number, (place, fault) in enumerate(zip(places, FAULTS[name], strict=True)):
            start([python(), "-m", "bench.early_warning.service", str(place), str(number), fault], f"{name}-{number}")
        if name == "neighbour":
            start([python(), "-c", _NEIGHBOUR], "program")
        file = folder / f"{name}.toml"
        file.write_text(_CONFIG.format(port=port, urls=", ".join(f'"http://127.0.0.1:{place}"' for place in places)))
        gateway = start([python(), "-m", "tentaculo", "serve", "-c", str(file)], f"{name}-gateway")
        await asyncio.to_thread(process.first_answer, gateway, port, traffic.head("GET", "/orders"))
        await asyncio.sleep(2)
        return await _send(port, seconds)


async def _send(port: int, seconds: float) -> list[float]:
    """Send requests at random moments, each on a free connection; a slow one delays no other."""
    moments = random.Random(1)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    latencies: dict[int, float] = {}

    async def send(number: int) -> None:
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        writer.write(traffic.head("GET", "/orders"))
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        if head.startswith(b"HTTP/1.1 200"):
            latencies[number] = time.perf_counter() - began
        free.append((reader, writer))

    due, number = time.monotonic(), 0
    end = due + seconds
    async with asyncio.TaskGroup() as tasks:
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.create_task(send(number))
            number += 1
            due += moments.expovariate(RATE)
    for _, writer in free:
        writer.close()
    return [latencies[one] for one in sorted(latencies)]


def main(seconds: float) -> None:
    """Record every trace."""
    FOLDER.mkdir(exist_ok=True)
    for name in FAULTS:
        folder = Path(mkdtemp(prefix="tentaculo-traces-"))
        try:
            latencies = asyncio.run(record(name, seconds, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        units = [max(1, round(latency / UNIT)) for latency in latencies]
        (FOLDER / f"{name}.json").write_text(json.dumps(units, separators=(",", ":")) + "\n")
        print(f"{name}: {len(units)} latencies, median {sorted(units)[len(units) // 2] * UNIT * 1000:.2f} ms")


if __name__ == "__main__":
    # So that the gateway and the services end with this too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
