"""The connections of probes: addresses, names, and the same reading of a response as that of the proxy."""

from __future__ import annotations

import asyncio
import errno
import random
import socket
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.health.prober import Prober
from tentaculo.model.health import Endpoint, Health, ProbeResult
from tests.conftest import Start
from tests.support.addresses import DEAD, Names, dead_address
from tests.support.health import Serve, answer, says, websocket_response
from tests.support.waits import eventually
from tests.support.wire import dial

KINDS = ["http", "websocket", "tcp"]


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve each of `KINDS`."""
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(websocket_response(head) if b"Upgrade: websocket" in head else answer())
    await reader.read()


def prober(port: int, names: Names, *, resolve: float = 30, **probe: Any) -> Prober:
    service = {"url": f"http://two.test:{port}", "probe": {"timeout": 5, **probe}}
    return Prober(Config.of({"services": {"madre": service}, "limits": {"resolve": resolve}}), look_up=names)


async def ask(prober: Prober, port: int) -> ProbeResult:
    return await prober.probe(Endpoint("madre", "two.test", port))


@pytest.mark.parametrize("kind", KINDS)
async def test_one_dead_address_of_a_name(serve: Serve, kind: str) -> None:
    port = await serve(talk)
    with dead_address(port):
        one = prober(port, Names([DEAD, "127.0.0.1"]), kind=kind)
        first, second = await ask(one, port), await ask(one, port)
    assert (first.health, second.health) == (Health.UP, Health.UP)
    assert (first.latency_ms or 0) >= 240
    assert (second.latency_ms or 0) < (first.latency_ms or 0), "the address that accepted is tried first"


@pytest.mark.parametrize("kind", KINDS)
async def test_one_address_that_refuses(serve: Serve, kind: str) -> None:
    port = await serve(talk)
    assert (await ask(prober(port, Names([DEAD, "127.0.0.1"]), kind=kind), port)).health is Health.UP


async def test_all_addresses_are_dead(serve: Serve) -> None:
    port = await serve(talk)
    with dead_address(port):
        result = await ask(prober(port, Names([DEAD, DEAD]), kind="tcp", timeout=0.4), port)
    assert (result.health, result.reason) == (Health.DOWN, "could not connect within 0.4 s")


async def test_a_name_server_that_is_silent_is_named(serve: Serve) -> None:
    port = await serve(talk)
    found = asyncio.Event()

    async def late(_: str, __: int) -> list[str]:
        await found.wait()
        return ["127.0.0.1"]

    service = {"url": f"http://two.test:{port}", "probe": {"timeout": 0.1}}
    one = Prober(Config.of({"services": {"madre": service}}), look_up=late)
    result = await ask(one, port)
    assert (result.health, result.reason) == (Health.DOWN, "name not found: the name server did not answer")
    found.set()
    await eventually(lambda: not one._connector.is_unresolved("two.test", port))
    assert (await ask(prober(port, Names(["127.0.0.1"])), port)).health is Health.UP


async def test_a_container_that_was_replaced_is_found_at_once(serve: Serve) -> None:
    port = await serve(talk, host="127.0.0.4")
    names = Names(["127.0.0.3"], ["127.0.0.4"])
    one = prober(port, names, resolve=3600)

    async def talk_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, writer)
        writer.close()

    async with await asyncio.start_server(talk_and_close, "127.0.0.3", port):
        assert (await ask(one, port)).health is Health.UP
        assert len(names.asked) == 1
    assert (await ask(one, port)).health is Health.UP
    assert len(names.asked) == 2


async def test_the_names_of_endpoints_that_are_gone_are_forgotten(serve: Serve) -> None:
    port = await serve(talk)
    names = Names(["127.0.0.1"])
    one = prober(port, names, resolve=3600)
    await ask(one, port)
    same = Config.of({"services": {"madre": {"url": f"http://two.test:{port}"}}, "limits": {"resolve": 3600}})
    one.prepare(same)()
    assert repr(one._connector) == "<Connector: 1 names>"
    one.prepare(Config.of({"services": {"madre": {"url": "http://other.test"}}, "limits": {"resolve": 3600}}))()
    assert repr(one._connector) == "<Connector: 0 names>"


async def test_a_name_is_looked_up_again_when_its_time_is_over(serve: Serve) -> None:
    names = Names(["127.0.0.1"])
    port = await serve(talk)
    one = prober(port, names, resolve=0.001)
    for number in (1, 2, 3):
        await ask(one, port)
        assert len(names.asked) == number
        await asyncio.sleep(0.002)


async def test_a_name_server_that_is_away_takes_nothing_away(serve: Serve) -> None:
    names = Names(["127.0.0.1"], socket.gaierror(socket.EAI_AGAIN, "away"))
    port = await serve(talk)
    one = prober(port, names, resolve=0.001)
    assert (await ask(one, port)).health is Health.UP
    await asyncio.sleep(0.002)
    assert (await ask(one, port)).health is Health.UP
    assert len(names.asked) == 2


async def test_a_name_server_that_never_knew_it(serve: Serve) -> None:
    result = await ask(prober(1, Names(socket.gaierror(socket.EAI_AGAIN, "away"))), 1)
    assert result.reason == "name not found: the name server did not answer"


async def test_no_route_says_less_than_a_refusal() -> None:
    result = await ask(prober(1, Names(OSError(errno.ENETUNREACH, "no route"))), 1)
    assert (result.health, result.reason) == (Health.DOWN, "network unreachable")


LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
RESPONSES = {
    "plain": b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\nok",
    "http/1.0 to the close": b"HTTP/1.0 200 OK\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\n" + LENGTH + b"\r\nok",
    "a header of 9 KB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 9000 + b"\r\n" + LENGTH + b"\r\nok",
    "a header of 31 KB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 31000 + b"\r\n" + LENGTH + b"\r\nok",
    "a header of 33 KB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 33000 + b"\r\n" + LENGTH + b"\r\nok",
    "120 headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 120 + LENGTH + b"\r\nok",
    "one length twice": b"HTTP/1.1 200 OK\r\n" + LENGTH * 2 + b"\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\n" + LENGTH + b"Content-Length: 3\r\n\r\nok!",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a bare line feed in the head": b"HTTP/1.1 200 OK\r\nX: a\n" + LENGTH + b"\r\nok",
    "a folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + LENGTH + b"\r\nok",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\n" + LENGTH + b"\r\nok",
    "a line without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n" + LENGTH + b"\r\nok",
    "a NUL in a header": b"HTTP/1.1 200 OK\r\nX: \0\r\n" + LENGTH + b"\r\nok",
    "latin-1 in a header": b"HTTP/1.1 200 OK\r\nX: \xe9\r\n" + LENGTH + b"\r\nok",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n" + LENGTH + b"\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a chunk size that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + LENGTH + b"\r\n2\r\nok\r\n0\r\n\r\n",
    "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + LENGTH + b"\r\nok",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    "nothing": b"",
    "more than its length": b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\nok and more",
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_a_probe_accepts_what_the_proxy_forwards(start: Start, serve: Serve, name: str) -> None:
    port = await serve(says(RESPONSES[name]))
    route = {"prefix": "/s", "strip": True, "auth": "none"}
    live = await start({"s": {"url": f"http://127.0.0.1:{port}", "routes": [route]}}, probes=True)
    board = live.gateway.health_service.board
    await eventually(lambda: board.service("s").health is not Health.UNKNOWN)
    async with dial(live.port) as wire:
        await wire.send(b"GET /s/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        try:
            response = await wire.response()
            is_forwarded = (response.status, response.body) == (200, b"ok")
        except asyncio.IncompleteReadError:
            is_forwarded = False
    found = next(iter(board.results()))
    assert (found.health is Health.UP) is is_forwarded, f"forwarded: {is_forwarded}, probe: {found.reason}"


def mutated(chance: random.Random) -> bytes:
    """A response with bytes changed, removed, inserted and doubled."""
    data = bytearray(chance.choice([response for response in RESPONSES.values() if len(response) < 1000]))
    for _ in range(chance.randrange(5)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[place : place + chance.randrange(1, 9)]
            case 2:
                data[place:place] = chance.choice(
                    [b"\r\n", b"\n", b"\0", b"\xff", b":", b" ", b"\r", b"\r\n ", b"0\r\n\r\n", LENGTH, CHUNKED]
                )
            case _:
                data[place:place] = data[place : place + 20]
    return bytes(data)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_a_service_sends_a_probe_has_a_result(serve: Serve, seed: int) -> None:
    chance = random.Random(seed)
    sent: list[bytes] = []

    async def in_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        data = mutated(chance)
        sent.append(data)
        while data:
            size = chance.randrange(1, 120)
            writer.write(data[:size])
            data = data[size:]
            await writer.drain()

    port = await serve(in_pieces)
    for kind in ("http", "websocket") * 20:
        result = await ask(prober(port, Names(["127.0.0.1"]), kind=kind, timeout=20), port)
        assert result.health in (Health.UP, Health.DOWN), sent[-1]
        assert "see the log" not in result.reason, sent[-1]


async def test_a_probe_and_the_proxy_agree_on_every_response(start: Start, serve: Serve) -> None:
    """A probe has a status exactly where the proxy forwards one with its whole body."""
    chance = random.Random(8)
    response = b""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)

    port = await serve(send)
    route = {"prefix": "/s", "strip": True, "auth": "none"}
    breaker = {"failures": 1_000_000, "requests": 1_000_000}
    live = await start({"s": {"url": f"http://127.0.0.1:{port}", "routes": [route], "breaker": breaker}})
    one = prober(port, Names(["127.0.0.1"]), timeout=20, status=["100-599"])
    agreed = {True: 0, False: 0}
    for _ in range(300):
        response = mutated(chance)
        result = await ask(one, port)
        async with dial(live.port) as wire:
            await wire.send(b"GET /s/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            try:
                found = await wire.response()
                is_forwarded = found.get("proxy-status") is None
            except asyncio.IncompleteReadError:
                is_forwarded = False
        assert (result.health is not Health.DOWN) is is_forwarded, (response, result.reason)
        agreed[is_forwarded] += 1
    assert min(agreed.values()) > 30, agreed
