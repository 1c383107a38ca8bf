"""Writes the pictures of the status pages in docs/: `python -m tests.browser.screenshots`. It needs Debian's chromium."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.browser import chromium
from tests.browser.pages import OPEN_INCIDENT, connected, signed_in
from tests.support.native_gateway import running

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = {
    "status.png": (signed_in, "/status", 1130),
    "incident.png": (signed_in, f"/status/incidents/{OPEN_INCIDENT}", 1130),
    "events.png": (connected, "/status/events?range=3h", 900),
}
"""For each file what the gateway knows, the path, and the height of the window in pixels."""


async def main() -> None:
    async with chromium.started() as browser:
        for name, (state, path, height) in PICTURES.items():
            async with running(state()) as gateway:
                page = await browser.new_page(viewport={"width": 1280, "height": height})
                await page.goto(f"http://{gateway.host}:{gateway.port}{path}")
                await page.screenshot(path=DOCS / name)


if __name__ == "__main__":
    asyncio.run(main())
