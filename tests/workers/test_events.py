"""Events of several workers on one port: one log and one order, whichever worker stored them."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector

from tentaculo.client import EventClient, Received
from tests.support.gateway_process import Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream
from tests.workers.test_workers import config, ready, workers

WAIT = 30.0
LISTENERS = 12


@asynccontextmanager
async def two_workers(url: str) -> AsyncIterator[Running]:
    """A gateway of two workers that take requests."""
    async with upstream(answering(ok())) as up:
        tables = config(up.port, 2)
        tables["database"]["url"] = url
        async with running_gateway(tables) as gateway:
            await ready(gateway, 2)
            yield gateway


def caller(gateway: Running) -> ClientSession:
    """Each of its requests may reach another worker."""
    return ClientSession(connector=TCPConnector(limit=0, force_close=True), headers=gateway.headers)


async def ingest(client: ClientSession, gateway: Running, number: int) -> int:
    body = {"source": "s", "type": "t", "payload": {"number": number}, "broadcast": True}
    async with client.post(f"{gateway.url}/events/ingest", json=body) as response:
        assert response.status == 201
        id_: int = (await response.json())["id"]
        return id_


async def received(socket: ClientWebSocketResponse, number: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(WAIT):
        return [await socket.receive_json() for _ in range(number)]


def ingesting(gateway: Running) -> set[int]:
    return {entry["worker"] for entry in gateway.logged() if entry.get("path") == "/events/ingest"}


async def test_every_listener_gets_every_event_once_and_in_the_order_of_ids(url: str) -> None:
    async with two_workers(url) as gateway, caller(gateway) as client:
        sockets = [await client.ws_connect(f"{gateway.url}/ws") for _ in range(LISTENERS)]
        for socket in sockets:
            assert (await socket.receive_json())["type"] == "connected"
        ids: list[int] = []
        async with asyncio.timeout(WAIT):
            while len(ids) < 200 or len(ingesting(gateway)) < 2:
                ids += await asyncio.gather(*(ingest(client, gateway, number) for number in range(40)))
        for events in await asyncio.gather(*(received(socket, len(ids)) for socket in sockets)):
            assert [event["event_id"] for event in events] == sorted(ids)
        for socket in sockets:
            await socket.close()


async def more(items: list[int], number: int) -> None:
    before = len(items)
    await eventually(lambda: len(items) >= before + number, "more", seconds=WAIT)


async def replaced(gateway: Running, worker: int) -> None:
    await eventually(lambda: worker not in workers(gateway).values(), "the successor", seconds=WAIT)


async def ended(threads: list[threading.Thread], what: str) -> None:
    await eventually(lambda: not any(thread.is_alive() for thread in threads), what, seconds=WAIT)


KILLS = 4
END = {"source": "end", "type": "t", "payload": {}}


async def test_a_killed_worker_costs_no_acknowledged_event_and_repeats_none(url: str) -> None:
    """Producers repeat with their key what was not acknowledged; listeners resume where they were, at any worker."""
    async with two_workers(url) as gateway:
        acknowledged: list[int] = []
        heard: list[list[Received]] = [[], [], []]
        is_over = threading.Event()

        def produce(number: int) -> None:
            client = EventClient(gateway.url, gateway.token)
            for count in itertools.count():
                if is_over.is_set():
                    return
                event = {"source": f"p{number}", "type": "t", "payload": {"count": count}}
                acknowledged.append(client.send(event)["event_id"])

        def listen(number: int) -> None:
            for received in EventClient(gateway.url, gateway.token).listen(types=["t"], since="0"):
                heard[number].append(received)
                if received.event["source"] == "end":
                    return

        # Daemons, so that a failure does not wait for them.
        listening, producing = (
            [threading.Thread(target=target, args=(number,), daemon=True) for number in range(3)]
            for target in (listen, produce)
        )
        for thread in (*listening, *producing):
            thread.start()
        for kill in range(KILLS):
            await more(acknowledged, 50)
            victim = workers(gateway)[1 + kill % 2]
            os.kill(victim, signal.SIGKILL)
            await replaced(gateway, victim)
        is_over.set()
        await ended(producing, "the producers")
        await asyncio.to_thread(EventClient(gateway.url, gateway.token).send, END)
        await ended(listening, "the listeners")
    for events in heard:
        ids = [received.event["event_id"] for received in events]
        assert ids == sorted(set(ids)), "each once, in the order of ids"
        assert set(acknowledged) <= set(ids)
        counts = Counter((received.event["source"], received.event["payload"].get("count")) for received in events)
        assert set(counts.values()) == {1}, "what was repeated after a kill is stored once"


async def test_an_event_that_both_workers_get_is_stored_once(url: str) -> None:
    async with two_workers(url) as gateway, caller(gateway) as client:

        async def send(key: str) -> tuple[int, int]:
            body = [{"source": "s", "type": "t", "payload": {}, "key": key}]
            async with client.post(f"{gateway.url}/events/ingest", json=body) as response:
                (result,) = (await response.json())["results"]
                assert result["status"] == ("received" if response.status == 201 else "duplicate")
                return response.status, result["event_id"]

        rounds = 0
        async with asyncio.timeout(WAIT):
            while rounds < 5 or len(ingesting(gateway)) < 2:
                rounds += 1
                found = await asyncio.gather(*(send(f"k-{rounds}") for _ in range(20)))
                assert sorted(status for status, _ in found) == [200] * 19 + [201]
                assert len({id_ for _, id_ in found}) == 1


async def test_the_client_resumes_on_whichever_worker_it_reaches(url: str) -> None:
    async with two_workers(url) as gateway:
        events = EventClient(gateway.url, gateway.token)
        first = await asyncio.to_thread(events.send, {"source": "s", "type": "t", "payload": {"n": 0}})

        def listen_in_parts() -> list[int]:
            found, since = [0], str(first["event_id"])
            while len(found) < 200:
                stream = events.listen(since, sources=["s"])
                for received in itertools.islice(stream, 7):
                    found.append(received.event["payload"]["n"])
                    since = received.position
                    if len(found) == 200:
                        break
                stream.close()
            return found

        listening = asyncio.gather(asyncio.to_thread(listen_in_parts))
        for start in range(1, 200, 10):
            batch = [{"source": "s", "type": "t", "payload": {"n": n}} for n in range(start, min(start + 10, 200))]
            await asyncio.to_thread(events.send_all, batch)
        async with asyncio.timeout(WAIT):
            (found,) = await listening
        assert found == list(range(200))
