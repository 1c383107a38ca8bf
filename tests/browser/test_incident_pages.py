"""The pages of the incidents in a real browser."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Literal

import msgspec
import pytest

from tentaculo.model.incident import Note
from tests.browser.chromium import faint_texts, opened, overflow
from tests.browser.pages import OPEN_INCIDENT, acting, with_incidents
from tests.support.native_gateway import NOW, State

pytestmark = pytest.mark.asyncio(loop_scope="session")
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
LIST, PAGE = "/status/incidents", f"/status/incidents/{OPEN_INCIDENT}"


def hostile() -> State:
    """Long words and markup in everything that an incident has."""
    state = with_incidents()
    first, *others = state.books.incidents
    names = ("hermes", "a" * 64, "b-" * 30, MARKUP)
    deliveries = tuple(replace(one, channel="c" * 64, error=MARKUP + "e" * 200) for one in first.deliveries)
    first = replace(first, reason=MARKUP + "r" * 300, cause=None, services=names, deliveries=deliveries)
    state.books.incidents = [first, *(replace(one, root="d" * 64, ending=MARKUP + "f" * 200) for one in others)]
    state.books.notes = {first.id: [Note(1, first.id, first.started_at, "n" * 80, MARKUP + "t" * 400)]}
    state.events = [msgspec.structs.replace(one, type="t" * 90, source=MARKUP) for one in state.events]
    return state


@pytest.mark.parametrize("path", [LIST, PAGE])
@pytest.mark.parametrize("width", [320, 390, 639, 641, 959, 961, 1280])
async def test_nothing_runs_out_of_the_page(path: str, width: int) -> None:
    async with opened(hostile(), width=width, path=path) as (page, complaints):
        assert await overflow(page) <= 0
        cut_off = await page.evaluate(
            """() => [...document.querySelectorAll("h1, .lead, .why dd, .facts dd, .who, .incidents li *, .list li *, .story li, .foot span")]
                   .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 || (e.offsetParent && e.clientWidth === 0 && getComputedStyle(e).display !== "inline")).length"""
        )
        assert cut_off == 0
        assert await page.title() != "taken"
        assert complaints == []


@pytest.mark.parametrize("path", [LIST, PAGE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_contrast_enough(path: str, scheme: Literal["light", "dark"]) -> None:
    async with opened(with_incidents(), scheme=scheme, path=path) as (page, _):
        assert await faint_texts(page) == []


async def test_the_end_of_a_mute_on_another_day_has_its_date() -> None:
    """The list is one of days, so that the times at which something happened have none."""
    state = acting()
    (incident, *_), until = state.books.incidents, NOW + timedelta(days=1)
    assert incident.muted is not None
    muted = replace(incident, muted=replace(incident.muted, until=until))
    state.books.incidents = [muted, *state.books.incidents[1:]]
    async with opened(state, path=PAGE, timezone="UTC") as (page, _):
        end = page.locator("div.story .sub time").filter(has_text=f"{until:%H:%M}")
        assert await end.all_inner_texts() == [f"{until.day} {until:%b}, {until:%H:%M}"]
        assert "," not in "".join(await page.locator("div.story li > time").all_inner_texts())


async def test_a_service_is_chosen_without_script() -> None:
    state = with_incidents()
    async with opened(state, javascript=False, path=LIST) as (page, _):
        await page.select_option("#service", "mcp")
        await page.click("text=Show")
        assert page.url.endswith("/status/incidents?range=90d&service=mcp")
        assert "Incidents of mcp" in await page.inner_text("h1")
        await page.click("nav.range >> text=7 d")
        assert page.url.endswith("?range=7d&service=mcp")


@pytest.mark.parametrize("javascript", [True, False])
async def test_the_list_leads_to_the_incident_and_that_to_the_earlier_one(javascript: bool) -> None:
    async with opened(with_incidents(), javascript=javascript, path=LIST) as (page, _):
        await page.click("text=hermes is down")
        assert page.url.endswith(PAGE)
        assert "hermes is down." in await page.inner_text("h1")
        await page.click("dl.why a[href^='/status/incidents/']")
        assert "hermes was down." in await page.inner_text("h1")


async def test_the_bars_lie_under_the_shaded_time() -> None:
    for width in (1280, 390):
        async with opened(with_incidents(), width=width, path=PAGE) as (page, _):
            band = await page.locator(".cover .band").bounding_box()
            bar = await page.locator(".row .strip .r-down").first.bounding_box()
            assert band is not None
            assert bar is not None
            assert abs(band["x"] - bar["x"]) <= 2
            assert abs(band["x"] + band["width"] - bar["x"] - bar["width"]) <= 2


async def test_the_cursor_reads_what_happened() -> None:
    async with opened(with_incidents(), path=PAGE) as (page, complaints):
        await page.focus("#board")
        for _ in range(3):
            await page.keyboard.press("ArrowLeft")
        assert "hermes down" in await page.inner_text("#read")
        assert complaints == []


async def test_times_are_those_of_the_reader() -> None:
    async with opened(with_incidents(), path=PAGE, timezone="Asia/Tokyo") as (page, _):
        when = page.locator(".lead time").first
        assert await when.inner_text() == "14 Mar, 23:48", "it is the next day there"
        assert await when.get_attribute("title") == "2026-03-14 14:48:26 UTC"
