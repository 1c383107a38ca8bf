"""What the operator says of the pages and the services, as the pages show it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tentaculo.model.health import Health
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.page import PageInfo, ServiceInfo
from tentaculo.web.timeline import RANGES, Axis
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import ENGLISH
from tests.support.native_gateway import NOW, Gateway, State, running, view
from tests.web.test_incidents import HERMES, NOTE
from tests.web.test_status_page import HOSTILE, page, words

SIGNED_IN = Viewer(is_signed_in=True)

RUNBOOK = "https://wiki.example.org/hermes?a=1&b=2"
INFO = PageInfo(
    "Casa",
    ZoneInfo("Asia/Kolkata"),
    {
        "hermes": ServiceInfo("Sends mail.", "ana", "Mail", RUNBOOK),
        "operator": ServiceInfo(group="Mail", owner="ben"),
        "madre": ServiceInfo("Spawns.", "ana", "Core", "https://wiki.example.org/madre"),
        "switch": ServiceInfo(group="Core", owner="eva"),
    },
)


@asynccontextmanager
async def served(**changes: Any) -> AsyncIterator[Gateway]:
    async with running(replace(State(info=INFO), **changes)) as gateway:
        yield gateway


def rows(text: str) -> list[str]:
    return re.findall(r'id="service-([a-z0-9-]+)"', text)


def listed(text: str) -> str:
    """The words of the list of services."""
    said = words(text)
    return said[said.index("Incidents, maintenance") : said.index("What happened")]


async def test_the_page_has_a_name_beside_the_product() -> None:
    async with served() as gateway:
        for path in ("", "/services/hermes"):
            text = await page(gateway, path)
            assert "<title>hermes is down · Casa</title>" in text
            assert "Tentáculo Link Casa" in words(text)


async def test_owner_and_runbook_stand_where_there_is_trouble() -> None:
    cart = view("operator", health=Health.DOWN, reason="answered 502", root="hermes")
    down = view("hermes", health=Health.DOWN, reason="connection refused")
    slow = view("switch", health=Health.DEGRADED, reason="slow: 2 s")
    async with served(services=(view("madre"), cart, down, slow), viewer=SIGNED_IN) as gateway:
        text = await page(gateway)
        said = words(text)
        assert "hermes · Owner: ana Why" in said, "below the headline that names it"
        assert "Incident" not in said.partition("hermes in detail")[0].partition("Last time")[2], "there is none"
        assert "hermes in detail Runbook The last 3 hours" in said, "below the answers"
        assert "switch slow: 2 s Owner: eva" in said, "else in its row"
        assert text.count("Owner: <bdi>ana</bdi>") == 1, "madre is up"
        assert "Owner: ben" not in said, "operator fails because of hermes"
        link = '<a href="https://wiki.example.org/hermes?a=1&amp;b=2" rel="noreferrer">Runbook</a>'
        assert text.count(link) == 1
        calm = words(await page(gateway, "/services/madre"))
        assert "madre is up. Spawns. Owner: ana All services Runbook" in calm, "its own page says it always"


async def test_many_that_fail_alike_have_no_contact_in_the_headline() -> None:
    services = tuple(view(f"cart-{n}", health=Health.DOWN, reason="answered 502") for n in range(4))
    info = PageInfo(services={one.name: ServiceInfo(owner="ana") for one in services})
    async with served(services=services, info=info) as gateway:
        assert (await page(gateway)).count("Owner: <bdi>ana</bdi>") == 4, "in the rows only"


async def test_trouble_is_first_and_the_others_are_by_group() -> None:
    async with served() as gateway:
        said = listed(await page(gateway))
        headings = re.findall(
            r"Down: hermes|Failing: mcp|Degraded: switch|Mail|Core|Other services|: operator|: madre", said
        )
        assert headings == [
            *("Down: hermes", "Failing: mcp", "Degraded: switch"),
            *("Mail", ": operator", "Core", ": madre", "Other services"),
        ]
        by_name = await page(gateway, "?sort=name")
        assert "Other services" not in words(by_name), "in another order there are no groups"
        assert rows(by_name) == sorted(rows(by_name))


async def test_many_are_folded_by_group() -> None:
    names = [f"shop-{n}" for n in range(20)]
    info = PageInfo(services={name: ServiceInfo(group=f"Shop {n % 2}") for n, name in enumerate(names)})
    async with served(services=tuple(map(view, [*names, "alone"])), info=info) as gateway:
        text = await page(gateway)
        folded = text[text.index('id="quiet"') :]
        assert re.findall(r"<h3>(.+?)</h3>", folded[: folded.index("</details>")]) == [
            "Shop 0",
            "Shop 1",
            "Other services",
        ]
        assert "21 services without trouble" in words(text)
        assert rows(text) == [*names[::2], *names[1::2], "alone"]


async def test_one_group_alone() -> None:
    async with served() as gateway:
        text = await page(gateway, "?group=Mail&sort=name&filter=e")
        assert rows(text) == ["hermes", "operator"]
        assert '<a href="?range=3h&amp;sort=name&amp;filter=e&amp;group=Mail" aria-current="true">' in text
        assert '<a href="?range=3h&amp;sort=name&amp;filter=e&amp;group=Core">' in text
        assert '<a href="?range=3h&amp;sort=name&amp;filter=e">All</a>' in text
        assert '<input type="hidden" name="group" value="Mail">' in text
        assert "hermes is down" in words(text), "the headline is that of all services"
        assert "Down: Mail" in words(text), "a group says its trouble"
        assert "Show all" in words(await page(gateway, "?group=Mail&filter=zzz"))


@pytest.mark.parametrize(
    ("info", "said"), [(INFO, "group must be the name of a group."), (PageInfo(), "There is no group.")]
)
async def test_a_group_that_is_none_is_refused_and_not_rendered(info: PageInfo, said: str) -> None:
    async with served(info=info) as gateway, gateway.client.get("/status?group=mail") as answer:
        assert (answer.status, (await answer.json())["detail"]) == (400, said)
        assert gateway.state.asked_for_past == []


async def test_of_very_many_groups_the_first_can_be_chosen() -> None:
    names = [f"s{n}" for n in range(60)]
    info = PageInfo(services={name: ServiceInfo(group=f"g{n}") for n, name in enumerate(names)})
    async with served(services=tuple(map(view, names)), info=info) as gateway:
        text = await page(gateway)
        nav = text[text.index('<nav class="groups"') :].partition("</nav>")[0]
        assert nav.count("<a ") == 51
        assert nav.endswith("<span>and 10 more</span>")
        assert rows(await page(gateway, "?group=g59")) == ["s59"]


async def test_without_groups_there_is_no_list_of_them(gateway: Gateway) -> None:
    text = await page(gateway)
    assert '<nav class="groups"' not in text
    assert "Other services" not in text


async def test_times_are_in_the_zone_of_the_page() -> None:
    state = State(info=INFO, viewer=SIGNED_IN)
    state.books.incidents = [HERMES]
    state.books.notes = {HERMES.id: [NOTE]}
    state.books.planned = [MaintenanceWindow((), NOW + timedelta(hours=24), NOW + timedelta(hours=25), "moving house")]
    state.earlier = {"hermes": replace(HERMES, started_at=datetime(2026, 3, 13, 18, 31, tzinfo=UTC))}
    async with running(state) as gateway:
        text = await page(gateway)
        said = words(text)
        assert "As of 20:39 IST" in said
        assert "Times are IST." in said
        assert "ana wrote a note at 20:37 ." in said
        assert '<time datetime="2026-03-14T15:07:26Z" title="2026-03-14 15:07:26 UTC">20:37</time>' in text
        assert "Last time Today , for" in said, "it began at 00:01 there"
        assert "from 15 Mar, 20:39 to 15 Mar, 21:39" in said
        assert re.findall(r'data-at="2026-03-14T(\d\d:\d\d):00Z">(\d\d:\d\d)', text)[0] == ("12:30", "18:00")
        assert "As of 20:39 IST" in words(await page(gateway, "/services/hermes"))


@pytest.mark.parametrize("path", ["", "/services/hermes", "/incidents", f"/incidents/{HERMES.id}", "/events"])
async def test_the_machine_readable_times_are_utc_in_any_zone(path: str) -> None:
    state = State(services=(view("hermes", health=Health.DOWN),), info=INFO, viewer=SIGNED_IN)
    state.books.incidents = [HERMES]
    async with running(state) as gateway, gateway.client.get(f"/status{path}") as response:
        text = await response.text()
    (fresh,) = re.findall(r'id="fresh">.*?<time datetime="([^"]*)" title="([^"]*)">([^<]*)</time>', text)
    assert fresh == (f"{NOW:%Y-%m-%dT%H:%M:%SZ}", f"{NOW:%Y-%m-%d %H:%M:%S} UTC", f"{INFO.local(NOW):%H:%M}")
    times = [datetime.fromisoformat(found) for found in re.findall(r'datetime="([^"]*)"', text)]
    assert max(times) == NOW.replace(microsecond=0)


def test_marks_are_at_the_hours_of_the_zone_also_where_its_clock_is_set() -> None:
    zone = ZoneInfo("Europe/Madrid")
    until = int(datetime(2026, 3, 29, 10, tzinfo=UTC).timestamp())
    day = RANGES["24h"]
    ticks = Axis(until - day.seconds, until, zone).ticks(day.tick, ENGLISH)
    assert [tick.text for tick in ticks] == ["12:00", "15:00", "18:00", "21:00", "00:00", "03:00", "06:00"]
    assert [f"{tick.at:%H:%M}" for tick in ticks] == [
        "11:00",
        "14:00",
        "17:00",
        "20:00",
        "23:00",
        "01:00",
        "04:00",
    ]
    week = RANGES["7d"]
    days = Axis(until - week.seconds, until, zone).ticks(week.tick, ENGLISH)
    assert len(days) == 6
    assert all(tick.at.astimezone(zone).hour == 0 for tick in days)


async def test_what_the_operator_says_is_text() -> None:
    info = PageInfo(
        HOSTILE, services={"hermes": ServiceInfo(HOSTILE, HOSTILE, HOSTILE, f"https://a.example/{HOSTILE}")}
    )
    async with served(info=info) as gateway:
        for path in ("", "/services/hermes"):
            text = await page(gateway, path)
            assert "<script>alert" not in text
            assert "<img" not in text
            assert "&lt;script&gt;alert(1)" in text
