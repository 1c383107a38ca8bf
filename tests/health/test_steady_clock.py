"""The steady clock, and what happens to incidents and alerts when the system clock is set."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from tentaculo.health import steady_clock as clock_module
from tentaculo.health.prober import Prober
from tentaculo.health.steady_clock import Correct, PauseDetector, SteadyClock, time_since_boot
from tentaculo.model.health import Health
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.store import migrate
from tentaculo.store.database import once
from tentaculo.store.incidents import windows
from tests.gateway.test_incident_service import Services, gateway, services, told
from tests.support.clock_steps import clock_ahead
from tests.support.gateway_process import Running, running_gateway
from tests.support.health import Clock, Serve, answer, fleet
from tests.support.waits import eventually
from tests.support.webhook_receiver import receiving


async def test_a_gap_is_a_pause() -> None:
    clock, lengths = Clock(), list[float]()
    pauses = PauseDetector(clock)
    pauses.on_pause.append(lengths.append)
    clock.seconds += 100
    assert pauses.check() == 0, "it is not started"
    pauses.start()
    for step, count in ((0, 0), (0.25, 0), (1.2, 0), (1.25, 1), (0.1, 1), (600, 2)):
        clock.seconds += step
        assert pauses.check() == count
    pauses.stop()
    clock.seconds += 100
    assert pauses.check() == 2
    assert lengths == [1.0, 599.75]
    assert repr(pauses) == "<PauseDetector: 2 pauses>"


async def test_the_timer_notices_a_blocked_loop() -> None:
    pauses = PauseDetector()
    pauses.start()
    before = pauses.check()
    time.sleep(1.3)
    await eventually(lambda: pauses.count > before)
    pauses.stop()


def test_the_clock_does_not_go_back() -> None:
    assert time_since_boot() <= time_since_boot()


async def test_a_probe_that_fell_into_a_pause_is_repeated(serve: Serve) -> None:
    clock = Clock()
    pauses = PauseDetector(clock)
    asked = 0

    async def pause_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        if asked == 1:
            clock.seconds += 60
            writer.transport.abort()
        else:
            writer.write(answer())

    config = fleet(madre={"url": f"http://127.0.0.1:{await serve(pause_at_first)}", "probe": {"timeout": 10}})
    pauses.start()
    result = await Prober(config, pauses=pauses).probe(config.services["madre"].upstreams[0])
    pauses.stop()
    assert (result.health, asked) == (Health.UP, 2)


async def test_a_gateway_that_pauses_all_the_time_does_not_know(serve: Serve) -> None:
    clock = Clock()
    pauses = PauseDetector(clock)

    async def pause(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        clock.seconds += 60
        writer.transport.abort()

    config = fleet(madre={"url": f"http://127.0.0.1:{await serve(pause)}", "probe": {"timeout": 10}})
    pauses.start()
    result = await Prober(config, pauses=pauses).probe(config.services["madre"].upstreams[0])
    pauses.stop()
    assert (result.health, pauses.count) == (Health.UNKNOWN, 3)
    assert result.reason.startswith("not sent: the gateway was paused")


async def _modules(running: Running, session: ClientSession) -> dict[str, Any]:
    async with session.get(f"{running.url}/vx11/status") as response:
        modules: dict[str, Any] = (await response.json())["modules"]
    return modules


@pytest.mark.command
async def test_a_stopped_process_blames_no_service(serve: Serve) -> None:
    """SIGSTOP for longer than the time limit of a probe that is under way, and than a silence."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.sleep(0.3)
        writer.write(answer())

    asked = asyncio.Event()
    at_once = {"failures": 1, "successes": 1, "interval": 0.1}
    services = {
        "slow": {"url": f"http://127.0.0.1:{await serve(slow)}", "probe": {**at_once, "timeout": 2}},
        "cron": {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 2.5, "interval": 0.1}},
    }
    async with running_gateway({"services": services}) as running, ClientSession(headers=running.headers) as session:

        async def beat() -> None:
            async with session.post(f"{running.url}/vx11/heartbeat/cron") as response:
                assert response.status < 300

        async def are_up() -> bool:
            return all(one["status"] == "ok" for one in (await _modules(running, session)).values())

        await beat()
        async with asyncio.timeout(20):
            while not await are_up():
                await beat()
                await asyncio.sleep(0.05)
        before = await _modules(running, session)
        asked.clear()
        await asked.wait()
        os.kill(running.process.pid, signal.SIGSTOP)
        await asyncio.sleep(4)  # the pause itself
        os.kill(running.process.pid, signal.SIGCONT)
        async with asyncio.timeout(20):
            while "process paused" not in running.output.read_text():
                await asyncio.sleep(0.05)
            await beat()
            later = await _modules(running, session)
            while later["slow"]["checked_at"] <= before["slow"]["checked_at"]:
                await asyncio.sleep(0.05)
                later = await _modules(running, session)
    assert {name: (one["status"], one["since"]) for name, one in later.items()} == {
        name: (one["status"], one["since"]) for name, one in before.items()
    }


