"""What axe-core, the usual checker of accessibility, finds on the pages: nothing."""

from __future__ import annotations

import itertools
from functools import cache
from importlib.resources import files

import pytest
from playwright.async_api import Page

from tests.browser.chromium import opened, overflow
from tests.browser.pages import PAGES, Shown
from tests.support.needs import need

pytestmark = pytest.mark.asyncio(loop_scope="session")


@cache
def axe() -> str:
    """Its script, which comes in a package of PyPI, so that no Node is needed."""
    try:
        return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
    except ModuleNotFoundError:
        need(False, "axe-playwright-python (requirements-dev.txt)")
        raise


async def findings(page: Page) -> list[str]:
    """Each rule that is broken, best practices too, and where."""
    await page.evaluate(axe())
    found = await page.evaluate("axe.run({resultTypes: ['violations'], rules: {'target-size': {enabled: true}}})")
    return [
        f"{rule['id']}: {node['html'][:300]} {node['any']}" for rule in found["violations"] for node in rule["nodes"]
    ]


@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_axe_finds_nothing(shown: Shown) -> None:
    async with opened(shown.state(), path=shown.path) as (page, _):
        status = await page.evaluate("performance.getEntriesByType('navigation')[0].responseStatus")
        assert status == shown.status
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                await page.set_viewport_size({"width": width, "height": 844})
                await page.emulate_media(color_scheme=scheme)
                assert await findings(page) == [], f"{width} px, {scheme}"
        await page.emulate_media(forced_colors="active")
        current = "all => all.filter(one => getComputedStyle(one).outlineStyle === 'none').map(one => one.outerHTML)"
        assert await page.locator("[aria-current]").evaluate_all(current) == [], "its background is not drawn then"
        for width in (1280, 390):
            await page.set_viewport_size({"width": width, "height": 844})
            await page.evaluate("document.documentElement.style.fontSize = '200%'")
            assert await overflow(page) <= 0, f"{width} px, text of twice the size"


async def test_it_would_find_something() -> None:
    # Without the script of the page, whose updates would put back what was there.
    async with opened(PAGES[0].state(), path="/status/sign-in") as (page, _):
        await page.evaluate("document.querySelector('h1').innerHTML = '<img src=data:,>'")
        # The Content-Security-Policy of the page allows no styles in HTML.
        await page.evaluate(
            """document.querySelector('main').append(...[1, 2].map(() => {
                const small = document.createElement('button');
                small.textContent = 'x';
                Object.assign(small.style, {padding: 0, border: 0, fontSize: '12px'});
                return small;
            }))"""
        )
        found = {one.partition(":")[0] for one in await findings(page)}
        assert found == {"empty-heading", "image-alt", "target-size"}


_SMALL = """() => [...document.querySelectorAll("main a, header a, footer a, button, select, summary")]
    .filter(one => one.getClientRects().length && !one.closest("svg, .axis"))
    // Links within a sentence, and the times of a log, are as high as their line.
    .filter(one => getComputedStyle(one).display !== "inline")
    .filter(one => one.getBoundingClientRect().height < 23.5)
    .map(one => one.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_a_phone_shows_whole_boxes_and_times_and_a_finger_hits_every_control(shown: Shown) -> None:
    async with opened(shown.state(), path=shown.path, width=320) as (page, _):
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await page.evaluate(_SMALL) == []
        widths = "all => all.filter(one => one.getClientRects().length).map(one => one.offsetWidth)"
        assert set(await page.locator(".sheet").evaluate_all(widths)) <= {320}
        brand = await page.locator(".brand").bounding_box()
        assert brand is not None
        assert brand["height"] < 32, "the mark stands beside the name"
        boxes = await page.locator(".ticks text").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect()).filter(one => one.width)"
            ".map(one => [one.y, one.left, one.right])"
        )
        for (y, _left, right), (next_y, left, _right) in itertools.pairwise(boxes):
            assert y != next_y or right < left, "two times of an axis run into one another"
