"""`tentaculo.client` against a whole gateway with a database, also through a relay that loses connections."""

from __future__ import annotations

import ast
import asyncio
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, closing, suppress
from pathlib import Path
from ssl import SSLCertVerificationError
from typing import Any

import pytest

import tentaculo.client
from tentaculo.client import FIRST_DELAY, AsyncEventClient, EventClient, EventNotSentError, EventRefusedError, Received
from tests.conftest import TOKEN, Live, Start, living
from tests.support.certificates import self_signed
from tests.support.databases import sqlite
from tests.support.waits import free_port


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"source": "madre", "type": "spawn_created", "payload": {"n": number}, **more}


def no_sleep(_seconds: float) -> None:
    pass


def fail_to_sleep(_seconds: float) -> None:
    raise AssertionError("it was to be tried again")


async def no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def live(start: Start, file: Path) -> Live:
    """A gateway with a database."""
    return await start({}, database={"url": sqlite(file)})


class Relay:
    """A TCP relay to the gateway that cuts each of its first connections after some bytes of the response."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self.cuts = cuts
        self.accepted = 0
        self._to = port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        left = self.cuts.pop(0) if self.cuts else None
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to)

        async def forward() -> None:
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    up_writer.write(data)
            # The client has left, so that the response ends too.
            up_writer.transport.abort()

        async def back() -> None:
            nonlocal left
            with suppress(ConnectionError):
                while (left is None or left > 0) and (data := await up_reader.read(65536)):
                    writer.write(data if left is None else data[:left])
                    await writer.drain()
                    left = None if left is None else left - len(data)

        try:
            async with asyncio.TaskGroup() as ways:
                forwarding = ways.create_task(forward())
                await back()
                forwarding.cancel()
        finally:
            up_writer.transport.abort()
            writer.close()


@asynccontextmanager
async def relay(port: int, cuts: list[int]) -> AsyncIterator[tuple[Relay, str]]:
    served = Relay(port, cuts)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with server:
        yield served, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def client_at(url: str) -> EventClient:
    return EventClient(url, sleep=no_sleep)


def client_of(live: Live, **options: Any) -> EventClient:
    return EventClient(f"http://127.0.0.1:{live.port}", TOKEN, sleep=no_sleep, **options)


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


def taken(stream: Generator[Received], count: int) -> list[Received]:
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


async def test_what_is_sent_is_heard(live: Live) -> None:
    client = client_of(live)
    first = await in_thread(client.send, event(0))
    results = await in_thread(
        client.send_all, [event(1), event(2, source=""), event(3, key="mine"), event(3, key="mine")]
    )
    assert [result["status"] for result in results] == ["received", "rejected", "received", "duplicate"]
    heard = await in_thread(taken, client.listen(since=first["event_id"] - 1), 3)
    assert [one.event["payload"]["n"] for one in heard] == [0, 1, 3]
    assert heard[0].event["event_id"] == first["event_id"]
    resumed = await in_thread(taken, client.listen(since=heard[1].position, types=["spawn_created"]), 1)
    assert resumed == heard[2:]


async def test_a_response_that_is_lost_stores_nothing_twice(live: Live) -> None:
    async with relay(live.port, [0, 20]) as (lossy, url):
        client = EventClient(url, TOKEN, sleep=no_sleep)
        response = await in_thread(client.send, event(1))
    assert response["duplicate"]
    assert lossy.accepted == 3
    second = await in_thread(client_of(live).send, event(2))
    heard = await in_thread(taken, client_of(live).listen(since=response["event_id"] - 1, sources=["madre"]), 2)
    assert [one.event["event_id"] for one in heard] == [response["event_id"], second["event_id"]]


async def test_a_stream_that_is_cut_again_and_again_has_every_event_once(live: Live) -> None:
    client = client_of(live)
    first = (await in_thread(client.send_all, [event(number) for number in range(150)]))[0]["event_id"]
    cuts = [300, 700, 1500, 4001, 9000, 20, 15000]
    async with relay(live.port, list(cuts)) as (lossy, url):
        stream = EventClient(url, TOKEN, sleep=no_sleep).listen(since=first - 1, sources=["madre"])
        early = asyncio.gather(in_thread(taken, stream, 300))
        for start in range(150, 300, 10):
            await in_thread(client.send_all, [event(number) for number in range(start, start + 10)])
        (heard,) = await early
    assert [one.event["payload"]["n"] for one in heard] == list(range(300))
    assert lossy.accepted == len(cuts) + 1


async def test_a_refused_event_is_sent_once(live: Live) -> None:
    async with relay(live.port, []) as (counting, url):
        client = EventClient(url, TOKEN, sleep=no_sleep)
        with pytest.raises(EventRefusedError, match="422: Faulty: payload") as refused:
            await in_thread(client.send, event(1, payload=[]))
        assert refused.value.status == 422
        assert refused.value.problem["errors"][0]["field"] == "payload"
        await in_thread(client.send, event(1, key="k"))
        with pytest.raises(EventRefusedError, match="409"):
            await in_thread(client.send, event(2, key="k"))
    assert counting.accepted == 3, "one connection for each, and no repeat"


async def test_a_wrong_token_is_refused_for_both(live: Live) -> None:
    client = EventClient(f"http://127.0.0.1:{live.port}", "wrong", sleep=no_sleep)
    with pytest.raises(EventRefusedError, match="403"):
        await in_thread(client.send, event(1))
    with pytest.raises(EventRefusedError, match="403"), closing(client.listen()) as stream:
        await in_thread(next, stream)


async def test_an_unknown_log_is_said_and_the_stream_goes_on(live: Live) -> None:
    client, reasons = client_of(live), list[str]()
    await in_thread(client.send, event(0))

    def reset(reason: str) -> None:
        reasons.append(reason)
        client.send(event(1))

    heard = await in_thread(taken, client.listen(since="000000000000-5", sources=["madre"], on_reset=reset), 1)
    assert [one.event["payload"]["n"] for one in heard] == [1]
    assert len(reasons) == 1
    assert reasons[0]


async def test_an_unavailable_store_is_asked_again_after_its_time(start: Start, tmp_path: Path) -> None:
    live = await start({}, events={"wait": 0.01})
    delays = list[float]()
    client = EventClient(f"http://127.0.0.1:{live.port}", TOKEN, sleep=delays.append, give_up=5.5)
    with pytest.raises(EventNotSentError, match="503"):
        await in_thread(client.send, event(1))
    assert delays, "it was sent again"
    assert min(delays) >= 5


async def test_a_gateway_that_is_away_is_given_up(refusing_port: int) -> None:
    client = EventClient(f"http://127.0.0.1:{refusing_port}/below", give_up=0.2)
    with pytest.raises(EventNotSentError, match="ConnectionRefusedError"):
        await in_thread(client.send, event(1))


async def test_an_invalid_certificate_is_final(tmp_path: Path) -> None:
    """A listener tried again for ever, and said nothing."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    certificate = self_signed(tmp_path, "IP:127.0.0.1")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate.server_context())
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = EventClient(url, TOKEN, sleep=fail_to_sleep)
        with pytest.raises(SSLCertVerificationError, match="self-signed"):
            await in_thread(client.send, event(1))
        with pytest.raises(SSLCertVerificationError), closing(client.listen()) as stream:
            await in_thread(next, stream)
        async with AsyncEventClient(url, TOKEN, sleep=no_wait, give_up=1) as events:
            with pytest.raises(SSLCertVerificationError):
                await events.send(event(1))
            async with asyncio.timeout(20):
                with pytest.raises(SSLCertVerificationError):
                    await anext(events.listen())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://gateway", "http://", "http://g/?a", "http://g/#a"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        EventClient(url)


