"""Two machines whose PostgreSQL is killed, comes back, or is replaced by a copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tentaculo.store import migrate
from tests.support.deployments import calling, ingest, read
from tests.support.event_clients import event_stream
from tests.support.machines import Clock, running_machines
from tests.support.postgresql import Server, running_server

WAIT = 30.0
EVENT = {"source": "s", "type": "t", "payload": {}}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[tuple[Server, tuple[str, str]]]:
    """A server of PostgreSQL, and the origins of two machines of one worker on it."""
    with running_server({"fsync": "off"}) as server, server.database() as url:
        migrate.upgrade(url)
        async with running_machines(2, 1, tmp_path, url, Clock(tmp_path)) as (one, other):
            yield server, (str(one.url), str(other.url))


async def unavailable(session: ClientSession, url: str, *, expected: bool) -> None:
    """Wait until the machine knows whether the database is away."""
    async with asyncio.timeout(WAIT):
        while True:
            async with session.get(f"{url}/events?limit=1") as response:
                if (response.status == 503) is expected:
                    return
            await asyncio.sleep(0.02)


async def test_a_ticket_works_only_where_it_was_given_while_the_database_is_away(
    fleet: tuple[Server, tuple[str, str]],
) -> None:
    server, (one, other) = fleet

    async with calling() as session, calling(**{"X-VX11-Token": ""}) as page:

        async def ticket(url: str) -> str:
            async with session.post(f"{url}/auth/ticket") as response:
                assert response.status == 201
                return str((await response.json())["ticket"])

        async def status(url: str, given: str) -> tuple[int, str | None]:
            async with page.get(f"{url}/events/stream?ticket={given}") as response:
                return response.status, response.headers.get("Retry-After")

        before = [await ticket(one) for _ in range(3)]
        server.kill()
        for url in (one, other):
            await unavailable(session, url, expected=True)
        # One that was stored, and one that could not be.
        for given in (before[0], await ticket(one)):
            refused, retry_after = await status(other, given)
            assert (refused, bool(retry_after)) == (503, True)
            assert await status(one, given) == (200, None)
            assert (await status(one, given))[0] == 401
        server.start()
        for url in (one, other):
            await unavailable(session, url, expected=False)
            # Where only reading works yet, the issuer takes its own ticket once more (docs/tokens.md).
            assert (await ingest(session, url, EVENT))[0] == 201
        # What was used while the database was away stays used, on the other machine too, as soon as the row is gone.
        async with asyncio.timeout(WAIT):
            while (await status(other, before[0]))[0] != 401:
                await asyncio.sleep(0.02)
        assert (await status(other, before[1]))[0] == 200
        assert (await status(one, before[1]))[0] == 401


async def test_what_waits_for_a_killed_database_is_stored_once_and_reaches_all(
    fleet: tuple[Server, tuple[str, str]],
) -> None:
    server, (one, other) = fleet
    async with calling() as session, event_stream(session, other, "?source=s") as listener:
        server.kill()
        await unavailable(session, one, expected=True)
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(ingest(session, url, EVENT)) for url in (one, other) for _ in range(5)]
            await asyncio.to_thread(server.start)
        ids = sorted(task.result()[1]["event_id"] for task in waiting)
        assert {task.result()[0] for task in waiting} == {201}
        assert len(set(ids)) == 10
        assert [frame.event_id for frame in await listener.events(10)] == ids
        page = await read(session, one, "source=s&order=oldest")
        assert [found["event_id"] for found in page["events"]] == ids


async def test_a_copy_of_the_database_has_another_name_and_says_so(tmp_path: Path) -> None:
    with running_server({"fsync": "off"}) as server, server.database() as url:
        migrate.upgrade(url)
        async with calling() as session:
            async with running_machines(1, 1, tmp_path, url, Clock(tmp_path)) as (machine,):
                status, stored = await ingest(session, str(machine.url), EVENT)
                assert status == 201
                async with event_stream(session, str(machine.url), "?since=0&source=s") as stream:
                    assert [frame.event_id for frame in await stream.events(1)] == [stored["event_id"]]
                    cursor = stream.last_id
            await resumes_clearly(session, server, url, cursor, tmp_path / "copy")


async def resumes_clearly(session: ClientSession, server: Server, url: str, cursor: str, folder: Path) -> None:
    """On a copy of the database an old cursor is reset with a reason; its ids go on above those of the original."""
    folder.mkdir()
    name, _, last = cursor.partition("-")
    with server.database(url.rpartition("?")[0].rpartition("/")[2]) as copy:
        async with running_machines(1, 1, folder, copy, Clock(folder)) as (machine,):
            origin = str(machine.url)
            status, stored = await ingest(session, origin, EVENT)
            assert status == 201
            assert stored["event_id"] > int(last)
            async with event_stream(session, origin, f"?since={cursor}") as stream:
                assert stream.first is not None
                assert stream.first.name == "reset"
                assert stream.first.data["name"] != name
                assert "another log" in stream.first.data["reason"]
            async with session.ws_connect(f"{origin}/ws?since={cursor}") as socket:
                messages = [await socket.receive_json(timeout=WAIT) for _ in range(2)]
                assert (messages[1]["type"], "another log" in messages[1]["detail"]) == ("reset", True)
            # Without a name it is only a number: what the copy has behind it.
            async with event_stream(session, origin, f"?since={last}&source=s") as stream:
                assert [frame.event_id for frame in await stream.events(1)] == [stored["event_id"]]
