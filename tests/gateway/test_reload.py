"""What a reload keeps, and what ends with it: requests in flight, tunnels, incidents, alerts, sessions, counts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tentaculo.model.health import Health
from tentaculo.model.history import Period
from tentaculo.security.tokens import Tokens, hash_token
from tentaculo.store import migrate
from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN
from tests.support.reloading import OTHER, ask, service, serving
from tests.support.waits import eventually
from tests.support.webhook_receiver import receiving
from tests.support.wire import Reader, Request, Upstream, Writer, answering, dial, ok, read_request, upstream

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)
SECRET = "whsec_" + 32 * "A"
HANDSHAKE = (
    b"GET /madre/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-VX11-Token: %b\r\n\r\n"
    % TOKEN.encode()
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def echo(reader: Reader, writer: Writer, state: Upstream) -> None:
    """Switches protocols, or begins an event stream, and sends back what comes; a slow request waits for `go`."""
    request = await read_request(reader)
    state.requests.append(request)
    await state.note()
    if request.get("Upgrade"):
        writer.write(SWITCH)
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
    elif request.target.endswith("/stream"):
        writer.write(STREAM)
        for number in range(10_000):
            writer.write(b"data: %d\n\n" % number)
            await writer.drain()
            await asyncio.sleep(0.02)
    else:
        await asyncio.sleep(0.5)
        writer.write(ok(b"late but whole"))
        await writer.drain()


@pytest.fixture
def database(tmp_path: Path) -> dict[str, Any]:
    """A database with its tables, as the section of the configuration."""
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    migrate.upgrade(url)
    return {"url": url}


class TestRemoved:
    """Services that a reload removes."""

    pytestmark = pytest.mark.usefixtures("both_ways")

    async def test_requests_in_flight_streams_and_tunnels_end_by_themselves(self, tmp_path: Path) -> None:
        async with (
            upstream(echo) as up,
            serving(tmp_path, {"madre": service(up)}) as served,
            dial(served.port) as tunnel,
            dial(served.port) as stream,
            dial(served.port) as slow,
        ):
            await tunnel.send(HANDSHAKE)
            assert (await tunnel.head()).status == 101
            await stream.send(f"GET /madre/stream HTTP/1.1\r\nHost: h\r\nX-VX11-Token: {TOKEN}\r\n\r\n".encode())
            assert (await stream.head()).status == 200
            tasks = TaskGroup("test")
            late = tasks.start(ask(slow), "slow")
            await up.until(lambda: len(up.requests) == 3)
            await served.reload(services={})
            await tunnel.send(b"still here")
            assert await tunnel.reader.readexactly(10) == b"still here"
            await stream.reader.readuntil(b"data: ")
            response = await late
            assert (response.status, response.body) == (200, b"late but whole")
            assert (await ask(slow)).status == 404
            await stream.reader.readuntil(b"data: ")
            await tasks.close()

    async def test_all_of_them_are_ended_where_that_is_asked_for(self, tmp_path: Path) -> None:
        kept = {"prefix": "/kept"}
        async with (
            upstream(echo) as up,
            upstream(echo) as other,
            serving(tmp_path, {"madre": service(up), "kept": service(other, kept)}) as served,
            dial(served.port) as tunnel,
            dial(served.port) as stream,
            dial(served.port) as slow,
            dial(served.port) as stays,
        ):
            await tunnel.send(HANDSHAKE)
            assert (await tunnel.head()).status == 101
            await stays.send(HANDSHAKE.replace(b"/madre/", b"/kept/"))
            assert (await stays.head()).status == 101
            await stream.send(f"GET /madre/stream HTTP/1.1\r\nHost: h\r\nX-VX11-Token: {TOKEN}\r\n\r\n".encode())
            assert (await stream.head()).status == 200
            tasks = TaskGroup("test")
            late = tasks.start(ask(slow), "slow")
            await up.until(lambda: len(up.requests) == 3)
            await served.reload(services={"kept": service(other, kept)}, reload={"close_removed": True})
            response = await late
            assert (response.status, json.loads(response.body)["error"]) == (503, "service_off")
            assert "removed from the configuration" in json.loads(response.body)["detail"]
            await tunnel.rest()
            await stream.rest()
            await stays.send(b"still here")
            assert await stays.reader.readexactly(10) == b"still here"
            await tasks.close()

    async def test_its_series_end_also_when_a_request_ends_later(self, tmp_path: Path) -> None:
        async with (
            upstream(echo) as up,
            upstream(answering(ok())) as other,
            serving(tmp_path, {"madre": service(up), "kept": service(other, {"prefix": "/kept"})}) as served,
            dial(served.port) as slow,
            dial(served.port) as wire,
        ):
            assert (await ask(wire)).status == 200
            assert (await ask(wire, target="/kept/x")).status == 200
            assert b'service="madre"' in (await ask(wire, target="/metrics")).body
            tasks = TaskGroup("test")
            late = tasks.start(ask(slow), "slow")
            await up.until(lambda: len(up.requests) == 2)
            await served.reload(services={"kept": service(other, {"prefix": "/kept"})})
            assert (await late).status == 200
            # The page of metrics is kept for a moment.
            await eventually(lambda: not served.gateway.proxy.traffic.in_flight)
            totals = {name for name, *_ in served.gateway.proxy.traffic.totals()}
            assert "madre" not in totals
            assert "kept" in totals
            tallies = served.gateway.proxy.traffic.drain()
            assert sum(tally.ok for route, tally in tallies.items() if route.service == "madre") == 1, "counted so far"
            body = (await ask(wire, target="/metrics")).body
            assert b'service="madre"' not in body
            assert b'service="kept"' in body
            await tasks.close()

    async def test_an_endpoint_that_fails_behind_its_removal(self, tmp_path: Path) -> None:
        async def fail_late(_: Request) -> bytes:
            await asyncio.sleep(0.3)
            return b"no http\r\n\r\n"

        async with (
            upstream(answering(fail_late)) as up,
            serving(tmp_path, {"madre": service(up, breaker={"failures": 1})}) as served,
            dial(served.port) as wire,
        ):
            tasks = TaskGroup("test")
            late = tasks.start(ask(wire), "slow")
            await up.until(lambda: len(up.requests) == 1)
            await served.reload(services={})
            assert (await late).status == 502
            await tasks.close()


class TestRevoked:
    """What a token has opened at a service, once the token is no longer accepted."""

    pytestmark = pytest.mark.usefixtures("both_ways")

    async def test_tunnels_and_event_streams_end_and_requests_in_flight_are_finished(self, tmp_path: Path) -> None:
        handshake = HANDSHAKE.replace(TOKEN.encode(), OTHER.encode())
        async with (
            upstream(echo) as up,
            serving(
                tmp_path, {"madre": service(up, {"prefix": "/madre"}, {"prefix": "/open", "auth": "none"})}
            ) as served,
            dial(served.port) as tunnel,
            dial(served.port) as stream,
            dial(served.port) as slow,
            dial(served.port) as stays,
            dial(served.port) as anonymous,
        ):
            for wire, opening in (
                (tunnel, handshake),
                (stays, HANDSHAKE),
                (anonymous, HANDSHAKE.replace(b"/madre/", b"/open/").replace(TOKEN.encode(), b"")),
            ):
                await wire.send(opening)
                assert (await wire.head()).status == 101
            await stream.send(f"GET /madre/stream HTTP/1.1\r\nHost: h\r\nX-VX11-Token: {OTHER}\r\n\r\n".encode())
            assert (await stream.head()).status == 200
            tasks = TaskGroup("test")
            late = tasks.start(ask(slow, token=OTHER), "slow")
            await up.until(lambda: len(up.requests) == 5)
            uses = served.gateway.authentication.tokens.uses
            served.gateway.generations.use_tokens(Tokens([hash_token(TOKEN)], uses=uses))
            await tunnel.rest()
            await stream.rest()
            assert (await late).status == 200
            assert (await ask(slow, token=OTHER)).status == 403
            for wire in (stays, anonymous):
                await wire.send(b"still here")
                assert await wire.reader.readexactly(10) == b"still here"
            await tasks.close()

    async def test_what_has_ended_before_is_forgotten(self, tmp_path: Path) -> None:
        async with upstream(echo) as up, serving(tmp_path, {"madre": service(up)}) as served:
            uses = served.gateway.authentication.tokens.uses.values()
            async with dial(served.port) as tunnel, dial(served.port) as stream:
                await tunnel.send(HANDSHAKE)
                assert (await tunnel.head()).status == 101
                await stream.send(f"GET /madre/stream HTTP/1.1\r\nHost: h\r\nX-VX11-Token: {TOKEN}\r\n\r\n".encode())
                assert (await stream.head()).status == 200
                await eventually(lambda: [len(use.streams) for use in uses if use.streams] == [2])
            await eventually(lambda: not any(use.streams for use in uses))


async def test_a_request_that_waits_for_room_is_served_by_its_own_generation(tmp_path: Path) -> None:
    async with (
        upstream(echo) as up,
        upstream(answering(ok(b"new"))) as new,
        serving(tmp_path, {"madre": service(up)}, limits={"in_flight": 1, "connect": 10}) as served,
        dial(served.port) as first,
        dial(served.port) as second,
        dial(served.port) as third,
    ):
        tasks = TaskGroup("test")
        one = tasks.start(ask(first), "first")
        await up.until(lambda: len(up.requests) == 1)
        two = tasks.start(ask(second), "second")
        balancer = served.gateway.proxy.routes[0].balancer
        assert balancer is not None
        await eventually(lambda: balancer.waiting)
        await served.reload(services={"madre": service(new, token="for-the-new-one")})
        assert (await ask(third)).body == b"new"
        assert [(await one).body, (await two).body] == [b"late but whole", b"late but whole"]
        assert [request.get("X-VX11-Token") for request in up.requests] == [None, None]
        await tasks.close()


async def test_connections_to_an_endpoint_are_kept(tmp_path: Path) -> None:
    async with (
        upstream(answering(ok())) as up,
        serving(tmp_path, {"madre": service(up)}) as served,
        dial(served.port) as wire,
    ):
        assert (await ask(wire)).status == 200
        for number in range(1, 5):
            await served.reload(services={"madre": service(up, {"prefix": "/madre", "timeout": number})})
            assert (await ask(wire)).status == 200
        assert up.connections == 1
        await served.reload(services={"madre": service(up, host="madre.example")})
        assert (await ask(wire)).status == 200
        assert up.connections == 2, "the name for TLS is another one"


@pytest.mark.thorough
async def test_the_incident_of_a_removed_service_ends(
    tmp_path: Path, database: dict[str, Any], refusing_port: int
) -> None:
    down = {"url": f"http://127.0.0.1:{refusing_port}", "probe": {"interval": 0.05, "recheck": 0.05}}
    async with (
        serving(
            tmp_path, {"madre": down, "kept": down}, probes=True, database=database, incidents={"settle": 0.1}
        ) as served,
        dial(served.port) as wire,
    ):

        async def incidents() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads((await ask(wire, target="/vx11/incidents")).body)["incidents"]
            return found

        tracked = served.gateway.incident_service.incident_repository
        await eventually(lambda: len([one for one, _ in tracked.shown() if one.is_open]) == 2)
        await served.reload(services={"kept": down})
        (open_one,) = [one for one, _ in tracked.shown() if one.is_open]
        assert open_one.root == "kept"
        async with asyncio.timeout(10):
            while [one["ending"] for one in await incidents() if one["root"] == "madre"] == [None]:
                await asyncio.sleep(0.05)
        (ended,) = [one for one in await incidents() if one["root"] == "madre"]
        assert ended["ending"] == "The service was removed from the configuration."
        assert ended["ending_code"] == "removed"


async def test_the_row_of_a_removed_service_says_so(tmp_path: Path, database: dict[str, Any]) -> None:
    def rows() -> dict[str, list[Any]]:
        with closing(sqlite3.connect(tmp_path / "tentaculo.db")) as connection:
            query = "SELECT service_name, status, http_code, endpoint_ok, snippet FROM copilot_runtime_services"
            return {name: found for name, *found in connection.execute(query)}

    async with upstream(answering(ok(b"fine"))) as up:
        probed = {"url": f"http://127.0.0.1:{up.port}", "probe": {"interval": 0.05}}
        async with serving(tmp_path, {"madre": probed, "kept": probed}, probes=True, database=database) as served:
            fine = ["OK", 200, "/health", "fine"]
            await eventually(lambda: [rows().get("madre"), rows().get("kept")] == [fine, fine])
            await served.reload(services={"kept": probed})
            gone = ["UNKNOWN", None, None, "The service was removed from the configuration."]
            await eventually(lambda: rows()["madre"] == gone)
            assert rows()["kept"] == fine


@pytest.mark.thorough
async def test_alerts_go_to_the_channels_of_the_new_configuration(
    tmp_path: Path, database: dict[str, Any], refusing_port: int
) -> None:
    down = {"url": f"http://127.0.0.1:{refusing_port}", "probe": {"interval": 0.05, "recheck": 0.05}}
    async with receiving() as old, receiving() as new:
        channel = {"url": old.url, "secrets": [SECRET]}
        async with serving(
            tmp_path, {"one": down}, probes=True, database=database, alerts={"wait": 0, "webhooks": {"duty": channel}}
        ) as served:
            await old.has(1)
            channel = {"url": new.url, "secrets": [SECRET]}
            await served.reload(services={"one": down, "two": down}, alerts={"wait": 0, "webhooks": {"duty": channel}})
            await new.has(1)
            assert len(old.posts) == 1
            assert "two" in new.posts[0].body.decode()
            assert served.gateway.incident_service.alert_channels.kinds == {"duty": "webhook"}


async def test_the_session_of_a_revoked_token_ends_at_once(tmp_path: Path, database: dict[str, Any]) -> None:
    async with serving(tmp_path, {}, database=database) as served, dial(served.port) as wire:
        form = f"token={OTHER}&to=%2Fstatus".encode()
        head = "POST /status/sign-in HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
        lines = f"{head}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        await wire.send(lines.encode() + form)
        signed = await wire.response("POST")
        cookie = (signed.get("Set-Cookie") or "").partition(";")[0]
        assert cookie, (signed.status, signed.body)
        status = "/vx11/incidents"
        assert (await ask(wire, f"Cookie: {cookie}", target=status, token=None)).status == 200
        await served.reload([hash_token(TOKEN)])
        assert (await ask(wire, f"Cookie: {cookie}", target=status, token=None)).status == 401


async def test_a_reload_is_in_the_log_of_events(tmp_path: Path, database: dict[str, Any]) -> None:
    async with upstream(answering(ok())) as up, serving(tmp_path, {}, database=database) as served:
        await served.reload(services={"madre": service(up)}, limits={"body": 5}, log={"level": "error"})
        async with dial(served.port) as wire, asyncio.timeout(10):
            found: list[dict[str, Any]] = []
            while not found:
                target = "/events?type=gateway.configuration.reloaded"
                found = json.loads((await ask(wire, target=target)).body)["events"]
        payload = found[0]["payload"]
        assert (payload["by"], payload["generation"], payload["added"]) == ("a test", 2, ["madre"])
        assert payload["changed_keys"] == ["limits.body"]
        assert [one["key"] for one in payload["needs_restart"]] == ["log.level"]


async def test_a_service_is_switched_off_and_on(tmp_path: Path) -> None:
    async with (
        upstream(answering(ok(b'{"status":"ok"}'))) as up,
        serving(tmp_path, {"madre": service(up)}, probes=True) as served,
        dial(served.port) as wire,
    ):
        board = served.gateway.health_service.board
        await eventually(lambda: board.service("madre").health is Health.UP)
        assert (await ask(wire)).status == 200
        await served.reload(services={"madre": service(up, enabled=False, off_reason="a rest")})
        refused = await ask(wire)
        assert (refused.status, json.loads(refused.body)["error"]) == (503, "service_off")
        assert board.service("madre").health is Health.OFF
        await served.reload(services={"madre": service(up)})
        assert (await ask(wire)).status == 200
        await eventually(lambda: board.service("madre").health is Health.UP)


async def test_an_address_that_a_reload_replaces_counts_no_more(tmp_path: Path, refusing_port: int) -> None:
    """Its last probe had the history count a service that was down as up, until the next start."""
    async with (
        upstream(answering(ok())) as up,
        serving(tmp_path, {"madre": service(up)}, probes=True) as served,
    ):
        health, periods = served.gateway.health_service, list[Period]()
        await eventually(lambda: health.board.health("madre") is Health.UP)
        health.history.flush()
        health.history._record = periods.extend
        await served.reload(services={"madre": {**service(up), "url": f"http://127.0.0.1:{refusing_port}"}})
        await eventually(lambda: health.board.health("madre") is Health.DOWN)
        health.history.flush()
    assert sum(one.probes.failed for one in periods) > 0


async def test_maintenance_that_a_reload_ends_or_keeps_of_a_service_that_it_changes(tmp_path: Path) -> None:
    """The service stayed in maintenance for good, and its alerts were never sent again."""
    plan = {"services": ["madre"], "starts": "2020-01-01T00:00:00Z", "ends": "2090-01-01T00:00:00Z"}
    async with upstream(answering(ok())) as up:
        first = service(up)
        async with serving(tmp_path, {"madre": first}, probes=True, maintenance=[plan]) as served:
            health = partial(served.gateway.health_service.board.health, "madre")
            await eventually(lambda: health() is Health.MAINTENANCE)
            await served.reload(services={"madre": {**first, "about": "changed"}})
            assert health() is Health.MAINTENANCE
            await served.reload(services={"madre": {**first, "enabled": False}})
            assert health() is Health.OFF
            await served.reload(services={"madre": first})
            assert health() is Health.MAINTENANCE
            await served.reload(services={"madre": {**first, "about": "changed"}}, maintenance=[])
            assert health() is not Health.MAINTENANCE
            await eventually(lambda: health() is Health.UP)


async def test_heartbeats_of_services_that_are_added_or_switched_off_and_on(tmp_path: Path) -> None:
    def cron(**more: Any) -> dict[str, Any]:
        return {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 600}, **more}

    async def beat(name: str) -> tuple[int, str | None]:
        response = await ask(wire, "Content-Length: 0", target=f"/vx11/heartbeat/{name}", method="POST")
        return response.status, json.loads(response.body).get("status")

    async with serving(tmp_path, {"cron": cron()}, probes=True) as served, dial(served.port) as wire:
        board = served.gateway.health_service.board
        await served.reload(services={"cron": cron(), "new": cron(aliases=["later"])})
        assert [await beat(name) for name in ("cron", "later")] == [(200, "received")] * 2
        await eventually(lambda: board.service("new").health is Health.UP)
        await served.reload(services={"cron": cron(enabled=False)})
        assert await beat("cron") == (200, "ignored")
        await served.reload(services={"cron": cron(enabled=False, about="off before and after")})
        assert await beat("cron") == (200, "ignored")
        await served.reload(services={"cron": cron()})
        assert await beat("cron") == (200, "received")
        await eventually(lambda: board.service("cron").health is Health.UP)
        assert (await ask(wire, "Content-Length: 0", target="/vx11/heartbeat/new", method="POST")).status == 404


async def test_limits_of_connections_count_those_that_are_open(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as served, dial(served.port) as one, dial(served.port) as two:
        assert (await ask(one, target="/health")).status == 200
        assert (await ask(two, target="/health")).status == 200
        await served.reload(limits={"connections_per_address": 2})
        async with dial(served.port) as three:
            assert (await ask(three, target="/health")).status == 503
        assert (await ask(one, target="/health")).status == 200
        await served.reload(limits={"connections_per_address": 0})
        async with dial(served.port) as three:
            assert (await ask(three, target="/health")).status == 200
