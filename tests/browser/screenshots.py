"""Writes the picture of the status page in docs/: `python -m tests.browser.screenshots`. It needs Debian's chromium."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.browser import chromium
from tests.browser.pages import fleet
from tests.support.native_gateway import running

DOCS = Path(__file__).resolve().parents[2] / "docs"


async def main() -> None:
    async with running(fleet()) as gateway, chromium.started() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 1130})
        await page.goto(f"http://{gateway.host}:{gateway.port}/status")
        await page.screenshot(path=DOCS / "status.png")


if __name__ == "__main__":
    asyncio.run(main())