__all__ = ["services"]

START = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


class Clocks:
    """A system clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.system = START.timestamp()
        self.elapsed = 50.0
        self.steady = SteadyClock(system=lambda: self.system, elapsed=lambda: self.elapsed)
        self.corrections: list[Correct] = []
        self.steady.on_step.append(self.corrections.append)

    def after(self, seconds: float, *, set_by: float = 0.0) -> datetime:
        self.system += seconds + set_by
        self.elapsed += seconds
        return self.steady.now()


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def test_it_goes_on_steadily_until_it_is_checked(clocks: Clocks) -> None:
    assert clocks.steady.now() == START
    assert clocks.after(10) == START + timedelta(seconds=10)
    assert clocks.after(10, set_by=-7200) == START + timedelta(seconds=20)
    with capture_logs() as logs:
        clocks.steady.check()
    assert clocks.steady.now() == START + timedelta(seconds=20 - 7200)
    assert [(entry["event"], entry["seconds"]) for entry in logs] == [("system clock set", -7200.0)]


@pytest.mark.parametrize("by", [-7200.0, 400 * 86400.0])
def test_what_this_process_recorded_is_corrected_and_nothing_else(clocks: Clocks, by: float) -> None:
    recorded = clocks.after(10)
    clocks.after(10, set_by=by)
    clocks.steady.check()
    (correct,) = clocks.corrections
    step = timedelta(seconds=by)
    assert correct(START) == START + step
    assert correct(recorded) == recorded + step
    assert clocks.steady.now() - correct(recorded) == timedelta(seconds=10), "durations stay"
    for other in (START - timedelta(seconds=1), START + timedelta(seconds=21)):
        assert correct(other) == other
    # A second time: the moments of this process are where the first correction left them.
    clocks.after(5, set_by=-by)
    clocks.steady.check()
    assert clocks.corrections[1](correct(recorded)) == recorded


def test_a_clock_that_is_adjusted_by_a_little_is_followed(clocks: Clocks) -> None:
    before = clocks.steady.now()
    for _ in range(100):
        now = clocks.after(1, set_by=-0.4)
        clocks.steady.check()
        assert now > before
        before = clocks.steady.now()
    assert clocks.corrections == []
    assert clocks.steady.now().timestamp() == pytest.approx(clocks.system)


def test_it_is_steady_an_hour_after_it_was_set(clocks: Clocks) -> None:
    for set_by in (0.0, 3600.0, -3600.0, 0.1):
        clocks.after(1, set_by=set_by)
        clocks.steady.check()
        if abs(set_by) > 1 or not set_by:
            assert not clocks.steady.is_steady()
            clocks.after(clock_module.STEADY)
        assert clocks.steady.is_steady()


async def test_a_failed_correction_does_not_end_the_checks(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    from tentaculo.tasks import TaskGroup

    monkeypatch.setattr(clock_module, "CHECK_EVERY", 0.001)

    def broken(_: Correct) -> None:
        raise ValueError("a listener's fault")

    clocks.steady.on_step.insert(0, broken)
    tasks = TaskGroup("test")
    with capture_logs() as logs:
        clocks.after(1, set_by=60)
        tasks.start(clocks.steady.run(), "clock")
        # The parts behind the one that failed are corrected too.
        await eventually(lambda: len(clocks.corrections) == 1)
        clocks.after(1, set_by=60)
        await eventually(lambda: len(clocks.corrections) == 2)
        await tasks.close()
    assert [entry["event"] for entry in logs] == ["system clock set", "clock correction failed"] * 2


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how many seconds the system clock of the gateway is ahead."""
    return clock_ahead(monkeypatch)


