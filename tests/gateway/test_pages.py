"""The status pages of a whole gateway: who follows them, when it stops and when a session ends."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from sqlalchemy import text

from tentaculo.config.schema import Config
from tentaculo.gateway.pages import page_info
from tentaculo.gateway.precursor_reports import PrecursorReports
from tentaculo.model.page import PageInfo
from tentaculo.tasks import TaskGroup
from tentaculo.web.documents import Document
from tests.conftest import TOKEN, Start
from tests.gateway.test_actions import broken, incident_of, signed_in
from tests.gateway.test_gateway import entered, leaving, port_of, services
from tests.gateway.test_sign_in import Browser
from tests.support.databases import sqlite
from tests.support.reloading import serving
from tests.support.runtime_tables import opened
from tests.support.waits import eventually
from tests.support.wire import dial
from tests.web.test_status_page import words


async def test_a_stop_ends_the_streams_of_the_pages_at_once(tmp_path: Path) -> None:
    gateway = await entered(services(9), tmp_path, grace=60)
    url = f"http://127.0.0.1:{port_of(gateway)}/status"
    async with (
        ClientSession() as client,
        client.get(url, headers={"Accept": "text/event-stream"}) as overview,
        client.get(f"{url}/services/madre", headers={"Accept": "text/event-stream"}) as service,
    ):
        for stream in (overview, service):
            assert (stream.status, stream.content_type) == (200, "text/event-stream")
            assert b"<h1>" in await stream.content.readuntil(b"\n\n")
        async with leaving(gateway) as task, asyncio.timeout(10):
            for stream in (overview, service):
                assert (await stream.content.read()).endswith(b"event: end\ndata: {}\n\n")
            await task
    await eventually(lambda: not gateway._tasks)


async def test_who_has_signed_in_is_sent_what_changed_since_the_page_was_read(start: Start, file: Path) -> None:
    live = await start({}, auth={"open_status": True}, database={"url": sqlite(file), "auto_upgrade": False})
    browser = Browser(live.port)
    await browser.sign_in()
    shown = await browser.ask("/status")
    tag = shown.get("etag")
    assert tag is not None
    assert (await browser.ask("/status", f"If-None-Match: {tag}".encode())).status == 200, "it must not be kept"
    cookie = "".join(f"Cookie: {name}={value}\r\n" for name, value in browser.cookies.items())
    async with dial(live.port) as stream:
        head = f"GET /status HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\nLast-Event-ID: {tag}\r\n{cookie}\r\n"
        await stream.send(head.encode())
        await stream.reader.readuntil(b"\r\n\r\n")
        first = await asyncio.wait_for(stream.reader.readuntil(b"\n\n"), 20)
    assert b"<h1>" not in first
    assert len(first) < len(shown.body) / 4


async def test_a_page_ends_with_the_session_that_follows_it(start: Start, file: Path) -> None:
    live = await start({}, auth={"open_status": True}, database={"url": sqlite(file), "auto_upgrade": False})
    one, other, public = Browser(live.port), Browser(live.port), Browser(live.port)
    async with AsyncExitStack() as stack:
        streams = []
        for browser in (one, other, public):
            if browser is not public:
                await browser.sign_in()
            cookie = "".join(f"Cookie: {name}={value}\r\n" for name, value in browser.cookies.items())
            stream = await stack.enter_async_context(dial(live.port))
            head = f"GET /status HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n{cookie}\r\n"
            await stream.send(head.encode())
            first = (await stream.reader.readuntil(b'</html>"]\n\n')).decode()
            streams.append(stream)
            if browser is public:
                assert "Sign out" not in first
            else:
                assert f'name=\\"form\\" value=\\"{await browser.form_token()}\\"' in first, "its own, not another's"
        assert (await one.sign_out()).status == 303
        rest = await asyncio.wait_for(streams[0].rest(), 10)
        assert rest.endswith(b"event: end\ndata: {}\n\n")
        for stream in streams[1:]:
            await stream.reader.readuntil(b"event: page")


async def test_the_statistics_are_loaded_in_a_thread(start: Start, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    build = PrecursorReports.__init__

    def building(self: PrecursorReports, *parts: Any) -> None:
        threads.append(threading.get_ident())
        build(self, *parts)

    monkeypatch.setattr(PrecursorReports, "__init__", building)
    live = await start({}, auth={"open_status": True}, database={"url": sqlite(file), "auto_upgrade": False})
    browser = Browser(live.port)
    await browser.sign_in()
    for query in ("", "?range=7d"):
        assert (await browser.ask(f"/status/events{query}")).status == 200
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_the_limits_of_a_service_and_what_they_refused_are_shown_after_sign_in(start: Start, file: Path) -> None:
    limits = [{"per": "caller", "rate": "1/h"}, {"per": "address", "rate": "1000/min", "burst": 50, "in_flight": 5}]
    routes: list[dict[str, Any]] = [
        {"prefix": "/madre", "limits": limits},
        {"prefix": "/madre/admin", "allow": ["10.0.0.0/8"], "deny": ["10.9.0.0/16"]},
        {"prefix": "/madre/free", "limits": []},
    ]
    service = {"url": "http://127.0.0.1:1", "routes": routes}
    live = await start(
        {"madre": service}, auth={"open_status": True}, database={"url": sqlite(file), "auto_upgrade": False}
    )
    browser = Browser(live.port)
    token = f"X-VX11-Token: {TOKEN}".encode()
    assert [(await browser.ask("/madre/x", token)).status for _ in range(3)] == [502, 429, 429]
    assert (await browser.ask("/madre/admin/x", token)).status == 403
    await browser.sign_in()
    said = words((await browser.ask("/status/services/madre")).body.decode())
    assert "/madre 2 refused since the start each caller 1/h; each address 1000/min, bursts of 50, 5 in flight" in said
    assert "/madre/admin 1 refused since the start only from 10.0.0.0/8; not from 10.9.0.0/16" in said
    assert "/madre/free 0 refused" not in said
    public = words((await Browser(live.port).ask("/status/services/madre")).body.decode())
    assert "Limits of requests" not in public
    assert "10.9.0.0" not in public


async def test_a_reload_ends_the_streams_of_pages_that_are_still_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_loading, may_go_on = threading.Event(), threading.Event()

    def slowly(config: Config) -> PageInfo:
        is_loading.set()
        may_go_on.wait(20)
        return page_info(config)

    monkeypatch.setattr("tentaculo.gateway.pages.page_info", slowly)
    async with serving(tmp_path, services(9)) as served, dial(served.port) as wire:
        try:
            await wire.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            assert await asyncio.to_thread(is_loading.wait, 20)
            await served.reload(services={})
        finally:
            may_go_on.set()
        head = await wire.head()
        assert (head.status, head.get("retry-after")) == (503, "5")


async def test_a_row_of_another_program_fails_no_page(start: Start, file: Path) -> None:
    live = await start({}, database={"url": sqlite(file), "auto_upgrade": False})
    browser = Browser(live.port)
    await browser.sign_in()
    event = b'{"source": "ci", "type": "deploy.finished", "payload": {}}'
    sent = (b"Content-Type: application/json", f"X-VX11-Token: {TOKEN}".encode())
    assert (await browser.ask("/events/ingest", *sent, method="POST", body=event)).status < 300
    with opened(sqlite(file)) as connection:
        connection.execute(text("UPDATE tentaculo_events SET payload = '[1]' WHERE source = 'ci'"))
    for path in ("/status", "/status/events"):
        assert (await browser.ask(path)).status == 200


async def test_who_has_acted_is_shown_no_page_whose_rendering_had_begun_before(
    start: Start, file: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    page, has_read, may_end = f"/status/incidents/{number}", threading.Event(), threading.Event()
    made = Document.of

    def slowly(body: bytes) -> Document:
        has_read.set()
        may_end.wait(20)
        return made(body)

    monkeypatch.setattr(Document, "of", slowly)
    try:
        first = TaskGroup("test").start(browser.ask(page), "first")
        assert await asyncio.to_thread(has_read.wait, 20)
        await browser.send("/status/actions", form=form, action="note", incident=number, text="a full disk")
    finally:
        may_end.set()
    assert b"a full disk" not in (await first).body
    assert b"a full disk" in (await browser.ask(page)).body
