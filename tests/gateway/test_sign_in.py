"""Signing in to the status pages with a browser's requests, on real sockets: what the cookie opens, and what it does not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import text

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.security import sign_in
from tentaculo.store import worker_thread
from tests.conftest import TOKEN, Live, Start
from tests.support.databases import sqlite
from tests.support.deployments import Deployment
from tests.support.gateway_process import TOKEN as PROCESS_TOKEN
from tests.support.native_routes import native_routes
from tests.support.runtime_tables import opened
from tests.support.wire import WEBSOCKET, Response, dial

HTML = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8"
PRIVATE = {"open_status": False}


@dataclass
class Browser:
    """Sends requests as a browser does: with its cookies, and with the Origin of the page that a form is on."""

    port: int
    host: str = "localhost"
    origin: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookie: list[str] = field(default_factory=list)
    extra: tuple[bytes, ...] = ()

    async def ask(self, target: str, *lines: bytes, method: str = "GET", body: bytes = b"") -> Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *([f"Cookie: {cookie}"] if cookie else [])]
        if method == "POST":
            head.append(f"Content-Length: {len(body)}")
        raw = b"".join(line + b"\r\n" for line in [*(line.encode() for line in head), *lines, *self.extra])
        async with dial(self.port) as wire:
            await wire.send(raw + b"\r\n" + body)
            response = await (wire.head() if b"Upgrade: websocket" in lines else wire.response(method))
        self.set_cookie = response.all("set-cookie")
        for one in self.set_cookie:
            name, _, value = one.partition(";")[0].partition("=")
            if value.strip('"'):
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return response

    async def send(self, path: str, **fields: str) -> Response:
        """Send a form of a page of its own."""
        origin = self.origin or f"http://{self.host}"
        lines = (b"Content-Type: application/x-www-form-urlencoded", f"Origin: {origin}".encode(), HTML)
        return await self.ask(path, *lines, method="POST", body=urlencode(fields).encode())

    async def sign_in(self, token: str = TOKEN, **fields: str) -> Response:
        return await self.send("/status/sign-in", token=token, **fields)

    async def entered(self, wanted: str) -> tuple[int, str | None]:
        """Where a sign-in leads that is to lead to `wanted`."""
        done = await self.sign_in(next=wanted)
        assert done.status == 303
        return where(await self.ask(done.get("location") or "", HTML))

    async def form_token(self) -> str:
        """That of the page."""
        page = await self.ask("/status/sign-in", HTML)
        found = re.search(r'name="form" value="(\w+)"', page.body.decode())
        assert found is not None
        return found[1]

    async def sign_out(self) -> Response:
        return await self.send("/status/sign-out", form=await self.form_token())


def where(response: Response) -> tuple[int, str | None]:
    return response.status, response.get("location")


@pytest.fixture
async def private(start: Start, file: Path) -> Live:
    """A gateway whose pages are not public."""
    return await start({}, auth=PRIVATE, database={"url": sqlite(file), "auto_upgrade": False})


async def test_a_browser_signs_in_and_out_again(private: Live) -> None:
    browser = Browser(private.port)
    opened_first = await browser.ask("/status?range=24h", HTML)
    assert where(opened_first) == (303, "/status/sign-in?next=/status%3Frange%3D24h")
    form = await browser.ask(opened_first.get("location") or "", HTML)
    assert form.status == 200
    assert b'name="next" value="/status?range=24h"' in form.body
    assert b"max-age" not in (form.get("cache-control") or "").encode()
    entered = await browser.sign_in(next="/status?range=24h")
    (cookie,) = browser.set_cookie
    assert where(entered) == (303, "/status/sign-in?said=in&next=/status?range%3D24h")
    assert where(await browser.ask(entered.get("location") or "", HTML)) == (303, "/status?range=24h")
    assert re.fullmatch(r"tentaculo_session=[\w-]{43}; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax", cookie)
    assert TOKEN not in cookie
    page = await browser.ask("/status?range=24h", HTML)
    assert (page.status, page.get("cache-control")) == (200, "no-store")
    assert page.get("etag"), "the version from which its stream begins"
    assert page.get("referrer-policy") == "same-origin", "with no-referrer a form has the Origin null"
    assert b"Sign out" in page.body
    before = dict(browser.cookies)
    assert where(await browser.sign_out()) == (303, "/status/sign-in?said=out")
    assert browser.cookies == {}
    browser.cookies = before
    assert (await browser.ask("/status", HTML)).status == 303, "the session has ended, not only the cookie"


async def test_only_a_browser_is_led_to_the_form(private: Live) -> None:
    browser = Browser(private.port)
    assert (await browser.ask("/status")).status == 401
    assert (await browser.ask("/status", b"Accept: application/json")).status == 401
    assert (await browser.ask("/vx11/incidents", HTML)).status == 401
    assert (await browser.ask("/status", HTML, b"X-VX11-Token: wrong")).status == 403
    assert (await browser.ask("/status", HTML, method="HEAD")).status == 303
    assert (await browser.ask("/status", HTML, f"X-VX11-Token: {TOKEN}".encode())).status == 200


async def test_a_wrong_token_and_a_broken_form(private: Live) -> None:
    browser = Browser(private.port)
    refused = await browser.sign_in("wrong", next="/status?range=7d")
    assert (refused.status, browser.cookies) == (403, {})
    assert b"does not accept the token" in refused.body
    assert b'value="/status?range=7d"' in refused.body
    assert b"wrong" not in refused.body.replace(b"was wrong", b"")
    origin = b"Origin: http://localhost"
    for lines, body, status in (
        ((origin, b"Content-Type: application/json"), b"{}", 415),
        ((origin, b"Content-Type: application/x-www-form-urlencoded"), b"a=" + b"x" * 20_000, 413),
        ((origin, b"Content-Type: application/x-www-form-urlencoded"), b"token=%ff", 400),
        ((origin, b"Content-Type: application/x-www-form-urlencoded"), b"&".join([b"a=b"] * 200), 400),
        ((origin, b"Content-Type: application/x-www-form-urlencoded"), b"", 403),
    ):
        assert (await browser.ask("/status/sign-in", *lines, method="POST", body=body)).status == status


@pytest.mark.thorough
@pytest.mark.parametrize(
    "wanted",
    [
        *("https://evil.example", "//evil.example", "/\\evil.example", "/status//evil.example", "/status/../x"),
        *("/status\r\nX: y", "/events", "javascript:alert(1)", "/statusx", "/status/sign-out", "/status?" + "a" * 600),
        *('/status?"><script>', "", "/status/services/a/..%2f"),
    ],
)
async def test_a_sign_in_leads_to_pages_of_this_gateway_only(private: Live, wanted: str) -> None:
    browser = Browser(private.port)
    form = await browser.ask("/status/sign-in?" + urlencode({"next": wanted}), HTML)
    assert unescape(re.findall(r'name="next" value="([^"]*)"', form.body.decode())[0]) == "/status"
    assert await browser.entered(wanted) == (303, "/status")


@pytest.mark.parametrize(
    "wanted", ["/status/services/madre-2?range=7d", "/status/incidents/12", "/status?filter=a%20b"]
)
async def test_it_leads_back_to_the_page_that_was_wanted(private: Live, wanted: str) -> None:
    assert await Browser(private.port).entered(wanted) == (303, wanted)


async def test_a_sign_in_without_cookies_says_so(private: Live) -> None:
    browser = Browser(private.port)
    entered = await browser.sign_in(next="/status?range=7d")
    kept, browser.cookies = browser.cookies, {}
    form = await browser.ask(entered.get("location") or "", HTML)
    assert form.status == 200
    assert b"The browser did not keep the cookie of the sign-in." in form.body
    assert b'name="next" value="/status?range=7d"' in form.body
    browser.cookies = dict.fromkeys(kept, "x" * 43)
    ended = await browser.ask(entered.get("location") or "", HTML)
    assert (ended.status, b"did not keep" in ended.body) == (200, False), "it has kept one"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ([b"Origin: http://localhost"], 303),
        ([b"Sec-Fetch-Site: same-origin"], 303),
        ([b"Origin: http://evil.example"], 403),
        ([b"Origin: null"], 403),
        # Another port is another origin, though it is the same site. One that is listed for CORS counts no more here.
        ([b"Origin: http://localhost:8020"], 403),
        ([b"Origin: http://localhost", b"Sec-Fetch-Site: same-site"], 403),
        ([b"Sec-Fetch-Site: cross-site"], 403),
        ([b"Sec-Fetch-Site: none"], 403),
        ([], 403),
    ],
)
async def test_a_form_is_taken_from_an_own_page_only(private: Live, origin: list[bytes], status: int) -> None:
    browser = Browser(private.port)
    lines = (b"Content-Type: application/x-www-form-urlencoded", *origin)
    body = urlencode({"token": TOKEN}).encode()
    assert (await browser.ask("/status/sign-in", *lines, method="POST", body=body)).status == status
    assert bool(browser.cookies) == (status == 303)


async def test_signing_out_needs_the_form_token_of_the_session(private: Live) -> None:
    browser, other = Browser(private.port), Browser(private.port)
    await browser.sign_in()
    await other.sign_in()
    for forged in ("", "x", "é", await other.form_token()):
        assert (await browser.send("/status/sign-out", form=forged)).status == 403
    assert (await browser.ask("/status", HTML)).status == 200
    browser.cookies = {}
    assert where(await browser.send("/status/sign-out", form="x")) == (303, "/status/sign-in?next=/status")


async def test_signing_in_again_ends_the_session_before(private: Live) -> None:
    browser = Browser(private.port)
    await browser.sign_in()
    before = dict(browser.cookies)
    await browser.sign_in()
    assert browser.cookies != before
    browser.cookies = before
    assert (await browser.ask("/status", HTML)).status == 303


class TestBehindTls:
    """A proxy that ends TLS says so, and is trusted."""

    @pytest.fixture
    async def live(self, start: Start, file: Path) -> Live:
        return await start(
            {},
            auth=PRIVATE,
            server={"port": 0, "trusted_proxies": ["127.0.0.1"]},
            database={"url": sqlite(file), "auto_upgrade": False},
        )

    async def test_the_cookie_is_bound_to_the_host_and_to_tls(self, live: Live) -> None:
        browser = Browser(live.port, extra=(b"X-Forwarded-Proto: https", b"X-Forwarded-Host: gate.example"))
        browser.origin = "https://gate.example"
        assert (await browser.sign_in()).status == 303
        assert list(browser.cookies) == ["__Host-tentaculo_session"]
        assert browser.set_cookie[0].endswith("; Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure")
        assert (await browser.ask("/status", HTML)).status == 200
        # A page that was not encrypted is another origin, and the cookie without the prefix counts no more.
        browser.origin = "http://gate.example"
        assert (await browser.sign_in()).status == 403
        browser.cookies = {"tentaculo_session": browser.cookies["__Host-tentaculo_session"]}
        assert (await browser.ask("/status", HTML)).status == 303

    async def test_failed_attempts_are_those_of_the_client_before_the_proxies(self, live: Live) -> None:
        client, other = [
            Browser(live.port, extra=(f"X-Forwarded-For: 6.6.6.6, {chain}".encode(),))
            for chain in ("10.0.0.1, 127.0.0.1", "10.0.0.2")
        ]
        for _ in range(sign_in.MOST_FAILURES):
            assert (await client.sign_in("wrong")).status == 403
        limited = await client.sign_in()
        assert (limited.status, int(limited.get("retry-after") or 0) in range(1, 61)) == (429, True)
        assert b"Try again in 1 minute." in limited.body
        assert (await other.sign_in()).status == 303


async def test_failed_attempts_are_limited_and_no_token_helps(private: Live) -> None:
    browser = Browser(private.port)
    for _ in range(sign_in.MOST_FAILURES):
        assert (await browser.sign_in("wrong")).status == 403
    # Who is not trusted names no other address.
    browser.extra = (b"X-Forwarded-For: 10.0.0.9",)
    assert (await browser.sign_in()).status == 429
    assert browser.cookies == {}


def websocket_status(origin: bytes | None) -> tuple[bytes, ...]:
    return (*WEBSOCKET, *([b"Origin: " + origin] if origin else []))


async def test_what_the_cookie_opens(private: Live) -> None:
    browser = Browser(private.port)
    await browser.sign_in()
    for path in ("/status", "/events", "/vx11/incidents", "/vx11/maintenance", "/debug/events/correlations"):
        assert (await browser.ask(path)).status == 200, path
        assert (await browser.ask(path, b"Sec-Fetch-Site: same-origin")).status == 200, path
    assert (await browser.ask("/ws", *websocket_status(b"http://localhost"))).status == 101
    assert (await browser.ask("/ws", *WEBSOCKET, b"Sec-Fetch-Site: same-origin")).status == 101
    # A link in a chat leads to a page, and to nothing else.
    link = (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: navigate")
    assert (await browser.ask("/status", *link)).status == 200
    assert (await browser.ask("/events", *link)).status == 401


@pytest.mark.thorough
@pytest.mark.parametrize(
    "lines",
    [
        (b"Origin: http://evil.example",),
        (b"Origin: http://localhost:8020",),
        (b"Origin: null",),
        (b"Sec-Fetch-Site: same-site", b"Sec-Fetch-Mode: cors"),
        (b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Mode: no-cors"),
    ],
)
async def test_a_page_of_another_origin_gets_nothing_by_the_cookie(private: Live, lines: tuple[bytes, ...]) -> None:
    browser = Browser(private.port)
    await browser.sign_in()
    for path in ("/status", "/events", "/events/stream", "/vx11/incidents"):
        assert (await browser.ask(path, *lines)).status == 401, path
    assert (await browser.ask("/ws", *WEBSOCKET, *lines)).status == 401


async def test_a_web_socket_without_an_origin_has_no_use_for_the_cookie(private: Live) -> None:
    browser = Browser(private.port)
    await browser.sign_in()
    assert (await browser.ask("/ws", *WEBSOCKET)).status == 401


@pytest.mark.thorough
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_streams_end_with_the_session_that_opened_them(start: Start, file: Path, *, elsewhere: bool) -> None:
    one, other = [
        await start({}, auth=PRIVATE, database={"url": sqlite(file), "auto_upgrade": False}) for _ in range(2)
    ]
    browser = Browser(one.port)
    await browser.sign_in()
    lines = (f"Cookie: tentaculo_session={browser.cookies['tentaculo_session']}".encode(), b"Origin: http://localhost")
    head = b"Host: localhost\r\n" + b"".join(line + b"\r\n" for line in lines)
    async with dial(one.port) as stream, dial(one.port) as socket:
        await stream.send(b"GET /events/stream HTTP/1.1\r\n" + head + b"\r\n")
        assert (await stream.head()).status == 200
        await stream.reader.readuntil(b"event: start")
        await socket.send(b"GET /ws HTTP/1.1\r\n" + head + b"".join(line + b"\r\n" for line in WEBSOCKET) + b"\r\n")
        assert (await socket.head()).status == 101
        await socket.reader.readuntil(b"connected")
        assert (await Browser(other.port if elsewhere else one.port, cookies=browser.cookies).sign_out()).status == 303
        await stream.reader.readuntil(b'event: end\ndata: {"reason":"the sign-in has ended"}')
        await socket.reader.readuntil(b"\x03\xf0the sign-in has ended")  # 1008


READABLE = {"/events", "/events/stream", "/ws", "/vx11/incidents", "/vx11/maintenance", "/debug/events/correlations"}


async def test_it_opens_no_other_path_and_changes_nothing(private: Live) -> None:
    """Every native route but those of the list, with every method: an administration API is none of them."""
    browser = Browser(private.port)
    await browser.sign_in()
    auth = AuthSettings(open_status=False)
    tried = 0
    for route in native_routes(private.gateway.config):
        method, path = route.method, route.path
        written = re.sub(r"\{\w+\}", "7", path)
        is_page = path.startswith("/status")
        is_read = method in ("GET", "HEAD") and (
            path in READABLE or path.startswith(("/vx11/incidents/", "/vx11/history/"))
        )
        if auth.opens(route.access) or is_page or is_read:
            continue
        response = await browser.ask(written, b"Origin: http://localhost", method=method)
        assert response.status == 401, (method, path)
        tried += 1
    assert tried > 10


async def test_a_token_in_a_header_counts_more_than_the_cookie(private: Live) -> None:
    browser = Browser(private.port)
    await browser.sign_in()
    assert (await browser.ask("/status", b"X-VX11-Token: wrong")).status == 403


async def test_a_public_page_shows_more_to_who_has_signed_in(start: Start, file: Path) -> None:
    live = await start({"madre": {"url": "http://10.9.8.7:1"}}, database={"url": sqlite(file), "auto_upgrade": False})
    browser = Browser(live.port)
    path = "/status/services/madre"
    assert b"10.9.8.7" not in (await browser.ask(path)).body
    await browser.sign_in()
    signed_in = await browser.ask(path)
    assert b"10.9.8.7" in signed_in.body
    assert b"10.9.8.7" not in (await Browser(live.port).ask(path)).body, "nobody gets the page of another viewer"
    # A cookie that no longer counts makes a public page no worse.
    browser.cookies = {"tentaculo_session": "a" * 43}
    assert (await browser.ask(path)).status == 200


async def test_without_tokens_nobody_needs_to_sign_in(start: Start) -> None:
    live = await start({}, auth={"enabled": False, "open_status": False})
    browser = Browser(live.port)
    assert (await browser.ask("/status", HTML)).status == 200
    assert b"No sign-in is needed." in (await browser.ask("/status/sign-in", HTML)).body
    for path in ("/status", "/status?as=public", "/status/events?as=public", "/status/incidents"):
        page = (await browser.ask(path, HTML)).body.lower()
        assert b"<h1>" in page
        assert b"sign in" not in page, f"{path}: there is nothing to sign in to"
        assert b"sign-in" not in page
    assert where(await browser.sign_in("anything")) == (303, "/status")
    assert browser.cookies == {}


@pytest.mark.thorough
async def test_while_the_database_is_away_nobody_signs_in_but_who_has_stays(
    start: Start, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 0.05)
    one, other = [
        await start({}, auth=PRIVATE, database={"url": sqlite(file), "auto_upgrade": False}) for _ in range(2)
    ]
    browser = Browser(one.port)
    await browser.sign_in()
    assert (await browser.ask("/status", HTML)).status == 200
    with opened(sqlite(file)) as connection:
        connection.execute(text("ALTER TABLE tentaculo_sessions RENAME TO away"))
    assert (await browser.ask("/status", HTML)).status == 200
    stranger = await Browser(other.port, cookies=dict(browser.cookies)).ask("/status")
    assert stranger.status == 503
    assert b"The database cannot be read, so that this sign-in cannot be checked now." in stranger.body
    refused = await Browser(other.port).sign_in()
    assert (refused.status, b"The database cannot be reached" in refused.body) == (503, True)
    cookies = dict(browser.cookies)
    assert where(await browser.sign_out()) == (303, "/status/sign-in?said=late")
    with opened(sqlite(file)) as connection:
        connection.execute(text("ALTER TABLE away RENAME TO tentaculo_sessions"))
    gone = Browser(other.port, cookies=cookies)

    async def is_gone() -> bool:
        return (await gone.ask("/status", HTML)).status == 303

    await until(is_gone)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that takes a request."""
    while not await holds():
        await asyncio.sleep(0.05)


async def test_a_session_holds_on_every_worker_and_machine_and_ends_everywhere(deployment: Deployment) -> None:
    ports = [int(url.rpartition(":")[2]) for url in deployment.urls]
    browser = Browser(ports[0], host="127.0.0.1")
    browser.origin = "http://127.0.0.1"
    assert (await browser.sign_in(PROCESS_TOKEN)).status == 303
    cookies = dict(browser.cookies)
    for port in ports * 8:
        assert (await Browser(port, cookies=cookies).ask("/events")).status == 200
    assert (await browser.sign_out()).status == 303
    for port in ports:
        gone = Browser(port, cookies=cookies)

        async def is_gone(gone: Browser = gone) -> bool:
            # Of several workers any one takes a request.
            return [(await gone.ask("/events")).status for _ in range(8)] == [401] * 8

        await until(is_gone)
