"""The whole gateway on real sockets: which of its parts answers, what it says of itself, and how it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import ssl
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType

from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.security.tokens import hash_token
from tentaculo.server.listeners import CannotListenError
from tentaculo.store.database import write_services
from tentaculo.store.migrate import upgrade
from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN, Start, living
from tests.support.databases import locked, statuses
from tests.support.gateway_process import ROOT, clean_environment, to_toml
from tests.support.needs import need_ipv6
from tests.support.runtime_tables import SERVICES, opened, rows_of
from tests.support.store_samples import NOW, view
from tests.support.waits import eventually
from tests.support.wire import (
    TIMEOUT,
    Reader,
    Response,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    upstream,
)

HEADERS = {"X-VX11-Token": TOKEN}


def services(port: int, *prefixes: str, **route: Any) -> dict[str, Any]:
    """One service, open."""
    routes = [{"prefix": prefix, "auth": "none", **route} for prefix in prefixes or ("/madre",)]
    return {"madre": {"url": f"http://127.0.0.1:{port}", "routes": routes, "probe": {"interval": 3600}}}


async def get(port: int, target: str, *lines: str, host: str = "127.0.0.1", version: str = "HTTP/1.1") -> Response:
    """One request on a connection of its own."""
    async with dial(port, host) as wire:
        await wire.send("\r\n".join([f"GET {target} {version}", "Host: gateway", *lines, "", ""]).encode())
        return await wire.response()


@asynccontextmanager
async def leaving(gateway: Gateway) -> AsyncIterator[asyncio.Task[None]]:
    """The gateway on its way out, as after SIGTERM."""
    tasks = TaskGroup("test")
    task = tasks.start(gateway.__aexit__(None, None, None), "leave")
    try:
        yield task
    finally:
        await tasks.close()


async def entered(
    services: dict[str, Any], tmp_path: Path, stop_now: asyncio.Event | None = None, **server: Any
) -> Gateway:
    """A gateway that takes requests, which the test itself makes leave."""
    data = {
        "server": {"port": 0, "grace": 5, **server},
        "database": {"url": f"sqlite:///{tmp_path}/none/tentaculo.db"},
        "services": services,
    }
    gateway = Gateway(Config.of(data), [hash_token(TOKEN)], stop_now=stop_now, probes=False)
    await gateway.__aenter__()
    return gateway


def port_of(gateway: Gateway) -> int:
    return gateway.running.addresses[0][1]


class Slow:
    """An upstream that answers when it is told to, and says when it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        self.asked.set()
        tasks = TaskGroup("slow")
        waiting = [tasks.start(self.answer.wait(), "answer"), tasks.start(reader.read(), "end")]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await tasks.close()
        writer.write(ok(b"late but whole"))
        await writer.drain()


# -- who answers -----------------------------------------------------------------------------------------------------


async def test_it_says_that_it_is_well(start: Start) -> None:
    live = await start({})
    health = await get(live.port, "/health")
    assert (health.status, health.body) == (200, b'{"status":"ok","module":"tentaculo_link","version":"7.0"}')
    assert (await get(live.port, "/livez")).status == 200
    ready = await get(live.port, "/readyz")
    assert (ready.status, json.loads(ready.body)["status"]) == (200, "ready")


@pytest.mark.parametrize(
    "target", ["/health", "/health?deep=1", "http://gateway/health", "/livez", "/status", "/metrics"]
)
async def test_its_own_paths_win_over_every_route(start: Start, target: str) -> None:
    async with upstream(answering(ok(b"upstream"))) as up:
        live = await start(services(up.port, "/", "/health", "/livez", "/status", "/metrics"))
        response = await get(live.port, target)
        assert response.status == 200
        assert response.body != b"upstream"
        assert [request.target for request in up.requests if request.target != "/health"] == []


@pytest.mark.parametrize("target", ["/", "/healthy", "/health/", "/Health", "/status/", "/%68ealth", "//health"])
async def test_a_route_for_everything_takes_the_rest(start: Start, target: str) -> None:
    async with upstream(answering(ok(b"upstream"))) as up:
        live = await start(services(up.port, "/"))
        assert (await get(live.port, target)).body == b"upstream"


