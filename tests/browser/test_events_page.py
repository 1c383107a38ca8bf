"""The page of events in a real browser: what is connected is shown together, and nothing needs script or leaves the page."""

from __future__ import annotations

import pytest

from tests.browser.chromium import opened, overflow
from tests.browser.pages import connected
from tests.support.native_gateway import State, event

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/status/events?range=3h"


@pytest.mark.parametrize("width", [320, 390, 641, 961, 1280])
async def test_nothing_runs_out_of_the_page(width: int) -> None:
    async with opened(connected(), width=width, path=PATH) as (page, complaints):
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await overflow(page) <= 0
        assert complaints == []


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_connection_begins_and_ends_in_its_dots(width: int) -> None:
    state = connected()
    first, second = (one.id for one in state.events[:2])
    async with opened(state, width=width, path=PATH) as (page, _):
        ends = await page.locator(".tie").first.evaluate(
            """tie => { const to = tie.getScreenCTM();
                 return [0, tie.getTotalLength()].map(at => tie.getPointAtLength(at).matrixTransform(to)).map(p => [p.x, p.y]); }"""
        )
        for event_id, (x, y) in zip((first, second), ends, strict=True):
            box = await page.locator(f'a[href="#event-{event_id}"] circle').bounding_box()
            assert box is not None
            assert abs(box["x"] + box["width"] / 2 - x) < 1.5
            assert abs(box["y"] + box["height"] / 2 - y) < 1.5


async def test_pointing_at_an_event_shows_what_is_connected_with_it() -> None:
    state = connected()
    created, decision, deploy = state.events[0].id, state.events[3].id, state.events[4].id
    async with opened(state, path=PATH) as (page, complaints):
        lit = page.locator(".mesh .lit")
        assert await lit.count() == 0
        await page.hover(f"li#event-{created}")
        # Two dots and the line between them; the others are dimmed.
        assert await lit.count() == 3
        assert await page.locator(f"li#event-{state.events[1].id}.lit").count() == 1
        assert float(await page.locator(".mesh .dim").first.evaluate("one => getComputedStyle(one).opacity")) < 0.5
        await page.hover(f"li#event-{decision}")
        assert await lit.count() == 0
        await page.hover(f'.mesh a[href="#event-{deploy}"] circle')
        assert await page.locator(".mesh a[href^='/status/incidents/'].lit").count() == 1
        assert await page.locator(".tie.maybe.lit").count() == 1
        assert complaints == []


async def test_the_keyboard_alone_shows_it_too() -> None:
    state = connected()
    async with opened(state, path=PATH) as (page, _):
        await page.focus(f"li#event-{state.events[0].id} > a")
        assert await page.locator(".mesh .lit").count() == 3
        # The dots repeat the list, so that the tabulator does not stop at each of them.
        stops = await page.locator(".mesh a").evaluate_all("all => all.filter(one => one.tabIndex >= 0).length")
        links = await page.locator(".mesh a[href^='/status/']").count()
        assert stops == links


async def test_times_are_the_readers_own_to_the_second() -> None:
    state = State(events=[event(1)])
    async with opened(state, path="/status/events", timezone="Asia/Kolkata") as (page, _):
        state.viewer = connected().viewer
        await page.reload()
        said = page.locator("li#event-1 time")
        assert await said.inner_text() == "20:39:06"
        assert await said.get_attribute("title") == "2026-03-14 15:09:06 UTC"


async def test_without_script_nothing_is_missing() -> None:
    state = connected()
    async with opened(state, path=PATH, javascript=False) as (page, _):
        assert await page.locator(".tie").count() == 5
        assert await page.locator("li[id^=event-]").count() == 12
        await page.click("summary:has-text('correlation id')")
        await page.fill("input[name=correlation]", "release-240")
        await page.click("text=Show")
        assert state.asked_of_log[-1].wanted.correlation == "release-240"
        assert "range=3h" in page.url


async def test_a_refresh_leaves_what_is_being_typed() -> None:
    state = connected()
    async with opened(state, path=PATH) as (page, _):
        await page.click("summary:has-text('correlation id')")
        await page.fill("input[name=text]", "disk")
        state.clock += 60
        state.now = state.now.replace(minute=11)
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))")
        await page.locator("#fresh time", has_text="15:11").wait_for()
        assert await page.input_value("input[name=text]") == "disk"
        assert await page.locator("input[name=text]").evaluate("one => one === document.activeElement")
