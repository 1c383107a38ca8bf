"""Health that can be trusted: what probes and what requests say of a service, joined, over real sockets.

No probe here comes by its interval, which is an hour: what is noticed, is noticed because somebody was suspicious.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tentaculo.model.health import BreakerState, DegradedKind, Health, ServiceView
from tests.conftest import Live, Start
from tests.support.wire import Request, Response, Upstream, Wire, answering, dial, ok, upstream

GET = b"GET /s/work HTTP/1.1\r\nHost: h\r\n\r\n"
ROUTE = {"prefix": "/s", "strip": True, "auth": "none"}
STATUSES_COUNT = [{**ROUTE, "breaker_statuses": ["500-599"]}]
PROBE = {"interval": 3600, "recheck": 0.02, "timeout": 5}


class Liar:
    """A service whose health path need not say the truth."""

    def __init__(self) -> None:
        self.health = self.work = b"200 OK"

    def answer(self, request: Request) -> bytes:
        return ok(status=self.health if request.target == "/health" else self.work)


def service(port: int, **keys: Any) -> dict[str, Any]:
    return {
        "url": f"http://127.0.0.1:{port}",
        "routes": [ROUTE],
        "probe": PROBE,
        **keys,
    }


def view(live: Live, name: str = "s") -> ServiceView:
    return live.gateway.health_service.board.service(name)


async def until(check: Callable[[], bool], wire: Wire | None = None) -> list[int]:
    """Wait until `check()`, asking for `/s/work` meanwhile where there is a `wire`; the statuses of the answers."""
    statuses = []
    async with asyncio.timeout(20):
        while not check():
            if wire is not None:
                statuses.append((await ask(wire)).status)
            await asyncio.sleep(0.005)
    return statuses


async def ask(wire: Wire) -> Response:
    await wire.send(GET)
    return await wire.response()


@asynccontextmanager
async def lying(start: Start, liar: Liar, **keys: Any) -> AsyncIterator[tuple[Live, Wire, Upstream]]:
    async with upstream(answering(liar.answer)) as up:
        live = await start({"s": service(up.port, **keys)}, probes=True)
        async with dial(live.port) as wire:
            yield live, wire, up


async def test_a_health_path_that_says_well_while_requests_fail(start: Start) -> None:
    liar = Liar()
    async with lying(start, liar, breaker={"failures": 5, "open_for": 60}, routes=STATUSES_COUNT) as (live, wire, _):
        await until(lambda: view(live).health is Health.UP)
        liar.work = b"500 Oops"
        statuses = await until(lambda: view(live).health is not Health.UP, wire)
        found = view(live)
        assert found.health is Health.DEGRADED
        assert "5 failures in a row: answered 500" in found.reason
        assert "though its probes pass" in found.reason
        assert statuses.count(500) == 5, "the breaker has opened, and the probe followed at once"
        assert (found.traffic.failed, found.probes.failed) == (5, 0)

        refusal = await ask(wire)
        assert refusal.status == 503
        told = json.loads(refusal.body)
        assert (told["error"], told["reason"]) == ("circuit_open", "5 failures in a row: answered 500")
        assert told["since"].endswith("Z")
        assert told["last_seen_well"].endswith("Z")
        assert told["retry_after"] == int(refusal.get("retry-after") or 0) <= 60


async def test_requests_that_fail_with_a_status_degrade_a_service_and_pause_nothing(start: Start) -> None:
    liar = Liar()
    async with lying(start, liar, breaker={"failures": 5, "open_for": 60}) as (live, wire, _):
        await until(lambda: view(live).health is Health.UP)
        liar.work = b"500 Oops"
        await until(lambda: view(live).health is Health.DEGRADED, wire)
        found = view(live)
        assert (found.kind, found.breaker.state) == (DegradedKind.FAILING, BreakerState.CLOSED)
        assert "requests within 10 s failed, though its probes pass" in found.reason
        assert (await ask(wire)).status == 500


async def test_some_failing_requests_are_shown_and_shut_nobody_out(start: Start) -> None:
    liar, number = Liar(), 0

    def every_third(request: Request) -> bytes:
        nonlocal number
        number += request.target != "/health"
        liar.work = b"500 Oops" if number % 3 == 0 else b"200 OK"
        return liar.answer(request)

    async with upstream(answering(every_third)) as up:
        live = await start({"s": service(up.port)}, probes=True)
        async with dial(live.port) as wire:
            await until(lambda: view(live).health is Health.UP)
            statuses = await until(lambda: view(live).health is Health.DEGRADED, wire)
        assert "requests within 10 s failed, though its probes pass" in view(live).reason
        assert view(live).breaker.state is BreakerState.CLOSED
        assert set(statuses) == {200, 500}


async def test_a_health_path_that_fails_while_requests_pass(start: Start) -> None:
    liar = Liar()
    async with lying(start, liar) as (live, wire, _):
        await until(lambda: view(live).health is Health.UP)
        liar.health = b"500 Oops"
        live.gateway.health_service.probe_now("s")
        statuses = await until(lambda: view(live).health is not Health.UP, wire)
        statuses += await until(lambda: "requests within 10 s passed" in view(live).reason, wire)
        assert view(live).health is Health.DEGRADED
        assert set(statuses) == {200}, "it works, and nobody is shut out"
        assert view(live).breaker.state is BreakerState.CLOSED
        assert (view(live).traffic.failed, view(live).probes.failed >= 3) == (0, True)


async def test_a_service_that_is_not_probed(start: Start) -> None:
    """Its requests alone decide, also when no more of them come."""
    liar = Liar()
    probe = {"kind": "none"}
    breaker = {"failures": 5, "open_for": 0.3, "window": 0.3}
    async with lying(start, liar, breaker=breaker, probe=probe, routes=STATUSES_COUNT) as (live, wire, up):
        assert (view(live).health, view(live).reason) == (Health.UP, "not probed; its requests decide")
        liar.work = b"500 Oops"
        await until(lambda: view(live).health is Health.DOWN, wire)
        assert view(live).reason == "requests failed (5 failures in a row: answered 500)"
        await until(lambda: view(live).health is Health.DEGRADED)
        liar.work = b"200 OK"
        await until(lambda: view(live).health is Health.UP, wire)
        assert view(live).probes.failed == view(live).probes.ok == 0
        assert {request.target for request in up.requests} == {"/work"}


async def test_a_service_that_dies_and_comes_back(start: Start) -> None:
    liar = Liar()
    async with upstream(answering(liar.answer)) as up:
        live = await start({"s": service(up.port, breaker={"failures": 2, "open_for": 60})}, probes=True)
        port = up.port
        await until(lambda: view(live).health is Health.UP)
    async with dial(live.port) as wire:
        assert (await ask(wire)).status == 502
        await until(lambda: view(live).health is Health.DOWN)
        assert view(live).reason == "connection refused"
        statuses = await until(lambda: view(live).breaker.state is BreakerState.OPEN, wire)
        assert set(statuses) <= {502, 503}

        server = await asyncio.start_server(_serve(liar), "127.0.0.1", port)
        try:
            # Nobody asks it, since the breaker is open for a minute: a probe finds it, and lets the trial go.
            live.gateway.health_service.probe_now("s")
            await until(lambda: view(live).health in (Health.UP, Health.DEGRADED))
            assert (await ask(wire)).status == 200
            assert view(live).breaker.state is BreakerState.CLOSED
            await until(lambda: view(live).health is Health.UP)
        finally:
            server.close()


def _serve(liar: Liar) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    script = answering(liar.answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer, Upstream(0))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    return serve


@pytest.mark.parametrize("status", [b"404 Not Found", b"429 Too Many Requests", b"501 Not Implemented"])
async def test_what_is_the_callers_own_is_no_suspicion(start: Start, status: bytes) -> None:
    liar = Liar()
    liar.work = status
    async with lying(start, liar) as (live, wire, up):
        await until(lambda: view(live).health is Health.UP)
        for _ in range(20):
            assert (await ask(wire)).status == int(status[:3])
        assert view(live).health is Health.UP
        assert sum(request.target == "/health" for request in up.requests) == 1


async def test_a_child_and_its_parent(start: Start) -> None:
    """The parent's interval is an hour: it is asked because its child fails."""
    liar = Liar()
    async with upstream(answering(liar.answer)) as parent, upstream(answering(liar.answer)) as child:
        services = {
            "s": service(child.port, depends_on=["db"]),
            "db": {"url": f"http://127.0.0.1:{parent.port}", "probe": PROBE},
        }
        live = await start(services, probes=True)
        await until(lambda: all(view(live, name).health is Health.UP for name in services))
        liar.health = liar.work = b"500 Oops"
        async with dial(live.port) as wire:
            assert (await ask(wire)).status == 500
        await until(lambda: all(view(live, name).health is Health.DOWN for name in services))
        assert (view(live, "s").root, view(live, "db").root) == ("db", None)


