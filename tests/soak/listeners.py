"""Subscribers of /ws that stay for a whole soak and count what they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tentaculo.tasks import TaskGroup
from tests.soak.client import Client, expect
from tests.soak.exchanges import frame
from tests.soak.gateway import Watched
from tests.soak.kinds import KEY, UPGRADE

_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Listener:
    """One subscriber."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.events = 0
        """Canonical events so far."""

    async def subscribe(self) -> None:
        """Connect; every event counts once this returns."""
        await self._client.send(self._client.head("GET", "/ws?client_id=listener", *UPGRADE, KEY))
        expect(await self._client.answer(), 101)
        await self._frame()

    async def listen(self) -> None:
        """Count until the connection ends."""
        with suppress(EOFError, ConnectionError):
            while True:
                opcode, payload = await self._frame()
                if opcode == _PING:
                    self._client.writer.write(frame(payload, _PONG))
                elif opcode == _TEXT:
                    self.events += b'"system.alert"' in payload
                elif opcode == _CLOSE:
                    return

    async def _frame(self) -> tuple[int, bytes]:
        first, length = await self._client.reader.readexactly(2)
        if length == 126:
            length = int.from_bytes(await self._client.reader.readexactly(2), "big")
        return first & 0x0F, await self._client.reader.readexactly(length)


@asynccontextmanager
async def listening(gateway: Watched, count: int) -> AsyncIterator[list[Listener]]:
    """`count` subscribers."""
    clients = [gateway.client() for _ in range(count)]
    listeners = [Listener(client) for client in clients]
    tasks = TaskGroup("listeners")
    try:
        for listener in listeners:
            await listener.subscribe()
            tasks.start(listener.listen(), "listener")
        yield listeners
    finally:
        for client in clients:
            client.leave()
        await tasks.close()
