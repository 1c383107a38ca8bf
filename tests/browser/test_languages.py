"""Every page in every language at 320 px: nothing is cut, and nothing runs out of the page."""

from __future__ import annotations

import pytest

from tentaculo.model.health import Health
from tentaculo.server.content_negotiation import LANGUAGES
from tests.browser.chromium import opened, overflow
from tests.browser.pages import PAGES, Shown, fleet
from tests.support.native_gateway import NOW, State, view

pytestmark = pytest.mark.asyncio(loop_scope="session")

CUT = """() => {
    const inside = e => { for (; e; e = e.parentElement) if (e.matches("svg, .hide, .skip, #said, pre, .board > .cover")) return true; };
    const cut = [];
    for (const node of document.querySelectorAll("body *")) {
        // Its own texts: those of elements inside are looked at with these, and a label for screen readers is not seen.
        const texts = [...node.childNodes].filter(c => c.nodeType === 3 && c.data.trim());
        if (inside(node) || !node.checkVisibility() || !texts.length) continue;
        const range = document.createRange();
        const text = node.textContent.trim().slice(0, 60);
        for (const own of texts) {
            range.selectNode(own);
            for (const box of range.getClientRects()) if (box.left < -0.5 || box.right > innerWidth + 0.5) cut.push("out of the page: " + text);
        }
        const style = getComputedStyle(node);
        if (style.overflowX !== "visible" && node.scrollWidth > node.clientWidth + 1 && !/auto|scroll/.test(style.overflowX)) cut.push("cut: " + text);
    }
    return [...new Set(cut)];
}"""
"""The texts that are not seen whole. Names of services may be cut: their rows say them whole when one points at them."""


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("shown", PAGES, ids=str)
async def test_nothing_is_cut_at_320_px(shown: Shown, code: str) -> None:
    async with opened(shown.state(), width=320, path=shown.path, locale=code) as (page, complaints):
        await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert await overflow(page) <= 0
        assert await page.evaluate(CUT) == []
        assert complaints == [] or shown.status != 200


async def test_it_would_find_what_is_cut() -> None:
    async with opened(fleet(), width=320) as (page, _):
        # In one step: a live update may put back what was there.
        widen = (
            "const h1 = document.querySelector('h1'); h1.style.whiteSpace = 'nowrap'; h1.textContent = 'w'.repeat(60);"
        )
        assert await page.evaluate(f"() => {{ {widen} return ({CUT})(); }}") != []


async def test_another_language_is_one_link_away_and_stays() -> None:
    async with opened(fleet(), locale="pt-BR", path="/status?range=7d") as (page, _):
        assert await page.locator("h2").first.inner_text() == "Os últimos 7 dias"
        await page.get_by_role("link", name="Español").click()
        assert await page.locator("h2").first.inner_text() == "Los últimos 7 días"
        await page.get_by_role("link", name="hermes", exact=True).first.click()
        assert await page.locator("h1").inner_text() == "hermes está caído."
        assert await page.locator("html").get_attribute("lang") == "es"


async def test_the_script_speaks_the_language_of_the_page() -> None:
    state = State(past={}, services=(view("hermes", health=Health.DOWN, reason="x", since=NOW), view("madre")))
    async with opened(state, locale="es", timezone="America/Santiago") as (page, complaints):
        await page.locator("#board").press("ArrowRight")
        assert "hermes caído" in await page.locator("#read").inner_text()
        await page.locator("#board").press("ArrowLeft")
        await page.locator("#board").press("ArrowLeft")
        assert "nada fuera de lo normal" in await page.locator("#read").inner_text()
        assert await page.locator(".zoned").inner_text() == "Horas en tu zona; en UTC al señalar una."
        assert complaints == []
