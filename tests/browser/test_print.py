"""The pages on paper: black on white, without controls, with exact times and the addresses of links."""

from __future__ import annotations

import pytest

from tests.browser.chromium import faint_texts, opened
from tests.browser.pages import PAGES, Shown, signed_in

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAPER = 718
"""Pixels of the width of A4 between Chromium's margins."""
AFTER = "all => all.map(one => getComputedStyle(one, '::after').content)"
VISIBLE = "all => all.filter(one => one.checkVisibility({contentVisibilityAuto: true})).map(one => one.outerHTML)"
CONTROLS = "button, input:not([type=hidden]), select, textarea, .skip, .range, .groups, .tools, .languages, nav"


@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_a_page_on_paper(shown: Shown) -> None:
    async with opened(shown.state(), path=shown.path, width=PAPER) as (page, _):
        for scheme in ("light", "dark"):
            await page.emulate_media(media="print", color_scheme=scheme)
            style = "getComputedStyle(document.body)"
            colours = await page.evaluate(f"[{style}.backgroundColor, {style}.color]")
            assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"], scheme
            assert await faint_texts(page) == [], scheme
        assert await page.locator(CONTROLS).evaluate_all(VISIBLE) == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= PAPER
        folded = "all => all.filter(one => one.checkVisibility() && [...one.children].some(part => !part.getBoundingClientRect().height)).length"
        assert await page.locator("details").evaluate_all(folded) == 0, "nobody can unfold paper"


async def test_times_are_exact_and_links_have_their_address() -> None:
    async with opened(signed_in(), path="/status/services/hermes", width=PAPER, timezone="America/Sao_Paulo") as (
        page,
        _,
    ):
        await page.emulate_media(media="print")
        assert "As of" in await page.locator("#fresh").inner_text()
        assert await page.locator("#fresh time").evaluate_all(AFTER) == ['" (2026-03-14 15:09:26 UTC)"']
        assert await page.locator(".hero time").evaluate_all(AFTER) == ['" (2026-03-14 14:48:26 UTC)"']
        assert '" (2026-03-14 15:09:18 UTC)"' in await page.locator("#live time").evaluate_all(AFTER)
        assert await page.locator("a[rel]").evaluate_all(AFTER) == ['" (https://runbooks.example/hermes)"']
        assert set(await page.locator("a:not([rel])").evaluate_all(AFTER)) == {"none"}, (
            "paths of this gateway say enough"
        )


async def test_the_sheets_are_few() -> None:
    """The overview of a hundred services, with what is folded on the screen."""
    shown = next(one for one in PAGES if one.state.__name__ == "many")
    async with opened(shown.state(), path=shown.path) as (page, _):
        paper = await page.pdf(format="A4")
        assert 1 <= paper.count(b"/Type /Page\n") <= 3
