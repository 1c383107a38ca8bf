"""The fleet's health as the composition root joins it: who hears of a change."""

from __future__ import annotations

import time

import pytest
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.gateway.health_service import HealthService
from tentaculo.model.clock import utc_now
from tentaculo.model.endpoint import Endpoint, Outcome
from tentaculo.model.health import Health, ProbeResult, ServiceView, Transition
from tentaculo.store.client import StoreClient
from tentaculo.upstream.circuit_breaker import CircuitBreaker


@pytest.fixture
def fleet() -> HealthService:
    services = {"madre": {"url": "http://127.0.0.1:8001"}}
    return HealthService(Config.of({"services": services}), StoreClient("sqlite://"))


def test_every_listener_hears_of_a_change_with_the_service_as_it_is_then(fleet: HealthService) -> None:
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


def test_a_change_reaches_the_table_without_waiting_for_a_probe() -> None:
    store_client = StoreClient("sqlite://")
    rows: list[tuple[str, Health]] = []
    fleet = HealthService(Config.of({"services": {"madre": {"url": "http://127.0.0.1:8001"}}}), store_client)
    store_client.record_services = lambda views: rows.extend((view.name, view.health) for view in views)  # type: ignore[method-assign]
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

    def test_an_opening_breaker_is_shown_at_once(self, fleet: HealthService) -> None:
        breaker, heard = self.found(fleet, Health.UP), self.heard(fleet)
        for _ in range(5):
            breaker.record(breaker.try_acquire(), Outcome.FAILURE, "answered 500")
        ((health, reason),) = heard
        assert health is Health.DEGRADED
        assert reason == "requests failed (5 failures in a row: answered 500), though its probes pass: as found"

    def test_so_is_a_service_that_works_whatever_its_health_path_says(self, fleet: HealthService) -> None:
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
        fleet.beat("madre", b"{}")
        (upstream,) = (view.upstream for view in fleet.board.service("madre").upstreams)
        assert leader.told == [upstream, ("madre", b"{}")]
