"""A side that closes its sending half still gets what the other one sends: clients, services, and both in a tunnel."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct

import pytest

from tests.conftest import Start
from tests.support.wire import (
    Reader,
    Request,
    Script,
    Upstream,
    Writer,
    answering,
    dial,
    ok,
    read_request,
    until_it_leaves,
    upstream,
)
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
UPGRADE = b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
REQUESTS = {
    "closes": b"GET /s/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "keeps": b"GET /s/a HTTP/1.1\r\nHost: h\r\n\r\n",
    "1.0": b"GET /s/a HTTP/1.0\r\n\r\n",
    "body": b"POST /s/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"POST /s/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
}


def until_it_leaves_behind(data: bytes) -> Script:
    """Sends `data` in response to a request, and then reads until the other side has left."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(data)
        await reader.read(-1)

    return script


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "while it is served"])
async def test_a_client_that_can_send_no_more_is_answered(
    start: Start, service: Service, name: str, late: bool
) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            await state.note()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            await asyncio.sleep(0.01)
            writer.write(b" half")

    async with upstream(script) as up:
        live = await start(service(up.port))
        for number in (1, 2):  # on a new connection to the service, and on a kept one
            go.clear()
            async with dial(live.port) as wire:
                wire.writer.write(REQUESTS[name])
                if late:
                    await up.until(lambda number=number: len(up.requests) == number)  # type: ignore[misc]
                wire.writer.write_eof()
                await up.until(lambda number=number: len(up.requests) == number)  # type: ignore[misc]
                await asyncio.sleep(0.02)
                go.set()
                response = await wire.response()
                assert (response.status, response.body) == (200, b"first half")
                assert await wire.rest() == b""  # the gateway closes
    assert [record.status for record in live.records] == [200, 200]


@pytest.mark.thorough
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("notices_soon")
async def test_a_response_that_has_begun_is_sent_whole(start: Start, service: Service, name: str) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nfirst half")
        await go.wait()
        for number in range(20):
            await asyncio.sleep(0.02)
            writer.write(b"%d" % (number % 10))

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            wire.writer.write(REQUESTS[name])
            assert (await wire.head()).status == 200
            assert await wire.reader.readexactly(10) == b"first half"
            wire.writer.write_eof()
            await asyncio.sleep(0.02)
            go.set()
            assert await wire.rest() == b"01234567890123456789"
    assert [record.status for record in live.records] == [200]


