"""Counts the files and functions of the gateway that one request, event, probe or page visits.

`python -m tools.trace_files` runs a gateway in this process and prints a table; `--json` prints the numbers as JSON,
and `--list` names the files. docs/architecture.md shows the table. A newcomer who follows one of these paths in an
editor opens that many files.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NamedTuple, TextIO, cast

import uvloop

from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.security.tokens import hash_token
from tentaculo.store.migrate import upgrade
from tentaculo.telemetry import logging
from tentaculo.telemetry.request_log import access_logger

PACKAGE = str(Path(__file__).resolve().parents[1] / "tentaculo") + os.sep
TOKEN = "token-of-the-trace"  # noqa: S105 - accepted by this gateway only
WARM_UP = 5
"""Requests sent before those that are counted, so that connections are open and caches are filled."""
REPEATS = 4
"""Requests that are counted, each for itself."""
PROBE_REPEATS = 5
"""Failed probes that are counted, each in a gateway of its own: the smallest is without other periodic work."""
SETTLE = 0.05
"""Seconds to wait for what a request starts and does not wait for: its log line and its row in the database."""
PAGE_LASTS = 1.2
"""Seconds after which the status page is rendered again."""
INCIDENT = 0.4
"""Seconds to wait for the incident that a failed probe opens."""
PROBE_INTERVAL = 1.0


class Trail(NamedTuple):
    """What was counted on one path through the gateway."""

    files: int
    calls: int
    visited: list[str]


class Counts:
    """Counts calls of functions of the package in every thread, while `counting` is entered."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._active = False

    def start(self) -> None:
        """Observe this thread and the threads that start later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count from entering to leaving, from zero."""
        self.found.clear()
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def result(self) -> Trail:
        """What was counted last."""
        return Trail(len(self.found), self.found.total(), sorted(self.found))

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if self._active and event == "call":
            name = frame.f_code.co_filename
            if name.startswith(PACKAGE):
                self.found[name.removeprefix(PACKAGE)] += 1


class Upstream(asyncio.Protocol):
    """A service: 200 to every request, and 500 to a probe while `healthy` is false."""

    healthy = True
    probed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the responses."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Respond to one request without a body, which arrives in one piece on the loopback."""
        status = b"200 OK"
        if data.startswith(b"GET /health "):
            type(self).probed.set()
            if not self.healthy:
                status = b"500 Internal Server Error"
        self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\n{}" % status)


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send a request; return the whole response."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return head + await reader.readexactly(length)


def request(line: str, body: bytes = b"") -> bytes:
    """An HTTP/1.1 request with the token."""
    fields = f"Host: localhost\r\nX-VX11-Token: {TOKEN}\r\n"
    if body:
        fields += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{line} HTTP/1.1\r\n{fields}\r\n".encode() + body


@asynccontextmanager
async def running(
    folder: Path, log: TextIO, upstream: int, *, fast: bool = True, probes: bool = False
) -> AsyncIterator[int]:
    """A gateway with its database and its access log; yields its port."""
    url = f"sqlite:///{folder}/tentaculo.db"
    upgrade(url)
    probe = {"interval": PROBE_INTERVAL, "jitter": 0, "failures": 1}
    service = {"url": f"http://127.0.0.1:{upstream}", "health": ["/health"], "routes": [{"prefix": "/web"}]}
    config = Config.of(
        {
            "server": {"port": 0, "grace": 0.1},
            "database": {"url": url},
            "log": {"format": "json"},
            "services": {"web": {**service, "probe": probe}},
        }
    )
    writer = logging.set_up(config.log, log)
    try:
        access_log = access_logger(config.log, writer, log, None)
        hashes = [hash_token(TOKEN)]
        async with Gateway(config, hashes, access_log=access_log, probes=probes, fast_path=fast) as gateway:
            yield gateway.running.addresses[0][1]
    finally:
        writer.close()


async def traced(counts: Counts, port: int, line: str, body: bytes = b"", *, pause: float = SETTLE) -> Trail:
    """What one more of the same request visits, on the connection that sent the others, `pause` seconds after them.

    The smallest of several results is without the periodic work that may fall into the same moment.
    """
    trails = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in range(WARM_UP):
            await send(reader, writer, request(line, body))
            await asyncio.sleep(SETTLE)
        for _ in range(REPEATS):
            await asyncio.sleep(pause)
            with counts.counting():
                response = await send(reader, writer, request(line, body))
                await asyncio.sleep(SETTLE)
            if not response.startswith(b"HTTP/1.1 2"):
                status = response.split(b"\r\n", 1)[0].decode()
                raise RuntimeError(f"{line}: {status}")
            trails.append(counts.result())
        return min(trails)
    finally:
        writer.close()


async def failed_probe(counts: Counts, log: TextIO, upstream: int) -> Trail:
    """What one failed probe visits, to the change of state and the incident that follow from it."""
    Upstream.healthy = True
    with TemporaryDirectory() as folder:
        async with running(Path(folder), log, upstream, probes=True):
            await next_probe()
            await asyncio.sleep(SETTLE)
            Upstream.healthy = False
            with counts.counting():
                await next_probe()
                await asyncio.sleep(INCIDENT)
            return counts.result()


async def next_probe() -> None:
    """Wait until the service receives a probe."""
    Upstream.probed.clear()
    await asyncio.wait_for(Upstream.probed.wait(), 10 * PROBE_INTERVAL)


async def measure() -> dict[str, Trail]:
    """The table: each path by its name."""
    counts = Counts()
    counts.start()
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    upstream = server.sockets[0].getsockname()[1]
    event = json.dumps({"source": "web", "type": "started", "payload": {"id": 1}, "broadcast": True}).encode()
    found = {}
    with TemporaryDirectory() as name, Path(os.devnull).open("w") as log:  # noqa: ASYNC230 - opened once
        folder = Path(name)
        async with running(folder, log, upstream) as port:
            found["repeated GET, fast path"] = await traced(counts, port, "GET /web/page")
            found["ingested event"] = await traced(counts, port, "POST /events/ingest", event)
            found["status page"] = await traced(counts, port, "GET /status", pause=PAGE_LASTS)
        async with running(folder, log, upstream, fast=False) as port:
            found["repeated GET, ordinary path"] = await traced(counts, port, "GET /web/page")
        found["failed probe"] = min([await failed_probe(counts, log, upstream) for _ in range(PROBE_REPEATS)])
    server.close()
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--list", action="store_true", help="print the files of each path")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure())
    if options.json:
        print(json.dumps({name: {"files": path.files, "calls": path.calls} for name, path in found.items()}))
        return
    print("| path | files | calls |\n|---|---|---|")
    for name, path in found.items():
        print(f"| {name} | {path.files} | {path.calls} |")
        if options.list:
            print("\n".join(f"    {file}" for file in path.visited))


if __name__ == "__main__":
    main()
