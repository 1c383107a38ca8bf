"""A kept connection that the service closes: what the client may notice of it is nothing, or that nobody can know more."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tentaculo.upstream.connection import UpstreamConnection
from tests.conftest import Start
from tests.support.wire import Reader, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")
HEAD = b"%b /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"


def older(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Idle connections are older by `seconds` than they are."""
    rest = UpstreamConnection.rest

    def rest_long(self: UpstreamConnection) -> bool:
        can_follow = rest(self)
        self.idle_since -= seconds
        return can_follow

    monkeypatch.setattr(UpstreamConnection, "rest", rest_long)


async def closes_at_the_second(reader: Reader, writer: Writer, state: Upstream) -> None:
    """Closes when the second request of a connection begins to arrive."""
    state.requests.append(await read_request(reader))
    writer.write(ok(b"fine"))
    await reader.readexactly(1)
    writer.transport.abort()


@pytest.mark.parametrize("method", [b"PUT", b"POST"])
async def test_a_body_that_still_arrives_gets_a_fresh_connection_after_a_pause(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch, method: bytes
) -> None:
    older(monkeypatch, 1.5)
    body = bytes(range(256)) * 2400
    async with upstream(closes_at_the_second) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HEAD % (b"GET", 0))
            assert (await wire.response()).body == b"fine"
            await wire.send(HEAD % (method, len(body)) + body[:1000])
            await wire.send(body[1000:])
            assert (await wire.response()).status == 200
    assert [request.body == body for request in up.requests] == [False, True]


@pytest.mark.parametrize(
    "said", [b"max=0", b"timeout=5, max=0", b"MAX=0;timeout=5", b"timeout=0", b'timeout="0", max=9']
)
async def test_a_connection_that_the_service_announces_as_finished_is_not_used_again(
    start: Start, service: Service, said: bytes
) -> None:
    async with upstream(answering(ok(b"ok", b"Keep-Alive: " + said))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(HEAD % (b"GET", 0))
                response = await wire.response()
                assert (response.status, response.get("connection")) == (200, None)
    assert up.connections == 2


@pytest.mark.parametrize(
    ("said", "connections"),
    [(b"timeout=1", 2), (b"timeout=30", 1), (b"max=9", 2), (b"timeout=30, max=10", 1), (b"timeout=30, xmax=0", 1)],
)
async def test_a_post_believes_what_the_service_says_of_its_connections(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch, said: bytes, connections: int
) -> None:
    older(monkeypatch, 1.5)
    async with upstream(answering(ok(b"ok", b"Keep-Alive: " + said))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                await wire.send(HEAD % (b"POST", 2) + b"hi")
                response = await wire.response()
                assert (response.status, response.all("keep-alive")) == (200, [])
    assert up.connections == connections


@pytest.mark.thorough
@pytest.mark.parametrize("sees", [True, False], ids=["close is seen", "close is under way"])
@pytest.mark.parametrize("pieces", [(b"hello",), (b"hel", b"lo"), (b"",)])
async def test_a_post_that_the_service_cannot_have_read_is_sent_again(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch, sees: bool, pieces: tuple[bytes, ...]
) -> None:
    """The service closes without announcing it, when the next request is on its way already."""
    if not sees:
        monkeypatch.setattr(UpstreamConnection, "is_quiet", lambda self: True)
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        server.setblocking(False)
        live = await start(service(server.getsockname()[1]))
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", live.port))
        got: list[bytes] = []
        peer = client
        async with asyncio.timeout(10):
            for request in ((HEAD % (b"GET", 0),), (HEAD % (b"POST", len(b"".join(pieces))) + pieces[0], *pieces[1:])):
                client.send(request[0])
                if got:
                    peer.close()  # in the same turn of the loop: whichever of the two the gateway reads first
                peer, _ = await loop.sock_accept(server)
                for piece in request[1:]:
                    client.send(piece)
                data = b""
                while not data.endswith(b"\r\n\r\n" + (b"".join(pieces) if got else b"")):
                    data += await loop.sock_recv(peer, 1000)
                got.append(data.partition(b" ")[0])
                await loop.sock_sendall(peer, ok(b"fine"))
                assert (await loop.sock_recv(client, 1000)).endswith(b"fine")
        peer.close()
    assert got == [b"GET", b"POST"]
    assert [record.status for record in live.records] == [200, 200]


async def test_a_post_that_was_read_is_not_sent_again(start: Start, service: Service) -> None:
    async with upstream(closes_at_the_second) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HEAD % (b"GET", 0))
            assert (await wire.response()).body == b"fine"
            await wire.send(HEAD % (b"POST", 2) + b"hi")
            assert (await wire.response()).status == 502
    assert len(up.requests) == 1


async def test_a_put_that_arrives_slowly_is_sent_again_from_its_beginning(start: Start, service: Service) -> None:
    async with upstream(closes_at_the_second) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HEAD % (b"GET", 0))
            assert (await wire.response()).body == b"fine"
            await wire.send(HEAD % (b"PUT", 10) + b"hello")
            await up.until(lambda: up.connections == 2)
            await wire.send(b"world")
            assert (await wire.response()).body == b"fine"
    assert [request.body for request in up.requests] == [b"", b"helloworld"]


@pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"PUT", 200), (b"POST", 408)])
async def test_a_408_on_an_idle_connection_is_its_close(
    start: Start, service: Service, method: bytes, status: int
) -> None:
    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        writer.write(ok(b"fine"))
        await reader.readexactly(1)
        writer.write(ok(b"late", b"Connection: close", status=b"408 Request Timeout"))
        await writer.drain()

    async with upstream(script) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HEAD % (b"GET", 0))
            assert (await wire.response()).body == b"fine"
            await wire.send(HEAD % (method, 2) + b"hi")
            assert (await wire.response()).status == status
        assert live.gateway.health_service.board.service("s").breaker.failure_count == 0
