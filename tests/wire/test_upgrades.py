"""The handshake of an upgrade: who may, what its heads say, and what is never tunnelled (RFC 9110 section 7.8, RFC 6455 section 4)."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.conftest import Start
from tests.support.waits import eventually
from tests.support.wire import Reader, Request, Upstream, Writer, answering, dial, ok, read_request, upstream
from tests.wire.conftest import Service

HANDSHAKE = (
    b"GET /s/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


async def test_a_token_is_asked_for(start: Start, service: Service) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port, auth="token"))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            assert (await wire.response()).status == 401
    assert up.connections == 0


@pytest.mark.parametrize("status", [b"403 Forbidden", b"426 Upgrade Required", b"200 OK"])
async def test_a_refusal_is_relayed_and_what_follows_it_is_not_tunnelled(
    start: Start, service: Service, status: bytes
) -> None:
    async with upstream(answering(ok(b"no", status=status))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE + b"\x81\x05hello")
            response = await wire.response()
            assert (response.status, response.body) == (int(status[:3]), b"no")
            assert b"HTTP/1.1 400" in await wire.rest()
    assert [request.target for request in up.requests] == ["/ws"]


@pytest.mark.parametrize(
    "head",
    [
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HANDSHAKE.replace(b"Connection: keep-alive, Upgrade\r\n", b""),
    ],
)
async def test_only_a_proper_request_may_upgrade(start: Start, service: Service, head: bytes) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(head)
            assert (await wire.response()).status == 502  # the upstream switched without being asked
    assert up.requests[0].all("upgrade") == []


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"Origin: http://h\r\n", 101),
        (b"Origin: http://localhost:8020\r\n", 101),
        (b"", 101),
        (b"Origin: http://evil.example\r\n", 403),
        (b"Origin: null\r\n", 403),
    ],
)
async def test_a_foreign_page_opens_no_web_socket(start: Start, service: Service, origin: bytes, status: int) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port, check_origin=True))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE[:-2] + origin + b"\r\n")
            assert (await wire.response()).status == status
    assert up.connections == (status == 101)


async def test_a_101_loses_what_is_hop_by_hop_and_gains_what_every_answer_has(start: Start, service: Service) -> None:
    switch = SWITCH[:-2] + (
        b"Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: x\r\nProxy-Authenticate: x\r\nContent-Length: 3\r\n"
        b"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSet-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\n\r\n"
    )
    request = HANDSHAKE[:-2] + (
        b"Sec-WebSocket-Protocol: chat, other\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context\r\n"
        b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: x\r\n\r\n"
    )
    async with upstream(answering(switch)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(request)
            head = await wire.head()
    asked = up.requests[0]
    assert asked.get("sec-websocket-protocol") == "chat, other"
    assert asked.get("sec-websocket-extensions") == "permessage-deflate; client_no_context"
    assert (asked.get("connection"), asked.get("upgrade")) == ("Upgrade", "websocket")
    assert asked.all("x-secret") == asked.all("keep-alive") == []
    assert (head.get("connection"), head.get("upgrade"), head.get("sec-websocket-accept")) == (
        "Upgrade",
        "websocket",
        "x",
    )
    assert (head.get("sec-websocket-protocol"), head.get("sec-websocket-extensions")) == ("chat", "permessage-deflate")
    assert head.all("set-cookie") == ["a=1", "b=2"]
    assert head.get("via")
    assert head.get("x-request-id")
    for name in ("x-private", "keep-alive", "proxy-authenticate", "content-length"):
        assert head.all(name) == []


@pytest.mark.parametrize(
    "protocol", [b"h2c", b"H2C", b"h2", b"HTTP/2.0", b"TLS/1.0", b"tls/1.3", b"tcp", b"spdy/3.1", b"websockets"]
)
async def test_a_protocol_that_is_not_listed_is_never_tunnelled(
    start: Start, service: Service, protocol: bytes
) -> None:
    """A tunnel that carries HTTP again would lead to any path, past routes and tokens."""
    async with upstream(answering(ok(b"plain"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            head = b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
            await wire.send(head + b"Upgrade: " + protocol + b"\r\n\r\n")
            assert (await wire.response()).body == b"plain"
            await wire.send(b"GET /s/next HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await wire.response()).body == b"plain"
    assert (
        up.requests[0].all("upgrade") == up.requests[0].all("connection") == up.requests[0].all("http2-settings") == []
    )


@pytest.mark.parametrize("answer", [b"Upgrade: other\r\n", b"", b"Upgrade: websocket, other\r\n"])
async def test_a_101_to_what_was_not_asked_for_is_a_502(start: Start, service: Service, answer: bytes) -> None:
    async with upstream(answering(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n" + answer + b"\r\n")) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            assert (await wire.response()).status == 502
        await up.until(lambda: up.gone == 1)


@pytest.mark.parametrize("protocol", [b"websocket, h2c", b"h2c,WebSocket", b"TLS/1.0, websocket, http/2.0"])
async def test_of_several_protocols_only_the_listed_ones_are_offered(
    start: Start, service: Service, protocol: bytes
) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: " + protocol))
            assert (await wire.head()).status == 101
    assert up.requests[0].all("upgrade") in (["websocket"], ["WebSocket"])


async def test_a_service_that_switches_to_what_was_not_offered_is_a_502(start: Start, service: Service) -> None:
    async with upstream(answering(SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: websocket, h2c"))
            assert (await wire.response()).status == 502


@pytest.mark.parametrize(("body", "late"), [(b"", False), (b'{"Detach":false}', False), (b'{"Detach":false}', True)])
async def test_a_route_may_list_protocols_which_then_pass_by_any_method(
    start: Start, service: Service, body: bytes, late: bool
) -> None:
    """`docker exec`: POST with `Upgrade: tcp`, a JSON body, and raw bytes both ways after the 101."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        request = await read_request(reader)
        state.requests.append(request)
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nready")
        writer.write((await reader.readexactly(4)).upper())

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            head = b"POST /s/exec/1/start HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            await wire.send(head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            if late:
                await up.until(lambda: up.connections == 1)
            await wire.send(body)
            assert (await wire.head()).status == 101
            await wire.send(b"ping")
            assert await wire.rest() == b"readyPING"
    assert (up.requests[0].method, up.requests[0].get("upgrade"), up.requests[0].body) == ("POST", "tcp", body)


