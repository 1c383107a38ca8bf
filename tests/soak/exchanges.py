"""Exchanges that go well: what most of a fleet's traffic is. Each answer is compared byte by byte."""

from __future__ import annotations

import zlib
from random import Random

from tests.soak.client import Client, UnexpectedError, expect
from tests.soak.kinds import KEY, UPGRADE, named
from tests.soak.upstream import PATTERN

_SIZES = (0, 1, 200, 200, 200, 1000, 1000, 2000, 2000, 5000, 16_000, 64_000)
_LARGE = (200_000, 500_000, 1_000_000)
_CHUNK = 20_000


def size(random: Random) -> int:
    """0 bytes to 1 MB, small ones mostly."""
    return random.choice(_LARGE if random.random() < 0.01 else _SIZES)


def same(found: object, wanted: object) -> None:
    """Raise `UnexpectedError` unless both are equal."""
    if found != wanted:
        raise UnexpectedError(f"{str(found)[:100]!r} in place of {str(wanted)[:100]!r}")


async def get(client: Client, random: Random) -> None:
    length = size(random)
    answer = await client.ask("GET", f"/s/{random.choice(('plain', 'plain', 'chunked'))}/{length}")
    expect(answer, 200)
    same(answer.body, PATTERN[:length])


async def get_and_close(client: Client, random: Random) -> None:
    length = size(random)
    answer = await client.ask("GET", f"/s/plain/{length}", "Connection: close")
    expect(answer, 200)
    same(answer.body, PATTERN[:length])


async def get_until_close(client: Client, random: Random) -> None:
    length = size(random)
    answer = await client.ask("GET", f"/s/closing/{length}", version=random.choice(("1.0", "1.1")))
    expect(answer, 200)
    same(answer.body, PATTERN[:length])


async def head(client: Client, random: Random) -> None:
    expect(await client.ask("HEAD", f"/s/head/{size(random)}"), 200)


async def no_content(client: Client, random: Random) -> None:
    status = random.choice((204, 304))
    expect(await client.ask("GET", f"/s/status/{status}"), status)


async def upload(client: Client, random: Random) -> None:
    body = PATTERN[: size(random)]
    answer = await client.ask(random.choice(("POST", "PUT", "PATCH", "DELETE")), "/s/count", body=body)
    same(answer.body, b"%d %d" % (len(body), zlib.crc32(body)))


async def upload_chunked(client: Client, random: Random) -> None:
    body = PATTERN[: size(random)]
    chunks = [body[at : at + _CHUNK] for at in range(0, len(body), _CHUNK)]
    answer = await client.ask(random.choice(("POST", "PUT")), "/s/count", chunks=chunks)
    same(answer.body, b"%d %d" % (len(body), zlib.crc32(body)))


async def expect_continue(client: Client, random: Random) -> None:
    answer = await client.ask("POST", "/s/count", "Expect: 100-continue", body=b"after all")
    same(answer.body, b"9 %d" % zlib.crc32(b"after all"))


async def interim(client: Client, random: Random) -> None:
    same((await client.ask("GET", "/s/interim")).body, b"after all")


async def slow(client: Client, random: Random) -> None:
    same((await client.ask("GET", f"/s/slow/{random.randrange(20, 200)}")).body, b"slow")


async def event_stream(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/sse"))
    for _ in range(random.randrange(1, 6)):
        await client.reader.readuntil(b"data: tick\n\n")
    client.leave()


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """A WebSocket frame as a client sends it; the mask is zero."""
    length = len(payload)
    if length < 126:
        start = bytes((0x80 | opcode, 0x80 | length))
    elif length < 2**16:
        start = bytes((0x80 | opcode, 0xFE)) + length.to_bytes(2, "big")
    else:
        start = bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8, "big")
    return start + bytes(4) + payload


async def tunnel(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/echo", *UPGRADE, KEY))
    expect(await client.answer(), 101)
    for _ in range(random.randrange(1, 20)):
        sent = frame(PATTERN[: random.choice((0, 10, 100, 1000, 50_000, 100_000))])
        client.writer.write(sent)
        same(await client.reader.readexactly(len(sent)), sent)
    client.leave()


async def subscription(client: Client, random: Random) -> None:
    """A client of /ws that is greeted, gets its message back, and takes its leave."""
    await client.send(client.head("GET", "/ws?client_id=soak", *UPGRADE, KEY))
    expect(await client.answer(), 101)
    message = b'{"type":"soak","n":%d}' % random.randrange(10**9)
    client.writer.write(frame(message, 1))
    await client.reader.readuntil(message)
    client.writer.write(frame(b"\x03\xe8", 8))
    await client.reader.readuntil(b"\x88\x02\x03\xe8")
    client.leave()


_PLAIN = b'{"source":"soak","type":"soak.%d","payload":{"n":%d}}'
_BROADCAST = (
    b'{"source":"soak","type":"system.alert","broadcast":true,'
    b'"payload":{"alert_id":"%d","severity":"low","message":"a soak goes on"}}'
)


async def event(client: Client, random: Random) -> None:
    body = _PLAIN % (random.randrange(1000), random.randrange(10**9))
    expect(await client.ask("POST", "/events/ingest", "Content-Type: application/json", body=body), 201)


async def event_broadcast(client: Client, random: Random) -> None:
    body = _BROADCAST % random.randrange(10**9)
    expect(await client.ask("POST", "/events/ingest", "Content-Type: application/json", body=body), 201)


async def page(client: Client, random: Random) -> None:
    path = random.choice(("/livez", "/readyz", "/health", "/vx11/status", "/vx11/overview", "/status", "/s/health"))
    expect(await client.ask("GET", path), 200)


EXCHANGES = named(
    get,
    get_and_close,
    get_until_close,
    head,
    no_content,
    upload,
    upload_chunked,
    expect_continue,
    interim,
    slow,
    event_stream,
    tunnel,
    subscription,
    event,
    event_broadcast,
    page,
)
