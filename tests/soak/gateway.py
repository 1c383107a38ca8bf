"""The gateway process under load: its configuration, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.soak.client import Client, UnexpectedError, expect
from tests.soak.upstream import Upstream
from tests.support.gateway_process import Running, running_gateway

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOKS = 1.1
"""Seconds between two looks: the gateway's metrics are those of the last second."""
_SHED = "tentaculo_requests_shed_total{"
_GAUGES = ("tentaculo_connections_open", "tentaculo_requests_in_flight", "tentaculo_tasks")


class Look(NamedTuple):
    """What the gateway holds at one moment."""

    connections: int
    """Client connections, that of the looking client included."""
    in_flight: int
    tasks: int
    descriptors: tuple[str, ...]
    """What each open one is of: `socket`, `/path/of/a/file`; sorted."""
    rss: int
    """Resident memory in bytes."""
    shed: int
    """Requests refused so far at the concurrency limit of any service."""


class Watched:
    """A gateway process, and the outside view of it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.port = urlsplit(running.url).port or 0
        self.headers = f"X-VX11-Token: {running.token}\r\n".encode()
        self._proc = Path(f"/proc/{running.process.pid}")
        self._read = 0

    def client(self) -> Client:
        """A client of it that has the token."""
        return Client(self.port, self.headers)

    @property
    def rss(self) -> int:
        """Resident memory in bytes."""
        return int((self._proc / "statm").read_text().split()[1]) * _PAGE

    def descriptors(self) -> tuple[str, ...]:
        """What each open descriptor is of, sorted."""
        found = []
        for link in (self._proc / "fd").iterdir():
            try:
                found.append(os.readlink(link).split(":[")[0])
            except FileNotFoundError:
                continue
        return tuple(sorted(found))

    async def look(self, client: Client) -> Look:
        """All of it, as `client` finds it; the gauges are those of the last second."""
        answer = await client.ask("GET", "/metrics")
        expect(answer, 200)
        lines = answer.body.decode().splitlines()
        values = dict(line.split(" ")[:2] for line in lines if line.startswith(_GAUGES))
        shed = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(_SHED)]
        if not shed:
            raise UnexpectedError("the metrics do not say how many requests were refused")
        connections, in_flight, tasks = (int(float(values[name])) for name in _GAUGES)
        return Look(connections, in_flight, tasks, self.descriptors(), self.rss, int(sum(shed)))

    def errors(self) -> list[str]:
        """Lines of level error or worse, and lines that are no log, written since the last call.

        What has been read is cut off the file, which would otherwise grow with every request.
        """
        with self.running.output.open("rb") as output:
            output.seek(self._read)
            data = output.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        if data:
            os.truncate(self.running.output, 0)
        lines = data.decode(errors="replace").splitlines()
        return [line for line in lines if '"level":"error"' in line or not line.lstrip("\0").startswith("{")]


async def settled(gateway: Watched, upstream: Upstream, seconds: float, before: Look | None = None) -> Look:
    """What is left, as soon as it is no more than `before`; without one, what two looks in succession find.

    A probe under way is a task and a descriptor more, for some milliseconds: it must be in neither look. After
    `seconds` it is what is found then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    last: Look | None = None
    while True:
        upstream.close_idle()
        async with gateway.client() as client:
            look = await gateway.look(client)
        wanted = last if before is None else before
        is_quiet = (look.connections, look.in_flight) == (1, 0) and wanted is not None
        if loop.time() > deadline or (is_quiet and not left_over(look, wanted)):
            return look
        last = look
        await asyncio.sleep(_LOOKS)


def left_over(look: Look, before: Look | None) -> list[str]:
    """What `look` has beyond `before`, in words."""
    if before is None:
        return []
    more = [f"{count} of {name}" for name, count in (Counter(look.descriptors) - Counter(before.descriptors)).items()]
    tasks = look.tasks - before.tasks
    return [*more, f"{tasks} tasks"] if tasks > 0 else more


@asynccontextmanager
async def watched_gateway(
    upstream: int, limits: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> AsyncIterator[Watched]:
    """A gateway whose services all are the moody upstream on that port, but for one that is away.

    `/s` is plain, `/short` has little patience, `/small` takes small bodies, `/flaky` has a breaker that opens.
    """
    patient, url = {"failures": 10**9, "requests": 10**9}, f"http://127.0.0.1:{upstream}"

    def route(prefix: str, **more: Any) -> dict[str, Any]:
        return {"prefix": prefix, "strip": True, **more}

    routes = [route("/s"), route("/short", timeout=0.3), route("/small", max_body=1000)]
    services = {
        "moody": {"url": url, "routes": routes, "breaker": patient},
        "flaky": {"url": url, "routes": [route("/flaky")], "breaker": {"failures": 5, "open_for": 0.5}},
        "dead": {"url": "http://127.0.0.1:1", "routes": [route("/dead")], "breaker": patient},
    }
    config = {"services": services, "limits": dict(limits), "log": {"format": "json"}}
    async with running_gateway(config, env) as running:
        watched = Watched(running)
        await asyncio.to_thread(watched.errors)
        # The threads of queries and of searches each connect to the database with their first one, of which the gateway
        # itself sends some later.
        async with watched.client() as client:
            expect(await client.ask("GET", "/vx11/history/moody?hours=1"), 200)
            expect(await client.ask("GET", "/events?text=nothing"), 200)
        yield watched