async def test_an_empty_list_lets_no_protocol_pass(start: Start, service: Service) -> None:
    async with upstream(answering(ok(b"plain"))) as up:
        live = await start(service(up.port, upgrades=[]))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE)
            assert (await wire.response()).body == b"plain"
    assert up.requests[0].all("upgrade") == []


async def test_one_of_several_protocols_may_be_chosen(start: Start, service: Service) -> None:
    async with upstream(answering(SWITCH)) as up:
        live = await start(service(up.port, upgrades=["chat/2", "websocket"]))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE.replace(b"Upgrade: websocket\r\n", b"Upgrade: chat/2, WebSocket\r\n"))
            assert (await wire.head()).status == 101
    assert up.requests[0].get("upgrade") == "chat/2, WebSocket"


async def test_a_426_names_the_protocol_to_come_back_with(start: Start, service: Service) -> None:
    refusal = ok(b"how", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", status=b"426 No")
    async with upstream(answering(refusal)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
    assert (response.status, response.body, response.get("upgrade")) == (426, b"how", "websocket")
    assert (response.get("connection"), response.get("sec-websocket-version")) == ("Upgrade", "13")


@pytest.mark.parametrize("protocol", [b"websocket", b"tcp"])
async def test_what_comes_before_the_101_waits_for_it(start: Start, service: Service, protocol: bytes) -> None:
    go = asyncio.Event()

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        state.requests.append(Request("", "", [], b"", b""))
        await state.note()
        await go.wait()
        writer.write(SWITCH.replace(b"websocket", protocol))
        while data := await reader.read(1000):
            writer.write(data.upper())

    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["websocket", "tcp"]))
        async with dial(live.port) as wire:
            await wire.send(HANDSHAKE.replace(b"websocket\r\n", protocol + b"\r\n", 1) + b"early ")
            await up.until(lambda: len(up.requests) == 1)
            await wire.send(b"GET / HTTP/1.1\r\n\r\n")
            async with dial(live.port) as other:  # by the time this is answered, the bytes above have been read
                await other.send(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
                await other.response()
            go.set()
            assert (await wire.head()).status == 101
            assert await wire.reader.readexactly(24) == b"EARLY GET / HTTP/1.1\r\n\r\n"


BODIES = {
    "a length": b"Content-Length: 4\r\n\r\nbody",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("protocol", [b"websocket", b"tcp"])
@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("split", [0, 3])
async def test_what_comes_behind_a_body_before_the_101_waits_for_it(
    start: Start, service: Service, protocol: bytes, body: str, split: int
) -> None:
    """Also where the end of the body and what follows it arrive later than the rest."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        state.requests.append(await read_request(reader))
        writer.write(SWITCH.replace(b"websocket", protocol))
        writer.write((await reader.readexactly(24)).upper())

    sent = HANDSHAKE.replace(b"websocket\r\n", protocol + b"\r\n", 1)[:-2] + BODIES[body]
    async with upstream(script) as up:
        live = await start(service(up.port, upgrades=["websocket", "tcp"]))
        async with dial(live.port) as wire:
            await wire.send(sent[: len(sent) - split])
            await up.until(lambda: up.connections == 1)
            await wire.send(sent[len(sent) - split :] + b"early GET / HTTP/1.1\r\n\r\n")
            assert (await wire.head()).status == 101
            assert await wire.rest() == b"EARLY GET / HTTP/1.1\r\n\r\n"
    assert [request.body for request in up.requests] == [b"body"]


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("path", [b"/s/ws", b"/livez"])
async def test_what_follows_a_refused_upgrade_with_a_body_is_a_request(
    start: Start, service: Service, body: str, path: bytes
) -> None:
    """Also where the refusal, here that of `/livez`, does not wait for the body."""
    next_one = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
    sent = HANDSHAKE.replace(b"websocket\r\n", b"tcp\r\n", 1).replace(b"/s/ws", path)[:-2] + BODIES[body]
    async with upstream(answering(ok(b"no"))) as up:
        live = await start(service(up.port, upgrades=["tcp"]))
        async with dial(live.port) as wire:
            await wire.send(sent[:-3])
            if path == b"/livez":
                assert (await wire.response()).status == 200
            else:
                await up.until(lambda: up.connections == 1)
            await wire.send(sent[-3:] + next_one)
            if path != b"/livez":
                assert (await wire.response()).body == b"no"
            assert (await wire.response()).status == 200
            await wire.send(next_one)
            assert (await wire.response()).status == 200


@pytest.mark.parametrize("protocol", [b"websocket", b"tls/9", b"h2c"])
async def test_what_is_pipelined_behind_a_refused_upgrade_is_a_request(
    start: Start, service: Service, protocol: bytes
) -> None:
    async with upstream(answering(lambda request: ok(request.target.encode()))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            next_one = b"GET /s/%d HTTP/1.1\r\nHost: h\r\n\r\n"
            await wire.send(HANDSHAKE.replace(b"websocket\r\n", protocol + b"\r\n", 1) + next_one % 1 + next_one % 2)
            assert [(await wire.response()).body for _ in range(3)] == [b"/ws", b"/1", b"/2"]
            await wire.send(next_one % 3)
            assert (await wire.response()).body == b"/3"


@pytest.mark.thorough
@pytest.mark.parametrize("interim", [0, 14])
async def test_a_tunnel_to_a_client_that_has_not_read_what_came_before_is_held_back(
    start: Start, service: Service, small_send_buffers: list[asyncio.Transport], interim: int
) -> None:
    """Its send buffer is full of interim answers, or of what came with the 101, before the tunnel opens."""
    size = 6_000_000
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 1000 + b"\r\n\r\n"

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await read_request(reader)
        writer.write(hint * interim + SWITCH + bytes(size))
        await reader.read(-1)

    async with upstream(script) as up:
        live = await start(service(up.port))
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", live.port))
            client.sendall(HANDSHAKE)
            client.setblocking(False)
            await eventually(lambda: bool(small_send_buffers) and bool(live.gateway.proxy._shared.tunnels))
            looks = [-1]
            while len(looks) < 10 or len({*looks[-10:]}) > 1:  # until no more arrives
                await asyncio.sleep(0.01)
                looks.append(small_send_buffers[0].get_write_buffer_size())
            assert looks[-1] < size / 4
            received = b""
            while not received.endswith(bytes(size)):
                received += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
