"""Upstreams that break down at every stage, and tunnels and subscriptions that end in bad ways.

Each kind uses a connection of its own.
"""

from __future__ import annotations

import asyncio
from random import Random

from tests.soak.client import Client, UnexpectedError, expect, expect_end
from tests.soak.kinds import KEY, UPGRADE, expect_status, leave, named

# -- the upstream breaks down --------------------------------------------------------------------------------------


async def upstream_is_away(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/dead/x"))
    await expect_status(client, 502)


async def upstream_fails(client: Client, random: Random) -> None:
    mood = random.choice(("reset", "end", "garbage", "halfhead", "endless"))
    await client.send(client.head(random.choice(("GET", "POST")), f"/s/{mood}", "Content-Length: 0"))
    await expect_status(client, 502)


async def upstream_fails_behind_a_breaker(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/flaky/reset"))
    await expect_status(client, 502, 503)


async def upstream_hangs(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/short/hang"))
    await expect_status(client, 504)


async def upstream_does_not_read(client: Client, random: Random) -> None:
    await client.send(client.head("PUT", "/short/deaf", "Content-Length: 20000000"))
    client.writer.write(bytes(20_000_000))
    # Which of the two sides is late is for the machine to say.
    await expect_status(client, 504, 408)


async def answer_is_cut(client: Client, random: Random) -> None:
    mood = random.choice(("/s/cut", "/s/cutchunk", "/s/cutreset", "/short/stall"))
    await client.send(client.head("GET", mood))
    try:
        answer = await client.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        client.leave()
    else:
        # Where the load itself is short of time, the head too is late.
        if not (answer.status == 504 and mood == "/short/stall"):
            raise UnexpectedError(f"a cut body came as a whole one: {answer}")


async def answer_is_early(client: Client, random: Random) -> None:
    await client.send(client.head("POST", "/s/early", "Content-Length: 100000") + b"some")
    await expect_status(client, 403)


async def answer_has_more_than_its_length(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/extra"))
    await expect_status(client, 200)


# -- upgrades ------------------------------------------------------------------------------------------------------


async def _tunnel(client: Client, mood: str) -> None:
    await client.send(client.head("GET", f"/s/{mood}", *UPGRADE, KEY))
    expect(await client.answer(), 101)


async def upgrade_refused(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/early", *UPGRADE, KEY) + b"bytes that nobody may tunnel")
    await expect_status(client, 403)


async def upgrade_left(client: Client, random: Random) -> None:
    await client.send(client.head("GET", "/s/hang", *UPGRADE, KEY))
    await leave(client, random)


async def tunnel_left(client: Client, random: Random) -> None:
    await _tunnel(client, "echo")
    client.writer.write(b"some bytes")
    await leave(client, random)


async def tunnel_left_with_the_client_not_reading(client: Client, random: Random) -> None:
    await _tunnel(client, "flood")
    await asyncio.sleep(0.05)
    await leave(client, random)


async def tunnel_left_with_the_upstream_not_reading(client: Client, random: Random) -> None:
    await _tunnel(client, "mute")
    client.writer.write(bytes(8_000_000))
    await asyncio.sleep(0.05)
    await leave(client, random)


async def tunnel_cut(client: Client, random: Random) -> None:
    await _tunnel(client, random.choice(("echoreset", "echoend")))
    client.writer.write(b"the first byte ends it")
    await expect_end(client)


# -- the gateway's own WebSocket -----------------------------------------------------------------------------------


async def _subscribe(client: Client) -> None:
    await client.send(client.head("GET", "/ws", *UPGRADE, KEY))
    expect(await client.answer(), 101)


async def subscriber_vanishes(client: Client, random: Random) -> None:
    await _subscribe(client)
    client.writer.write(random.choice((b"", b"\x81", b"\x81\x82\0\0\0\0{}", b"\x81\xfe\xff\xff\0\0\0\0half")))
    await leave(client, random)


async def subscriber_breaks_the_rules(client: Client, random: Random) -> None:
    await _subscribe(client)
    client.writer.write(random.choice((b"\xf1\x80\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x81\x81\0\0\0\0\xff")))
    await expect_end(client)


async def subscription_refused(client: Client, random: Random) -> None:
    lines, status = random.choice(((UPGRADE, 400), ((), 426)))
    await client.send(client.head("GET", "/ws", *lines))
    await expect_status(client, status)


BREAKDOWNS = named(
    upstream_is_away,
    upstream_fails,
    upstream_fails_behind_a_breaker,
    upstream_hangs,
    upstream_does_not_read,
    answer_is_cut,
    answer_is_early,
    answer_has_more_than_its_length,
    upgrade_refused,
    upgrade_left,
    tunnel_left,
    tunnel_left_with_the_client_not_reading,
    tunnel_left_with_the_upstream_not_reading,
    tunnel_cut,
    subscriber_vanishes,
    subscriber_breaks_the_rules,
    subscription_refused,
)