@pytest.mark.thorough
@pytest.mark.parametrize("by", [3600.0, -400 * 86400.0])
async def test_a_clock_that_is_set_during_an_incident_neither_delays_nor_repeats_an_alert(
    services: Services, tmp_path: Path, ahead: list[float], by: float
) -> None:
    file = tmp_path / "fleet.db"
    migrate.upgrade(f"sqlite:///{file}")
    ahead[0] = by
    services.down.add("hermes")
    fleet = {"hermes": services.table("hermes")}
    async with receiving() as receiver, gateway(file, fleet, receiver, alerts={"wait": 1}) as client:
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        begun = datetime.fromisoformat(opened["started_at"])
        ahead[0] = 0.0
        path = f"/vx11/incidents/{opened['id']}"
        corrected = await client.until(path, lambda one: one["started_at"] != opened["started_at"])
        moment = datetime.fromisoformat(corrected["started_at"])
        assert abs(begun - moment - timedelta(seconds=by)) < timedelta(seconds=1)
        assert moment <= datetime.now(UTC)
        status = await client.get("/vx11/status")
        since = datetime.fromisoformat(status["modules"]["hermes"]["since"])
        assert abs(since - moment) < timedelta(minutes=1)
        await receiver.has(1)
        # Once more, after the message was delivered.
        ahead[0] = -by
        await client.until(path, lambda one: one["started_at"] != corrected["started_at"])
        services.down.clear()
        over = await client.until(path, lambda one: one["ended_at"])
        await receiver.has(2)
        lasted = datetime.fromisoformat(over["ended_at"]) - datetime.fromisoformat(over["started_at"])
        assert timedelta() <= lasted < timedelta(minutes=1)
    found = told(receiver)
    assert [kind for kind, _ in found] == ["incident.opened", "incident.ended"]
    assert found[1][1].startswith("hermes: over after")
    assert found[1][1].endswith(" s")


@pytest.mark.parametrize("by", [7200.0, -7200.0])
async def test_a_window_of_so_many_minutes_is_as_long_when_the_clock_is_set(
    services: Services, tmp_path: Path, ahead: list[float], by: float
) -> None:
    file = tmp_path / "fleet.db"
    url = f"sqlite:///{file}"
    migrate.upgrade(url)
    ahead[0] = by
    fleet = {"hermes": services.table("hermes"), "mcp": services.table("mcp")}
    async with gateway(file, fleet) as client:
        planned = await client.post(
            "/vx11/maintenance", {"services": ["hermes"], "minutes": 60, "reason": "a new disk"}
        )
        fixed = (datetime.now(UTC) + timedelta(hours=9)).isoformat()
        kept = await client.post("/vx11/maintenance", {"services": ["mcp"], "ends_at": fixed, "reason": "by hand"})
        ahead[0] = 0.0
        moved = await client.until(
            "/vx11/maintenance",
            lambda found: [one for one in found["maintenance"] if one["starts_at"] != planned["starts_at"]][1:],
        )
        by_id = {one["id"]: one for one in moved["maintenance"]}
        window = by_id[planned["id"]]
        start, end = (datetime.fromisoformat(window[name]) for name in ("starts_at", "ends_at"))
        assert end - start == timedelta(minutes=60)
        assert timedelta() <= datetime.now(UTC) - start < timedelta(minutes=1)
        assert by_id[kept["id"]]["ends_at"] == kept["ends_at"], "the end was given as a moment"
        assert window["holds"]
        assert (await client.get("/vx11/status"))["modules"]["hermes"]["status"] == "maintenance"
        await eventually(
            lambda: {one.id: one.ends_at for one in once(url, lambda c: windows(c, START, 9))}[planned["id"]] == end
        )


@pytest.mark.thorough
@pytest.mark.parametrize("by", [7200.0, -7200.0])
async def test_a_window_that_a_follower_took_is_as_long_when_the_clock_is_set(
    services: Services, tmp_path: Path, ahead: list[float], by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker or machine that does not lead keeps no incidents, but it stores the windows that it was asked for."""
    file = tmp_path / "fleet.db"
    url = f"sqlite:///{file}"
    migrate.upgrade(url)
    monkeypatch.setattr("tentaculo.gateway.leading.Leading.leading", lambda *_: nullcontext())
    ahead[0] = by
    async with gateway(file, {"hermes": services.table("hermes")}) as client:
        before = datetime.now(UTC)
        number = (await client.post("/vx11/maintenance", {"services": ["*"], "minutes": 60, "reason": "a disk"}))["id"]
        ahead[0] = 0.0

        def stored() -> MaintenanceWindow:
            return {one.id: one for one in once(url, lambda c: windows(c, START, 9))}[number]

        await eventually(lambda: abs(stored().starts_at - before) < timedelta(minutes=1))
        assert stored().ends_at - stored().starts_at == timedelta(minutes=60)
