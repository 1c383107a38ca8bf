"""Tickets in a real browser: a page of the gateway's own origin, of a listed one, and of a foreign one."""

from __future__ import annotations

from typing import Any

import pytest

from tentaculo.security.tokens import fingerprint_of, hash_token
from tests.browser import chromium
from tests.conftest import TOKEN, Start
from tests.support.wire import Reader, Request, Upstream, Writer, ok, read_request, upstream

PAGE = ok(b"<!doctype html><title>page</title>", b"Content-Type: text/html; charset=utf-8")
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 13\r\n\r\ndata: hello\n\n"
SCRIPT = """async ([gateway, token]) => {
    const ticket = async () => (await (await fetch(`${gateway}/auth/ticket`, {
        method: "POST", headers: {"X-VX11-Token": token}})).json()).ticket;
    const socket = address => new Promise(done => {
        const opened = new WebSocket(address.replace("http", "ws"));
        opened.onmessage = message => { opened.close(); done(JSON.parse(message.data).type); };
        opened.onerror = () => done("refused");
    });
    const stream = address => new Promise(done => {
        const seen = [], opened = new EventSource(address);
        opened.onmessage = message => seen.push(message.data);
        // The stream ends after one message, and the browser comes again with the used ticket.
        opened.onerror = () => opened.readyState === EventSource.CLOSED && done([...seen, "refused"]);
    });
    const found = {};
    try {
        const first = await ticket();
        found.sockets = [await socket(`${gateway}/ws?ticket=${first}`), await socket(`${gateway}/ws?ticket=${first}`)];
        found.stream = await stream(`${gateway}/app/events?ticket=${await ticket()}&a=1`);
    } catch (error) {
        found.fetch = "refused";
    }
    return found;
}"""
WORKS = {"sockets": ["connected", "refused"], "stream": ["hello", "refused"]}


async def application(reader: Reader, writer: Writer, state: Upstream) -> None:
    """A page at every path, and a stream with one message at `/app/events`."""
    while True:
        request: Request = await read_request(reader)
        state.requests.append(request)
        writer.write(STREAM if request.target.startswith("/app/events") else PAGE)
        await writer.drain()


async def visit(page_at: str, script: str, argument: Any) -> Any:
    """What `script` gives on the page."""
    async with chromium.started() as browser:
        page = await browser.new_page()
        await page.goto(page_at)
        return await page.evaluate(script, argument)


@pytest.mark.parametrize("kind", ["own", "listed", "foreign"])
async def test_what_a_page_may_do_with_a_ticket(start: Start, kind: str) -> None:
    async with upstream(application) as up:
        foreign = f"http://127.0.0.1:{up.port}"
        routes = [{"prefix": "/app/events"}, {"prefix": "/page", "auth": "none"}]
        live = await start(
            {"app": {"url": foreign, "routes": routes}}, cors={"origins": [foreign] if kind == "listed" else []}
        )
        gateway = f"http://127.0.0.1:{live.port}"
        found = await visit(f"{gateway if kind == 'own' else foreign}/page", SCRIPT, [gateway, TOKEN])
        streams = [request.target for request in up.requests if request.target.startswith("/app")]
        if kind == "foreign":
            assert (found, streams) == ({"fetch": "refused"}, [])
        else:
            assert (found, streams) == (WORKS, ["/app/events?a=1"])


async def test_a_foreign_page_that_has_a_ticket_cannot_use_it(start: Start) -> None:
    script = """async ([gateway, ticket]) => Promise.all([
        new Promise(done => {
            const opened = new WebSocket(`${gateway.replace("http", "ws")}/ws?ticket=${ticket}`);
            opened.onopen = () => done("open");
            opened.onerror = () => done("refused");
        }),
        new Promise(done => {
            const opened = new EventSource(`${gateway}/app/events?ticket=${ticket}`);
            opened.onopen = () => done("open");
            opened.onerror = () => done("refused");
        }),
    ])"""
    async with upstream(application) as up:
        foreign = f"http://127.0.0.1:{up.port}"
        live = await start({"app": {"url": foreign, "routes": [{"prefix": "/app/events"}]}}, cors={"origins": []})
        ticket = await live.gateway.tickets.issue(fingerprint_of(hash_token(TOKEN)))
        found = await visit(f"{foreign}/page", script, [f"http://127.0.0.1:{live.port}", ticket])
        assert found == ["refused", "refused"]
        assert not [request for request in up.requests if request.target.startswith("/app")]
        assert {record.error for record in live.records} == {"origin_denied"}