def test_it_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(tentaculo.client.__file__).read_text())
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    # AsyncEventClient imports it when one is made.
    assert {str(name).split(".")[0] for name in imported} - {"aiohttp"} <= sys.stdlib_module_names
    at_once = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert "aiohttp" not in at_once


ALONE = """
import sys
from events_client import EventClient, EventRefusedError
events = EventClient(sys.argv[1], sys.argv[2])
sent = events.send({"source": "alone", "type": "t", "payload": {"n": 1}})
received = next(events.listen(since=sent["event_id"] - 1, sources=["alone"]))
assert received.event["payload"] == {"n": 1}, received
assert len(events.ticket()) > 40
try:
    from events_client import AsyncEventClient
    AsyncEventClient(sys.argv[1])
except ImportError as error:
    print("no", error.name)
"""


async def test_a_copy_of_the_file_works_without_any_package(live: Live, tmp_path: Path) -> None:
    shutil.copy(tentaculo.client.__file__, tmp_path / "events_client.py")
    # -S and -I: no installed packages, no environment, not even this folder.
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}){ALONE}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-I", "-W", "error", "-c", code, f"http://127.0.0.1:{live.port}", TOKEN),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"no aiohttp\n")


async def test_what_was_given_up_can_be_sent_again_and_is_stored_once(live: Live) -> None:
    # The response is lost each time, so the client cannot know that the first attempt was stored.
    async with relay(live.port, [20] * 100) as (_, url):
        client = EventClient(url, TOKEN, sleep=no_sleep, give_up=0.2)
        with pytest.raises(EventNotSentError) as given_up:
            await in_thread(client.send, event(1))
    (kept,) = given_up.value.events
    assert kept["key"]
    assert (await in_thread(client_of(live).send, kept))["duplicate"]


