"""Debian's Chromium: one for all tests of a run, and a context of its own for each page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from playwright.async_api import Browser, Page, async_playwright

from tests.support.native_gateway import State, running
from tests.support.needs import need

# The shell has the same engine without windows. A page costs it a quarter of the time: Chromium fills a window for each.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
NEEDED = "Chromium (Debian: chromium-headless-shell)"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

_FAINT = """() => {
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

shared: list[Browser] = []
"""The one of this run, which `conftest.py` starts. A start takes two seconds."""


@asynccontextmanager
async def started() -> AsyncIterator[Browser]:
    """A browser. The test is skipped where Chromium is not installed."""
    need(CHROMIUM, NEEDED)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    state: State,
    *,
    width: int = 1280,
    scheme: Literal["light", "dark"] = "light",
    javascript: bool = True,
    path: str = "/status",
    timezone: str = "UTC",
    **options: Any,
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, and everything that the browser complained of. `options` are those of Playwright's `new_context`.

    The module of the test has `pytestmark = pytest.mark.asyncio(loop_scope="session")`: the browser belongs to that loop.
    """
    need(CHROMIUM, NEEDED)
    (browser,) = shared
    async with running(state) as gateway:
        context = await browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme=scheme,
            java_script_enabled=javascript,
            timezone_id=timezone,
            **options,
        )
        try:
            page = await context.new_page()
            complaints = complaints_of(page)
            await page.goto(f"http://{gateway.host}:{gateway.port}{path}")
            yield page, complaints
        finally:
            await context.close()


def complaints_of(page: Page) -> list[str]:
    """What the browser complains of from now on: violations of the policy, errors of scripts, responses with an error."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


async def overflow(page: Page) -> Any:
    """By how many pixels the page is wider than its window."""
    return await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


async def faint_texts(page: Page) -> Any:
    """The texts with a contrast below 4.5 to 1 (WCAG AA), measured on what the browser computed."""
    return await page.evaluate(_FAINT)
