"""A connection that is lost during the commit: the events may be stored or not, and are stored once in either case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tentaculo.model.event import StoreOutcome
from tentaculo.store import migrate
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.store_samples import event, store

StoreClientOn = Callable[..., StoreClient]


@dataclass
class Cut:
    """Loses connections at a commit of events: before the server has got it, or before the client gets the response."""

    url: str
    is_armed: bool = False
    reaches_server: bool = False
    times: int = 0


@pytest.fixture
def server_url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url:
        yield url


@asynccontextmanager
async def cutting(url: str) -> AsyncIterator[Cut]:
    """A relay before the server of `url`, on a Unix socket of its own."""
    server_socket = url.partition("unix_sock=")[2]
    with TemporaryDirectory(prefix="cut") as folder:
        socket = f"{folder}/{Path(server_socket).name}"
        cut, tasks = Cut(url.replace(server_socket, socket)), TaskGroup("cutting")

        async def relay(client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
            server, to_server = await asyncio.open_unix_connection(server_socket)
            responses = tasks.start(copy(server, to_client), "responses")
            has_stored = is_committing = False
            try:
                while data := await client.read(65536):
                    if b"begin transaction" in data:
                        has_stored = is_committing = False
                    has_stored |= b"INSERT INTO tentaculo_events " in data
                    is_committing |= has_stored and b"commit\0" in data
                    # The driver has the statement parsed first; "B" begins the message that executes it.
                    if cut.is_armed and is_committing and data.startswith(b"B"):
                        cut.is_armed, cut.times = False, cut.times + 1
                        responses.cancel()
                        await asyncio.wait([responses])
                        if cut.reaches_server:
                            to_server.write(data)
                            assert await server.read(65536), "the server has responded"
                        return
                    to_server.write(data)
            finally:
                to_server.transport.abort()
                to_client.transport.abort()

        listening = await asyncio.start_unix_server(lambda *ends: tasks.start(relay(*ends), "relay"), socket)
        async with listening:
            yield cut
            await tasks.close()


async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)


def rows(url: str) -> list[tuple[int, str]]:
    with opened(url) as connection:
        found = connection.exec_driver_sql("SELECT id, type FROM tentaculo_events ORDER BY id")
        return [(id_, type_) for id_, type_ in found]


@pytest.mark.parametrize("reaches_server", [True, False])
async def test_the_event_is_stored_once(
    server_url: str, store_client_on: StoreClientOn, *, reaches_server: bool
) -> None:
    async with cutting(server_url) as cut:
        client = store_client_on(cut.url, event_wait=20)
        await client.start()
        first = await store(client, event(1, type="before"))
        cut.reaches_server, cut.is_armed = reaches_server, True
        second, third = await asyncio.gather(*(client.store_events([event(1, type=name)]) for name in ("a", "b")))
        assert cut.times == 1
        ids = [first, second[0].id, third[0].id]
        assert {second[0].outcome, third[0].outcome} == {StoreOutcome.STORED}
        assert rows(server_url) == list(zip(ids, ("before", "a", "b"), strict=True))
        await client.close()


async def test_an_equal_event_of_another_machine_is_not_taken_for_it(
    server_url: str, store_client_on: StoreClientOn
) -> None:
    """It did not reach the server, and another machine has stored something else under the id that it would have had."""
    async with cutting(server_url) as cut:
        client, other = store_client_on(cut.url, event_wait=20), store_client_on(server_url)
        await client.start()
        await other.start()
        assert await store(client, event(7)) == 7
        cut.is_armed = True
        storing = asyncio.gather(store(client, event(1, type="ours")))
        while not cut.times:
            await asyncio.sleep(0.001)
        theirs = await store(other, event(1, type="theirs"))
        (ours,) = await storing
        assert sorted(rows(server_url)) == sorted([(7, "spawn_success"), (theirs, "theirs"), (ours, "ours")])
        await client.close()
