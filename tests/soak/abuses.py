"""Clients that leave at every stage, and clients that break the rules: nothing may be left of them.

Each kind uses a connection of its own.
"""

from __future__ import annotations

import asyncio
from random import Random

from tests.soak.client import Client, UnexpectedError
from tests.soak.kinds import expect_status, leave, moment, named

_SOME = bytes(100_000)

# -- the client leaves ---------------------------------------------------------------------------------------------


async def left_before_the_request(client: Client, random: Random) -> None:
    await client.send(b"")
    await leave(client, random)


async def left_within_the_head(client: Client, random: Random) -> None:
    head = client.head("GET", "/s/plain/1")
    await client.send(head[: random.randrange(1, len(head))])
    await leave(client, random)


async def left_within_a_body(client: Client, random: Random) -> None:
    await client.send(client.head("POST", "/s/count", "Content-Length: 100000") + bytes(random.randrange(99_999)))
    await leave(client, random)


async def left_within_a_chunk(client: Client, random: Random) -> None:
    body = random.choice((b"", b"2", b"20\r", b"20\r\n", b"20\r\nhalf", b"2\r\nab", b"2\r\nab\r\n", b"0\r\n"))
    await client.send(client.head("PUT", "/s/count", "Transfer-Encoding: chunked") + body)
    await leave(client, random)


async def left_before_the_answer(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/hang"))
    await leave(client, random)


async def left_within_the_answer(client: Client, random: Random) -> None:
    await client.send(client.head("GET", f"/s/{random.choice(('plain', 'chunked', 'closing'))}/1000000"))
    await client.read_head()
    await leave(client, random)


async def left_without_reading(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/plain/2000000"))
    await asyncio.sleep(0.05)
    await leave(client, random)


async def left_an_upload_to_one_who_does_not_read(client: Client, random: Random) -> None:
    await client.send(client.head("PUT", "/s/deaf", "Content-Length: 20000000"))
    try:
        async with asyncio.timeout(0.05):
            while True:
                client.writer.write(_SOME)
                await client.writer.drain()
    except TimeoutError:
        pass
    await leave(client, random)


async def left_with_more_in_the_pipe(client: Client, random: Random) -> None:
    await client.send(client.head("GET", random.choice(("/s/plain/1", "/s/hang", "/s/slow/5"))) * 5)
    await leave(client, random)


async def left_after_100(client: Client, random: Random) -> None:
    await client.send(client.head("POST", "/s/count", "Content-Length: 10", "Expect: 100-continue"))
    status, _ = await client.read_head()
    if status != 100:
        raise UnexpectedError(f"{status} in place of 100")
    await leave(client, random)


async def left_an_event_stream(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/sse"))
    await client.reader.readuntil(b"tick\n\n")
    await leave(client, random)


async def left_while_it_connects(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/dead/x"))
    client.leave(with_reset=True)


async def left_with_an_event_half_told(client: Client, random: Random) -> None:
    lines = ("Content-Type: application/json", "Content-Length: 1000")
    await client.send(client.head("POST", "/events/ingest", *lines) + b'{"source": "so')
    await leave(client, random)


# -- the client breaks the rules -----------------------------------------------------------------------------------

_MALFORMED = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /s/plain/1\r\n\r\n",
    b"GET /s/plain/1 HTTP/1.1\r\n\r\n",
    b"GET /s/plain/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /s/plain/1 HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
    b"GET /s/plain/1 HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET /s/../etc HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /s/count HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /s/count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /s/count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /s/plain/1 HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n",
)


async def malformed(client: Client, random: Random) -> None:
    await client.send(random.choice(_MALFORMED))
    await expect_status(client, 400)


async def broken_chunk(client: Client, random: Random) -> None:
    head = client.head("POST", "/s/count", "Transfer-Encoding: chunked")
    await client.send(head + b"5\r\nhello\r\n")
    await moment(random)
    client.writer.write(random.choice((b"xyz\r\n", b"-1\r\n", b"5\r\nhello!!\r\n", b"5\n")))
    await expect_status(client, 400)


async def target_too_long(client: Client, random: Random) -> None:
    await client.send(client.head("GET", f"/s/plain/{'1' * 40_000}"))
    await expect_status(client, 414)


async def head_too_large(client: Client, random: Random) -> None:
    line = random.choice((f"X-A: {'b' * 40_000}", "\r\n".join(["X-A: b"] * 200)))
    await client.send(client.head("GET", "/s/plain/1", line))
    await expect_status(client, 431)


async def body_too_large(client: Client, random: Random) -> None:
    framing, body = random.choice((("Content-Length: 2000", b""), ("Transfer-Encoding: chunked", b"7d0\r\n")))
    await client.send(client.head("POST", "/small/count", framing) + body + bytes(2000))
    await expect_status(client, 413)


async def late_head(client: Client, random: Random) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHo")
    await expect_status(client, 408)


async def late_body(client: Client, random: Random) -> None:
    await client.send(client.head("POST", "/s/count", "Content-Length: 1000") + b"then nothing")
    await expect_status(client, 408)


async def no_token(client: Client, random: Random) -> None:
    await client.send(b"GET /s/plain/1 HTTP/1.1\r\nHost: a\r\n\r\n")
    await expect_status(client, 401)


async def wrong_token(client: Client, random: Random) -> None:
    await client.send(b"GET /s/plain/1 HTTP/1.1\r\nHost: a\r\nX-VX11-Token: wrong\r\n\r\n")
    await expect_status(client, 403)


async def no_route(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/nowhere", "Connection: close"))
    await expect_status(client, 404)


async def faulty_event(client: Client, random: Random) -> None:
    body, status = random.choice(((b"{", 400), (b"5", 422), (b'{"source":1}', 422), (bytes(100_000), 413)))
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    await client.send(client.head("POST", "/events/ingest", *lines) + body)
    await expect_status(client, status)


ABUSES = named(
    left_before_the_request,
    left_within_the_head,
    left_within_a_body,
    left_within_a_chunk,
    left_before_the_answer,
    left_within_the_answer,
    left_without_reading,
    left_an_upload_to_one_who_does_not_read,
    left_with_more_in_the_pipe,
    left_after_100,
    left_an_event_stream,
    left_while_it_connects,
    left_with_an_event_half_told,
    malformed,
    broken_chunk,
    target_too_long,
    head_too_large,
    body_too_large,
    late_head,
    late_body,
    no_token,
    wrong_token,
    no_route,
    faulty_event,
)
