"""Producers that go on through every kill, on connections of their own that reach any worker of any machine."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from tests.kills.judge import SOURCES, Book, Name
from tests.support.gateway_process import TOKEN
from tests.support.machines import Machine

BATCH = 20
PAUSE = 0.05
"""Seconds before a repeat."""
MOST_WAIT = ClientTimeout(total=40)
"""A request may wait 15 s for its database."""
REPEATED = 0.05
"""The share of acknowledged events with a key that are sent once more."""
_JSON, _LINES = "application/json", "application/x-ndjson"


def session() -> ClientSession:
    """A client whose requests may each reach another worker."""
    connector = TCPConnector(limit=0, force_close=True)
    return ClientSession(connector=connector, headers={"X-VX11-Token": TOKEN}, timeout=MOST_WAIT)


class Producer:
    """Sends numbered events one request after the other until `is_over`."""

    def __init__(self, name: str, machines: Sequence[Machine], book: Book, is_over: Callable[[], bool]) -> None:
        self._source = SOURCES + name
        self._machines = machines
        self._book = book
        self._is_over = is_over
        self._random = Random(name)

    async def without_key(self) -> None:
        """Events without a key, which are never repeated: one without a response may be stored once, or not at all."""
        async with session() as client:
            for number in itertools.count():
                if self._is_over():
                    return
                floor = self._book.greatest
                found = await self._post(client, json.dumps(self._event(number)).encode(), _JSON)
                if found is None:
                    await asyncio.sleep(PAUSE)
                    continue
                self._acknowledge(number, found, floor)

    async def with_key(self) -> None:
        """Events with a key, each repeated until it is acknowledged, and some of them once more."""
        async with session() as client:
            for number in itertools.count():
                if self._is_over():
                    return
                body = json.dumps(self._event(number, key=f"k{number}")).encode()
                floor = self._book.greatest
                for _ in range(2 if self._random.random() < REPEATED else 1):
                    self._acknowledge(number, await self._send(client, body, _JSON), floor)

    async def in_batches(self) -> None:
        """Lines of events with keys, repeated as a whole."""
        async with session() as client:
            for start in itertools.count(0, BATCH):
                if self._is_over():
                    return
                lines = [json.dumps(self._event(start + index, key=f"k{start + index}")) for index in range(BATCH)]
                floor = self._book.greatest
                found = await self._send(client, "\n".join(lines).encode(), _LINES)
                for index, result in enumerate(found["results"]):
                    self._acknowledge(start + index, result, floor)

    async def one(self) -> int:
        """One event, repeated until it is acknowledged; returns its id."""
        async with session() as client:
            floor = self._book.greatest
            found = await self._send(client, json.dumps(self._event(0, key="one")).encode(), _JSON)
            self._acknowledge(0, found, floor)
            return int(found["event_id"])

    def _event(self, number: int, **members: str) -> dict[str, Any]:
        return {"source": self._source, "type": "t", "payload": {"number": number}, "broadcast": True, **members}

    def _acknowledge(self, number: int, result: dict[str, Any], floor: int) -> None:
        if result["status"] not in ("received", "duplicate"):
            self._book.faults.append(f"{self._source} {number}: {result}")
            return
        is_duplicate = result["status"] == "duplicate" or bool(result.get("duplicate"))
        self._book.acknowledge(Name(self._source, number), result["event_id"], floor=floor, is_duplicate=is_duplicate)

    async def _send(self, client: ClientSession, body: bytes, media_type: str) -> dict[str, Any]:
        while (found := await self._post(client, body, media_type)) is None:
            await asyncio.sleep(PAUSE)
        return found

    async def _post(self, client: ClientSession, body: bytes, media_type: str) -> dict[str, Any] | None:
        """The response that acknowledges; None where there is none."""
        url = self._random.choice(self._machines).url
        if url is None:
            return None
        try:
            headers = {"Content-Type": media_type}
            async with client.post(f"{url}/events/ingest", data=body, headers=headers) as response:
                found: dict[str, Any] = await response.json(content_type=None)
        except (ClientError, OSError, TimeoutError, ValueError):
            self._book.unacknowledged += 1
            return None
        if response.status in (200, 201):
            return found
        if response.status != 503:
            self._book.faults.append(f"{self._source}: {response.status} {found}")
        self._book.unacknowledged += 1
        return None