@pytest.mark.parametrize("target", ["/", "/?x=1", "http://gateway", "http://gateway?x=1"])
async def test_without_such_a_route_the_root_leads_to_the_status_page(start: Start, target: str) -> None:
    live = await start({})
    response = await get(live.port, target)
    assert response.status in (302, 303, 307, 308)
    assert response.get("location") == "/status"


@pytest.mark.parametrize("line", [f"X-VX11-Token: {TOKEN}", "Accept: application/json", "Accept: text/html"])
async def test_an_unknown_path_is_404_and_tells_nothing(start: Start, tmp_path: Path, line: str) -> None:
    live = await start(services(8001))
    response = await get(live.port, "/nothing/here", line)
    assert response.status == 404
    if "html" not in line:
        assert response.get("content-type") == "application/problem+json"
        members = json.loads(response.body)
        assert (members["status"], members["error"], members["status_code"]) == (404, "not_found", 404)
    told = response.raw_head + response.body
    for secret in (TOKEN, "8001", str(tmp_path), "sqlite", "madre", "aiohttp", "Python"):
        assert secret.encode() not in told


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /madre\r\n\r\n", 400),
        ("GET /madre HTTP/0.9\r\nHost: h\r\n\r\n", 505),
        ("GET /health HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ],
)
async def test_only_http_1_is_spoken(start: Start, head: str, status: int) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port))
        async with dial(live.port) as wire:
            await wire.send(head.encode())
            response = await wire.response()
            assert await wire.rest() == b""
        assert (response.version, response.status) == ("HTTP/1.1", status)
        assert not [request for request in up.requests if request.target != "/health"]


