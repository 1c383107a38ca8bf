"""The pages of the incidents of a whole gateway, with its database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from aiohttp import ClientSession
from sqlalchemy import Connection

from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tentaculo.store.database import once
from tentaculo.store.incidents import add_note, save
from tests.gateway.test_incident_service import Client, Services, file, gateway, services
from tests.support.webhook_receiver import receiving

__all__ = ["file", "services"]
ATOM = "{http://www.w3.org/2005/Atom}"


async def page(client: Client, path: str, *, is_signed_in: bool = True) -> str:
    async with ClientSession(client.url) as anonymous:
        session = client.session if is_signed_in else anonymous
        async with session.get(path) as response:
            assert response.status == 200
            return await response.text()


async def test_an_alert_leads_to_the_page_of_its_incident(services: Services, file: Path) -> None:
    fleet = {"hermes": services.table("hermes"), "operator": services.table("operator", depends_on=["hermes"])}
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        services.down.add("hermes")
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        await receiver.has(1)
        path = f"/status/incidents/{opened['id']}"
        assert path in receiver.posts[0].body.decode()
        await client.post(f"/vx11/incidents/{opened['id']}/notes", {"text": "The disk is full.", "author": "ana"})
        await client.until(f"/vx11/incidents/{opened['id']}", lambda one: one["notified"])
        text = await page(client, path)
        for private in ("answered 500 at /hermes", "The disk is full.", "ana", "duty"):
            assert private in text
        everybody = await page(client, path, is_signed_in=False)
        assert "hermes is down" in everybody
        assert "The disk is full." not in everybody
        assert "duty" not in everybody
        assert path in await page(client, "/status", is_signed_in=False), "the overview leads there too"


async def test_what_ended_long_ago_is_in_the_list_the_feed_and_on_its_page(services: Services, file: Path) -> None:
    at = datetime.now(UTC) - timedelta(days=40)
    first = Incident(1_700_000_000_000, "hermes", ("hermes",), Health.DOWN, "x", at, at, at + timedelta(minutes=9))
    ended = [replace(first, id=first.id + n, failed_requests=n) for n in range(9)]

    def store(connection: Connection) -> None:
        save(connection, ended)
        add_note(connection, first.id, "ana", "The disk was full.", at)

    once(f"sqlite:///{file}", store)
    async with gateway(file, {"hermes": services.table("hermes")}) as client:
        await client.until("/vx11/incidents", lambda found: found["problem"] is None)
        listed = await page(client, "/status/incidents")
        assert listed.count("hermes</b> was down") == 9
        assert "8 requests failed." in listed
        assert "No incident in this time." in await page(client, "/status/incidents?range=7d")
        assert "The disk was full." in await page(client, f"/status/incidents/{first.id}")
        feed = ET.fromstring(await page(client, "/status/incidents.atom", is_signed_in=False))
        assert len(feed.findall(f"{ATOM}entry")) == 9


@pytest.mark.thorough
@pytest.mark.parametrize("path", ["/status/incidents", "/status/incidents.atom", "/status/incidents/1"])
async def test_they_are_as_open_as_the_status_page(services: Services, file: Path, path: str) -> None:
    async with gateway(file, {"hermes": services.table("hermes")}, auth={"open_status": False}) as client:
        async with ClientSession(client.url) as anonymous, anonymous.get(path) as response:
            assert response.status == 401
        async with client.session.get(path) as response:
            assert response.status == (404 if path.endswith("1") else 200)
