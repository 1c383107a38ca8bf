"""PostgreSQL's notifications: each machine learns at once that another one has stored events.

They only say that there is more. Who misses one reads the events a second later.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import URL

from tentaculo.store.events import CHANNEL

log = structlog.get_logger(__name__)

CONNECT_WAIT = 5.0
"""Seconds to connect to the server at most."""
FIRST_RETRY, LAST_RETRY = 1.0, 5.0
"""Seconds between attempts to connect again; doubled each time."""
CHECK_EVERY = 30.0
"""Seconds between two checks whether a silent server is still there."""


async def listen(url: URL, on_events: Callable[[], None]) -> None:
    """Call `on_events` after each commit of events by any process, and after each new connection, until cancelled."""
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
        await _listen_on(connection, on_events)
        await asyncio.sleep(delay)


async def _listen_on(connection: Any, on_events: Callable[[], None]) -> None:
    """Listen until the connection is lost."""
    is_lost = asyncio.Event()

    def heard(*_: object) -> None:
        on_events()

    def lost(*_: object) -> None:
        is_lost.set()

    try:
        connection.add_termination_listener(lost)
        await connection.add_listener(CHANNEL, heard)
        # What was stored before the connection was there has rung no bell.
        on_events()
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
