"""A hundred reloads under load, and any sequence of reloads and requests against a model."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tentaculo.proxy.generation import ProxyGeneration
from tentaculo.security.tokens import hash_token
from tentaculo.server.route_table import RouteTable
from tentaculo.store import migrate
from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN
from tests.support.reloading import OTHER, Served, ask, service, serving
from tests.support.waits import eventually
from tests.support.wire import Reader, Response, Upstream, Wire, Writer, answering, dial, ok, read_request, upstream

RELOADS = 100
TUNNELS = 100
STREAMS = 25
CLIENTS = 8
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-VX11-Token: {TOKEN}\r\n\r\n"
)


async def echo(reader: Reader, writer: Writer, state: Upstream) -> None:
    """Sends back what comes through a tunnel; responds to every other request, to some of them slowly."""
    while True:
        request = await read_request(reader)
        if request.get("Upgrade"):
            writer.write(SWITCH)
            while data := await reader.read(1000):
                writer.write(data)
                await writer.drain()
            return
        if request.target.endswith("/slow"):
            await asyncio.sleep(0.2)
        writer.write(ok(b"whole"))
        await writer.drain()


@dataclass
class Load:
    """What clients have seen while the configuration changed."""

    statuses: Counter[int]
    is_over: bool = False

    async def requests(self, port: int, target: str, again: bool) -> None:
        """Send one request after the other, on one connection or each on its own."""
        while not self.is_over:
            async with dial(port) as wire:
                while not self.is_over:
                    response = await ask(wire, target=target)
                    assert response.body == b"whole"
                    self.statuses[response.status] += 1
                    if not again:
                        break


def fleet(up: Upstream, number: int) -> dict[str, Any]:
    """Services that stay as they are, one that changes each time, and one that comes and goes."""
    services = {f"s{place}": service(up, {"prefix": f"/s{place}"}) for place in range(10)}
    services["moving"] = service(up, {"prefix": "/moving", "timeout": 10 + number}, about=f"the {number}th")
    services[f"new{number}"] = service(up, {"prefix": f"/new{number}"})
    return services


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.thorough
@pytest.mark.timeout(240)
async def test_a_hundred_reloads_under_load_drop_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    migrate.upgrade(url)
    async with (
        upstream(echo) as up,
        serving(tmp_path, fleet(up, 0), probes=True, database={"url": url}) as served,
        AsyncExitStack() as stack,
    ):
        tunnels = [await stack.enter_async_context(_tunnel(served, f"/s{place % 10}/ws")) for place in range(TUNNELS)]
        sockets = [await stack.enter_async_context(_tunnel(served, "/ws")) for _ in range(STREAMS)]
        streams = [await stack.enter_async_context(_stream(served)) for _ in range(STREAMS)]
        load, tasks = Load(Counter()), TaskGroup("load")
        targets = ["/s1/x", "/s2/slow", "/moving/x", "/moving/slow"]
        clients = [
            tasks.start(load.requests(served.port, targets[place % 4], place < CLIENTS // 2), f"client {place}")
            for place in range(CLIENTS)
        ]
        kept: dict[type, int] = {}
        for number in range(1, RELOADS + 1):
            await served.reload(services=fleet(up, number))
            await tunnels[number % TUNNELS].send(b"%03d" % number)
            assert await tunnels[number % TUNNELS].reader.readexactly(3) == b"%03d" % number
            if number == 10:
                kept = {kind: alive(kind) for kind in (ProxyGeneration, RouteTable, web.Application)}
            await asyncio.sleep(0.005)
        assert served.gateway.generations.current.number == RELOADS + 1
        for kind, before in kept.items():
            assert alive(kind) <= before + 1, f"{kind.__name__} of earlier generations stay in memory"
        load.is_over = True
        await asyncio.gather(*clients)
        assert set(load.statuses) == {200}
        assert load.statuses[200] > RELOADS
        for place, tunnel in enumerate(tunnels):
            await tunnel.send(b"%03d" % place)
            assert await tunnel.reader.readexactly(3) == b"%03d" % place
        # An event reaches every subscriber that was there before the first reload, and each WebSocket pongs.
        async with dial(served.port) as wire:
            await _ingest(wire)
        for stream in streams:
            async with asyncio.timeout(20):
                await stream.reader.readuntil(b"after.reload")
        for place, subscriber in enumerate(sockets):
            await subscriber.send(b"\x89\x83\x00\x00\x00\x00%03d" % place)
            async with asyncio.timeout(20):
                await subscriber.reader.readuntil(b"\x8a\x03%03d" % place)
        await tasks.close()


@asynccontextmanager
async def _tunnel(served: Served, target: str) -> AsyncIterator[Wire]:
    async with dial(served.port) as wire:
        await wire.send(HANDSHAKE.format(target=target).encode())
        assert (await wire.head()).status == 101
        yield wire


@asynccontextmanager
async def _stream(served: Served) -> AsyncIterator[Wire]:
    async with dial(served.port) as wire:
        await wire.send(f"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {TOKEN}\r\n\r\n".encode())
        assert (await wire.head()).status == 200
        yield wire


async def _ingest(wire: Wire) -> Response:
    body = b'{"type":"system.alert","source":"after.reload","payload":{"alert_id":"a","severity":"L1","message":"m"}}'
    head = f"POST /events/ingest HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {TOKEN}\r\n"
    lines = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    await wire.send(lines.encode() + body)
    response = await wire.response("POST")
    assert response.status < 300, response.body
    return response


# -- against a model ---------------------------------------------------------------------------------------------------

NAMES = ("one", "two")
PREFIXES = ("/a", "/b", "/a/deep")
ORIGIN = "https://page.example"


@dataclass(frozen=True)
class Model:
    """A configuration in short: by prefix the service, the endpoint and whether it is open; tokens; whether CORS is on."""

    routes: tuple[tuple[str, str, int, bool], ...]
    tokens: frozenset[str]
    has_cors: bool

    def expected(self, target: str, token: str | None) -> tuple[int, bytes | None]:
        """Status, and the endpoint that responds."""
        found = [one for one in self.routes if target == one[0] or target.startswith(one[0] + "/")]
        if not found:
            return 404, None
        _, name, place, is_open = max(found, key=lambda one: len(one[0]))
        if not is_open and token is None:
            return 401, None
        if not is_open and token not in self.tokens:
            return 403, None
        return 200, f"{name}{place}".encode()


models = st.builds(
    lambda chosen, tokens, has_cors: Model(
        tuple((prefix, name, place, is_open) for prefix, (name, place, is_open) in sorted(chosen.items())),
        frozenset(tokens),
        has_cors,
    ),
    st.dictionaries(
        st.sampled_from(PREFIXES), st.tuples(st.sampled_from(NAMES), st.integers(0, 1), st.booleans()), max_size=3
    ),
    st.sets(st.sampled_from([TOKEN, OTHER]), min_size=1),
    st.booleans(),
)
steps = st.one_of(
    models,
    st.tuples(st.integers(0, 2), st.sampled_from(["/a/x", "/b/x", "/a/deep/x"]), st.sampled_from([None, TOKEN, OTHER])),
)


def sections(model: Model, ports: dict[bytes, int]) -> dict[str, Any]:
    services: dict[str, Any] = {}
    for prefix, name, place, is_open in model.routes:
        # One service for each endpoint: open and guarded routes of one endpoint would guard each other's paths.
        own = services.setdefault(
            f"{name}{place}{'o' if is_open else 'g'}",
            {"url": f"http://127.0.0.1:{ports[f'{name}{place}'.encode()]}", "host": f"{is_open}.example", "routes": []},
        )
        own["routes"].append({"prefix": prefix, "auth": "none" if is_open else "token"})
    return {"services": services, "cors": {"origins": [ORIGIN] if model.has_cors else []}}


@pytest.mark.thorough
@given(st.lists(steps, min_size=5, max_size=40))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_served_is_one_whole_generation(sequence: list[Any]) -> None:
    asyncio.run(_follow(sequence))


async def _follow(sequence: list[Any]) -> None:
    async with AsyncExitStack() as stack:
        ports = {}
        for name in (f"{name}{place}".encode() for name in NAMES for place in (0, 1)):
            ports[name] = (await stack.enter_async_context(upstream(answering(ok(name))))).port
        folder = Path(stack.enter_context(TemporaryDirectory()))
        served = await stack.enter_async_context(serving(folder, {}))
        model = Model((), frozenset((TOKEN, OTHER)), False)
        await served.reload(cors={"origins": []})
        wires = [await stack.enter_async_context(dial(served.port)) for _ in range(3)]
        for step in sequence:
            if isinstance(step, Model):
                model = step
                await served.reload([hash_token(token) for token in sorted(model.tokens)], **sections(model, ports))
                continue
            client, target, token = step
            for _ in range(2):
                response = await ask(wires[client], f"Origin: {ORIGIN}", target=target, token=token)
                status, answer = model.expected(target, token)
                assert response.status == status, (model, step)
                if answer is not None:
                    assert response.body == answer, (model, step)
                allowed = response.get("Access-Control-Allow-Origin")
                assert (allowed == ORIGIN) is model.has_cors, (model, step)


@pytest.mark.thorough
async def test_requests_at_the_moment_of_a_swap_see_one_generation(tmp_path: Path) -> None:
    """Each generation has its own endpoint, response header and token for the service: no response may mix them."""

    def of(name: str, up: Upstream) -> dict[str, Any]:
        route = {"prefix": "/madre", "set_response_headers": {"X-Generation": name}}
        return {"madre": service(up, route, token=f"token-of-{name}")}

    def saying(name: str) -> Any:
        return answering(lambda request: ok(f"{name} {request.get('X-VX11-Token')}".encode()))

    async with (
        upstream(saying("one")) as one,
        upstream(saying("two")) as two,
        serving(tmp_path, of("one", one)) as served,
    ):
        seen: Counter[str | None] = Counter()
        is_over = False

        async def client() -> None:
            async with dial(served.port) as wire:
                while not is_over:
                    response = await ask(wire)
                    name = response.get("X-Generation")
                    assert response.body == f"{name} token-of-{name}".encode()
                    seen[name] += 1

        tasks = TaskGroup("clients")
        clients = [tasks.start(client(), f"client {number}") for number in range(8)]
        for number in range(40):
            name, up = (("one", one), ("two", two))[number % 2]
            await served.reload(services=of(name, up))
            before = seen[name]
            await eventually(lambda name=name, before=before: seen[name] > before)  # type: ignore[misc]
        is_over = True
        await asyncio.gather(*clients)
        assert set(seen) == {"one", "two"}
        await tasks.close()
