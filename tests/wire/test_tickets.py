"""Tickets on real sockets: where they are taken, what a service sees of them, and what nobody gets to see."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.operation import LogSettings
from tentaculo.config.reader import read
from tentaculo.store import worker_thread
from tentaculo.telemetry import logging as logging_setup
from tentaculo.telemetry.request_log import access_logger
from tests.conftest import TOKEN, Live, Start
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened
from tests.support.waits import eventually
from tests.support.wire import WEBSOCKET, Response, Upstream, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")

AUTH = b"X-VX11-Token: " + TOKEN.encode()
STREAM = b"Accept: text/event-stream"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FOREIGN = f"{'a' * 8}.{'b' * 32}"
"""The form of a ticket of another process."""


def services(up: Upstream, **route: Any) -> dict[str, Any]:
    return {
        "madre": {
            "url": f"http://127.0.0.1:{up.port}",
            "token": "of-madre",
            "routes": [{"prefix": "/madre", **route}],
        }
    }


async def ask(live: Live, target: str, *lines: bytes, method: str = "GET") -> Response:
    """The response to one request on a connection of its own."""
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n".encode("latin-1")
    async with dial(live.port) as wire:
        await wire.send(head + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        return await wire.response(method)


async def ticket_of(live: Live) -> str:
    response = await ask(live, "/auth/ticket", AUTH, b"Content-Length: 0", method="POST")
    assert response.status == 201
    given: str = json.loads(response.body)["ticket"]
    return given


def problem(response: Response) -> tuple[int, str, str]:
    members = json.loads(response.body)
    return response.status, members["error"], members.get("detail", "")


REFUSED = (401, "auth_required", "The ticket is unknown, expired or used.")


async def test_a_ticket_is_given_for_a_token(start: Start) -> None:
    live = await start({})
    before = datetime.now(UTC)
    response = await ask(live, "/auth/ticket", AUTH, method="POST")
    members = json.loads(response.body)
    assert (response.status, sorted(members)) == (201, ["expires_at", "expires_in", "ticket"])
    assert members["expires_in"] == 60
    late = datetime.fromisoformat(members["expires_at"]) - before - timedelta(seconds=60)
    assert timedelta(0) <= late < timedelta(seconds=10)
    assert members["expires_at"].endswith("Z")
    assert response.get("cache-control") == "no-store"
    assert (await ask(live, "/auth/ticket", method="POST")).status == 401
    assert (await ask(live, "/auth/ticket", b"X-VX11-Token: wrong", method="POST")).status == 403
    assert (await ask(live, "/auth/ticket", AUTH)).status == 405
    # No ticket for a ticket, and no token in a query.
    assert (await ask(live, f"/auth/ticket?ticket={members['ticket']}", method="POST")).status == 401
    assert (await ask(live, f"/ws?token={TOKEN}", *WEBSOCKET)).status == 401


async def test_the_native_websocket_takes_a_ticket_once(start: Start) -> None:
    live = await start({})
    ticket = await ticket_of(live)
    target = f"/ws?channel=event&ticket={ticket}&client_id=%C3%A1"
    async with dial(live.port) as wire:
        head = b"\r\n".join((f"GET {target} HTTP/1.1".encode(), b"Host: localhost", *WEBSOCKET))
        await wire.send(head + b"\r\n\r\n")
        assert (await wire.head()).status == 101
        size = (await wire.reader.readexactly(2))[1]
        hello = json.loads(await wire.reader.readexactly(size))
        assert (hello["type"], hello["client_id"]) == ("connected", "á")
    assert problem(await ask(live, target, *WEBSOCKET)) == REFUSED


@pytest.mark.parametrize(
    ("lines", "status"),
    [((STREAM,), 200), ((b"Accept: application/json, Text/Event-Stream;q=0.9",), 200), (WEBSOCKET, 101)],
    ids=["stream", "list", "websocket"],
)
@pytest.mark.parametrize(
    ("query", "rest"),
    [
        ("?ticket={}", ""),
        ("?ticket={}&a", "?a"),
        ("?a&ticket={}&b=%2F", "?a&b=%2F"),
        ("?a=%zz&&b=+?&ticket={}", "?a=%zz&&b=+?"),
        ("?ticketx=1&ticket={}&%74icket=2", "?ticketx=1&%74icket=2"),
    ],
)
async def test_the_ticket_is_taken_out_of_the_forwarded_target(
    start: Start, lines: tuple[bytes, ...], status: int, query: str, rest: str
) -> None:
    async with upstream(answering(SWITCHING if status == 101 else ok())) as up:
        live = await start(services(up))
        target = "/madre/x%2Fy" + query.format(await ticket_of(live))
        assert (await ask(live, target, *lines)).status == status
        assert problem(await ask(live, target, *lines)) == REFUSED
    (request,) = up.requests
    assert request.target == "/madre/x%2Fy" + rest
    assert request.all("x-vx11-token") == ["of-madre"]
    await eventually(lambda: len(live.records) == 3)
    assert sorted((record.status, record.target) for record in live.records) == sorted(
        [(201, "/auth/ticket"), (status, "/madre/x%2Fy"), (401, "/madre/x%2Fy")]
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("lines", "method"),
    [
        ((), "GET"),
        ((b"Accept: */*",), "GET"),
        ((b"Accept: text/event-stream;q=0, */*",), "GET"),
        ((STREAM,), "POST"),
        ((STREAM,), "HEAD"),
        (WEBSOCKET[1:], "GET"),
    ],
)
async def test_no_other_request_takes_one(start: Start, lines: tuple[bytes, ...], method: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up))
        ticket = await ticket_of(live)
        target = f"/madre/x?ticket={ticket}"
        assert (await ask(live, target, *lines, method=method)).status == 401
        assert (await ask(live, f"/vx11/status?ticket={ticket}", STREAM)).status == 200
        assert (await ask(live, f"/vx11/overview?ticket={ticket}", STREAM)).status == 401
        assert up.connections == 0
        # It is still valid, so that no service gets it.
        assert (await ask(live, target + "&a=1", AUTH, *lines, method=method)).status == 200
        assert [request.target for request in up.requests] == ["/madre/x?a=1"]
        assert (await ask(live, target, STREAM)).status == 200


@pytest.mark.parametrize("query", ["?ticket={0}&ticket={0}", "?ticket=x&ticket={0}", "?ticket={0}&a&ticket="])
async def test_two_tickets_are_refused_and_none_is_used_up(start: Start, query: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up))
        ticket = await ticket_of(live)
        response = await ask(live, "/madre/x" + query.format(ticket), STREAM)
        assert problem(response) == (401, "auth_required", "The query has more than one ticket.")
        assert (await ask(live, f"/madre/x?ticket={ticket}", STREAM)).status == 200


async def test_a_token_in_a_header_counts_more_and_no_service_gets_a_ticket_of_ours(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up))
        ticket = await ticket_of(live)
        for _ in range(2):
            assert (await ask(live, f"/madre/x?a&ticket={ticket}&b", STREAM, AUTH)).status == 200
        assert (await ask(live, "/madre/x?ticket=of-the-service", STREAM, AUTH)).status == 200
        assert (await ask(live, f"/madre/x?ticket={ticket}", STREAM, b"X-VX11-Token: wrong")).status == 403
        assert (await ask(live, f"/madre/x?ticket={ticket}", STREAM)).status == 200
    targets = [request.target for request in up.requests]
    assert targets == ["/madre/x?a&b", "/madre/x?a&b", "/madre/x?ticket=of-the-service", "/madre/x"]


async def test_on_an_open_route_a_ticket_authenticates_and_a_parameter_of_the_service_does_not(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up, auth="none"))
        ticket = await ticket_of(live)
        async with dial(live.port) as wire:
            for target in (f"/madre/x?ticket={ticket}", "/madre/x", "/madre/x?ticket=of-the-service&ticket=2"):
                await wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n".encode() + STREAM + b"\r\n\r\n")
                assert (await wire.response()).status == 200
        assert problem(await ask(live, f"/madre/x?ticket={ticket}", STREAM)) == REFUSED
    seen = [(request.target, request.all("x-vx11-token")) for request in up.requests]
    assert seen == [
        ("/madre/x", ["of-madre"]),
        ("/madre/x", []),
        ("/madre/x?ticket=of-the-service&ticket=2", []),
    ]


async def test_a_redirect_takes_no_ticket(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up, strip=True, prefix="/app/"))
        ticket = await ticket_of(live)
        assert (await ask(live, f"/app?ticket={ticket}", STREAM)).status == 401
        assert (await ask(live, f"/app/?ticket={ticket}", STREAM)).status == 200


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("origin", [b"Origin: https://evil.example", b"Origin: null"])
async def test_a_foreign_page_uses_no_ticket_and_spoils_none(start: Start, origin: bytes, native: bool) -> None:
    async with upstream(answering(SWITCHING)) as up:
        live = await start(services(up))
        path = "/ws" if native else "/madre/x"
        target = f"{path}?ticket={await ticket_of(live)}"
        lines = (STREAM, *WEBSOCKET)
        assert problem(await ask(live, target, origin, *lines))[:2] == (403, "origin_denied")
        assert up.connections == 0
        assert (await ask(live, target, b"Origin: http://localhost", *lines)).status == 101


async def test_where_no_token_is_checked_a_ticket_is_given_and_ignored(start: Start) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up), auth={"enabled": False})
        response = await ask(live, "/auth/ticket", method="POST")
        target = f"/madre/x?ticket={json.loads(response.body)['ticket']}"
        assert [(await ask(live, target, STREAM)).status for _ in range(2)] == [200, 200]
    assert [request.target for request in up.requests] == ["/madre/x"] * 2


@pytest.mark.parametrize("query", ["?ticket=", "?ticket=%ff", "?ticket=" + "%41" * 500, "?" + "ticket=&" * 300])
async def test_garbage_is_refused(start: Start, query: str) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up))
        for target in ("/madre/x", "/ws", "/events/stream"):
            assert (await ask(live, target + query, STREAM)).status in (401, 404)
        assert up.connections == 0


# -- several gateways on one database ------------------------------------------------------------------------------


async def test_a_ticket_works_once_on_whichever_machine_it_arrives(start: Start, url: str) -> None:
    async with upstream(answering(ok())) as up:
        one, other = [await start(services(up), database={"url": url, "auto_upgrade": False}) for _ in range(2)]
        for giver, taker in ((one, other), (other, one), (one, one)):
            target = f"/madre/x?ticket={await ticket_of(giver)}"
            assert (await ask(taker, target, STREAM)).status == 200
            for live in (one, other):
                assert problem(await ask(live, target, STREAM)) == REFUSED
    with opened(url) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM tentaculo_tickets").scalar() == 0


async def test_of_fifty_requests_with_one_ticket_one_succeeds(start: Start, url: str) -> None:
    async with upstream(answering(ok())) as up:
        lives = [await start(services(up), database={"url": url, "auto_upgrade": False}) for _ in range(2)]
        for giver in lives:
            target = f"/madre/x?ticket={await ticket_of(giver)}"
            responses = await asyncio.gather(*(ask(lives[n % 2], target, STREAM) for n in range(50)))
            assert sorted(response.status for response in responses) == [200, *[401] * 49]
    assert len(up.requests) == 2


async def test_while_the_database_is_away_the_giver_takes_it_and_the_other_one_says_when_to_try(
    start: Start, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_thread, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(worker_thread, "LAST_RETRY", 0.05)

    def run(statement: str) -> None:
        with opened(url) as connection:
            connection.exec_driver_sql(statement)

    def count(table: str) -> Any:
        with opened(url) as connection:
            return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()

    async with upstream(answering(ok())) as up:
        one, other = [await start(services(up), database={"url": url, "auto_upgrade": False}) for _ in range(2)]
        stored = f"/madre/x?ticket={await ticket_of(one)}"
        run("ALTER TABLE tentaculo_tickets RENAME TO aside")
        held = f"/madre/x?ticket={await ticket_of(one)}"
        for target in (stored, held):
            response = await ask(other, target, STREAM)
            assert problem(response)[:2] == (503, "store_unavailable")
            assert response.get("retry-after") == "1"
            assert (await ask(one, target, STREAM)).status == 200
            assert problem(await ask(one, target, STREAM)) == REFUSED
        assert count("aside") == 1
        run("ALTER TABLE aside RENAME TO tentaculo_tickets")
        await eventually(lambda: count("tentaculo_tickets") == 0)
        while (await ask(other, stored, STREAM)).status == 503:
            await asyncio.sleep(0.01)
        for target in (stored, held):
            assert problem(await ask(other, target, STREAM)) == REFUSED
    assert len(up.requests) == 2


async def test_a_client_that_leaves_meanwhile_is_logged_as_such(start: Start, file: Path) -> None:
    async with upstream(answering(ok())) as up:
        live = await start(services(up), database={"url": sqlite(file), "auto_upgrade": False})
        target = f"/madre/x?ticket={await ticket_of(live)}"
        with opened(sqlite(file)) as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            async with dial(live.port) as wire:
                await wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n".encode() + STREAM + b"\r\n\r\n")
                # What was sent before has been read when this is answered.
                assert (await ask(live, "/livez")).status == 200
                wire.reset()
            await eventually(lambda: [record.status for record in live.records] == [201, 200, 499])
        assert up.connections == 0


async def test_an_expired_row_is_refused(start: Start, url: str) -> None:
    async with upstream(answering(ok())) as up:
        one, other = [await start(services(up), database={"url": url, "auto_upgrade": False}) for _ in range(2)]
        target = f"/madre/x?ticket={await ticket_of(one)}"
        with opened(url) as connection:
            connection.exec_driver_sql("UPDATE tentaculo_tickets SET expires_at = 1")
        for live in (other, one):
            assert problem(await ask(live, target, STREAM)) == REFUSED


# -- what is written down ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
async def test_no_log_line_has_a_ticket(start: Start, form: str) -> None:
    stream = StringIO()
    settings = read(LogSettings, {"level": "debug", "format": form})
    writer = logging_setup.set_up(settings, stream)
    try:
        log_request = access_logger(settings, writer, stream)
        assert log_request is not None
        async with upstream(answering(b"HTTP/1.1 nonsense\r\n\r\n")) as up:
            live = await start(services(up))
            tickets = [await ticket_of(live) for _ in range(3)]
            used, *more = tickets
            bodies = [
                (await ask(live, f"/madre/x?ticket={used}", STREAM)).body,
                (await ask(live, f"/madre/x?ticket={used}", STREAM)).body,
                (await ask(live, f"/madre/x?ticket={FOREIGN}", STREAM)).body,
                (await ask(live, f"/madre/x?ticket={more[0]}&ticket={more[0]}", STREAM)).body,
                (await ask(live, f"/madre/x?ticket={more[0]}#", STREAM)).body,
                (await ask(live, f"/madre/x?ticket={more[0]}", STREAM, b"Origin: https://evil.example")).body,
                (await ask(live, f"/nothing?ticket={more[0]}", STREAM)).body,
                (await ask(live, f"/ws;ticket={more[0]}", STREAM)).body,
                (await ask(live, f"/ws?ticket={more[1]}", STREAM)).body,
                (await ask(live, "/status")).body,
                (await ask(live, "/metrics")).body,
            ]
            for record in live.records:
                log_request(record)
    finally:
        writer.close()
    assert stream.getvalue().count("/madre/x") >= 5
    assert "ticket=***" in stream.getvalue()
    for secret in [FOREIGN, *tickets]:
        assert secret not in stream.getvalue()
        assert all(secret.encode() not in body for body in bodies)
