"""Tokens with names, scopes and an end on real sockets: proxied services, kept connections, WebSockets, tickets, sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType

from tentaculo.security.tokens import Tokens, hash_token
from tentaculo.store import migrate
from tests.conftest import TOKEN, Live, Start
from tests.gateway.test_sign_in import Browser
from tests.support.databases import sqlite
from tests.support.wire import Response, Upstream, Wire, answering, dial, ok, upstream

MOMENT = datetime.now(UTC)
FAR = MOMENT + timedelta(days=1)


def token(name: str, *scopes: str, **keys: Any) -> dict[str, Any]:
    """An entry of `[[auth.tokens]]`. The token itself is the name."""
    return {"hash": hash_token(name), "name": name, **({"scopes": list(scopes)} if scopes else {}), **keys}


async def send(wire: Wire, target: str, *lines: str, method: str = "GET") -> Response:
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        *lines,
        *(["Content-Length: 0"] if method != "GET" else []),
    ]
    await wire.send("".join(f"{line}\r\n" for line in [*head, ""]).encode())
    return await wire.response(method)


async def ask(live: Live, target: str, *lines: str, method: str = "GET") -> Response:
    async with dial(live.port) as wire:
        return await send(wire, target, *lines, method=method)


def by(name: str) -> str:
    return f"X-VX11-Token: {name}"


def refusal(response: Response) -> tuple[int, str, str | None]:
    members = json.loads(response.body)
    return response.status, members["error"], members.get("scope")


def services(up: Upstream) -> dict[str, Any]:
    url = f"http://127.0.0.1:{up.port}"
    routes = [{"prefix": "/open", "auth": "none"}]
    return {
        "madre": {"url": url, "aliases": ["mother"], "token": "of-madre", "routes": [{"prefix": "/madre"}]},
        "switch": {"url": url, "token": "of-switch", "routes": [{"prefix": "/switch"}]},
        "open": {"url": f"http://localhost:{up.port}", "token": "of-open", "routes": routes},
    }


@asynccontextmanager
async def serving(start: Start, *tokens: dict[str, Any], **sections: Any) -> AsyncIterator[tuple[Live, Upstream]]:
    async with upstream(answering(ok(b"here"))) as up:
        yield await start(services(up), auth={"tokens": list(tokens)}, **sections), up


@pytest.mark.usefixtures("both_ways")
class TestProxiedServices:
    async def test_a_scope_opens_one_service_or_all(self, start: Start) -> None:
        tokens = token("one", "proxy:mother"), token("all", "proxy"), token("none", "events:write")
        async with serving(start, *tokens) as (live, up):
            for name, path, scope in [
                ("one", "/madre", None),
                ("one", "/madre/health", None),
                ("one", "/switch", "proxy:switch"),
                ("all", "/madre", None),
                ("all", "/switch", None),
                ("none", "/madre", "proxy:madre"),
                ("none", "/madre/health", "proxy:madre"),
            ]:
                response = await ask(live, path, by(name))
                if scope is None:
                    assert response.status == 200, (name, path)
                else:
                    assert refusal(response) == (403, "forbidden", scope)
                    assert 'error="insufficient_scope"' in (response.get("www-authenticate") or "")
            assert len(up.requests) == 4
            # Who was refused is in the log as well.
            assert [record.caller for record in live.records] == ["one", "one", "one", "all", "all", "none", "none"]

    async def test_what_authenticated_is_stripped_and_the_services_own_token_is_sent(self, start: Start) -> None:
        async with serving(start, token("one", "proxy:madre")) as (live, up):
            for lines in ([by("one")], ["Authorization: Bearer one"], [by("one"), "Authorization: Bearer one"]):
                assert (await ask(live, "/madre", *lines)).status == 200
                (line,) = up.requests[-1].all("x-vx11-token")
                assert (line, up.requests[-1].all("authorization")) == ("of-madre", [])

    async def test_on_an_open_route_a_caller_without_the_scope_is_an_anonymous_one(self, start: Start) -> None:
        async with serving(start, token("no", "status"), token("yes", "proxy:open")) as (live, up):
            assert (await ask(live, "/open", "Authorization: Bearer no")).status == 200
            # Its token is a secret of the gateway in any case, and the service's own vouches for nobody.
            assert (up.requests[-1].all("x-vx11-token"), up.requests[-1].all("authorization")) == ([], [])
            assert (await ask(live, "/open", by("yes"))).status == 200
            assert up.requests[-1].all("x-vx11-token") == ["of-open"]
            assert [record.caller for record in live.records] == [None, "yes"]

    async def test_a_repeated_request_of_a_kept_connection_ends_with_its_token(self, start: Start) -> None:
        async with serving(start, token("one", "proxy", expires=FAR)) as (live, up):
            tokens = live.gateway.authentication.tokens
            now = MOMENT.timestamp()
            tokens.acceptance.clock = lambda: now
            async with dial(live.port) as wire:
                for _ in range(4):
                    assert (await send(wire, "/madre", by("one"))).status == 200
                now = FAR.timestamp() - 0.001
                assert (await send(wire, "/madre", by("one"))).status == 200
                now = FAR.timestamp()
                response = await send(wire, "/madre", by("one"))
                assert refusal(response) == (403, "forbidden", None)
                assert json.loads(response.body)["detail"] == "The token one has expired."
                # The clock is set back.
                now = MOMENT.timestamp()
                assert (await send(wire, "/madre", by("one"))).status == 403
            assert len(up.requests) == 5

    async def test_a_repeated_request_of_a_kept_connection_ends_when_other_tokens_are_accepted(
        self, start: Start
    ) -> None:
        async with serving(start, token("one", "proxy"), token("two", "proxy")) as (live, up):
            async with dial(live.port) as first, dial(live.port) as second:
                for _ in range(3):
                    assert (await send(first, "/madre", by("one"))).status == 200
                    assert (await send(second, "/madre", by("two"))).status == 200
                live.gateway.generations.use_tokens(
                    Tokens([one for one in live.gateway.config.auth.tokens if one.name == "two"])
                )
                assert refusal(await send(first, "/madre", by("one"))) == (403, "forbidden", None)
                assert (await send(second, "/madre", by("two"))).status == 200
            assert len(up.requests) == 7

    async def test_a_repeated_ingest_ends_with_its_token_too(self, start: Start) -> None:
        async with serving(start, token("ci", "events:write", expires=FAR)) as (live, _):
            tokens = live.gateway.authentication.tokens
            now = MOMENT.timestamp()
            tokens.acceptance.clock = lambda: now
            async with dial(live.port) as wire:
                for _ in range(3):
                    assert (await send(wire, "/events/ingest", by("ci"), method="POST")).status in (400, 415)
                now = FAR.timestamp()
                assert (await send(wire, "/events/ingest", by("ci"), method="POST")).status == 403

    async def test_a_ticket_has_the_scopes_of_its_token_and_ends_with_it(self, start: Start) -> None:
        stream = "Accept: text/event-stream"
        async with serving(start, token("one", "proxy:madre", expires=FAR)) as (live, up):
            tokens = live.gateway.authentication.tokens
            now = MOMENT.timestamp()
            tokens.acceptance.clock = lambda: now

            async def ticket() -> str:
                response = await ask(live, "/auth/ticket", by("one"), method="POST")
                given: str = json.loads(response.body)["ticket"]
                return given

            assert (await ask(live, f"/madre?ticket={await ticket()}", stream)).status == 200
            assert live.records[-1].caller == "one"
            assert refusal(await ask(live, f"/switch?ticket={await ticket()}", stream)) == (
                *(403, "forbidden"),
                "proxy:switch",
            )
            assert refusal(await ask(live, f"/events/stream?ticket={await ticket()}")) == (
                403,
                "forbidden",
                "events:read",
            )
            late = await ticket()
            now = FAR.timestamp()
            assert refusal(await ask(live, f"/madre?ticket={late}", stream)) == (401, "auth_required", None)
            assert len(up.requests) == 1


async def receive(socket: Any) -> dict[str, Any]:
    async with asyncio.timeout(5):
        message = await socket.receive()
    assert message.type is WSMsgType.TEXT, message
    found: dict[str, Any] = json.loads(message.data)
    return found


ALERT = {"type": "system.alert", "alert_id": "a", "severity": "high", "message": "m"}


@pytest.fixture
async def stored(start: Start, tmp_path: Path) -> Live:
    file = tmp_path / "fleet.db"
    migrate.upgrade(sqlite(file))
    tokens = [
        *(token("reads", "events:read"), token("writes", "events:write"), token("both", "events:read", "events:write")),
        *(token("sees", "status"), token("acts", "status", "incidents:write"), token("plain")),
    ]
    return await start({}, database={"url": sqlite(file)}, auth={"tokens": tokens, "open_status": False})


async def test_a_web_socket_receives_and_sends_what_its_scopes_say(stored: Live) -> None:
    url = f"http://127.0.0.1:{stored.port}/ws"

    def headers(name: str) -> dict[str, str]:
        return {"X-VX11-Token": name}

    async with (
        ClientSession() as session,
        session.ws_connect(url, headers=headers("reads")) as reader,
        session.ws_connect(url, headers=headers("writes")) as writer,
        session.ws_connect(url, headers=headers("both")) as both,
    ):
        for socket in (reader, writer, both):
            assert (await receive(socket))["type"] == "connected"
        await reader.send_json(ALERT)
        assert await receive(reader) == ALERT, "the echo"
        refused = await receive(reader)
        assert (refused["error"], refused["scope"]) == ("forbidden", "events:write")
        await writer.send_json(ALERT)
        assert await receive(writer) == ALERT
        for socket in (reader, both):
            assert (await receive(socket))["alert_id"] == "a"
        await both.send_json({**ALERT, "alert_id": "b"})
        assert (await receive(both))["alert_id"] == "b"
        assert (await receive(reader))["alert_id"] == "b"
        # It only sends: nothing has arrived behind its own echo.
        await writer.send_str("no JSON")
        assert (await receive(writer))["error"] == "not_json"
        refusal_of_past = await session.get(f"{url}?since=1", headers={**headers("writes"), **UPGRADE})
        assert refusal_of_past.status == 403
        assert (await refusal_of_past.json(content_type=None))["scope"] == "events:read"


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_streams_end_with_the_token_that_opened_them(stored: Live) -> None:
    gateway = stored.gateway
    async with (
        ClientSession() as session,
        dial(stored.port) as stream,
        session.ws_connect(f"http://127.0.0.1:{stored.port}/ws", headers={"X-VX11-Token": "reads"}) as socket,
    ):
        assert (await receive(socket))["type"] == "connected"
        await stream.send(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: reads\r\n\r\n")
        assert (await stream.head()).status == 200
        await stream.reader.readuntil(b"event: start")
        gateway.generations.use_tokens(Tokens([hash_token(TOKEN)], uses=gateway.authentication.tokens.uses))
        async with asyncio.timeout(10):
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)
            assert b"the sign-in has ended" in await stream.reader.read(-1)


async def test_a_session_has_the_scopes_of_its_token(stored: Live) -> None:
    sees, acts = Browser(stored.port), Browser(stored.port)
    assert (await sees.sign_in("sees")).status == 303
    assert (await acts.sign_in("acts")).status == 303
    for browser in (sees, acts):
        assert (await browser.ask("/status")).status == 200
        assert refusal(await browser.ask("/events")) == (403, "forbidden", "events:read")
    assert b'value="maintain"' in (await acts.ask("/status")).body
    assert b'value="maintain"' not in (await sees.ask("/status")).body, "what it may not do is not offered"
    refused = await sees.send("/status/actions", action="maintain", services="x")
    assert (refused.status, 'scope="incidents:write"' in (refused.get("www-authenticate") or "")) == (403, True)
    # The form of the other is read: it has no form token.
    refused = await acts.send("/status/actions", action="maintain", services="x")
    assert (refused.status, refused.get("www-authenticate")) == (403, None)
    assert (await sees.sign_out()).status == 303


async def test_who_has_no_right_to_see_the_pages_cannot_sign_in(stored: Live) -> None:
    browser = Browser(stored.port)
    response = await browser.sign_in("reads")
    assert response.status == 403
    assert not browser.cookies
    assert b"does not have the scope <code>status</code>" in response.body


async def test_a_session_ends_with_its_token(stored: Live) -> None:
    browser = Browser(stored.port)
    assert (await browser.sign_in("plain")).status == 303
    assert (await browser.ask("/status")).status == 200
    stored.gateway.generations.use_tokens(Tokens([hash_token(TOKEN)], uses=stored.gateway.authentication.tokens.uses))
    assert (await browser.ask("/status")).status == 401
