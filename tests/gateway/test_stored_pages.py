"""The status pages of a gateway that does not run, on real databases of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import Connection

from tentaculo.config.schema import Config
from tentaculo.gateway.stored_pages import serving_stored
from tentaculo.model.health import GATEWAY_NAME, Health, LastHeartbeat, StateChange
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.store import incidents, states
from tentaculo.store.database import once
from tentaculo.store.errors import StoreUnavailable

LAST_RUN = datetime(2026, 3, 14, 15, 9, tzinfo=UTC)
NOW = LAST_RUN + timedelta(hours=7)
MINUTE = timedelta(minutes=1)
INCIDENT = Incident(
    1773500966000, "hermes", ("hermes",), Health.DOWN, "10.9.8.7 said no", LAST_RUN - 25 * MINUTE, LAST_RUN
)


def config(url: str, **changes: Any) -> Config:
    services = {
        name: {"url": "http://10.9.8.7:80", "probe": {"interval": 5}} for name in ("madre", "hermes", "spawner", "mcp")
    }
    return Config.of({"database": {"url": url}, "services": services, "auth": {"open_status": False}, **changes})


def write(connection: Connection) -> None:
    """What a gateway stored before it stopped at `LAST_RUN`."""
    changes = [
        StateChange(name, endpoint, Health.UNKNOWN, health, "as found", LAST_RUN - 30 * MINUTE)
        for name, health in (("madre", Health.UP), ("hermes", Health.DOWN), ("spawner", Health.UP))
        for endpoint in ("10.9.8.7:80", "")
    ]
    states.add_changes(connection, changes)
    states.save_heartbeats(connection, [LastHeartbeat(GATEWAY_NAME, LAST_RUN, None)])
    incidents.save(connection, [INCIDENT])
    incidents.add_window(
        connection, MaintenanceWindow(("spawner",), LAST_RUN - MINUTE, LAST_RUN + 60 * MINUTE, "a new disk", "ben")
    )


async def test_they_show_what_the_gateway_knew_when_it_last_ran(url: str) -> None:
    once(url, write)
    async with serving_stored(config(url), NOW) as stored, ClientSession(stored.url) as client:
        assert stored.at == LAST_RUN
        async with client.get("/status/api/v2/summary.json") as answer:
            found = await answer.json()
        assert {one["name"]: one["status"] for one in found["components"]} == {
            "madre": "operational",
            "hermes": "major_outage",
            "spawner": "under_maintenance",
            "mcp": "operational",
        }
        assert found["status"]["description"] == "hermes is down"
        assert [one["id"] for one in found["incidents"]] == [str(INCIDENT.id)]
        assert [one["status"] for one in found["scheduled_maintenances"]] == ["in_progress"]
        for path in ("", "/services/hermes", "/incidents", f"/incidents/{INCIDENT.id}", "/incidents.atom", "/events"):
            async with client.get(f"/status{path}") as answer:
                text = await answer.text()
                assert answer.status == 200, path
            assert "10.9.8.7" not in text, "everybody may see it, though the gateway's own pages need a token"
            assert "The past cannot be read now" not in text
        async with client.get("/status") as answer:
            text = await answer.text()
            assert "As of</span> <time" in text
            assert 'title="2026-03-14 15:09:00 UTC">15:09</time>' in text


async def test_nothing_is_written(url: str) -> None:
    once(url, write)
    queries: list[Callable[[Connection], Any]] = [
        states.latest_changes,
        states.read_heartbeats,
        lambda connection: incidents.newest(connection, limit=10),
    ]
    before = [once(url, query) for query in queries]
    async with serving_stored(config(url), NOW) as stored, ClientSession(stored.url) as client:
        await client.get("/status")
    assert [once(url, query) for query in queries] == before


async def test_a_database_in_which_no_gateway_ran_shows_now(url: str) -> None:
    async with serving_stored(config(url), NOW) as stored, ClientSession(stored.url) as client:
        assert stored.at == NOW
        async with client.get("/status/api/v2/status.json") as answer:
            assert (await answer.json())["status"]["indicator"] == "none"


async def test_a_clock_that_went_back_does_not_show_the_future(url: str) -> None:
    once(url, write)
    early = LAST_RUN - timedelta(hours=1)
    async with serving_stored(config(url), early) as stored:
        assert stored.at == early


async def test_a_database_that_cannot_be_read_is_said(empty_url: str) -> None:
    with pytest.raises(StoreUnavailable):
        async with serving_stored(config(empty_url), NOW):
            pass
