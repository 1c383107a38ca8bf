"""Pages that follow by themselves, in Debian's Chromium."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, Request, Route, expect

from tentaculo.model.health import DegradedKind, Health
from tests.browser import pages
from tests.browser.chromium import opened, shared
from tests.browser.test_status_page import fleet_of
from tests.support.gateway_process import Running, running_gateway
from tests.support.native_gateway import State, view
from tests.support.waits import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")
SHOWN = 8000
"""Milliseconds within which a change must be on the page."""


@asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Page]:
    """A page of a gateway that runs as a process of its own."""
    (browser,) = shared
    context = await browser.new_context(timezone_id="America/Sao_Paulo")
    try:
        page = await context.new_page()
        await page.goto(url)
        yield page
    finally:
        await context.close()


class Service:
    """A service that can be killed and started again on its port."""

    def __init__(self) -> None:
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        async def health(request: web.Request) -> web.Response:
            return web.Response(text="ok")

        app = web.Application()
        app.router.add_get("/health", health)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()


def config(service: Service, port: int = 0) -> dict[str, object]:
    probe = {"interval": 0.2, "recheck": 0.1, "timeout": 1, "failures": 1, "successes": 1}
    return {
        "server": {"port": port},
        "services": {"madre": {"url": f"http://127.0.0.1:{service.port}", "health": "/health", "probe": probe}},
    }


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Service]:
    service = Service()
    await service.start()
    yield service
    await service.kill()


async def test_a_service_that_is_killed_and_comes_back_is_seen_on_both_pages(service: Service) -> None:
    async with running_gateway(config(service)) as gateway, browsing(f"{gateway.url}/status") as page:
        other = await page.context.new_page()
        await other.goto(f"{gateway.url}/status/services/madre")
        for one, heading in ((page, "madre is up."), (other, "madre is up.")):
            await one.bring_to_front()
            await expect(one.locator("h1")).to_have_text(heading, timeout=SHOWN)
        await service.kill()
        for one in (page, other):
            await one.bring_to_front()
            await expect(one.locator("h1")).to_have_text("madre is down.", timeout=SHOWN)
            await expect(one).to_have_title("madre is down · Tentáculo Link")
            assert "%23b3221b" in str(await one.locator("#icon").get_attribute("href"))
            await expect(one.locator("#said")).to_have_text("madre is down · Tentáculo Link")
        await service.start()
        await expect(other.locator("h1")).to_have_text("madre is up.", timeout=SHOWN)
        await page.bring_to_front()
        await expect(page.locator("h1")).to_have_text("madre is up.", timeout=SHOWN)


async def stale(page: Page, gateway: Running) -> None:
    """The gateway stops, and the page says so."""
    await expect(page.locator("h1")).to_have_text("madre is up.", timeout=SHOWN)
    title = await page.title()
    assert await gateway.stop() == 0
    # The last response may have come in the minute before this one.
    now, before = await page.evaluate("[0, 3e4].map(ago => new Date(Date.now() - ago).toTimeString().slice(0, 5))")
    since = f"No response since ({before}|{now}) GMT-3"
    await expect(page.locator("#fresh")).to_have_text(re.compile(since), timeout=SHOWN)
    await expect(page.locator("#said")).to_contain_text("No response since")
    await expect(page).to_have_title("? " + title)
    assert "%235d676d" in str(await page.locator("#icon").get_attribute("href"))
    assert await page.locator("h1").inner_text() == "madre is up.", "what was known last stays"


async def test_a_gateway_that_stopped_is_said_and_one_that_is_back_is_followed_again(service: Service) -> None:
    async with running_gateway(config(service)) as gateway, browsing(f"{gateway.url}/status") as page:
        await stale(page, gateway)
        await service.kill()
        async with running_gateway(config(service, gateway.port)):
            await expect(page.locator("h1")).to_have_text("madre is down.", timeout=35_000)
            await expect(page.locator("#fresh")).to_contain_text("As of")
            assert not await page.evaluate("document.body.matches('.stale')")
        await service.start()


async def test_a_page_of_another_version_is_loaded_once(service: Service) -> None:
    async with running_gateway(config(service)) as gateway, browsing(f"{gateway.url}/status") as page:
        await expect(page.locator("h1")).to_have_text("madre is up.", timeout=SHOWN)
        loads: list[str] = []
        page.on("load", lambda _: loads.append(page.url))
        # As if the page had come from an older version, and after the load still came from one.
        await page.evaluate("document.querySelector('style').append('/* older */')")
        await service.kill()
        await expect(page.locator("h1")).to_have_text("madre is down.", timeout=SHOWN)
        assert len(loads) == 1
        await page.evaluate("document.querySelector('style').append('/* older */')")
        await service.start()
        await expect(page.locator("h1")).to_have_text("madre is up.", timeout=SHOWN)
        assert len(loads) == 1, "two versions behind one address must not load it again and again"


async def test_only_what_changes_is_touched() -> None:
    state = fleet_of(12, 87)
    async with opened(state) as (page, complaints):
        await page.get_by_text("87 services without trouble").click()
        await page.locator("#service-service-50").scroll_into_view_if_needed()
        await page.evaluate("for (const e of document.querySelectorAll('.page *')) e.kept = true")
        await page.locator("#service-service-50 a").focus()
        await page.evaluate("getSelection().selectAllChildren(document.querySelector('#service-service-51 a'))")
        place = await page.evaluate("document.querySelector('#service-service-50').getBoundingClientRect().top")
        await page.evaluate("getSelection().collapseToEnd()")
        # The headline becomes longer, and a row appears above what is read.
        state.services = (
            *(view(f"other-{n}", health=Health.DOWN, reason="connection refused " * 8) for n in range(3)),
            *state.services,
        )
        state.clock += 60
        await page.locator("#service-other-2").wait_for(timeout=SHOWN)
        assert await page.evaluate("document.activeElement.title") == "service-50"
        assert await page.evaluate("document.querySelector('#quiet').open")
        moved = await page.evaluate("document.querySelector('#service-service-50').getBoundingClientRect().top")
        assert moved == pytest.approx(place, abs=1)
        made = await page.evaluate("[...document.querySelectorAll('.many li')].filter(e => !e.kept).length")
        assert made == 0
        assert complaints == []


async def test_a_selection_stays_and_the_title_says_what_it_holds_back() -> None:
    state = State(services=(view("madre"), view("hermes")))
    async with opened(state) as (page, complaints):
        await page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        state.services = (view("madre"), view("hermes", health=Health.DOWN, reason="connection refused"))
        state.clock += 60
        await expect(page).to_have_title("hermes is down · Tentáculo Link", timeout=SHOWN)
        assert await page.evaluate("getSelection().toString()") == "Everything is up."
        await page.evaluate("getSelection().removeAllRanges()")
        await expect(page.locator("h1")).to_have_text("hermes is down.", timeout=SHOWN)
        assert complaints == []


async def test_what_is_typed_into_the_filter_stays_and_applies_to_what_is_new() -> None:
    state = fleet_of(2, 5)
    async with opened(state) as (page, complaints):
        await page.keyboard.press("/")
        await page.keyboard.type("new")
        state.services = (*state.services, view("new-one"), view("old-one"))
        state.clock += 60
        await page.locator("#service-new-one").wait_for(timeout=SHOWN)
        await page.keyboard.type("-o")
        assert await page.locator("#filter").input_value() == "new-o"
        shown = [await one.get_attribute("data-name") for one in await page.locator("[data-name]:visible").all()]
        assert shown == ["new-one"]
        assert complaints == []


async def test_the_cursor_stays_and_reads_what_is_new() -> None:
    state = State(services=(view("madre"), view("hermes")))
    async with opened(state) as (page, _):
        await page.locator("#board").focus()
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("ArrowRight")
        assert "hermes" not in await page.locator("#read").inner_text()
        state.services = (view("madre"), view("hermes", health=Health.DEGRADED, kind=DegradedKind.SLOW))
        state.clock += 60
        await expect(page.locator("#read")).to_contain_text("hermes degraded", timeout=SHOWN)
        assert await page.evaluate("document.activeElement.id") == "board"


async def test_a_hidden_page_leaves_and_catches_up() -> None:
    state = State(services=(view("madre"),))
    async with opened(state) as (page, complaints):
        await expect(page.locator("h1")).to_have_text("madre is up.")
        while "1 of" not in repr(state.live):
            await asyncio.sleep(0.05)
        # Headless pages are never hidden by themselves.
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        changed = "document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))"
        await page.evaluate(hide % "true" + changed)
        while "0 of" not in repr(state.live):
            await asyncio.sleep(0.05)
        state.services = (view("madre", health=Health.DOWN, reason="connection refused"),)
        state.clock += 60
        await page.evaluate(hide % "false" + changed)
        await expect(page.locator("h1")).to_have_text("madre is down.", timeout=SHOWN)
        assert complaints == []


async def test_beyond_the_limit_the_page_reads_itself_anew() -> None:
    state = State(services=(view("madre"),), followers=0)
    async with opened(state) as (page, _):
        state.services = (view("madre", health=Health.DOWN, reason="connection refused"),)
        state.clock += 60
        await expect(page.locator("h1")).to_have_text("madre is down.", timeout=SHOWN)
        assert not await page.evaluate("document.body.matches('.stale')")


def followers(state: State) -> int:
    """How many windows have a stream."""
    return int(repr(state.live).split()[1])


def note_stream(streams: list[Page], window: Page, request: Request) -> None:
    """Note the window of a request for a stream."""
    if request.headers.get("accept") == "text/event-stream":
        streams.append(window)


async def test_many_windows_of_one_browser_leave_connections_for_what_is_opened_next() -> None:
    state = State(services=(view("madre"),))
    async with opened(state) as (page, complaints):
        windows = [page, *[await page.context.new_page() for _ in range(7)]]
        for window in windows[1:]:
            await window.goto(page.url)
        streams: list[Page] = []
        for window in windows:
            window.on("request", partial(note_stream, streams, window))
        # At the same moment, as a browser that is started again opens them.
        await asyncio.gather(*(window.reload() for window in windows))
        await eventually(lambda: followers(state) == 3)
        state.services = (view("madre", health=Health.DOWN, reason="connection refused"),)
        state.clock += 60
        for window in windows:
            await expect(window.locator("h1")).to_have_text("madre is down.", timeout=15_000)
            assert not await window.evaluate("document.body.matches('.stale')")
        await eventually(lambda: followers(state) == 3)
        async with asyncio.timeout(5):
            assert await page.evaluate("fetch('/livez').then(response => response.status)") == 200
        # One that had none takes the place of those that are closed.
        left = next((window for window in windows if window not in streams), streams[0])
        for window in windows:
            if window is not left:
                await window.close()
        await eventually(lambda: left in streams and followers(state) == 1)
        assert complaints == []


async def test_where_a_proxy_refuses_the_stream_the_page_is_loaded_once_and_read() -> None:
    state = State(services=(view("madre"),))
    async with opened(state) as (page, _):
        loads: list[str] = []
        # A page whose stream is refused before it is left would be the one that is loaded once.
        address = page.url
        await page.goto("about:blank")
        # Not the loads that have ended: the script may load the page again before.
        page.on("request", lambda one: loads.append(one.url) if one.is_navigation_request() else None)

        async def refuse(route: Route) -> None:
            if route.request.headers.get("accept") == "text/event-stream":
                await route.fulfill(status=403, body="no streams here")
            else:
                await route.fallback()

        await page.route("**/status", refuse)
        await page.goto(address)
        await expect(page.locator("h1")).to_have_text("madre is up.")
        state.services = (view("madre", health=Health.DOWN, reason="connection refused"),)
        state.clock += 60
        await expect(page.locator("h1")).to_have_text("madre is down.", timeout=SHOWN)
        assert len(loads) == 2, "the one above, and the one for the case that the sign-in has ended"


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("/status", pages.signed_in),
        ("/status/services/hermes", pages.signed_in),
        ("/status/incidents", pages.with_incidents),
        (f"/status/incidents/{pages.OPEN_INCIDENT}", pages.with_incidents),
        ("/status/events?range=3h", pages.connected),
    ],
)
async def test_every_page_follows(path: str, state: Callable[[], State]) -> None:
    served = state()
    async with opened(served, path=path) as (page, complaints):
        await page.evaluate("for (const e of document.querySelectorAll('[id]')) e.kept = true")
        await expect(page.locator("#fresh")).to_contain_text("15:09")
        served.now += timedelta(minutes=1)
        served.clock += 60
        await expect(page.locator("#fresh")).to_contain_text("15:10", timeout=SHOWN)
        made = await page.evaluate("[...document.querySelectorAll('[id]')].filter(e => !e.kept).map(e => e.id)")
        assert made == [], "elements with an id stay the same elements"
        assert complaints == []


async def test_what_is_connected_with_a_focused_event_stays_marked() -> None:
    state = pages.connected()
    async with opened(state, path="/status/events?range=3h") as (page, _):
        await page.locator("[data-group] a, a[data-group]").first.focus()
        marked = await page.evaluate("[...document.querySelectorAll('.lit')].length")
        assert marked > 1
        state.now += timedelta(minutes=1)
        state.clock += 60
        await expect(page.locator("#fresh")).to_contain_text("15:10", timeout=SHOWN)
        assert await page.evaluate("[...document.querySelectorAll('.lit')].length") == marked


async def test_a_page_whose_sign_in_ends_elsewhere_leads_to_the_form() -> None:
    async with (
        running_gateway({"auth": {"open_status": False}}) as gateway,
        browsing(f"{gateway.url}/status/sign-in") as page,
    ):
        await page.fill("input[name=token]", gateway.token)
        await page.click("button")
        await expect(page.locator("#fresh")).to_contain_text("As of")
        other = await page.context.new_page()
        await other.goto(f"{gateway.url}/status")
        await other.get_by_role("button", name="Sign out").click()
        await page.bring_to_front()
        await page.wait_for_url("**/status/sign-in*", timeout=SHOWN)


async def test_the_page_of_an_incident_says_by_itself_that_it_is_over(service: Service) -> None:
    async with running_gateway(config(service)) as gateway, browsing(f"{gateway.url}/status/incidents") as page:
        await service.kill()
        opened_now = page.get_by_role("link", name="madre is down")
        await expect(opened_now).to_be_visible(timeout=SHOWN)
        await opened_now.click()
        await expect(page.locator("h1")).to_have_text("madre is down.")
        await page.evaluate("document.body.marked = true")
        await service.start()
        await expect(page.locator("h1")).to_have_text("madre was down.", timeout=SHOWN)
        assert await page.evaluate("document.body.marked"), "the page was not loaded again"
        await expect(page).to_have_title("madre was down · Tentáculo Link")
