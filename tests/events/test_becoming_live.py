"""Streams with filters that select nothing of a long log become live while events are stored, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, text

from tentaculo.store import event_queries
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tests.events.conftest import Start
from tests.support.event_clients import event_stream
from tests.support.waits import eventually

ROWS = 30_000
NUMBERS = {
    "sqlite": f"WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {ROWS})",
    "postgresql": f"WITH g(i) AS (SELECT generate_series(1, {ROWS}))",
}
FILL = """{} INSERT INTO tentaculo_events (id, source, type, payload, metadata, canonical, broadcast, received_at, size)
    SELECT i, 's', 't', '{{}}', '{{}}', {false}, {false}, '2026-01-02 03:04:05', 100 FROM g"""
FILTERS: dict[str, dict[str, Any] | None] = {
    "severity=L1": {"payload": {"severity": "L1"}},
    "type=t&severity=L2": {"payload": {"severity": "L2"}},
    "type=u,v,w&source=s": {"type": "v"},
    "type=a,b,c,d,e,f,g,h,i": {"type": "i"},
    "text=needle": {"payload": {"a": "Needle"}},
    "source=s&text=pin": {"payload": {"a": "pin"}},
    "from=2026-06-01T00:00:00Z&type=x": {"type": "x"},
    "to=2026-01-01T00:00:00Z": None,
}
"""And an event that each selects, where there can be one."""


def fill(connection: Connection) -> None:
    """The database gets no statistics of it."""
    name = connection.dialect.name
    connection.execute(text(FILL.format(NUMBERS[name], false="0" if name == "sqlite" else "false")))


@pytest.mark.thorough
async def test_a_stream_becomes_live_while_events_are_stored(
    start: Start, store: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.run(fill)
    # Each read ends after some 4,000 rows.
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 0)
    gateway, tasks, reads = await start(client=store), TaskGroup("test"), 0
    read_events, is_over = store.read_events, False

    async def ingest(**members: Any) -> int:
        status, body = await gateway.ingest({"source": "s", "type": "t", "payload": {}, **members})
        assert status == 201
        id_: int = body["id"]
        return id_

    async def read_slowly(*arguments: Any, **bounds: Any) -> Any:
        """Ends only once another event has been published."""
        nonlocal reads
        reads += 1
        found = await read_events(*arguments, **bounds)
        id_ = await ingest()
        await eventually(lambda: (gateway.tail.mark or 0) >= id_)
        return found

    async def produce() -> None:
        while not is_over:
            await ingest()

    monkeypatch.setattr(store, "read_events", read_slowly)
    producing = tasks.start(produce(), "producer")
    for query, members in FILTERS.items():
        reads = 0
        async with event_stream(gateway.session, gateway.url, f"?since=0&{query}") as listener:
            (subscriber,) = gateway.hub._subscribers
            await eventually(lambda one=subscriber: one.is_live)  # type: ignore[misc]
            assert reads <= ROWS // event_queries.LOOK_EVERY + 4, query
            if members is not None:
                id_ = await ingest(**members)
                (frame,) = await listener.events(1)
                assert frame.event_id == id_, query
        await eventually(lambda: len(gateway.hub) == 0)
    is_over = True
    await producing
    await tasks.close()