@pytest.mark.usefixtures("notices_soon")
async def test_a_client_whose_response_pauses_behind_its_end_has_left(start: Start, service: Service) -> None:
    async with upstream(until_it_leaves_behind(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(REQUESTS["keeps"])
            assert (await wire.head()).status == 200
            wire.writer.write_eof()
            assert await wire.rest() == b"first"
        await up.until(lambda: up.gone == 1)
    assert [record.status for record in live.records] == [499]


async def test_all_that_was_sent_before_is_answered(start: Start, service: Service) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for number in range(9):
                target = b"/livez" if number % 4 == 3 else b"/s/%d" % number
                wire.writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            wire.writer.write_eof()
            answers = [await wire.response() for _ in range(9)]
            assert [answer.status for answer in answers] == [200] * 9
            assert [answer.body for answer in answers if answer.body.startswith(b"/")] == [
                b"/%d" % number for number in (0, 1, 2, 4, 5, 6, 8)
            ]
            assert await wire.rest() == b""


@pytest.mark.parametrize("path", [b"/s/a", b"/livez"])
async def test_what_began_behind_the_last_whole_request_keeps_no_connection(
    start: Start, service: Service, path: bytes
) -> None:
    go = asyncio.Event()

    async def answer(_: Request) -> bytes:
        await go.wait()
        return ok(b"fine")

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/a HTTP/1.1\r\nHost: h\r\n\r\nGET " + path)
            wire.writer.write_eof()
            await up.until(lambda: len(up.requests) == 1)
            go.set()
            assert (await wire.response()).body == b"fine"
            assert await wire.rest() == b""


@pytest.mark.parametrize("sent", [b"", b"GET /s/ HT", b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_what_is_not_whole_has_left(start: Start, service: Service, sent: bytes) -> None:
    async with upstream(until_it_leaves(b"\r\n\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            wire.writer.write(sent)
            if b"POST" in sent:
                await up.until(lambda: len(up.requests) == 1)
            wire.writer.write_eof()
            assert await wire.rest() == b""
        await up.until(lambda: up.gone == up.connections)
    assert [record.status for record in live.records] == ([499] if b"POST" in sent else [])


@pytest.mark.parametrize("late", [False, True])
async def test_an_event_stream_ends_with_its_clients_sending_half(start: Start, service: Service, late: bool) -> None:
    """Nothing else would end it: it has no time limit."""
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        await state.note()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await reader.read(1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            wire.writer.write(REQUESTS["keeps"])
            await up.until(lambda: len(up.requests) == 1)
            if late:
                go.set()
                await wire.head()
            wire.writer.write_eof()
            if not late:
                await asyncio.sleep(0.02)
                go.set()
            await wire.rest()
        await up.until(lambda: up.gone == 1)


@pytest.mark.parametrize("early", [False, True], ids=["after the 101", "with the request"])
async def test_a_tunnel_carries_what_the_service_sends_after_its_clients_end(
    start: Start, service: Service, early: bool
) -> None:
    """`echo stdin | docker run -i`: the output comes behind the end of the input."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        await asyncio.sleep(0.05)
        writer.write(SWITCH)
        said = await reader.read(-1)
        await asyncio.sleep(0.05)
        writer.write(b"got " + said + b"; bye")

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            wire.writer.write(UPGRADE)
            if not early:
                assert (await wire.head()).status == 101
            wire.writer.write(b"stdin")
            wire.writer.write_eof()
            assert (await wire.rest()).endswith(b"got stdin; bye")
        await up.until(lambda: up.gone == 1)
    (record,) = live.records
    assert (record.status, record.error, record.received, record.sent) == (101, None, 5, 14)


@pytest.mark.usefixtures("notices_soon")
async def test_nothing_is_written_into_a_tunnel_whose_client_had_ended_before(start: Start, service: Service) -> None:
    """A client that waits for a response behind its end is sent an interim one. This one has its response."""
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH)
        assert await reader.read(-1) == b""
        await go.wait()
        writer.write(b"bye")

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            wire.writer.write(UPGRADE)
            wire.writer.write_eof()
            assert (await wire.head()).status == 101
            await asyncio.sleep(0.3)  # six looks
            go.set()
            assert await wire.rest() == b"bye"


async def test_a_tunnel_carries_what_the_client_sends_after_the_services_end(start: Start, service: Service) -> None:
    got: list[bytes] = []

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH + b"last words")
        writer.write_eof()
        got.append(await reader.read(-1))

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            assert await wire.reader.read(-1) == b"last words"
            await wire.send(b"still here")
            await asyncio.sleep(0.02)
            await wire.send(b", and done")
            wire.writer.write_eof()
            await up.until(lambda: up.gone == 1)
    assert got == [b"still here, and done"]


@pytest.mark.parametrize("protocol", [b"tcp", b"websocket"])
async def test_a_service_with_tls_is_heard_after_its_clients_end(
    start: Start, service: Service, tls: ssl.SSLContext, protocol: bytes
) -> None:
    """The end of one half cannot be passed on through TLS. Who leaves a WebSocket without a close frame has left."""
    go, told = asyncio.Event(), list[bytes]()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH.replace(b"tcp", protocol))
        told.append(await reader.readexactly(5))
        if protocol == b"websocket":
            told.append(await reader.read(-1))
        await go.wait()
        writer.write(b"first, ")
        await asyncio.sleep(0.05)
        writer.write(b"last words")

    async with upstream(script, tls=tls) as up:
        live = await start(service(up.port, scheme="https", upgrades=["tcp", "websocket"]))
        async with dial(live.port) as wire:
            await wire.send(UPGRADE.replace(b"tcp", protocol))
            assert (await wire.head()).status == 101
            wire.writer.write(b"stdin")
            wire.writer.write_eof()
            if protocol == b"websocket":
                assert await wire.rest() == b""
                go.set()
            else:
                await asyncio.sleep(0.05)
                go.set()
                assert await wire.rest() == b"first, last words"
        await up.until(lambda: up.gone == 1)
    assert told == ([b"stdin", b""] if protocol == b"websocket" else [b"stdin"])
    (record,) = live.records
    assert (record.status, record.error) == (101, None)


async def test_a_silent_service_with_tls_keeps_no_client_that_has_ended(
    start: Start, service: Service, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.proxy.tunnel.CHECK", 0.02)

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH)
        await reader.read(-1)

    async with upstream(script, tls=tls) as up:
        live = await start(service(up.port, scheme="https", upgrades=["tcp"]))
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            wire.writer.write_eof()
            assert await wire.rest() == b""
        await up.until(lambda: up.gone == 1)


async def test_a_service_that_switches_speaks_and_leaves_is_heard(start: Start, service: Service) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH + b"x" * 100_000)

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            assert await wire.reader.read(-1) == b"x" * 100_000


async def test_a_tunnel_whose_client_has_gone_behind_its_end_is_closed(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service does not mind the end of the input, and says nothing more."""
    monkeypatch.setattr("tentaculo.proxy.tunnel.CHECK", 0.05)
    ended = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(SWITCH)
        assert await reader.read(-1) == b""
        ended.set()
        await state.until(lambda: bool(state.requests))

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            await wire.send(UPGRADE)
            assert (await wire.head()).status == 101
            wire.writer.write_eof()
            await asyncio.wait_for(ended.wait(), 5)
            assert live.records == []
            sock: socket.socket = wire.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.abort()
            async with asyncio.timeout(5):
                while not live.records:
                    await asyncio.sleep(0.01)
        up.requests.append(Request("", "", [], b"", b""))
        await up.note()
    assert live.records[0].status == 101
