"""The exported pages in a real browser, opened from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentaculo.cli.static_page import Notice, static_page
from tentaculo.cli.status_export import file_of
from tests.browser import chromium
from tests.browser.pages import fleet, signed_in
from tests.support.native_gateway import running
from tests.support.needs import need

pytestmark = pytest.mark.asyncio(loop_scope="session")

AWAY = Notice("The gateway does not respond.", "It last ran at 2026-03-14 15:09 UTC. " * 3, "data:,")


@pytest.mark.parametrize("path", ["/status", "/status/services/hermes", "/status/incidents", "/status/events"])
async def test_a_file_looks_as_the_page_does(path: str, tmp_path: Path) -> None:
    need(chromium.CHROMIUM, chromium.NEEDED)
    state = signed_in() if "hermes" in path else fleet()
    async with running(state) as gateway, gateway.client.get(path) as answer:
        text, _ = static_page(await answer.text(), path, path.count("/") - 1, file_of, AWAY)
    file = tmp_path / "page.html"
    file.write_text(text, "utf-8")
    (browser,) = chromium.shared
    context = await browser.new_context()
    try:
        page = await context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        await page.goto(file.as_uri())
        for width in (320, 1280):
            await page.set_viewport_size({"width": width, "height": 844})
            assert await chromium.overflow(page) <= 0
        assert complaints == [], "its policy allows its style"
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(247, 247, 245)"
        assert await chromium.faint_texts(page) == []
        assert await page.locator("h1").all_inner_texts() == [AWAY.headline]
        assert await page.locator("form, button, input").count() == 0
    finally:
        await context.close()
