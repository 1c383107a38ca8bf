"""Counts the files and functions of the gateway that one request, event, probe or page visits.

`python -m tools.trace_files` runs a gateway in this process and prints a table; `--json` prints the numbers as JSON,
and `--list` names the files and their functions. docs/architecture.md shows the table. A newcomer who follows one of these paths in an
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
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import reduce
from itertools import groupby
from operator import and_, itemgetter
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
INCIDENTS = 3
"""Failed probes that open an incident, each in a gateway of its own."""
SETTLE = 0.1
"""Seconds to wait for what a request or a probe starts and does not wait for: log lines, rows in the database."""
PAGE_LASTS = 1.2
"""Seconds after which the status page is rendered again."""
STORING = 0.4
"""Seconds to wait for the rows of the incident that a failed probe opens. The rows of the services are written later, for
all probes of half a second together."""
PROBE_BEGINS, PROBE_ENDS = "ProbeScheduler._due", "ProbeScheduler._schedule"
"""The functions that are called when a probe is due, and when everything that follows from its result is decided."""
PROBE_INTERVAL = 0.7
"""Seconds between two probes. No multiple of the second at which other work of the gateway repeats."""


class Trail(NamedTuple):
    """What was counted on one path through the gateway."""

    files: int
    calls: int
    functions: Counter[tuple[str, str]]
    """The calls by file and function."""


class Counts:
    """Counts calls of functions of the package in every thread, while `counting` is entered."""

    def __init__(self) -> None:
        self.found: Counter[tuple[str, str]] = Counter()
        """Calls by file and function."""
        self.decided: Counter[tuple[str, str]] = Counter()
        """The same until a probe had ended."""
        self._active = False
        self._begins_at: str | None = None

    def start(self) -> None:
        """Observe this thread and the threads that start later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    @contextmanager
    def counting(self, begins_at: str | None = None) -> Iterator[None]:
        """Count until this is left, from zero, and from the first call of `begins_at` on where that is given."""
        self.found.clear()
        self._begins_at = begins_at
        self._active = begins_at is None
        try:
            yield
        finally:
            self._active, self._begins_at = False, None

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call":
            return
        if frame.f_code.co_qualname == self._begins_at:
            self._active = True
        if self._active:
            name = frame.f_code.co_filename
            if name.startswith(PACKAGE):
                self.found[name.removeprefix(PACKAGE), frame.f_code.co_qualname] += 1
            if frame.f_code.co_qualname == PROBE_ENDS:
                self.decided = self.found.copy()


def common(repeats: Sequence[Counter[tuple[str, str]]]) -> Trail:
    """What all repeats of one path visited: without the periodic work that fell into the moment of some."""
    calls = reduce(and_, repeats)
    return Trail(len({file for file, _ in calls}), calls.total(), calls)


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
    folder: Path, log: TextIO, upstream: int, *, fast: bool = True, failures: int = 0
) -> AsyncIterator[int]:
    """A gateway with its database and its access log; yields its port.

    It probes where `failures` says how many failed probes in a row change a state.
    """
    url = f"sqlite:///{folder}/tentaculo.db"
    upgrade(url)
    probe = {"interval": PROBE_INTERVAL, "jitter": 0, "failures": failures or 1}
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
        async with Gateway(config, hashes, access_log=access_log, probes=failures > 0, fast_path=fast) as gateway:
            yield gateway.running.addresses[0][1]
    finally:
        writer.close()


async def traced(counts: Counts, port: int, line: str, body: bytes = b"", *, pause: float = SETTLE) -> Trail:
    """What one more of the same request visits, on the connection that sent the others, `pause` seconds after them."""
    repeats = []
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
            repeats.append(counts.found.copy())
        return common(repeats)
    finally:
        writer.close()


async def first_failure(counts: Counts, folder: Path, log: TextIO, upstream: int) -> Trail:
    """What a failed probe visits that changes no state, since it is the first one after one that succeeded."""
    repeats = []
    async with running(folder, log, upstream, failures=3):
        for _ in range(REPEATS):
            Upstream.healthy = True
            await next_probe()
            await asyncio.sleep(SETTLE)
            Upstream.healthy = False
            with counts.counting(PROBE_BEGINS):
                await next_probe()
                await asyncio.sleep(SETTLE)
            repeats.append(counts.decided)
    return common(repeats)


async def incident(counts: Counts, log: TextIO, upstream: int) -> tuple[Trail, Trail]:
    """What a failed probe visits until it has opened an incident, and until that is stored too."""
    opened, stored = [], []
    for _ in range(INCIDENTS):
        Upstream.healthy = True
        with TemporaryDirectory() as folder:
            async with running(Path(folder), log, upstream, failures=1):
                await next_probe()
                await next_probe()
                await asyncio.sleep(SETTLE)
                Upstream.healthy = False
                with counts.counting(PROBE_BEGINS):
                    await next_probe()
                    await asyncio.sleep(STORING)
                opened.append(counts.decided)
                stored.append(counts.found.copy())
    return common(opened), common(stored)


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
        found["failed probe, nothing changes"] = await first_failure(counts, folder, log, upstream)
        opened, stored = await incident(counts, log, upstream)
        found["failed probe, to the opened incident"] = opened
        found["failed probe, to the stored incident"] = stored
    server.close()
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--list", action="store_true", help="print the files and functions of each path")
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
            for file, functions in groupby(sorted(path.functions), itemgetter(0)):
                print(f"    {file}: {', '.join(name for _, name in functions)}")


if __name__ == "__main__":
    main()
