"""The status page in a real browser, Debian's Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import pytest
from playwright.async_api import Page, async_playwright

from tentaculo.model.incident import MaintenanceWindow, Note
from tests.support.native_gateway import NOW, State, event, running, view
from tests.support.needs import need
from tests.web.test_incidents import HERMES, MCP

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
MARKUP = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.fixture
def state() -> State:
    """A fleet in every state, with long words and with markup in what services send."""
    held = State()
    held.services += (view("a-service-with-quite-a-long-name-" + "x" * 60, 9001, snippet="y" * 200),)
    held.services += (view("hostile", 9002, snippet=MARKUP),)
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


@asynccontextmanager
async def opened(
    state: State,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    javascript: bool = True,
    path: str = "/status",
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, and everything that the browser complained of."""
    need(CHROMIUM, "Chromium (Debian: chromium)")
    async with running(state) as gateway, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            context = await browser.new_context(
                viewport={"width": width, "height": 844}, color_scheme=scheme, java_script_enabled=javascript
            )
            page = await context.new_page()
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(f"http://{gateway.host}:{gateway.port}{path}")
            yield page, complaints
        finally:
            await browser.close()


async def overflow(page: Page) -> Any:
    return await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.parametrize("width", [360, 390, 768, 1019, 1021, 1280])
async def test_nothing_runs_out_of_the_page(state: State, width: int) -> None:
    async with opened(state, width=width) as (page, complaints):
        assert await overflow(page) <= 0
        cut_off = await page.evaluate(
            """() => [...document.querySelectorAll("tbody th, tbody td, h1, .hero li, .duty li, .duty p")].filter(e =>
                   e.getBoundingClientRect().right > innerWidth + 0.5 || (e.offsetParent && e.clientWidth === 0)).length"""
        )
        assert cut_off == 0
        assert complaints == []


async def test_rows_become_cards_on_a_phone(state: State) -> None:
    async with opened(state, width=390) as (page, _):
        assert not await page.locator("thead").first.is_visible()
        row = page.locator("#service-2")
        box = await row.bounding_box()
        assert box is not None
        assert box["width"] > 330
        text = await row.inner_text()
        assert "hermes" in text
        assert "Down" in text
        assert "connection refused" in text
        labels = await row.locator("td[data-label]").evaluate_all(
            "cells => cells.map(cell => getComputedStyle(cell, '::before').content)"
        )
        assert labels == ['"Port"', '"Latency"', '"Last check"', '"Endpoint"', '"Breaker"']
        sizes = await row.locator("th, td").evaluate_all(
            "cells => cells.map(c => parseFloat(getComputedStyle(c).fontSize))"
        )
        assert min(sizes) >= 14
        roles = await page.locator("table[role=table] [role=row] [role=rowheader]").count()
        assert roles == len(state.services) + 2 + len(state.events)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_contrast_enough(state: State, scheme: Literal["light", "dark"]) -> None:
    """WCAG AA: 4.5 to 1, measured on what the browser computed."""
    async with opened(state, scheme=scheme) as (page, _):
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
        assert level < 120 if scheme == "dark" else level > 700
        faint = await page.evaluate(
            """() => {
                const parts = colour => colour.match(/[\\d.]+/g).map(Number);
                const light = colour => { const [r, g, b] = parts(colour).map(v => v / 255)
                    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
                const behind = node => { for (; node; node = node.parentElement) {
                    const colour = getComputedStyle(node).backgroundColor;
                    if ((parts(colour)[3] ?? 1) > 0) return colour; } };
                const seen = [];
                for (const node of document.querySelectorAll("body *")) {
                    if (["STYLE", "SCRIPT"].includes(node.tagName) || !node.getClientRects().length) continue;
                    if (![...node.childNodes].some(c => c.nodeType === 3 && c.data.trim())) continue;
                    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
                    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                    if (ratio < 4.5) seen.push(node.className + " " + node.textContent.trim().slice(0, 30) + " " + ratio);
                }
                return seen;
            }"""
        )
        assert faint == []


async def test_it_works_without_javascript(state: State) -> None:
    async with opened(state, javascript=False) as (page, complaints):
        assert await page.locator("h1").inner_text() == "4 of 8 services are healthy."
        assert await page.locator("tbody tr").count() == len(state.services) + 2 + len(state.events)
        assert await page.locator('meta[http-equiv="refresh"]').get_attribute("content") == "10"
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
        await page.get_by_role("link", name="hermes").focus()
        state.services = (view("madre"), view("switch"), state.services[2])
        state.clock += 10
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.get_by_role("heading", name="2 of 3 services are healthy.").wait_for(timeout=5000)
        assert await page.title() == "2 of 3 services are healthy · Tentáculo Link"
        assert await page.evaluate("document.activeElement.textContent") == "hermes"
        assert complaints == []


async def test_a_gateway_that_stopped_answering_is_said(state: State) -> None:
    async with opened(state) as (page, _):
        assert not await page.locator("#stale").is_visible()
        await page.context.set_offline(True)
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.locator("#stale").wait_for(state="visible", timeout=5000)
        assert "What you see here is from 15:09:26 UTC." in await page.locator("#stale").inner_text()
        await page.context.set_offline(False)
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await page.locator("#stale").wait_for(state="hidden", timeout=5000)


async def test_what_services_send_stays_text(state: State) -> None:
    async with opened(state) as (page, complaints):
        assert await page.title() == "4 of 8 services are healthy · Tentáculo Link"
        assert await page.locator("img").count() == 0
        assert "<script>document.title" in await page.locator("#service-8").inner_text()
        assert complaints == []


@pytest.mark.parametrize("width", [360, 1280])
async def test_an_error_is_a_page_for_people(state: State, width: int) -> None:
    async with opened(state, width=width, path="/no/such/path") as (page, complaints):
        assert await page.locator("h1").inner_text() == "Nothing is served at this path."
        assert await overflow(page) <= 0
        assert not [said for said in complaints if "404" not in said]
