"""What an exchange of the load is, and the steps that many share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeAlias

from tests.soak.client import Client, expect

Kind: TypeAlias = Callable[[Client, Random], Awaitable[None]]
"""One exchange. Raises `UnexpectedError`, or what the connection met, where it went otherwise than it should."""

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


async def moment(random: Random) -> None:
    """Some milliseconds, or none: so that the client leaves at any stage."""
    await asyncio.sleep(random.choice((0, 0, 0.001, 0.005, 0.02)))


async def leave(client: Client, random: Random) -> None:
    """Hang up, by a FIN or a RST."""
    await moment(random)
    client.leave(with_reset=random.random() < 0.5)


async def expect_status(client: Client, *statuses: int) -> None:
    """An answer with one of these, whole; then the client hangs up."""
    expect(await client.answer(), *statuses)
    client.leave()


def named(*kinds: Kind) -> dict[str, Kind]:
    """Kinds by their functions' names."""
    return {kind.__name__: kind for kind in kinds}
