"""What it costs to probe a large fleet, and what those that hang cost the others: `python -m bench.probes [--hung N]`.

The fleet is one server of this process that answers at once, and one that never does; the gateway is a process of its
own, as an operator starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.peers.ours import python
from bench.peers.peer import ROOT
from bench.process import Process, first_answer, free_ports, start
from bench.stats import Spread

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"status":"ok"}'
_SAMPLE = re.compile(r'tentaculo_probes_total\{result="(\w+)",service="(\w+)"\} (\S+)')
_SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
_WARM_UP = 1.5
"""Intervals until every service has its own place in them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured."""

    share: float
    """Of one core, that the gateway took."""
    well: Spread
    """Probes of the services that answer, of each."""
    hung: Spread | None
    due: float
    """Probes that each should have had."""


class _Service(asyncio.Protocol):
    """Answers each request at once, or none."""

    def __init__(self, connections: set[_Service], *, is_well: bool) -> None:
        self._connections = connections
        self._is_well = is_well
        self.transport: asyncio.Transport
        self.gone: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's own is not asyncio's by inheritance.
        self.transport = cast(asyncio.Transport, transport)
        self.gone = asyncio.get_running_loop().create_future()
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_well:
            self.transport.write(_ANSWER)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.gone.set_result(None)


def configuration(port: int, well: int, hung: int, interval: float, addresses: tuple[int, int]) -> str:
    """`well` services at the first of `addresses`, ports of this machine, and `hung` at the second."""
    lines = ["[server]", f"port = {port}", "[log]", 'level = "error"']
    for kind, count, address in (("well", well, addresses[0]), ("hung", hung, addresses[1])):
        for number in range(count):
            lines += [f"[services.{kind}{number}]", f'url = "http://127.0.0.1:{address}"']
            lines += [f"probe = {{ interval = {interval} }}"]
    return "\n".join(lines)


async def measure(folder: Path, well: int, hung: int, interval: float, seconds: float) -> Found:
    """Have the gateway probe a fleet, and look at it for `seconds`. Raises `BenchError` where it does not start."""
    loop = asyncio.get_running_loop()
    connections: set[_Service] = set()
    servers = [
        await loop.create_server(partial(_Service, connections, is_well=is_well), "127.0.0.1", 0, backlog=1024)
        for is_well in (True, False)
    ]
    addresses = tuple(server.sockets[0].getsockname()[1] for server in servers)
    port = next(free_ports())
    file = folder / "tentaculo.toml"
    file.write_text(configuration(port, well, hung, interval, (addresses[0], addresses[1])))
    environment = {"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": "a-token"}
    argv = [python(), "-m", "tentaculo", "serve", "-c", str(file)]
    gateway = start(argv, core=None, folder=folder, name="gateway", env=environment)
    try:
        await asyncio.to_thread(first_answer, gateway, port, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        await asyncio.sleep(_WARM_UP * interval)
        before, used = await _probes(port), _cpu(gateway)
        await asyncio.sleep(seconds)
        after, used = await _probes(port), _cpu(gateway) - used
    finally:
        await asyncio.to_thread(gateway.stop)
        for server in servers:
            server.close()
        for connection in list(connections):
            connection.transport.abort()
        await asyncio.gather(*(connection.gone for connection in connections))
    each = {kind: [after[name] - before[name] for name in after if name.startswith(kind)] for kind in ("well", "hung")}
    some = Spread.of(each["well"])
    assert some is not None
    return Found(used / seconds, some, Spread.of(each["hung"]), seconds / interval)


async def _probes(port: int) -> Counter[str]:
    """Of each service the probes that ended as they should: well, or with a failure."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_SCRAPE)
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    counts: Counter[str] = Counter()
    for result, service, number in _SAMPLE.findall(text):
        if (result == "ok") is service.startswith("well"):
            counts[service] += int(float(number))
    return counts


def _cpu(process: Process) -> float:
    """Seconds of a core that a process has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """The exit code: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.probes", description="The cost of probing a large fleet.")
    parser.add_argument("--services", type=int, default=1000, metavar="N", help="how many that answer; default 1000")
    parser.add_argument("--hung", type=int, default=0, metavar="N", help="how many that never do; default 0")
    parser.add_argument("--interval", type=float, default=10.0, metavar="S", help="seconds between probes; default 10")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long to look; default 60")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), given.services, given.hung, given.interval, given.seconds))
    print(f"{given.services} services that answer and {given.hung} that hang, every {given.interval:g} s:")
    print(f"  {found.share:.1%} of one core")
    for what, spread in (("that answer", found.well), ("that hang", found.hung)):
        if spread is not None:
            told = f"{spread.median:g} ({spread.low:g} to {spread.high:g})"
            print(f"  probes of each {what}: {told}, due were {found.due:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
