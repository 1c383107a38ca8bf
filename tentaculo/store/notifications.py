"""PostgreSQL's notifications: each machine learns at once that another one has stored events, or changed the fleet's state.

They only say that there is more. A machine that misses one reads it a second later.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from sqlalchemy import URL

from tentaculo.store import events, lease

log = structlog.get_logger(__name__)

CONNECT_WAIT = 5.0
"""Seconds to connect to the server at most."""
FIRST_RETRY, LAST_RETRY = 1.0, 5.0
"""Seconds between attempts to connect again; doubled each time."""
CHECK_EVERY = 30.0
"""Seconds between two checks whether a silent server is still there."""


async def listen(url: URL, on_events: Callable[[], None], on_fleet: Callable[[], None]) -> None:
    """Listen until cancelled. Both are called after each new connection too.

    `on_events` is called after each commit of events by any process, `on_fleet` after each change of the lease, of a
    service's state, of an incident or of a heartbeat.
    """
    try:
        import asyncpg
    except ImportError:
        log.warning("events of other machines come late", missing="asyncpg")
        return
    delay = FIRST_RETRY
    while True:
        try:
            connection = await asyncpg.connect(
                host=_host(url),
                port=url.port,
                user=url.username,
                password=url.password,
                database=url.database,
                timeout=CONNECT_WAIT,
                command_timeout=CONNECT_WAIT,
            )
        # What a driver raises while a server starts, stops or refuses is not documented; each means the same here.
        except Exception:  # noqa: BLE001 - the store says why the database is away
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY)
            continue
        delay = FIRST_RETRY
        await _listen_on(connection, {events.CHANNEL: on_events, lease.CHANNEL: on_fleet})
        await asyncio.sleep(delay)


async def _listen_on(connection: Any, listeners: Mapping[str, Callable[[], None]]) -> None:
    """Listen until the connection is lost."""
    is_lost = asyncio.Event()

    def heard(_connection: object, _pid: int, channel: str, _payload: object) -> None:
        listeners[channel]()

    def lost(*_: object) -> None:
        is_lost.set()

    try:
        connection.add_termination_listener(lost)
        for channel, on_news in listeners.items():
            await connection.add_listener(channel, heard)
            # What was stored before the connection was there has rung no bell.
            on_news()
        while True:
            try:
                await asyncio.wait_for(is_lost.wait(), CHECK_EVERY)
                return
            except TimeoutError:
                await connection.execute("SELECT 1")
    except Exception:  # noqa: BLE001 - as above
        return
    finally:
        connection.terminate()


def _host(url: URL) -> str | None:
    """The server's host; for a Unix socket, as pg8000 names it, its folder."""
    socket = url.query.get("unix_sock")
    return os.path.dirname(socket) if isinstance(socket, str) else url.host