@asynccontextmanager
async def answering_with(head: str, body: str = "") -> AsyncIterator[tuple[list[bytes], str]]:
    """A server that gives every request this response; also the heads of the requests."""
    heads = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield heads, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class EnoughError(Exception):
    """Ends a listener that would try again for ever."""


def delays_of(url: str, count: int) -> list[float]:
    """The first delays of a listener."""
    delays = list[float]()

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == count:
            raise EnoughError

    with pytest.raises(EnoughError), closing(EventClient(url, TOKEN, sleep=sleep).listen()) as stream:
        next(stream)
    return delays


async def test_a_listener_waits_as_long_as_the_gateway_asks() -> None:
    async with answering_with("503 Service Unavailable\r\nRetry-After: 7", '{"title": "full"}') as (heads, url):
        delays = await in_thread(delays_of, url, 4)
    assert min(delays) >= 7
    assert len(heads) == 4


async def test_a_stream_that_ends_at_once_is_asked_for_less_and_less_often() -> None:
    frames = 'retry: 3000\n\nid: 0123456789ab-5\nevent: start\ndata: {"position":"0123456789ab-5"}\n\n'
    async with answering_with("200 OK\r\nContent-Type: text/event-stream; charset=utf-8", frames) as (heads, url):
        delays = await in_thread(delays_of, url, 12)
    assert max(delays) > FIRST_DELAY
    assert b"\r\nLast-Event-ID: 0123456789ab-5\r\n" in heads[-1]


async def test_a_page_in_place_of_the_stream_is_said() -> None:
    async with answering_with("200 OK\r\nContent-Type: text/html", "<p>Welcome") as (heads, url):
        with pytest.raises(EventRefusedError, match="no event stream"), closing(client_at(url).listen()) as stream:
            await in_thread(next, stream)
        with pytest.raises(EventNotSentError, match="not one of the gateway"):
            await in_thread(EventClient(url, give_up=0, sleep=no_sleep).send, event(1))
    assert len(heads) == 2


async def test_the_success_of_another_server_is_none() -> None:
    async with answering_with("200 OK\r\nContent-Type: application/json", '{"ok": true}') as (_, url):
        client = EventClient(url, give_up=0, sleep=no_sleep)
        for call in (lambda: client.send(event(1)), lambda: client.send_all([event(1)]), client.ticket):
            with pytest.raises(EventNotSentError, match="not one of the gateway"):
                await in_thread(call)


RESET = 'id: 0123456789ab-5\nevent: reset\ndata: {"reason": "restored"}\n\n'


class CallerError(OSError):
    """An error of the caller that looks like one of the network."""


def fail(_reason: str) -> None:
    raise CallerError


async def test_what_on_reset_raises_reaches_the_caller() -> None:
    async with answering_with("200 OK\r\nContent-Type: text/event-stream", RESET) as (heads, url):
        with pytest.raises(CallerError), closing(client_at(url).listen(on_reset=fail)) as stream:
            await in_thread(next, stream)
        async with AsyncEventClient(url, sleep=no_wait) as events:
            with pytest.raises(CallerError):
                await anext(events.listen(on_reset=fail))
    assert len(heads) == 2, "one stream for each, and no second one"


async def test_one_filter_may_be_a_text() -> None:
    frames = 'id: 0123456789ab-5\nevent: t\ndata: {"type": "t"}\n\n'
    async with answering_with("200 OK\r\nContent-Type: text/event-stream", frames) as (heads, url):
        await in_thread(taken, client_at(url).listen(types="spawn_created", sources=["a", "b"]), 1)
    assert heads[0].startswith(b"GET /events/stream?type=spawn_created&source=a&source=b HTTP/1.1\r\n")


async def test_the_name_and_password_of_the_address_are_sent() -> None:
    sent = '{"event_id": 1}'
    async with answering_with("201 Created", sent) as (heads, url):
        address = url.replace("//", "//ana:s%40fe@")
        await in_thread(client_at(address).send, event(1))
        async with AsyncEventClient(address, TOKEN, sleep=no_wait) as events:
            await events.send(event(1))
        assert "s%40fe" not in repr(client_at(address))
    assert len(heads) == 2
    assert all(b"\r\nAuthorization: Basic YW5hOnNAZmU=\r\n" in head for head in heads)


