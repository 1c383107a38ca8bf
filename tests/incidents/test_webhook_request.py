"""One POST to a webhook receiver on real sockets: what is sent, and which bytes of a response count."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tentaculo.incidents import webhook_request
from tentaculo.incidents.webhook_request import NotHttpError, post, words_of
from tests.support.waits import eventually, free_port
from tests.support.wire import Reader, Request, Writer, read_request

OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def receiver(*pieces: bytes, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[Request]]]:
    """A receiver that sends `pieces`, each in a segment of its own, and closes: its port, and what it got."""
    requests: list[Request] = []

    async def respond(reader: Reader, writer: Writer) -> None:
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        requests.append(await read_request(reader))
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(respond, host, 0) as server:
        yield server.sockets[0].getsockname()[1], requests


async def send(port: int, seconds: float = 5, body: bytes = b"{}") -> webhook_request.ResponseHead:
    return await post(f"http://127.0.0.1:{port}/hook?token=a", {"webhook-id": "1"}, body, seconds, None)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "response",
    [
        OK + b"Content-Length: 2\r\n\r\nok",
        OK + b"Content-Length: 2\r\n\r\nok and more that belongs to nothing\r\n\r\n",
        OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nokHTTP/1.1 500 Error\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        OK + b"Content-Length: many\r\n\r\nok",
        OK + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n!",
        OK + b"Transfer-Encoding: rot13\r\n\r\nbx",
        OK + b"no field\r\n\r\n",
        OK + b"X: a\r\n folded\r\n\r\n",
        OK + b"X: " + b"x" * 30_000 + b"\r\n\r\n",
        OK + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        OK + b"\r\n\x16\x03\x01",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.0 200 OK\n\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK + b"\r\n!",
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
async def test_whatever_follows_a_whole_head_does_not_undo_it(response: bytes, size: int) -> None:
    async with receiver(*(response[at : at + size] for at in range(0, len(response), size))) as (port, _):
        head = await send(port)
    assert (head.status, head.fields.get("retry-after")) == (200, None)


@pytest.mark.parametrize(
    "response",
    [
        b"SIP/2.0 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"200 OK",
        OK + b"X: " + b"x" * 70_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
    ],
)
async def test_what_is_no_response_is_an_error(response: bytes) -> None:
    async with receiver(response) as (port, _):
        with pytest.raises(NotHttpError):
            await send(port)


@pytest.mark.parametrize("response", [b"", b"HT", OK, OK + b"Content-Length: 0\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_head_that_is_not_whole_is_no_delivery(response: bytes) -> None:
    async with receiver(response) as (port, _):
        with pytest.raises(ConnectionError) as caught:
            await send(port)
    assert words_of(caught.value) == "closed the connection before it answered"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: y" + b" " * 60_000 + b"y\r\n\r\n",
        b"HTTP/1.1 100\n\n" * 4_000 + b"HTTP/1.1 200\n\n",
    ],
    ids=["blanks in a value", "interim heads"],
)
async def test_a_head_of_any_bytes_is_read_in_proportion_to_them(head: bytes) -> None:
    async with receiver(head) as (port, _):
        start = time.process_time()
        assert (await send(port)).status == 200
        assert time.process_time() - start < 5, "it takes milliseconds; a quadratic reader took most of a minute"


async def test_interim_heads_have_a_limit_together() -> None:
    async with receiver(b"HTTP/1.1 100\n\n" * 5_000 + OK + b"\r\n") as (port, _):
        with pytest.raises(NotHttpError):
            await send(port)


async def test_what_is_sent() -> None:
    async with receiver(b"HTTP/1.1 503 No\r\nRETRY-AFTER:  7 \r\nRetry-After: 8\r\n\r\n") as (port, requests):
        head = await send(port, body=b'{"a":1}')
    assert (head.status, head.fields) == (503, {"retry-after": "7"})
    (request,) = requests
    assert request.raw_head.split(b"\r\n\r\n")[0].split(b"\r\n") == [
        b"POST /hook?token=a HTTP/1.1",
        b"Host: 127.0.0.1:%d" % port,
        b"Accept: */*",
        b"webhook-id: 1",
        b"Content-Length: 7",
        b"Connection: close",
    ]
    assert request.body == b'{"a":1}'


async def test_no_proxy_of_the_environment_gets_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(OK + b"\r\n") as (proxy, asked), receiver(OK + b"\r\n") as (port, requests):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        await send(port)
    assert (len(asked), len(requests)) == (0, 1)


async def test_a_name_with_a_dead_address_before_a_living_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` has two addresses on most machines, and the receiver listens at one of them."""

    async def two(name: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(webhook_request, "look_up", two)
    async with receiver(OK + b"\r\n") as (port, requests):
        head = await post(f"http://hooks.example:{port}/", {}, b"", 5, None)
    assert head.status == 200
    assert requests[0].get("host") == f"hooks.example:{port}"


async def test_a_receiver_that_responds_and_closes_before_it_reads_the_message() -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(OK + b"\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
        head = await send(listener.getsockname()[1], body=bytes(60_000))
        await serving
    assert head.status == 200


@pytest.mark.parametrize("begins", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_one_that_is_silent_gets_its_time_and_no_more(begins: bytes) -> None:
    gone: list[bool] = []

    async def respond(reader: Reader, writer: Writer) -> None:
        writer.write(begins)
        await reader.read(-1)
        gone.append(True)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        with pytest.raises(TimeoutError):
            await send(server.sockets[0].getsockname()[1], seconds=0.1)
        await eventually(lambda: gone)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (lambda: f"http://127.0.0.1:{free_port()}/", "connection refused"),
        (lambda: "http://nowhere.invalid/", "name not found"),
        (lambda: "http://255.255.255.255/", "cannot be reached"),
    ],
)
async def test_an_address_where_no_receiver_is(url: Callable[[], str], words: str) -> None:
    with pytest.raises(OSError) as caught:
        await post(url(), {}, b"", 5, None)
    assert words_of(caught.value) == words
