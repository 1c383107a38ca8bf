"""A page in a real browser that subscribes with tickets, loses its connection, and resumes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from playwright.async_api import Page

from tests.browser import chromium
from tests.conftest import TOKEN, living
from tests.events.test_history import available
from tests.events.test_two_gateways import produce, url_of
from tests.support.databases import sqlite
from tests.support.waits import free_port

# The ten lines of docs/events.md, and a list of what they show.
LISTEN = """async token => {
    window.seen = [];
    let since = "";
    async function listen(types, show) {
      const headers = {"X-VX11-Token": token};
      const {ticket} = await (await fetch("/auth/ticket", {method: "POST", headers})).json();
      const source = new EventSource(`/events/stream?ticket=${ticket}&type=${types}&since=${since}`);
      const take = event => { since = event.lastEventId; show(JSON.parse(event.data)); };
      for (const type of types) source.addEventListener(type, take);
      for (const own of ["start", "reset"]) source.addEventListener(own, event => { since = event.lastEventId; });
      source.onopen = () => { window.opened = (window.opened || 0) + 1; };
      source.onerror = () => { source.close(); retry(types, show); };
    }
    // A gateway that is away refuses the ticket too.
    const retry = (...args) => setTimeout(() => listen(...args).catch(() => retry(...args)), 100);
    await listen(["t", "u"], event => window.seen.push(event.event_id));
}"""


async def until(page: Page, expression: str) -> None:
    """Wait until the expression is true. The policy of the page does not allow Playwright's own wait."""
    async with asyncio.timeout(30):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


async def test_a_page_loses_its_connection_and_resumes_without_a_gap(file: Path, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"database": {"url": sqlite(file)}, "server": {"port": free_port(), "grace": 1}}
    async with chromium.started() as browser, ClientSession(headers={"X-VX11-Token": TOKEN}) as session:
        async with living(tmp_path, {}, **sections) as live:
            await available(live)
            page = await browser.new_page()
            await page.goto(f"{url_of(live)}/status")
            await page.evaluate(LISTEN, TOKEN)
            await until(page, "window.opened === 1")
            ids = await produce(session, live, 30, broadcast=False)
            await until(page, "window.seen.length === 30")
        # The page is away while these are stored by another gateway on the same database.
        async with living(tmp_path, {}, database=sections["database"]) as other:
            await available(other)
            ids += await produce(session, other, 300, broadcast=False)
        async with living(tmp_path, {}, **sections) as live:
            await until(page, "window.opened === 2")
            ids += await produce(session, live, 30, broadcast=False)
            await until(page, "window.seen.length >= 360")
            assert await page.evaluate("window.seen") == ids