async def test_a_pause_of_the_gateway_ends_no_request(start: Start) -> None:
    """Its time limits are over when it continues, but the response has arrived meanwhile."""
    arrived = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            arrived.set()
            time.sleep(0.2)
            connection.sendall(ok())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        table = service(listener.getsockname()[1], breaker={"failures": 1})
        live = await start({"s": table}, limits={"first_byte": 0.5})
        async with dial(live.port) as wire:
            await wire.send(GET)
            await until(arrived.is_set)
            time.sleep(0.8)
            assert (await wire.response()).status == 200
        thread.join()
        assert view(live).breaker.state is BreakerState.CLOSED


async def test_the_own_health_path_keeps_its_query(start: Start) -> None:
    liar = Liar()
    async with lying(start, liar, health="/sys/health/?standby=ok") as (_, wire, up):
        for query in ("", "?more=1"):
            await wire.send(b"GET /s/health%b HTTP/1.1\r\nHost: h\r\n\r\n" % query.encode())
            assert (await wire.response()).status == 200
    targets = [request.target for request in up.requests if request.get("user-agent") is None]
    assert targets == ["/sys/health/?standby=ok", "/sys/health/?standby=ok&more=1"]


async def test_the_own_health_path_has_the_headers_of_all_routes(start: Start) -> None:
    liar = Liar()
    route = {"prefix": "/s", "strip": True, "auth": "none", "set_headers": {"Authorization": "Basic dTpw"}}
    async with lying(start, liar, routes=[route]) as (_, wire, up):
        await wire.send(b"GET /s/health HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.response()).status == 200
    assert len(up.requests) == 2, "the probe, and the request"
    assert [request.get("authorization") for request in up.requests] == ["Basic dTpw"] * 2


async def test_a_heartbeat(start: Start) -> None:
    cron = {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 0.5, "interval": 3600}}
    live = await start({"cron": cron}, probes=True)
    beat = b"POST /vx11/heartbeat/cron HTTP/1.1\r\nHost: h\r\n%bContent-Type: application/json\r\n" % live.auth
    told: list[tuple[Health, str]] = []
    live.gateway.health_service.on_transition.append(lambda change, _: told.append((change.after, change.reason)))
    async with dial(live.port) as wire:
        said = b'{"status": "warn", "message": "late"}'
        await wire.send(beat + b"Content-Length: %d\r\n\r\n%b" % (len(said), said))
        assert (await wire.response()).status == 200
    await until(lambda: [health for health, _ in told][-2:] == [Health.DEGRADED, Health.DOWN])
    (_, weak), (_, silent) = told[-2:]
    assert weak == "its last heartbeat came 0 s ago, but calls itself warn"
    assert silent.startswith("no heartbeat for ")