async def test_a_malformed_request_never_reaches_an_upstream(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up.port, "/"), limits={"headers": 4096})
        for head, status in (
            (b"GET /a HTTP/1.1\r\n\r\n", 400),
            (b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET /../a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            (b"GET /a HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400),
            (b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 5000), 414),
            (b"GET /a HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"a" * 5000), 431),
            (b"GET /a HTTP/1.1\r\nHost: h\r\n" + b"X: %b\r\n" % (b"a" * 2000) * 3 + b"\r\n", 431),
        ):
            async with dial(live.port) as wire:
                await wire.send(head)
                response = await wire.response()
            assert (response.status, response.get("content-type")) == (status, "application/problem+json"), head
        assert [request.target for request in up.requests if request.target != "/health"] == []


async def test_its_own_paths_take_no_larger_head_than_the_routes(start: Start) -> None:
    live = await start({}, limits={"headers": 4096})
    lines = [f"X-{number}: {'a' * 2000}" for number in range(3)]
    response = await get(live.port, "/health", *lines)
    assert (response.status, json.loads(response.body)["error"]) == (431, "headers_too_large")


async def test_an_event_whose_framing_breaks_is_refused_and_holds_nobody(start: Start) -> None:
    live = await start({})
    head = (
        b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    async with dial(live.port) as wire:
        await wire.send(head + live.auth + b"Expect: 100-continue\r\n\r\n")
        assert (await wire.head()).status == 100
        await wire.send(b"zz\r\n")
        assert (await wire.response()).status == 400


# -- the database ----------------------------------------------------------------------------------------------------


async def test_a_lost_database_is_named_and_leaves_the_proxy_working(start: Start, tmp_path: Path) -> None:
    async with upstream(answering(ok(b"proxied"))) as up:
        live = await start(services(up.port))
        assert (await get(live.port, "/madre/x")).body == b"proxied"
    ready = await get(live.port, "/readyz")
    database = json.loads(ready.body)["checks"]["database"]
    assert (ready.status, database["status"]) == (200, "failed")
    assert "tentaculo.db" in database["problem"]
    page = await get(live.port, "/status")
    assert page.status == 200
    assert "tentaculo.db" in page.body.decode()
    assert str(tmp_path).encode() not in ready.body + page.body


async def test_a_good_database_is_said_to_be_good(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    await asyncio.to_thread(upgrade, url)
    live = await start({}, database={"url": url})
    ready = await get(live.port, "/readyz")
    assert json.loads(ready.body)["checks"]["database"] == {"status": "ok"}


async def test_a_database_that_does_not_respond_delays_no_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fleet.db"
    await asyncio.to_thread(upgrade, f"sqlite:///{file}")
    monkeypatch.setattr("tentaculo.store.client.OPEN_WAIT", 3600.0)
    data = {"server": {"port": 0}, "database": {"url": f"sqlite:///{file}"}}
    gateway = Gateway(Config.of(data), [hash_token(TOKEN)], probes=False)
    tasks = TaskGroup("test")
    with locked(file):
        starting = tasks.start(gateway.__aenter__(), "start")
        await eventually(lambda: gateway.running.addresses)
        for path in ("/livez", "/vx11/status", "/metrics"):
            assert (await get(port_of(gateway), path)).status == 200
        ready = json.loads((await get(port_of(gateway), "/readyz")).body)
        assert ready["checks"]["database"]["status"] == "failed", "it is not known to work"
        await starting
    await gateway.__aexit__(None, None, None)


async def test_the_table_has_the_gateway_itself_and_services_that_are_off(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    await asyncio.to_thread(upgrade, url)
    await asyncio.to_thread(write_services, url, [view("shub")], NOW)
    services = {"shub": {"url": "http://127.0.0.1:9", "enabled": False}}
    async with living(tmp_path, services, database={"url": url}, probes=True) as live:
        await eventually(lambda: statuses(url) == {"shub": "UNKNOWN", "tentaculo_link": "OK"})
        with opened(url) as connection:
            off, own = rows_of(connection, SERVICES)
    assert (off["http_code"], off["endpoint_ok"]) == (None, None)
    assert (own["port"], own["host"], own["http_code"], own["endpoint_ok"]) == (live.port, "127.0.0.1", 200, "/health")
    assert own["checked_at"]
    assert statuses(url)["tentaculo_link"] == "UNKNOWN", "it has stopped"


# -- where it listens ------------------------------------------------------------------------------------------------


async def test_several_listeners_of_both_families(start: Start) -> None:
    need_ipv6()
    live = await start({}, server={"listen": ["127.0.0.1:0", "[::1]:0"]})
    running = live.gateway.running
    assert [host for host, _ in running.addresses] == ["127.0.0.1", "::1"]
    assert running.url == f"http://127.0.0.1:{live.port}"
    for host, port in running.addresses:
        assert (await get(port, "/livez", host=host)).status == 200


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "127.0.0.1")])
async def test_its_url_leads_there_from_this_machine(start: Start, host: str, shown: str) -> None:
    if ":" in host:
        need_ipv6()
    live = await start({}, server={"host": host, "port": 0})
    assert live.gateway.running.url == f"http://{shown}:{live.port}"
    async with ClientSession() as client, client.get(f"{live.gateway.running.url}/livez") as response:
        assert response.status == 200


async def test_a_taken_port_stops_the_start_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    live = await start({})
    tasks, threads = asyncio.all_tasks(), own_threads()
    with pytest.raises(CannotListenError) as caught:
        await entered(services(8001), tmp_path, port=live.port)
    assert caught.value.address == f"127.0.0.1:{live.port}"
    assert asyncio.all_tasks() == tasks
    assert own_threads() == threads


# -- how it leaves ---------------------------------------------------------------------------------------------------


async def test_a_request_in_flight_is_finished_and_nobody_new_is_taken(tmp_path: Path) -> None:
    slow = Slow()
    async with upstream(slow.script) as up:
        gateway = await entered(services(up.port), tmp_path)
        port = port_of(gateway)
        async with dial(port) as busy, dial(port) as idle, dial(port) as deaf:
            # A subscriber that takes its time to leave delays nobody.
            await deaf.send(WEB_SOCKET)
            assert (await deaf.head()).status == 101
            await idle.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await idle.response()).status == 200
            await busy.send(b"GET /madre/x HTTP/1.1\r\nHost: h\r\n\r\n")
            await slow.asked.wait()
            async with leaving(gateway) as task:
                async with asyncio.timeout(TIMEOUT):
                    while not await is_refused(port):
                        await asyncio.sleep(0.01)
                await idle.send(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
                ready = await idle.response()
                assert (ready.status, json.loads(ready.body)["status"]) == (503, "draining")
                assert ready.get("connection") == "close"
                assert not task.done()
                slow.answer.set()
                response = await busy.response()
                await task
                assert (response.status, response.body) == (200, b"late but whole")
                assert response.get("connection") == "close"
                assert await busy.rest() == await idle.rest() == b""


WEB_SOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGVudGFjdWxvIGxpbmshIQ==\r\nX-VX11-Token: %b\r\n\r\n" % TOKEN.encode()
)


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    except ConnectionError:
        return False
    writer.transport.abort()
    return False


async def test_listeners_and_tunnels_are_parted_with_at_once(tmp_path: Path) -> None:
    async def switch(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await reader.read()

    async with upstream(switch) as up, ClientSession() as client:
        gateway = await entered(services(up.port), tmp_path, grace=60)
        port = port_of(gateway)
        async with client.ws_connect(f"http://127.0.0.1:{port}/ws", headers=HEADERS) as socket, dial(port) as wire:
            assert (await socket.receive_json())["type"] == "connected"
            await wire.send(b"GET /madre/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert (await wire.response()).status == 101
            async with leaving(gateway) as task, asyncio.timeout(TIMEOUT):
                message = await socket.receive()
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
                assert await wire.rest() == b""
                await up.until(lambda: up.gone == 1)
                await task


@pytest.mark.parametrize("how", ["stop_now", "grace"])
async def test_a_request_that_hangs_is_cut_when_nobody_waits_any_longer(tmp_path: Path, how: str) -> None:
    slow, stop_now = Slow(), asyncio.Event()
    async with upstream(slow.script) as up:
        gateway = await entered(services(up.port), tmp_path, stop_now, grace=60 if how == "stop_now" else 0.1)
        async with dial(port_of(gateway)) as wire:
            await wire.send(b"GET /madre/x HTTP/1.1\r\nHost: h\r\n\r\n")
            await slow.asked.wait()
            async with leaving(gateway) as task, asyncio.timeout(TIMEOUT):
                if how == "stop_now":
                    stop_now.set()
                await task
            response = await wire.response()
            assert (response.status, json.loads(response.body)["error"]) == (503, "stopping")
            assert response.get("retry-after") == "1"
            assert await wire.rest() == b""
            await up.until(lambda: up.gone == 1)


async def test_nothing_is_left_of_it(tmp_path: Path) -> None:
    tasks, threads, files = asyncio.all_tasks(), own_threads(), open_files()
    async with upstream(answering(ok())) as up, ClientSession() as client:
        gateway = await entered(services(up.port), tmp_path)
        port = port_of(gateway)
        async with client.ws_connect(f"http://127.0.0.1:{port}/ws", headers=HEADERS), dial(port) as wire:
            for path in ("/madre/x", "/livez", "/nothing", "/status"):
                await wire.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
                await wire.response()
            async with leaving(gateway) as task, asyncio.timeout(TIMEOUT):
                await task
    async with asyncio.timeout(TIMEOUT):
        while asyncio.all_tasks() != tasks or open_files() - files:
            await asyncio.sleep(0.01)
    assert own_threads() == threads


def open_files() -> set[str]:
    """Sockets and files, each by its identity; uvloop keeps one /dev/null for a bad day."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found - {"/dev/null"}


def own_threads() -> list[str]:
    """All but the loop's own executor, which stays with the loop."""
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith(("uvloop_", "asyncio_"))]


# -- as a process ----------------------------------------------------------------------------------------------------


@pytest.mark.command
async def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    """Standard error is a pipe that is full: requests are answered, and SIGTERM ends the process."""
    file = tmp_path / "gateway.toml"
    file.write_text(f"server = {to_toml({'port': 0, 'grace': 1})}\nservices = {to_toml(services(9))}\n")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tentaculo", "serve", "-c", str(file)),
        cwd=tmp_path,
        env=clean_environment({"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN}),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=writing,
    )
    os.close(writing)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = b""
            while b"http://" not in line:
                line = await process.stdout.readline()
                assert line, "it ended"
        port = int(line.decode().split("http://")[1].split("/")[0].rpartition(":")[2])
        async with dial(port) as wire:
            for _ in range(1000):
                await wire.send(b"GET /nothing%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"/x" * 400))
                assert (await wire.response()).status == 404
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(TIMEOUT):
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        os.close(reading)


async def test_the_trust_store_is_loaded_once_for_all_services(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[ssl.SSLContext] = []
    load = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        loaded.append(load())
        return loaded[-1]

    monkeypatch.setattr("ssl.create_default_context", counted)
    await start({f"s{number}": {"url": f"https://127.0.0.1:{number}"} for number in range(1, 9)})
    assert len(loaded) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("settings", "synchronous"), [({}, 2), ({"durability": "power"}, 2), ({"durability": "process"}, 1)]
)
async def test_a_commit_waits_for_the_disk_unless_the_configuration_says_otherwise(
    tmp_path: Path, settings: dict[str, str], synchronous: int
) -> None:
    """SQLite's own words: 2 is FULL, after which a power cut loses nothing, and 1 is NORMAL."""
    url = f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    async with living(tmp_path, {}, database={"url": url, **settings}) as live:
        client = live.gateway._store_client
        await eventually(lambda: client.shown_problem is None)
        found = await client.run(lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar())
    assert found == synchronous


async def test_as_many_events_wait_for_the_database_as_the_configuration_says(tmp_path: Path) -> None:
    data = {
        "server": {"port": 0},
        "database": {"url": f"sqlite:///{tmp_path}/none.db"},
        "events": {"queue": 2, "wait": 0.5},
    }
    body = {"source": "s", "type": "t", "payload": {}}
    async with Gateway(Config.of(data), [hash_token(TOKEN)], probes=False) as gateway, ClientSession() as client:

        async def ingest() -> str:
            url = f"http://127.0.0.1:{port_of(gateway)}/events/ingest"
            async with client.post(url, json=body, headers=HEADERS) as response:
                assert response.status == 503
                detail: str = (await response.json(content_type=None))["detail"]
                return detail

        details = await asyncio.gather(*(ingest() for _ in range(5)))
    assert sum("Too many" in detail for detail in details) >= 3


EVENT = b'{"source":"s","type":"t","payload":{}}'
INGEST = (
    b"POST /events/ingest HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"X-VX11-Token: %b\r\n\r\n%b" % (len(EVENT), TOKEN.encode(), EVENT)
)


@contextmanager
def write_locked(file: Path) -> Iterator[sqlite3.Connection]:
    """Another process writes."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def test_a_stop_waits_for_the_events_that_are_being_stored(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    config = Config.of({"server": {"port": 0, "grace": 20}, "database": {"url": url}})
    gateway = Gateway(config, [hash_token(TOKEN)], probes=False)
    async with AsyncExitStack() as clients, AsyncExitStack() as stack:
        await stack.enter_async_context(gateway)
        wire = await clients.enter_async_context(dial(port_of(gateway)))
        await wire.send(INGEST)
        assert (await wire.response()).status == 201
        tasks = TaskGroup("test")
        with write_locked(tmp_path / "fleet.db") as lock:
            await wire.send(INGEST)
            await eventually(
                lambda: (dispatcher := gateway._shutdown._dispatcher) is not None and dispatcher.in_flight == 1
            )
            leaving = tasks.start(stack.aclose(), "leave")
            await eventually(lambda: "draining" in repr(gateway))
            await asyncio.sleep(0.3)  # longer than the quiet time after which a stop closes idle connections
            assert not leaving.done()
            lock.rollback()
            response = await wire.response()
        await leaving
    assert (response.status, response.get("connection")) == (201, "close")


@pytest.mark.usefixtures("both_ways")
async def test_an_ingest_is_recorded_once_also_where_its_client_leaves(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    live = await start({}, database={"url": url})
    async with dial(live.port) as wire:
        for _ in range(2):
            await wire.send(INGEST)
            assert (await wire.response()).status == 201
        with write_locked(tmp_path / "fleet.db"):
            await wire.send(INGEST)
            await eventually(lambda: live.gateway._store_client._queue.has_events)
            wire.reset()
            await eventually(lambda: len(live.records) == 3)
    seen = [(one.method, one.target, one.status, one.received, one.service) for one in live.records]
    stored = ("POST", "/events/ingest", 201, len(EVENT), None)
    assert seen == [stored, stored, ("POST", "/events/ingest", 499, len(EVENT), None)]
    assert len({one.request_id for one in live.records}) == 3
    assert [one.sent > 0 for one in live.records] == [True, True, False]


@pytest.mark.usefixtures("both_ways")
async def test_no_event_is_taken_while_the_memory_is_used_up(start: Start, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    live = await start({}, database={"url": url})
    async with dial(live.port) as wire:
        for _ in range(2):
            await wire.send(INGEST)
            assert (await wire.response()).status == 201
        live.gateway.memory.held += live.gateway.memory.limit
        await wire.send(INGEST)
        assert (await wire.response()).status == 503
        live.gateway.memory.held -= live.gateway.memory.limit
        await wire.send(INGEST)
        assert (await wire.response()).status == 201
