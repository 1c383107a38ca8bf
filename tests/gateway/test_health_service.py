"""The fleet's health as the composition root joins it: who hears of a change."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tentaculo.config.comparison import compare
from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService
from tentaculo.model.health import Endpoint, Health, Outcome, ProbeResult, ServiceView, Transition
from tentaculo.model.history import Period
from tentaculo.model.text import utc_now
from tentaculo.store.client import StoreClient
from tentaculo.telemetry.history import HistoryCollector
from tentaculo.upstream.circuit_breaker import CircuitBreaker
from tests.support.waits import eventually, free_port


@pytest.fixture
def fleet() -> HealthService:
    services = {"madre": {"url": "http://127.0.0.1:8001"}}
    return HealthService(Config.of({"services": services}), StoreClient("sqlite://"))


async def test_every_listener_hears_of_a_change_with_the_service_as_it_is_then(fleet: HealthService) -> None:
    heard: list[tuple[Transition, ServiceView]] = []

    def broken(_: Transition, __: ServiceView) -> None:
        raise ValueError("a listener's fault")

    fleet.on_transition += [broken, lambda transition, view: heard.append((transition, view))]
    with capture_logs() as logs:
        fleet.set_maintenance("madre", "a new disk")
        fleet.set_maintenance("madre", "two new disks")
    ((transition, view),) = heard
    assert (transition.service, transition.before, transition.after) == ("madre", Health.UNKNOWN, Health.MAINTENANCE)
    assert (view.health, view.reason) == (Health.MAINTENANCE, "a new disk")
    assert [entry["event"] for entry in logs] == ["health changed", "health listener failed"]


async def test_a_change_reaches_the_table_without_waiting_for_a_probe() -> None:
    store_client = StoreClient("sqlite://")
    rows: list[tuple[str, Health]] = []
    store_client.record_services = lambda views: rows.extend((view.name, view.health) for view in views)  # type: ignore[method-assign]
    fleet = HealthService(Config.of({"services": {"madre": {"url": "http://127.0.0.1:8001"}}}), store_client)
    fleet.set_maintenance("madre", "a new disk")
    assert rows == [("madre", Health.MAINTENANCE)]


class TestRequests:
    """What requests meet is told of at once: the next probe may be long in coming."""

    @staticmethod
    def heard(fleet: HealthService) -> list[tuple[Health, str]]:
        heard: list[tuple[Health, str]] = []
        fleet.on_transition.append(lambda transition, view: heard.append((transition.after, view.reason)))
        return heard

    @staticmethod
    def found(fleet: HealthService, health: Health) -> CircuitBreaker:
        (upstream,) = (view.upstream for view in fleet.board.service("madre").upstreams)
        fleet.board.accept_result(ProbeResult(upstream, health, "as found", utc_now(), "/health", 200))
        return fleet.breakers.of(upstream)

    async def test_an_opening_breaker_is_shown_at_once(self, fleet: HealthService) -> None:
        breaker, heard = self.found(fleet, Health.UP), self.heard(fleet)
        for _ in range(5):
            breaker.record(breaker.try_acquire(), Outcome.FAILURE, "answered 500")
        ((health, reason),) = heard
        assert health is Health.DEGRADED
        assert reason == "requests failed (5 failures in a row: answered 500), though its probes pass: as found"

    async def test_so_is_a_service_that_works_whatever_its_health_path_says(self, fleet: HealthService) -> None:
        breaker, heard = self.found(fleet, Health.DOWN), self.heard(fleet)
        breaker.note_probe(is_failing=True, is_healthy=False)
        deadline = time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            breaker.record(breaker.try_acquire(), Outcome.SUCCESS)
        assert [health for health, _ in heard] == [Health.DEGRADED]

    def test_before_the_first_probe_nothing_is_claimed(self, fleet: HealthService) -> None:
        heard = self.heard(fleet)
        breaker = fleet.breakers.of(fleet.board.service("madre").upstreams[0].upstream)
        for _ in range(5):
            breaker.record(breaker.try_acquire(), Outcome.FAILURE, "answered 500")
        assert heard == []
        assert fleet.board.evaluate_traffic(breaker.upstream) == ()


class TestFollowing:
    """Where another process probes, this one believes what it found, and neither keeps nor tells anything."""

    class Leader:
        def __init__(self) -> None:
            self.told: list[object] = []

        def probe_now(self, upstream: Endpoint) -> None:
            self.told.append(upstream)

        def beat(self, service: str, said: bytes) -> None:
            self.told.append((service, said))

    async def test_it_believes_what_the_leader_found_and_keeps_quiet(self) -> None:
        store_client = StoreClient("sqlite://")
        fleet = HealthService(Config.of({"services": {"madre": {"url": "http://127.0.0.1:8001"}}}), store_client)
        heard: list[ProbeResult] = []
        fleet.on_probe.append(heard.append)
        fleet.follow(self.Leader())
        (upstream,) = (view.upstream for view in fleet.board.service("madre").upstreams)
        with capture_logs() as logs:
            for health in (Health.DOWN, Health.UP, Health.UP):
                fleet.accept_result(ProbeResult(upstream, health, "as found", utc_now(), "/health", 200))
            fleet.set_maintenance("madre", "a new disk")
        assert fleet.board.service("madre").health is Health.MAINTENANCE
        assert [result.health for result in heard] == [Health.DOWN, Health.UP, Health.UP], "the router hears of it"
        assert logs == []
        fleet.history.flush()
        assert "0 services, 0 rows of history" in repr(store_client)

    async def test_the_leader_hears_whom_to_probe_and_who_has_called(self, fleet: HealthService) -> None:
        leader = self.Leader()
        breaker = TestRequests.found(fleet, Health.UP)
        fleet.follow(leader)
        breaker.record(breaker.try_acquire(), Outcome.FAILURE, "answered 500")
        (upstream,) = (view.upstream for view in fleet.board.service("madre").upstreams)
        assert leader.told == [upstream]
        assert not fleet.beat("madre", b"{}"), "it sends none"
        probe = {"kind": "heartbeat"}
        cron = HealthService(
            Config.of({"services": {"cron": {"url": "http://127.0.0.1:9", "probe": probe}}}), StoreClient("sqlite://")
        )
        cron.follow(leader)
        assert cron.beat("cron", b"{}")
        assert leader.told == [upstream, ("cron", b"{}")]


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_service_that_does_not_respond_counts_as_down_since_the_first_probe_was_sent(failures: int) -> None:
    hangs = False

    async def health(_: web.Request) -> web.Response:
        if hangs:
            await asyncio.sleep(3600)
        return web.Response()

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    probe = {"interval": 0.05, "recheck": 0.05, "failures": failures, "successes": 1, "timeout": 0.4}
    url = "http://{}:{}".format(*runner.addresses[0][:2])
    store_client = StoreClient("sqlite://")
    store_client.launch()
    fleet = HealthService(Config.of({"services": {"madre": {"url": url, "probe": probe}}}), store_client)
    periods: list[Period] = []
    fleet.history = HistoryCollector(
        record=periods.extend,
        roll_up=lambda now, may_delete: None,
        pace=lambda service: 0.0,
        # One minute that never ends, since a part of the outage may have begun in the one before.
        now=lambda: 60.0,
        clock=time.monotonic,
    )
    async with fleet.recording(dict), fleet.keeping_states(), fleet.probing():
        await eventually(lambda: fleet.board.service("madre").health is Health.UP)
        hangs = True
        await eventually(lambda: fleet.board.service("madre").health is Health.DOWN)
    await store_client.close()
    await runner.cleanup()
    times = [period.uptime for period in periods if period.uptime is not None]
    # The timer of each probe started a little after the probe did.
    assert sum(one.unavailable for one in times) >= failures * 400


async def test_a_heartbeat_that_was_late_before_the_machine_was_suspended_is_late_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only one of the kernel's clocks stands still while the machine is suspended."""
    kernel, suspended = time.clock_gettime, 0.0
    monkeypatch.setattr(
        time, "clock_gettime", lambda clock: kernel(clock) + (suspended if clock == time.CLOCK_BOOTTIME else 0.0)
    )
    services = {"cron": {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat", "silence": 0.5}}}
    fleet = HealthService(Config.of({"services": services}), StoreClient("sqlite://"))
    async with fleet.probing():
        await eventually(lambda: fleet.board.service("cron").health is Health.DOWN)
        with capture_logs() as logs:
            suspended = 3600.0
            await eventually(lambda: any(line["event"] == "process paused" for line in logs))
        assert fleet.heartbeats.last("cron") is not None


async def test_probing_that_begins_while_a_reload_is_prepared_follows_it() -> None:
    """A machine that took the lead in that moment probed by the old configuration, until the next reload."""
    old, new = (Config.of({"services": {name: {"url": f"http://127.0.0.1:{free_port()}"}}}) for name in ("old", "new"))
    fleet = HealthService(old, StoreClient("sqlite://"))
    probed: list[str] = []
    fleet.on_probe.append(lambda result: probed.append(result.upstream.service))
    prepared = fleet.prepare(new, compare(old, new))
    async with fleet.probing():
        prepared.use()
        await eventually(lambda: "new" in probed, "a probe of the new service")
