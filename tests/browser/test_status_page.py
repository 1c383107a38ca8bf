"""The status page in a real browser, Debian's Chromium."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest

from tentaculo.model.health import DegradedKind, Health, StateChange
from tentaculo.model.incident import MaintenanceWindow, Note
from tentaculo.model.page import PageInfo, ServiceInfo
from tentaculo.web.viewer import Viewer
from tests.browser.chromium import faint_texts, opened, overflow
from tests.support.native_gateway import NOW, State, event, view
from tests.web.test_incidents import HERMES, MCP

pytestmark = pytest.mark.asyncio(loop_scope="session")
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
def state() -> State:
    """A fleet in every state, with long words and with markup in what services send."""
    held = State(viewer=Viewer(is_signed_in=True))
    held.services += (view("a-service-with-quite-a-long-name-" + "x" * 60, 9001, snippet="y" * 200),)
    held.services += (view("hostile", 9002, Health.DEGRADED, reason=MARKUP, snippet=MARKUP, kind=DegradedKind.FAILING),)
    held.books.incidents = [
        replace(HERMES, reason=MARKUP + "r" * 200, services=("hermes", "a" * 64, "operator")),
        replace(MCP, root="b" * 64, ending=MARKUP),
    ]
    held.books.notes = {HERMES.id: [Note(1, HERMES.id, HERMES.started_at, "n" * 80, MARKUP + "t" * 400)]}
    held.books.planned = [
        MaintenanceWindow(("c" * 64,), HERMES.started_at, NOW + timedelta(hours=1), MARKUP + "w" * 150)
    ]
    held.events = [event(n, payload={"text": MARKUP + "z" * 200}, type="t" * 90) for n in range(3)]
    return held


@pytest.mark.parametrize("width", [320, 390, 639, 641, 959, 961, 1280])
async def test_nothing_runs_out_of_the_page(state: State, width: int) -> None:
    async with opened(state, width=width) as (page, complaints):
        assert await overflow(page) <= 0
        cut_off = await page.evaluate(
            """() => [...document.querySelectorAll("h1, .lead, .why dd, .who, .nums span, .many li, .story li, .foot span")].filter(e =>
                   e.getBoundingClientRect().right > innerWidth + 0.5 || (e.offsetParent && e.clientWidth === 0)).length"""
        )
        assert cut_off == 0
        assert complaints == []


async def test_on_a_phone_the_axis_takes_the_whole_width(state: State) -> None:
    async with opened(state, width=390) as (page, _):
        row = page.locator("#service-hermes")
        strip, name = await row.locator(".strip").bounding_box(), await row.locator(".who").bounding_box()
        assert strip is not None
        assert name is not None
        assert strip["width"] > 350
        assert strip["y"] > name["y"]
        assert "connection refused" in await row.inner_text()
        sizes = await page.locator("main *").evaluate_all(
            "all => all.filter(e => e.innerText && e.checkVisibility()).map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12


def fleet_of(down: int, up: int, groups: int = 0) -> State:
    """A cascade: one service is down and so many with it, beside so many that are up; in so many groups."""
    state = State(past={})
    affected = [view(f"cart-{n}", health=Health.DOWN, reason="answered 502", root="payments") for n in range(down)]
    root = view("payments", health=Health.DOWN, reason="connection refused")
    state.services = (root, *affected, *(view(f"service-{n}") for n in range(up)))
    if groups:
        said = [ServiceInfo("", f"team {n}", f"Group number {n}", "https://wiki.example.org/") for n in range(groups)]
        state.info = PageInfo("T" * 60, services={one.name: said[n % groups] for n, one in enumerate(state.services)})
    return state


@pytest.mark.parametrize(
    ("state", "width", "opens", "most"),
    [
        (fleet_of(12, 87), 1280, False, 1300),
        (fleet_of(12, 87), 1280, True, 2000),
        (fleet_of(12, 87), 390, True, 4000),
        (fleet_of(1, 7), 390, False, 2400),
        (fleet_of(12, 87, groups=10), 1280, False, 1300),
        (fleet_of(12, 87, groups=10), 1280, True, 2000),
        (fleet_of(12, 87, groups=10), 390, True, 4000),
        (fleet_of(1, 7, groups=4), 390, False, 2400),
    ],
)
async def test_the_page_stays_short(state: State, width: int, opens: bool, most: int) -> None:
    async with opened(state, width=width) as (page, complaints):
        if opens:
            await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await page.evaluate("document.documentElement.scrollHeight") <= most
        assert await overflow(page) <= 0
        assert complaints == []


async def test_a_filter_hides_the_headings_of_groups_without_a_match() -> None:
    async with opened(fleet_of(0, 40, groups=4)) as (page, _):
        headings = page.locator("#quiet h3")
        assert await headings.count() == 4
        await page.fill("#filter", "service-11")
        assert [await one.is_visible() for one in await headings.all()] == [True, False, False, False]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_contrast_enough(state: State, scheme: Literal["light", "dark"]) -> None:
    """WCAG AA: 4.5 to 1, measured on what the browser computed."""
    async with opened(state, scheme=scheme) as (page, _):
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
        assert level < 120 if scheme == "dark" else level > 700
        assert await faint_texts(page) == []


async def test_it_works_without_javascript(state: State) -> None:
    async with opened(state, javascript=False) as (page, complaints):
        assert await page.locator("h1").inner_text() == "hermes is down."
        assert await page.locator(".row").count() == len(state.services)
        assert await page.locator('meta[http-equiv="refresh"]').get_attribute("content") == "10"
        await page.get_by_role("link", name="7 d", exact=True).click()
        assert await page.locator("h2").first.inner_text() == "The last 7 days"
        await page.get_by_role("searchbox").fill("HERM")
        await page.get_by_role("searchbox").press("Enter")
        assert await page.locator(".row").count() == 1
        assert await page.locator("h2").first.inner_text() == "The last 7 days", "the filter keeps the range"
        await page.get_by_role("link", name="hermes", exact=True).click()
        assert await page.locator("h1").inner_text() == "hermes is down."
        assert complaints == []


@pytest.mark.parametrize("javascript", [True, False])
async def test_an_alerts_link_leads_to_its_incident(state: State, javascript: bool) -> None:
    path = f"/status#incident-{MCP.id}"
    async with opened(state, width=390, javascript=javascript, path=path) as (page, _):
        incident = page.locator(f"#incident-{MCP.id}")
        assert await incident.evaluate("e => e.matches(':target') && e.getBoundingClientRect().top < innerHeight")
        assert "b" * 64 in await incident.inner_text()


async def test_it_follows_the_fleet_by_itself(state: State) -> None:
    async with opened(state) as (page, complaints):
        await page.get_by_role("link", name="hermes", exact=True).focus()
        state.services = (view("madre"), view("hermes", health=Health.DEGRADED, kind=DegradedKind.SLOW))
        state.clock += 10
        await page.get_by_role("heading", name="hermes is slow.").wait_for(timeout=5000)
        assert await page.title() == "hermes is slow · Tentáculo Link"
        assert "%23a86b00" in str(await page.locator("#icon").get_attribute("href"))
        assert await page.evaluate("document.activeElement.textContent") == "hermes"
        assert complaints == []


async def test_open_parts_and_what_is_typed_stay() -> None:
    state = fleet_of(12, 87)
    async with opened(state) as (page, complaints):
        await page.get_by_text("87 services without trouble").click()
        state.clock += 10
        state.services = (*state.services[:-1], view("new-one"))
        await page.locator("#service-new-one").wait_for(state="visible", timeout=5000)
        await page.keyboard.press("/")
        await page.keyboard.type("NEW")
        shown = [await one.get_attribute("data-name") for one in await page.locator("[data-name]:visible").all()]
        assert shown == ["new-one"]
        state.clock += 10
        assert await page.locator("#filter").input_value() == "NEW"
        await page.keyboard.press("Escape")
        assert await page.locator(".row:visible").count() == 6
        assert complaints == []


async def test_the_arrow_keys_read_what_happened_at_a_time() -> None:
    state = fleet_of(1, 2)
    state.viewer = Viewer(is_signed_in=True)
    state.events = [event(1, type="deployed", source="ci", received_at=NOW - timedelta(seconds=10))]
    async with opened(state) as (page, _):
        await page.locator("#board").focus()
        await page.keyboard.press("ArrowLeft")
        read = page.locator("#read")
        assert await read.get_attribute("aria-live") == "polite"
        said = await read.inner_text()
        assert "deployed from ci" in said
        assert "payments down" in said
        await page.locator("#service-payments .strip").hover()
        assert await read.get_attribute("aria-live") == "off", "not every place that a mouse passes is announced"


async def test_times_are_the_reader_s(state: State) -> None:
    async with opened(state, timezone="America/Sao_Paulo") as (page, _):
        moment = page.locator(".lead time").first
        assert await moment.inner_text() == "09:09"
        assert await moment.get_attribute("title") == "2026-03-14 12:09:26 UTC"
        assert "Times are in your zone" in await page.locator(".foot").inner_text()


@pytest.mark.parametrize(
    ("zone", "locale", "since", "days"),
    [
        ("UTC", "en", "20:09", {"14 March 2026": ["15:04"], "13 March 2026": ["23:30", "19:20"]}),
        ("Asia/Tokyo", "en", "14 Mar, 05:09", {"15 March 2026": ["00:04"], "14 March 2026": ["08:30", "04:20"]}),
        (
            "America/Sao_Paulo",
            "es",
            "13 mar, 17:09",
            {"14 de marzo de 2026": ["12:04"], "13 de marzo de 2026": ["20:30", "16:20"]},
        ),
        (
            "Pacific/Pago_Pago",
            "pt",
            "13 mar, 09:09",
            {"14 de março de 2026": ["04:04"], "13 de março de 2026": ["12:30", "08:20"]},
        ),
    ],
)
async def test_a_time_has_the_date_of_the_readers_zone(
    zone: str, locale: str, since: str, days: dict[str, list[str]]
) -> None:
    changes = [
        StateChange("madre", "", before, after, "x", NOW - timedelta(minutes=minutes))
        for minutes, before, after in (
            (5, Health.DOWN, Health.UP),
            (939, Health.UP, Health.DOWN),
            (1189, Health.DOWN, Health.UP),
        )
    ]
    began = NOW - timedelta(hours=19)
    down = view("hermes", health=Health.DOWN, reason="connection refused", since=began)
    state = State(past={}, services=(view("madre"), down), changes=changes)
    async with opened(state, path="/status?range=24h", timezone=zone, locale=locale) as (page, complaints):
        shown = page.locator(".lead time").first
        assert (await shown.inner_text()).removeprefix("13 Mar, " if zone == "UTC" else "") == since
        assert await shown.get_attribute("title") == "2026-03-13 20:09:26 UTC"
        found = await page.locator("div.story").evaluate(
            "story => [...story.querySelectorAll('h3')].map(one => [one.textContent, [...one.nextElementSibling.querySelectorAll('time')].map(at => at.textContent)])"
        )
        assert dict(found) == days
        assert complaints == []


async def test_what_services_send_stays_text(state: State) -> None:
    async with opened(state) as (page, complaints):
        assert await page.title() == "hermes is down · Tentáculo Link"
        assert await page.locator("img").count() == 0
        assert "<script>document.title" in await page.locator("#service-hostile").inner_text()
        assert complaints == []


@pytest.mark.parametrize("width", [320, 1280])
async def test_the_page_of_a_service_fits(state: State, width: int) -> None:
    state.viewer = Viewer(is_signed_in=True)
    async with opened(state, width=width, path="/status/services/hostile") as (page, complaints):
        assert await overflow(page) <= 0
        assert await page.locator("img").count() == 0
        assert await page.locator("h1").inner_text() == "hostile is failing."
        assert MARKUP in await page.locator(".list code[lang='']").inner_text()
        assert complaints == []


@pytest.mark.parametrize("width", [360, 1280])
async def test_an_error_is_a_page_for_people(state: State, width: int) -> None:
    async with opened(state, width=width, path="/no/such/path") as (page, complaints):
        assert await page.locator("h1").inner_text() == "Nothing is served at this path."
        assert await overflow(page) <= 0
        assert not [said for said in complaints if "404" not in said]
