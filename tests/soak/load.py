"""Drives a mix of exchanges at the gateway, many at once, and counts how they went."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from random import Random

from tests.soak.client import Client, UnexpectedError, expect
from tests.soak.gateway import Watched
from tests.soak.kinds import Kind

EXCHANGE_SECONDS = 30.0
"""What no exchange may take, however busy the machine is."""
_MOST_KEPT = 100


class Load:
    """One drive: what has been done of it, and what went otherwise than it should."""

    def __init__(self, gateway: Watched, *, seed: int = 0) -> None:
        self._gateway = gateway
        self._seed = seed
        self.done: Counter[str] = Counter()
        """Exchanges that went as they should, by kind."""
        self.surprises: list[str] = []
        """The first of those that did not, in words."""
        self.surprised = 0

    @property
    def total(self) -> int:
        """Exchanges that have ended."""
        return self.done.total() + self.surprised

    async def drive(
        self, kinds: Mapping[str, tuple[Kind, float]], requests: int, workers: int, *, good_every: int = 8
    ) -> None:
        """`requests` exchanges by `workers` clients; each kind comes as often as its weight says.

        After every so many a new client asks for something plain, which is counted as `good`; 0 is never.
        """
        names = tuple(kinds)
        weights = tuple(accumulate(weight for _, weight in kinds.values()))
        random = Random(self._seed)
        plan = iter(random.choices(names, cum_weights=weights, k=requests))
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._work(plan, kinds, Random(self._seed + number), good_every))

    async def each(self, kinds: Mapping[str, Kind]) -> None:
        """Each kind once, alone, and something plain after it."""
        random = Random(self._seed)
        for name, kind in kinds.items():
            async with self._gateway.client() as client:
                await self._one(name, kind, client, random)
            async with self._gateway.client() as client:
                await self._one("good", good, client, random)

    async def _work(
        self, plan: Iterator[str], kinds: Mapping[str, tuple[Kind, float]], random: Random, good_every: int
    ) -> None:
        async with self._gateway.client() as client:
            for number, name in enumerate(plan):
                await self._one(name, kinds[name][0], client, random)
                if good_every and number % good_every == 0:
                    async with self._gateway.client() as other:
                        await self._one("good", good, other, random)

    async def _one(self, name: str, kind: Kind, client: Client, random: Random) -> None:
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                await kind(client, random)
        except (UnexpectedError, OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            client.leave()
            self.surprised += 1
            if len(self.surprises) < _MOST_KEPT:
                self.surprises.append(f"{name}: {type(error).__name__}: {error}")
        else:
            self.done[name] += 1


async def good(client: Client, random: Random) -> None:
    """Something plain, on a connection of its own."""
    answer = await client.ask("GET", "/s/plain/100", "Connection: close")
    expect(answer, 200)
