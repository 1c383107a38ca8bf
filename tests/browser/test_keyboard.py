"""The pages by keyboard alone, in the order in which they are read, with a screen reader, and without motion."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Page

from tests.browser.chromium import opened
from tests.browser.pages import PAGES, Shown, connected, fleet, many, signed_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

PLACES = """[...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
)].filter(one => one.tabIndex >= 0 && one.checkVisibility())"""
# A live update may replace an element, so that no mark on it would stay.
FOCUSED = """() => {
    const all = PLACES, one = document.activeElement;
    if (one === document.body) return null;
    const box = one.getClientRects()[0], style = getComputedStyle(one);
    const [x, y] = [box.left + Math.min(box.width, innerWidth) / 2, box.top + Math.min(box.height / 2, 8)];
    const at = document.elementFromPoint(x, y);
    return {
        place: all.indexOf(one), html: one.outerHTML.slice(0, 200), left: box.left, right: box.right,
        top: box.top + scrollY, bottom: box.bottom + scrollY,
        isOutlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        isSeen: !!at && (one.contains(at) || at.contains(one)),
    };
}""".replace("PLACES", PLACES)


async def focused(page: Page, key: str, count: int) -> list[dict[str, Any]]:
    """What has the focus while `key` is pressed until it leaves the page, which has `count` places for it.

    Some of them, such as a field for a date, have several stops.
    """
    found: list[dict[str, Any]] = []
    for _ in range(count + 20):
        await page.keyboard.press(key)
        now = await page.evaluate(FOCUSED)
        if now is None or (found and now["place"] == found[0]["place"] != found[-1]["place"]):
            return found
        if not found or now["place"] != found[-1]["place"]:
            found.append(now)
    pytest.fail(f"the focus stays in {found[-1]}")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("shown", [one for one in PAGES if one.state.__name__ != "many"], ids=str)
async def test_the_focus_goes_through_the_page_as_it_is_read(shown: Shown, width: int) -> None:
    async with opened(shown.state(), path=shown.path, width=width) as (page, _):
        count = await page.evaluate(f"{PLACES}.length")
        found = await focused(page, "Tab", count)
        assert [one["place"] for one in found] == list(range(count))
        assert [one["html"] for one in found if not one["isOutlined"] or not one["isSeen"]] == []
        # What follows is below or to the right; the link that skips the header is above everything.
        for before, after in pairwise(found[1:]):
            assert after["bottom"] > before["top"] or after["left"] >= before["right"], (before["html"], after["html"])
        back = await focused(page, "Shift+Tab", count)
        assert [one["place"] for one in back] == list(reversed(range(count)))


@pytest.mark.parametrize("path", ["/status", "/status/services/hermes"])
async def test_the_first_link_skips_the_header(path: str) -> None:
    async with opened(fleet(), path=path) as (page, _):
        link = page.locator("a").first
        hidden = await link.bounding_box()
        assert hidden is None or hidden["height"] <= 1
        await page.keyboard.press("Tab")
        shown = await link.bounding_box()
        assert shown is not None
        assert shown["height"] > 20
        assert await link.inner_text() == "Skip to content"
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.querySelector('main').contains(document.activeElement)")


async def test_everything_is_done_without_a_mouse() -> None:
    async with opened(many()) as (page, _):
        folded = page.locator("#quiet")
        assert await folded.get_attribute("open") is None
        await folded.locator("summary").focus()
        await page.keyboard.press("Enter")
        assert await folded.get_attribute("open") is not None
        await page.locator("#filter").focus()
        await page.keyboard.type("service-41")
        assert await page.locator("[data-name]:visible").count() == 1
        await page.keyboard.press("Escape")
        assert await page.locator("[data-name]:visible").count() > 90
        await page.get_by_role("link", name="cart-0").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="cart-0 is down.").wait_for()


def said_in_order(page: str, *texts: str) -> None:
    """A screen reader says these in this order."""
    place = 0
    for text in texts:
        assert text in page[place:], f"{text} is not said, or too early"
        place = page.index(text, place) + len(text)


async def test_a_screen_reader_hears_the_worst_first() -> None:
    async with opened(fleet()) as (page, _):
        said = await page.locator("body").aria_snapshot()
    said_in_order(
        said, "Skip to content", "banner", "main", "Down for", 'heading "hermes is down', "Why", "Just before"
    )
    said_in_order(said, "Just before", "Notified", "Last time", 'heading "The last 3 hours"', "searchbox", "Down:")
    said_in_order(said, "Down:", '"hermes"', "Failing:", '"hormiguero"', "Slow:", '"switch"', "Up:")
    said_in_order(said, '"switch"', "Up:", '"madre"', 'heading "What happened"', "contentinfo")


async def test_a_screen_reader_hears_what_each_number_is() -> None:
    async with opened(fleet()) as (page, _):
        row, brief = page.locator("#service-switch .nums"), page.locator("#service-madre .nums")
        assert "95 % within: 229 ms usually 29 ms failed: 0 %" in " ".join((await row.inner_text()).split())
        said = (await brief.aria_snapshot()).replace("\n", " ")
    for name in ("95 % within:", "failed:", "up, 90 days:"):
        assert name in said
    async with opened(connected(), path="/status/events?range=3h") as (page, _):
        ends = await page.locator(".mesh .line:not(.axis) .end").all_inner_texts()
    assert ends, "there are lanes"
    assert [one for one in ends if ":" not in one] == []


async def test_a_screen_reader_hears_a_service() -> None:
    async with opened(signed_in(), path="/status/services/hermes") as (page, _):
        said = await page.locator("body").aria_snapshot()
    said_in_order(
        said, "Down for", 'heading "hermes is down."', "database is locked", "Owner: Ana", "Runbook", "Numbers"
    )
    said_in_order(said, "The last 3 hours", "90 days", "Addresses", "10.9.8.7:8003", "Down", "Breaker: Open")
    said_in_order(
        said,
        "Dependencies",
        "Last probes",
        "Down: /health answered 503",
        "database is locked",
        "Up: /health answered 200",
    )
    said_in_order(said, "Certificates", "issuer expired", "for 9 days only", "Routes", "Dependencies")


@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_nothing_moves_where_that_is_asked_for(shown: Shown) -> None:
    moving = """[...document.querySelectorAll("*")].filter(one => {
        const style = getComputedStyle(one);
        return style.animationName !== "none" || parseFloat(style.transitionDuration) || style.scrollBehavior === "smooth";
    }).map(one => one.outerHTML.slice(0, 200)).concat(document.getAnimations().map(String))"""
    async with opened(shown.state(), path=shown.path, reduced_motion="reduce") as (page, _):
        assert await page.evaluate(moving) == []