async def test_one_trial_at_a_time_and_no_straggler_is_taken_for_it(start: Start) -> None:
    """A request from before the breaker opened answers while the trial is out; the others are refused meanwhile."""
    held: dict[str, asyncio.Future[bytes]] = {}

    async def answer(request: Request) -> bytes:
        name = request.target.removeprefix("/")
        if name == "fail":
            return ok(status=b"500 Oops")
        held[name] = asyncio.get_running_loop().create_future()
        return await held[name]

    async with upstream(answering(answer)) as up:
        live = await start({"s": service(up.port, breaker={"failures": 2, "open_for": 0.05}, routes=STATUSES_COUNT)})
        breaker = live.gateway.health_service.breakers.of(
            live.gateway.health_service.board.service("s").upstreams[0].upstream
        )

        async def get(name: str) -> int:
            async with dial(live.port) as wire:
                await wire.send(b"GET /s/%b HTTP/1.1\r\nHost: h\r\n\r\n" % name.encode())
                return (await wire.response()).status

        async with asyncio.TaskGroup() as group:
            straggler = group.create_task(get("straggler"))
            await until(lambda: "straggler" in held)
            assert [await get("fail"), await get("fail")] == [500, 500]
            assert not breaker.is_closed
            await until(lambda: breaker.view().state is BreakerState.HALF_OPEN)
            trial = group.create_task(get("trial"))
            await until(lambda: "trial" in held)
            assert [await get("other") for _ in range(10)] == [503] * 10
            held["straggler"].set_result(ok())
            assert await straggler == 200
            assert not breaker.is_closed
            assert await get("other") == 503, "the trial is still out"
            held["trial"].set_result(ok())
            assert await trial == 200
            await until(lambda: breaker.is_closed)
    assert sum(request.target == "/other" for request in up.requests) == 0
