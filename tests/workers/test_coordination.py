"""Several gateways as the workers of one: what the first of them finds out the others know, and what they meet it hears.

Each has a port of its own here, so that a test can choose whom it asks.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.events import tail
from tentaculo.gateway import incident_repository
from tentaculo.gateway.gateway import Gateway
from tentaculo.model.health import Counts, DegradedKind, Health, ServiceView
from tentaculo.model.incident import Incident
from tentaculo.security import sign_in
from tentaculo.security.tokens import hash_token
from tentaculo.store.migrate import upgrade
from tentaculo.workers import coordination as module
from tentaculo.workers.channel import (
    EVENTS,
    LONGEST,
    PING,
    PONG,
    READY,
    RETIRE,
    STOP,
    STOP_NOW,
    PageIncidents,
    WorkerChannel,
    pair,
    recipients,
)
from tentaculo.workers.coordination import WorkerCoordination
from tests.conftest import TOKEN
from tests.gateway.test_sign_in import Browser
from tests.support.waits import eventually
from tests.support.wire import Response, Upstream, answering, dial, ok, read_request, upstream

WAIT = 20.0
HEALTHY = ok(b'{"status": "ok"}', b"Content-Type: application/json")


class Crew:
    """Workers that are gateways in this process, and what stands between them."""

    def __init__(self, config: Config, stack: AsyncExitStack) -> None:
        self.config = config
        """Of the workers that are started next."""
        self._stack = stack
        self._lines: dict[int, WorkerChannel] = {}
        self._gateways: dict[int, AsyncExitStack] = {}
        self._gone: dict[int, asyncio.Event] = {}
        self._heard: dict[int, asyncio.Event] = {}
        self.members: dict[int, WorkerCoordination] = {}

    async def start(self, number: int) -> Gateway:
        ours, theirs = pair()
        gone, heard = self._gone[number], self._heard[number] = asyncio.Event(), asyncio.Event()
        self._lines[number] = WorkerChannel(
            ours, on_message=lambda message: self._pass_on(message, number), on_end=gone.set
        )
        self.members[number] = colleagues = WorkerCoordination(number, 3, "tentaculo-link-shared", theirs)
        colleagues.listen(on_stop=lambda: None, on_stop_now=heard.set, on_retire=lambda: None)
        stack = self._gateways[number] = await self._stack.enter_async_context(AsyncExitStack())
        return await stack.enter_async_context(Gateway(self.config, [hash_token(TOKEN)], coordination=colleagues))

    async def end(self, number: int) -> None:
        """What it told at its end is on its way to the others then."""
        await self._gateways[number].aclose()
        self.members[number].close()
        await asyncio.wait_for(self._gone[number].wait(), WAIT)
        del self._lines[number]

    async def settled(self, number: int) -> None:
        """Wait until a worker has taken all that was on its way to it."""
        self._lines[number].send(STOP_NOW)
        await asyncio.wait_for(self._heard[number].wait(), WAIT)

    def close(self) -> None:
        for line in self._lines.values():
            line.close()

    def _pass_on(self, message: bytes, sender: int) -> None:
        for number in recipients(message, sender, self._lines):
            self._lines[number].send(message)


@asynccontextmanager
async def crew(tmp_path: Path, service: dict[str, Any], url: str | None = None) -> AsyncIterator[Crew]:
    data = {
        "server": {"port": 0, "grace": 1, "workers": 3},
        "database": {"url": url or f"sqlite:///{tmp_path}/none/tentaculo.db"},
        "services": {"madre": {"routes": [{"prefix": "/madre", "auth": "none"}], **service}},
    }
    async with AsyncExitStack() as stack:
        made = Crew(Config.of(data), stack)
        stack.callback(made.close)
        yield made


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_EVERY", 0.02)
    monkeypatch.setattr(module, "LIST_EVERY", 0.02)


def madre(gateway: Gateway) -> ServiceView:
    return gateway.health_service.board.service("madre")


async def ask(gateway: Gateway, target: str, method: str = "GET", body: bytes = b"") -> Response:
    head = [f"{method} {target} HTTP/1.1", "Host: h", f"X-VX11-Token: {TOKEN}", f"Content-Length: {len(body)}"]
    head += ["Content-Type: application/json"] if body else []
    async with dial(gateway.running.addresses[0][1]) as wire:
        await wire.send("\r\n".join([*head, "", ""]).encode() + body)
        return await wire.response(method)


def at(port: int, **probe: Any) -> dict[str, Any]:
    """A service at `port` that is probed once, and then for a reason only."""
    return {"url": f"http://127.0.0.1:{port}", "probe": {"interval": 3600, **probe}}


def probes(up: Upstream) -> int:
    return sum(request.target == "/health" for request in up.requests)


async def test_one_probes_and_all_know(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        with capture_logs() as logs:
            early, leader = await here.start(2), await here.start(1)
            await eventually(lambda: madre(early).health is Health.UP)
            late = await here.start(3)
            await eventually(lambda: madre(late).health is Health.UP)
        for gateway in (leader, early, late):
            shown = json.loads((await ask(gateway, "/vx11/status")).body)
            assert (shown["ok"], shown["modules"]["madre"]["status"]) == (True, "ok")
            assert madre(gateway).probes == Counts(ok=1, failed=0), "what crosses is not counted twice"
            assert madre(gateway).checked_at == madre(leader).checked_at
        assert probes(up) == 1
        assert [entry["event"] for entry in logs].count("health changed") == 1, "one of them tells of it"


async def test_the_page_of_a_service_has_the_same_probes_at_every_worker(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        early, leader = await here.start(2), await here.start(1)
        await eventually(lambda: madre(early).health is Health.UP)
        (last,) = leader.health_service.board.results()
        for number in range(1, 4):
            leader.health_service.accept_result(replace(last, checked_at=last.checked_at + timedelta(seconds=number)))
        shown = leader.health_service.board.probe_log.probes("madre")
        assert len(shown) == 4
        late = await here.start(3)
        for log in (early.health_service.board.probe_log, late.health_service.board.probe_log):
            await eventually(partial(lambda log: log.probes("madre") == shown, log))
        assert madre(late).probes == Counts(ok=1, failed=0), "what is shown is not counted"


async def test_a_follower_takes_results_of_a_leader_whose_clock_was_set_back(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        follower, leader = await here.start(2), await here.start(1)
        await eventually(lambda: madre(follower).health is Health.UP)
        (last,) = leader.health_service.board.results()
        hour_ago = last.checked_at - timedelta(hours=1)
        leader.health_service.accept_result(replace(last, checked_at=hour_ago))
        await eventually(lambda: madre(follower).checked_at == hour_ago)


async def test_what_a_request_meets_anywhere_is_looked_into(tmp_path: Path) -> None:
    well = True

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            await state.note()
            writer.write(HEALTHY if well else ok(b"", status=b"500 No"))
            await writer.drain()

    async with upstream(script) as up, crew(tmp_path, at(up.port, failures=2, recheck=0.01)) as here:
        leader, other = await here.start(1), await here.start(2)
        await eventually(lambda: madre(other).health is Health.UP)
        well = False
        assert (await ask(other, "/madre/x")).status == 500
        await eventually(lambda: madre(leader).health is Health.DOWN)
        await eventually(lambda: madre(other).health is Health.DOWN)


async def test_a_heartbeat_may_come_to_any_of_them(tmp_path: Path) -> None:
    service = {"url": "http://127.0.0.1:1", "probe": {"kind": "heartbeat", "silence": 3600}}
    async with crew(tmp_path, service) as here:
        leader, other, third = [await here.start(number) for number in (1, 2, 3)]
        assert (await ask(other, "/vx11/heartbeat/madre", "POST")).status == 200
        await eventually(lambda: {madre(gateway).health for gateway in (leader, other, third)} == {Health.UP})


async def test_maintenance_is_known_everywhere_and_its_end_as_well(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        leader, other = await here.start(1), await here.start(2)
        leader.health_service.set_maintenance("madre", "a new disk")
        await eventually(lambda: madre(other).maintenance == "a new disk")
        late = await here.start(3)
        await eventually(lambda: madre(late).maintenance == "a new disk")
        await here.end(1)
        assert madre(other).health is Health.MAINTENANCE
        # The next leader knows of none: it ended while nobody led.
        await here.start(1)
        await eventually(lambda: madre(other).health is madre(late).health is Health.UP)


async def test_slow_requests_are_known_everywhere_and_their_end_as_well(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        leader, other = await here.start(1), await here.start(2)
        await eventually(lambda: madre(other).health is Health.UP)
        leader.health_service.set_slow("madre", "95 % take 900 ms")
        await eventually(lambda: madre(other).reason == "95 % take 900 ms")
        assert madre(other).kind is DegradedKind.SLOW
        late = await here.start(3)
        await eventually(lambda: madre(late).kind is DegradedKind.SLOW)
        leader.health_service.set_slow("madre", None)
        await eventually(lambda: madre(other).health is madre(late).health is Health.UP)


async def test_maintenance_may_be_planned_and_ended_through_any_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_repository, "VISIT_EVERY", 0.02)
    monkeypatch.setattr(incident_repository, "PAUSE", 0.01)
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    await asyncio.to_thread(upgrade, url)
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port), url) as here:
        gateways = [await here.start(number) for number in (1, 2, 3)]
        await eventually(lambda: {madre(gateway).health for gateway in gateways} == {Health.UP})
        window = b'{"services": ["madre"], "minutes": 60, "reason": "a new disk"}'
        planned = await ask(gateways[1], "/vx11/maintenance", "POST", window)
        assert planned.status == 201
        await eventually(lambda: {madre(gateway).health for gateway in gateways} == {Health.MAINTENANCE})
        number = json.loads(planned.body)["id"]
        assert (await ask(gateways[2], f"/vx11/maintenance/{number}", "DELETE")).status == 200
        await eventually(lambda: {madre(gateway).health for gateway in gateways} == {Health.UP})


async def test_the_leaders_successor_probes_and_the_others_hear_it(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        await here.start(1)
        other = await here.start(2)
        await eventually(lambda: madre(other).health is Health.UP)
        await here.end(1)
        assert madre(other).health is Health.UP, "what was known stays"
        assert (await ask(other, "/madre/x")).status == 200
        await here.start(1)
        await eventually(lambda: madre(other).probes.ok == 2)
        assert probes(up) == 2


async def test_incidents_are_shown_everywhere_and_opened_once(tmp_path: Path) -> None:
    async with upstream(answering(ok(b"", status=b"500 No"))) as up, crew(tmp_path, at(up.port)) as here:
        leader, other = await here.start(1), await here.start(2)
        await eventually(lambda: here.members[2].shown())
        late = await here.start(3)
        await eventually(lambda: here.members[3].shown())
        ((incident, _),) = leader.incident_service.incident_repository.shown()
        for gateway in (leader, other, late):
            page = (await ask(gateway, "/status")).body.decode()
            assert f'id="incident-{incident.id}"' in page
        assert other.incident_service.incident_repository.shown() == []


async def test_what_requests_met_anywhere_is_in_one_history(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tentaculo.db"
    await asyncio.to_thread(upgrade, url)
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port), url) as here:
        for number, requests in ((1, 2), (2, 3), (3, 4)):
            gateway = await here.start(number)
            for _ in range(requests):
                assert (await ask(gateway, "/madre/x")).status == 200
        for number in (3, 2):
            await here.end(number)
        await here.settled(1)
        await here.end(1)
    with closing(sqlite3.connect(tmp_path / "tentaculo.db")) as connection:
        rows = connection.execute(
            "select sum(probes_ok), sum(requests_ok), sum(requests_failed) from tentaculo_history"
        )
        assert rows.fetchone() == (1, 9, 0)
        routes = connection.execute(
            "select route, sum(requests_ok), sum(requests_failed) from tentaculo_route_history group by service, route"
        )
        assert routes.fetchall() == [("/madre", 9, 0)]
        table = connection.execute("select service_name, status from copilot_runtime_services").fetchall()
        assert dict(table) == {"madre": "OK", "tentaculo_link": "UNKNOWN"}


async def test_they_go_by_one_name_and_label_their_numbers(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        for number in (1, 2):
            gateway = await here.start(number)
            await ask(gateway, "/madre/via")
            lines = (await ask(gateway, "/metrics")).body.decode().splitlines()
            samples = [line for line in lines if line and not line.startswith("#")]
            assert len(samples) > 20
            assert {found[1] if (found := re.search(r'worker="(\d)"', line)) else line for line in samples} == {
                str(number)
            }
        names = {request.get("via") for request in up.requests if request.target == "/madre/via"}
        assert names == {"1.1 tentaculo-link-shared"}


async def test_orders_come_from_the_supervisor_and_its_end_is_one() -> None:
    ours, theirs = pair()
    told: list[bytes] = []
    line = WorkerChannel(ours, on_message=told.append, on_end=lambda: None)
    orders: list[str] = []
    colleagues = WorkerCoordination(2, 2, "x", theirs)
    colleagues.listen(
        on_stop=lambda: orders.append("stop"),
        on_stop_now=lambda: orders.append("hurry"),
        on_retire=lambda: orders.append("retire"),
    )
    colleagues.report_ready()
    for message in (PING, STOP, STOP_NOW, RETIRE, b"\2what comes before it has joined is not taken"):
        line.send(message)
    await eventually(lambda: len(orders) == 3 and told == [READY, PONG])
    with capture_logs() as logs:
        line.close()
        await eventually(lambda: len(orders) == 4)
    assert orders == ["stop", "hurry", "retire", "stop"]
    assert [entry["event"] for entry in logs] == ["supervisor gone"]


async def test_hundreds_of_incidents_fit_into_a_message() -> None:
    ours, theirs = pair()
    heard: list[bytes] = []
    line = WorkerChannel(ours, on_message=heard.append, on_end=lambda: None)
    colleagues = WorkerCoordination(1, 2, "x", theirs)
    colleagues.listen(on_stop=lambda: None, on_stop_now=lambda: None, on_retire=lambda: None)
    now = datetime.now(UTC)
    incidents = [
        (Incident(number, "madre", ("madre",) * 50, Health.DOWN, "r" * 500, started_at=now, seen_at=now), ())
        for number in range(500)
    ]
    colleagues._send(PageIncidents(incidents, ()))
    await eventually(lambda: heard)
    assert 10_000 < len(heard[0]) < LONGEST
    told = pickle.loads(heard[0][1:])
    assert [one.id for one, _ in told.incidents] == list(range(len(told.incidents)))
    assert len(told.incidents) + told.not_listed == 500
    line.close()


async def test_an_event_that_one_stores_reaches_the_listeners_of_the_others_by_the_bell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LOOK_EVERY", 3600)
    url = f"sqlite:///{tmp_path}/fleet.db"
    upgrade(url)
    async with crew(tmp_path, at(9), url) as here, ClientSession(headers={"X-VX11-Token": TOKEN}) as client:
        gateways = [await here.start(number) for number in (1, 2, 3)]
        base = [f"http://127.0.0.1:{gateway.running.addresses[0][1]}" for gateway in gateways]
        sockets = [await client.ws_connect(f"{one}/ws") for one in base]
        for socket in sockets:
            assert (await socket.receive_json(timeout=WAIT))["type"] == "connected"
        body = {"source": "s", "type": "t", "payload": {}, "broadcast": True}
        for one in base:
            async with client.post(f"{one}/events/ingest", json=body) as response:
                assert response.status == 201
                id_ = (await response.json())["id"]
            for socket in sockets:
                assert (await socket.receive_json(timeout=WAIT))["event_id"] == id_
        for socket in sockets:
            await socket.close()


async def test_events_that_come_together_are_reported_once() -> None:
    ours, theirs = pair()
    messages: list[bytes] = []
    line = WorkerChannel(ours, on_message=messages.append, on_end=lambda: None)
    member = WorkerCoordination(2, 2, "tentaculo-link-shared", theirs)
    member.listen(on_stop=lambda: None, on_stop_now=lambda: None, on_retire=lambda: None)
    for _ in range(1000):
        member.report_events()
    await eventually(lambda: messages)
    member.report_events()
    await eventually(lambda: len(messages) == 2)
    assert set(messages) == {EVENTS}
    member.close()
    line.close()


async def test_all_workers_have_one_count_of_failed_sign_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "MOST_FAILURES", 4)
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        gateways = {number: await here.start(number) for number in (1, 2, 3)}
        browsers = {number: Browser(one.running.addresses[0][1]) for number, one in gateways.items()}
        for number in (2, 3, 1, 2):
            assert (await browsers[number].sign_in("wrong")).status == 403
            for other in gateways.keys() - {number}:
                await here.settled(other)
        for browser in browsers.values():
            refused = await browser.sign_in()
            assert refused.status == 429
            # The minute began with the last failure.
            assert 30 < int(refused.get("retry-after") or 0) <= 60
            browser.extra = (b"X-Forwarded-For: 10.0.0.9",)
            assert (await browser.sign_in()).status == 429, "nobody trusts this client's word"