@pytest.mark.parametrize(
    ("url", "port"), [("http://[::1]", 80), ("https://[::1]/gateway", 443), ("http://[::1]:81", 81)]
)
def test_an_address_of_ipv6(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[str, int]]()

    def refuse(address: tuple[str, int], *_: object) -> None:
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(EventNotSentError):
        EventClient(url, give_up=0).send(event(1))
    assert asked == [("::1", port)]


async def test_more_listeners_than_aiohttp_has_connections_keep_no_call_waiting() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            writer.write(b'id: 0123456789ab-5\nevent: t\ndata: {"type": "t"}\n\n')
            await reader.read(-1)
        else:
            writer.write(b'HTTP/1.1 201 Created\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"event_id": 1}')
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, AsyncEventClient(url) as events, AsyncExitStack() as streams:
        for _ in range(101):
            await anext(await streams.enter_async_context(aclosing(events.listen())))
        async with asyncio.timeout(20):
            assert (await events.send(event(1)))["event_id"] == 1


async def test_numbers_that_json_does_not_have_are_not_sent(refusing_port: int) -> None:
    with pytest.raises(ValueError, match="JSON"):
        await in_thread(client_at(f"http://127.0.0.1:{refusing_port}").send, event(1, metadata={"x": float("nan")}))


async def test_a_gateway_that_restarts_is_heard_without_a_gap(tmp_path: Path, file: Path) -> None:
    port, database = free_port(), {"url": sqlite(file)}
    server = {"port": port, "grace": 1}
    stream = EventClient(f"http://127.0.0.1:{port}", TOKEN, sleep=lambda _: time.sleep(0.02)).listen(
        since=0, sources=["madre"]
    )
    for start in (0, 10):
        async with living(tmp_path, {}, server=server, database=database) as live:
            await in_thread(client_of(live).send_all, [event(number) for number in range(start, start + 10)])
            heard = [await in_thread(next, stream) for _ in range(10)]
        assert [one.event["payload"]["n"] for one in heard] == list(range(start, start + 10))
    await in_thread(stream.close)


async def test_the_asynchronous_client_sends_and_resumes(live: Live) -> None:
    cuts = [0, 20, 300, 700, 1500, 20]
    async with (
        relay(live.port, list(cuts)) as (lossy, url),
        AsyncEventClient(url, TOKEN, sleep=no_wait) as events,
    ):
        first = await events.send(event(0))
        assert first["duplicate"], "the first response was lost"
        results = await in_thread(client_of(live).send_all, [event(number) for number in range(1, 30)])
        assert len(results) == 29
        heard = list[Received]()
        async with aclosing(events.listen(since=first["event_id"] - 1, sources=["madre"])) as stream:
            async for received in stream:
                heard.append(received)
                if len(heard) == 30:
                    break
        assert [one.event["payload"]["n"] for one in heard] == list(range(30))
        assert lossy.accepted == len(cuts) + 1
        assert (await events.send_all([event(1, key="k"), event(1, key="k")]))[1]["status"] == "duplicate"
        assert len(await events.ticket()) > 40


async def test_the_asynchronous_client_raises_as_the_other(live: Live, refusing_port: int) -> None:
    async with AsyncEventClient(f"http://127.0.0.1:{live.port}", "wrong", sleep=no_wait) as events:
        with pytest.raises(EventRefusedError, match="403"):
            await events.send(event(1))
        with pytest.raises(EventRefusedError, match="403"):
            await anext(events.listen())
    async with AsyncEventClient(f"http://127.0.0.1:{refusing_port}", give_up=0.1, sleep=no_wait) as events:
        with pytest.raises(EventNotSentError) as given_up:
            await events.send(event(1))
        assert given_up.value.events[0]["key"]
    async with answering_with("503 Service Unavailable\r\nRetry-After: 7", "{}") as (_, url):
        delays = list[float]()

        async def sleep(seconds: float) -> None:
            delays.append(seconds)
            raise EnoughError

        async with AsyncEventClient(url, sleep=sleep) as events:
            with pytest.raises(EnoughError):
                await anext(events.listen())
        assert min(delays) >= 7
    with pytest.raises(RuntimeError, match="async with"):
        await AsyncEventClient(url).send(event(1))
