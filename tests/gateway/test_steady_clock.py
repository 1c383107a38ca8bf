"""The steady clock, and what happens to incidents and alerts when the system clock is set."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tentaculo.gateway import gateway as gateway_module
from tentaculo.gateway import incident_repository, incident_service
from tentaculo.gateway import steady_clock as clock_module
from tentaculo.gateway.steady_clock import Correct, SteadyClock
from tentaculo.store import migrate
from tentaculo.store.database import once
from tentaculo.store.incidents import windows
from tests.gateway.test_incident_service import Services, gateway, services, told
from tests.support.waits import eventually
from tests.support.webhook_receiver import receiving

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
        await eventually(lambda: logs)
        clocks.steady.on_step.remove(broken)
        clocks.after(1, set_by=60)
        await eventually(lambda: clocks.corrections)
        await tasks.close()


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how many seconds the system clock of the gateway is ahead."""
    ahead = [0.0]
    monkeypatch.setattr(clock_module, "CHECK_EVERY", 0.01)
    monkeypatch.setattr(gateway_module, "SteadyClock", lambda: SteadyClock(system=lambda: time.time() + ahead[0]))
    monkeypatch.setattr(incident_service, "TICK", 0.02)
    monkeypatch.setattr(incident_service, "ROUND", 1)
    monkeypatch.setattr(incident_repository, "VISIT_EVERY", 0.1)
    monkeypatch.setattr(incident_repository, "PAUSE", 0.02)
    return ahead


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
