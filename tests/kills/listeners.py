"""Listeners that lose their connection, and resume with their last id at another worker of another machine."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from tests.kills.judge import SOURCES, Book
from tests.kills.producers import PAUSE, session
from tests.support.machines import Machine

MOST_EVENTS = 400
"""A listener moves after some events, this many at most, though nothing is killed."""
SILENCE = 30.0
"""Seconds without a byte after which a listener reconnects."""
PAGE = 200
_ENDLESS = ClientTimeout(total=None)


class Listener:
    """Follows the log from its beginning until it has got the event `last`."""

    def __init__(
        self, name: str, machines: Sequence[Machine], book: Book, sources: Sequence[str], last: Callable[[], int | None]
    ) -> None:
        self.name = name
        self._machines = machines
        self._book = book
        self._sources = ",".join(SOURCES + source for source in sources)
        self._last = last
        self._turns = itertools.count()
        self._random = Random(name)
        self._position = "0"
        self._seen = 0
        self.connections = 0
        """Times that it connected."""

    async def by_stream(self) -> None:
        """By `/events/stream` with `Last-Event-ID`."""
        await self._follow(self._stream)

    async def by_socket(self) -> None:
        """By `/ws` with `since`."""
        await self._follow(self._socket)

    async def by_pages(self) -> None:
        """By pages of `GET /events`."""
        await self._follow(self._page)

    async def _follow(self, connect: Callable[[ClientSession, str], AsyncGenerator[int]]) -> None:
        async with session() as client:
            while not self.is_done:
                # Always another machine than the last one, where there are several.
                url = self._machines[next(self._turns) % len(self._machines)].url
                room = self._random.randrange(1, MOST_EVENTS)
                if url is not None:
                    try:
                        async with aclosing(connect(client, url)) as ids:
                            await self._take(ids, room)
                    except (ClientError, OSError, TimeoutError, EOFError):
                        pass  # The connection is lost.
                await asyncio.sleep(PAUSE)

    async def _take(self, ids: AsyncGenerator[int], room: int) -> None:
        self.connections += 1
        async for id_ in ids:
            self._book.receive(self.name, id_)
            self._seen = id_
            room -= 1
            if room == 0 or self.is_done:
                return

    @property
    def is_done(self) -> bool:
        """Whether it has got the last event."""
        last = self._last()
        return last is not None and self._seen >= last

    async def _stream(self, client: ClientSession, url: str) -> AsyncGenerator[int]:
        target = f"{url}/events/stream?source={self._sources}"
        async with client.get(target, headers={"Last-Event-ID": self._position}, timeout=_ENDLESS) as response:
            _check(response.status)
            fields: dict[str, str] = {}
            while not self.is_done:
                async with asyncio.timeout(SILENCE):
                    line = (await response.content.readline()).decode()
                if not line.endswith("\n"):
                    raise EOFError
                if line != "\n":
                    name, _, value = line.rstrip("\n").partition(":")
                    fields[name] = value.strip()
                    continue
                self._position = fields.get("id", self._position)
                if fields.get("event") == "reset":
                    self._book.faults.append(f"{self.name} was reset: {fields['data']}")
                if fields.get("event") == "t":
                    yield json.loads(fields["data"])["event_id"]
                fields = {}

    async def _socket(self, client: ClientSession, url: str) -> AsyncGenerator[int]:
        async with client.ws_connect(f"{url}/ws?sources={self._sources}&since={self._position}") as socket:
            while not self.is_done:
                message = await socket.receive(SILENCE)
                if message.type is not WSMsgType.TEXT:
                    raise EOFError
                value: dict[str, Any] = json.loads(message.data)
                if value.get("channel") == "control":
                    if value["type"] != "connected":
                        self._book.faults.append(f"{self.name} got {value}")
                    continue
                self._position = str(value["event_id"])
                yield value["event_id"]

    async def _page(self, client: ClientSession, url: str) -> AsyncGenerator[int]:
        target = f"{url}/events?source={self._sources}&order=oldest&limit={PAGE}&after={self._position}"
        async with client.get(target) as response:
            _check(response.status)
            found = [event["event_id"] for event in (await response.json())["events"]]
        for id_ in found:
            self._position = str(id_)
            yield id_


def _check(status: int) -> None:
    if status != 200:
        raise EOFError(f"{status}")
