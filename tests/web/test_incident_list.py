"""The list of incidents, as it comes over HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.model.page import PageInfo
from tentaculo.model.reason import because
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import MOST_CHOICES
from tests.support.native_gateway import NOW, TOKEN, Gateway, State, running, view
from tests.web.test_incidents import HERMES, MCP, NOTE
from tests.web.test_status_page import HOSTILE, Outline, words

SIGNED_IN = Viewer(is_signed_in=True)
FIRST = 1_770_000_000_000


def ended(number: int, days_ago: float, minutes: float = 10, **changes: object) -> Incident:
    """An incident of mcp that began so many days ago."""
    start = NOW - timedelta(days=days_ago)
    found = replace(
        MCP, id=FIRST + number, started_at=start, seen_at=start, ended_at=start + timedelta(minutes=minutes)
    )
    return replace(found, **changes)  # type: ignore[arg-type]


async def page(gateway: Gateway, query: str = "", status: int = 200) -> str:
    async with gateway.client.get(f"/status/incidents{query}") as response:
        assert response.status == status
        return await response.text()


async def test_the_open_ones_come_first_then_those_that_ended_by_month(gateway: Gateway) -> None:
    books = gateway.state.books
    books.incidents = [
        replace(HERMES, failed_requests=1310, counted_until=NOW),
        MCP,
        ended(1, 20, 41),
        ended(0, 80, services=("mcp", "a", "b")),
    ]
    text = await page(gateway)
    said = words(text)
    assert "Incidents 4 in the last 90 days, 1 h 16 min in all . 1 is open. The longest took 41 min." in said
    rows = (
        "Open hermes is down connection refused. operator fails with it. 1,310 requests failed. It failed again",
        "2 times. 14:44 25 min so far",
        "March mcp was down 14:44 5 min",
        "February mcp was down 22 Feb, 15:09 41 min",
        "December 2025 mcp was down a, b failed with it. 24 Dec, 15:09 10 min",
    )
    places = [said.index(row) for row in rows]
    assert places == sorted(places)
    assert f'href="/status/incidents/{HERMES.id}"' in text
    assert "%23b3221b" in text, "the icon is that of the worst that is open"


async def test_of_a_great_number_of_open_ones_the_newest_are_listed(gateway: Gateway) -> None:
    gateway.state.books.incidents = [replace(HERMES, id=HERMES.id + n) for n in range(700, 0, -1)]
    text = await page(gateway)
    assert text.count("hermes</b> is down") == 50
    assert "650 more are open." in words(text)
    assert f"/status/incidents/{HERMES.id + 700}" in text


async def test_a_quiet_fleet_says_so(gateway: Gateway) -> None:
    said = words(await page(gateway))
    assert "Incidents None in the last 90 days." in said
    assert "No incident in this time." in said
    assert "None is known." in words(await page(gateway, "?range=all"))


async def test_each_of_90_days_has_its_colour(gateway: Gateway) -> None:
    hour = timedelta(hours=1)
    gateway.state.books.planned = [MaintenanceWindow((), NOW - 25 * hour, NOW - 24 * hour, "a new disk")]
    gateway.state.books.incidents = [replace(ended(1, 2), severity=Health.DEGRADED), ended(0, 4)]
    text = await page(gateway)
    days = re.findall(r'<rect class="r-(\w+)" x="[\d.]+%" width=".9%"', text)
    assert len(days) == 90
    assert days[:9] == ["none"] * 9
    assert days[-6:] == ["up", "down", "up", "slow", "plan", "up"]
    assert "<title>12 Mar: 1 incident</title>" in text
    assert "<title>13 Mar: maintenance</title>" in text
    assert "<title>14 Mar: no incident</title>" in text


async def test_reasons_notes_and_what_services_said_are_private(gateway: Gateway) -> None:
    state = gateway.state
    told = because("answered_but", status=503, what="database is locked at 10.9.8.7")
    state.books.incidents = [replace(HERMES, reason=str(told), cause=told)]
    state.books.notes = {HERMES.id: [NOTE]}
    said = words(await page(gateway))
    assert "hermes is down answered 503, but … operator fails with it." in said
    assert "10.9.8.7" not in said
    assert "The disk is full." not in said
    state.viewer = SIGNED_IN
    said = words(await page(gateway))
    assert "answered 503, but database is locked at 10.9.8.7." in said
    assert "ana , 15:07 : The disk is full." in said


async def test_a_reason_that_an_older_version_stored_is_not_public(gateway: Gateway) -> None:
    gateway.state.books.incidents = [replace(HERMES, reason="whatever it said", cause=None)]
    assert "whatever it said" not in await page(gateway)
    gateway.state.viewer = SIGNED_IN
    assert "whatever it said." in words(await page(gateway))


async def test_it_is_read_part_by_part(gateway: Gateway) -> None:
    gateway.state.in_memory = 3
    gateway.state.books.incidents = [HERMES, *(ended(n, 40 - n) for n in range(30, 0, -1))]
    text = await page(gateway)
    assert text.count("mcp</b> was down") == 25
    (before,) = re.findall(r'before=(\d+)" rel="next"', text)
    second = await page(gateway, f"?range=90d&before={before}")
    assert second.count("mcp</b> was down") == 5
    assert "hermes</b> is down" not in second, "the open ones are in the first part"
    assert 'rel="next"' not in second
    assert "The newest" in second


async def test_one_that_ended_late_has_no_part_skip_those_before_it(gateway: Gateway) -> None:
    late = ended(0, 45, 45 * 24 * 60)
    gateway.state.in_memory = 1
    gateway.state.books.incidents = [late, *(ended(n, 40 - n) for n in range(30, 0, -1))]
    text = await page(gateway)
    assert f"/status/incidents/{late.id}" in text
    (before,) = re.findall(r'before=(\d+)" rel="next"', text)
    second = await page(gateway, f"?range=90d&before={before}")
    assert [f"/status/incidents/{FIRST + number}" in second for number in range(7)] == [True] * 6 + [False]


async def test_range_and_service_are_chosen(gateway: Gateway) -> None:
    await page(gateway, "?range=24h&service=hermes")
    (wanted,) = gateway.state.searched
    assert (wanted.since, wanted.service) == (NOW - timedelta(days=1), "hermes")
    text = await page(gateway, "?range=all&service=hermes")
    assert gateway.state.searched[-1].since is None
    assert "<h1>Incidents of hermes</h1>" in text
    assert "<option selected>hermes</option>" in text
    assert "/status/incidents?range=7d&amp;service=hermes" in text


async def test_of_many_services_one_is_typed_and_those_of_the_incidents_are_proposed() -> None:
    services = tuple(view(name, 9000) for name in ("hermes", *(f"s-{n}" for n in range(MOST_CHOICES))))
    state = State(services=services)
    state.books.incidents = [HERMES]
    async with running(state) as gateway:
        text = await page(gateway, "?service=hermes")
        assert "<select" not in text
        assert re.search(r'<input id="service" name="service" value="hermes" list="services"', text)
        assert re.findall(r'<option value="([^"]*)">', text) == ["hermes"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?range=1y", "range may be 3h, 24h, 7d, 90d, all."),
        ("?service=nobody", "service may be the name of a service."),
        ("?before=-1", "before may be a number up to 9007199254740992."),
        ("?before=9007199254740993", "before may be a number up to 9007199254740992."),
        ("?before=\u0661", "before may be a number up to 9007199254740992."),
    ],
)
async def test_a_parameter_that_is_none(gateway: Gateway, query: str, detail: str) -> None:
    async with gateway.client.get(f"/status/incidents{query}") as response:
        assert (response.status, (await response.json(content_type=None))["detail"]) == (400, detail)


async def test_memory_is_newer_than_what_was_read(gateway: Gateway) -> None:
    state = gateway.state
    state.books.incidents = [HERMES, MCP]
    assert "hermes</b> is down" in await page(gateway)
    state.clock += 2
    state.books.incidents = [replace(HERMES, ended_at=NOW, ending="It is healthy again: answered 200")]
    text = await page(gateway)
    assert len(state.searched) == 1, "what was read is kept"
    assert "hermes</b> was down" in text
    assert "<h2>Open</h2>" not in text


async def test_a_lost_database_leaves_what_is_in_memory(gateway: Gateway) -> None:
    gateway.state.lost = "The database file fleet.db is damaged."
    gateway.state.books.incidents = [HERMES, MCP]
    said = words(await page(gateway))
    assert "The database is lost. The database file fleet.db is damaged. Only incidents in memory are listed." in said
    assert "hermes is down" in said
    assert "mcp was down" in said
    assert "The past cannot be read now" in said


async def test_a_store_that_hangs_costs_a_bounded_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 0.1)
    gateway.state.hangs = True
    gateway.state.books.incidents = [HERMES]
    assert "hermes is down" in words(await page(gateway))


async def test_what_comes_from_outside_is_text(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.books.incidents = [
        replace(HERMES, root=HOSTILE, services=(HOSTILE, HOSTILE), reason=HOSTILE + "\u202e" + "z" * 9999)
    ]
    gateway.state.books.notes = {HERMES.id: [replace(NOTE, author=HOSTILE, text=HOSTILE + "\x1b" + "y" * 9999)]}
    text = await page(gateway)
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name == "style"]
    assert outline.text.count("<script>alert(1)</script>") >= 4
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert len(text) < 60_000


async def test_times_are_those_of_the_pages_zone() -> None:
    state = State(info=PageInfo(title="Ana's fleet", zone=ZoneInfo("Asia/Tokyo")))
    state.books.incidents = [replace(ended(1, 10), started_at=NOW.replace(month=2, day=28, hour=20))]
    async with running(state) as gateway:
        text = await page(gateway)
    assert "<title>Incidents · Ana&#39;s fleet</title>" in text
    assert "<h2>March</h2>" in text
    assert ">1 Mar, 05:09</time>" in text


async def test_a_month_is_a_heading_in_each_language(gateway: Gateway) -> None:
    gateway.state.books.incidents = [ended(1, 10), ended(0, 80)]
    text = await page(gateway, "?lang=pt")
    assert "<h2>Março</h2>" in text
    assert "<h2>Dezembro de 2025</h2>" in text


async def test_it_is_as_open_as_the_status_page() -> None:
    async with running(State(), AuthSettings(open_status=False)) as gateway:
        await page(gateway, status=401)
        async with gateway.client.get("/status/incidents", headers={"X-VX11-Token": TOKEN}) as response:
            assert response.status == 200
