"""What other programs read of the status pages of a whole gateway."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession

from tests.conftest import TOKEN, Live, Start

SUMMARY, BADGE = "/status/api/v2/summary.json", "/status/badges/madre.svg"


@pytest.mark.parametrize(("is_open", "status"), [(True, 200), (False, 401)])
async def test_it_is_as_open_as_the_page(start: Start, is_open: bool, status: int) -> None:
    live = await start({"madre": {"url": "http://127.0.0.1:9"}}, auth={"open_status": is_open})
    async with ClientSession(f"http://127.0.0.1:{live.port}") as session:
        async with session.get(SUMMARY) as answer:
            assert answer.status == status
        async with session.get(SUMMARY, headers={"X-VX11-Token": TOKEN}) as answer:
            assert answer.status == 200
            assert [one["name"] for one in (await answer.json())["components"]] == ["madre"]


@pytest.mark.parametrize(("is_open", "status"), [(True, 200), (False, 401)])
async def test_badges_are_as_open_as_the_page(start: Start, is_open: bool, status: int) -> None:
    fleet = {"madre": {"url": "http://127.0.0.1:9", "aliases": ["mother"]}}
    live = await start(fleet, auth={"open_status": is_open})
    async with ClientSession(f"http://127.0.0.1:{live.port}") as session:
        for path in (BADGE, "/status/badge.svg", "/status/badges/mother.json"):
            async with session.get(path) as answer:
                assert answer.status == status
            async with session.get(path, headers={"X-VX11-Token": TOKEN}) as answer:
                assert answer.status == 200


async def test_it_names_the_public_address_of_the_page(start: Start) -> None:
    fleet = {"madre": {"url": "http://127.0.0.1:9", "about": "Spawns.", "group": "Core"}}
    live = await start(
        fleet, alerts={"page": "https://status.example.org"}, page={"title": "Casa", "zone": "Asia/Tokyo"}
    )
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{live.port}{SUMMARY}") as answer:
        found = await answer.json()
    assert found["page"]["url"] == "https://status.example.org/status"
    assert (found["page"]["name"], found["page"]["time_zone"]) == ("Casa", "Asia/Tokyo")
    assert [one["name"] for one in found["components"]] == ["madre", "Core"]


async def test_without_a_public_address_it_names_its_own(start: Start) -> None:
    live: Live = await start({"madre": {"url": "http://127.0.0.1:9"}})
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{live.port}{SUMMARY}") as answer:
        assert (await answer.json())["page"]["url"] == f"http://127.0.0.1:{live.port}/status"
