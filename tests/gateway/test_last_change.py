"""The last change of the configuration is an event, also where the process was killed before it had stored that."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from tentaculo.config.change_layer import ChangeLayer, write_layer
from tentaculo.model.text import utc_now
from tentaculo.security.tokens import hash_token
from tests.support.databases import sqlite
from tests.support.layered_gateway import ADMIN, LayeredGateway, layered_gateway, write_tables

HOUR = timedelta(hours=1)


def write(folder: Path, file: Path, age: timedelta) -> Path:
    """A configuration, and the change of a process that was killed."""
    configuration = folder / "tentaculo.toml"
    accepted = {"name": "ops", "hash": hash_token(ADMIN), "scopes": ["admin", "events:read"]}
    tables = {
        "server": {"port": 0, "grace": 1},
        "database": {"url": sqlite(file)},
        "auth": {"tokens": [accepted]},
        "services": {"one": {"url": "http://127.0.0.1:9"}},
    }
    write_tables(configuration, tables)
    layer = ChangeLayer(7, utc_now() - age, "ana", {"services": {"one": {"about": "x"}}})
    write_layer(folder / "data" / "changes.json", layer)
    return configuration


async def say(live: LayeredGateway, about: str) -> None:
    """Make a change: what was recorded before it is stored before it."""
    assert (await live.administer("PATCH", "/services/one", {"about": about}))[0] == 200


async def changes(live: LayeredGateway, revision: int) -> list[dict[str, Any]]:
    """What the events of changes say, the newest first, as soon as that of a revision is there."""
    fields = {"X-VX11-Token": ADMIN}
    async with asyncio.timeout(20):
        while True:
            response = await live.send("GET", "/events?type=gateway.configuration.changed", fields)
            found = [one["payload"] for one in json.loads(response.body)["events"]]
            if found and found[0]["revision"] == revision:
                return found
            await asyncio.sleep(0.01)


async def test_it_is_recorded_at_the_next_start_once(tmp_path: Path, file: Path) -> None:
    configuration = write(tmp_path, file, HOUR)
    async with layered_gateway(configuration) as live:
        (found,) = await changes(live, 7)
        assert (found["by"], "action" in found) == ("ana", False)
        assert found["at"] < utc_now().isoformat()
    async with layered_gateway(configuration) as live:
        await say(live, "y")
        assert [one["by"] for one in await changes(live, 8)] == ["ops", "ana"]
    async with layered_gateway(configuration) as live:
        await say(live, "z")
        newest_first = await changes(live, 9)
        assert [(one["by"], one.get("action")) for one in newest_first] == [
            ("ops", "merge"),
            ("ops", "merge"),
            ("ana", None),
        ]


async def test_one_of_long_ago_is_not_recorded_again(tmp_path: Path, file: Path) -> None:
    """Its event may have been deleted for its age."""
    async with layered_gateway(write(tmp_path, file, timedelta(days=2))) as live:
        await say(live, "y")
        assert [one["revision"] for one in await changes(live, 8)] == [8]
