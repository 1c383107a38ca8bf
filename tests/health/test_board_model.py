"""The board under any sequence of probes, requests and maintenance: what it tells always adds up to what it shows."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tentaculo.health.board import Board
from tentaculo.model.health import Endpoint, Health, Outcome, ProbeResult, Transition
from tentaculo.upstream.circuit_breaker import CircuitBreakers
from tests.support.health import Clock, fleet

CONFIG = fleet(
    db={"url": "http://db:1"},
    switch={"urls": ["http://a:1", "http://b:1"], "depends_on": ["db"]},
    operator={"url": "http://operator:1", "depends_on": ["switch", "shub"]},
    shub={"url": "http://shub:1", "enabled": False, "depends_on": ["db"]},
)
UPSTREAMS = [upstream for service in CONFIG.services.values() for upstream in service.upstreams]
PARENTS = {name: service.depends_on for name, service in CONFIG.services.items()}


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        breakers = CircuitBreakers(CONFIG, self.clock, self.clock.now)
        self.breakers = breakers
        self.board = Board(CONFIG, now=self.clock.now, breaker_view=breakers.view, traffic_view=breakers.traffic)
        self.told = {view.name: (view.health, view.root, view.kind) for view in self.board.snapshot()}
        self.since = {view.name: view.since for view in self.board.snapshot()}

    def hear(self, transitions: tuple[Transition, ...]) -> None:
        services = [transition.service for transition in transitions]
        assert len(services) == len({*services}), "one thing that happens changes each service once"
        for transition in transitions:
            before, root, kind = self.told[transition.service]
            assert transition.before is before
            assert (transition.after, transition.root, transition.kind) != (before, root, kind), "no news is not told"
            assert transition.reason
            self.told[transition.service] = transition.after, transition.root, transition.kind
            if transition.after is not before:
                self.since[transition.service] = transition.at

    @rule(
        upstream=st.sampled_from(UPSTREAMS),
        health=st.sampled_from([Health.UP, Health.DEGRADED, Health.DOWN, Health.UNKNOWN]),
        times=st.integers(1, 3),
    )
    def probe(self, upstream: Endpoint, health: Health, times: int) -> None:
        for _ in range(times):
            self.clock.seconds += 1
            result = ProbeResult(upstream, health, f"found {health}", self.clock.now(), "/health")
            self.hear(self.board.accept_result(result).transitions)

    @rule(upstream=st.sampled_from(UPSTREAMS), outcome=st.sampled_from(Outcome), times=st.integers(1, 12))
    def ask(self, upstream: Endpoint, outcome: Outcome, times: int) -> None:
        breaker = self.breakers.of(upstream)
        for _ in range(times):
            if ticket := breaker.try_acquire():
                breaker.record(ticket, outcome, "answered 500")
        self.hear(self.board.evaluate_traffic(upstream))

    @rule(service=st.sampled_from(sorted(CONFIG.services)), reason=st.sampled_from(["a new disk", None]))
    def maintain(self, service: str, reason: str | None) -> None:
        self.hear(self.board.set_maintenance(service, reason))

    @invariant()
    def what_was_told_is_what_is_shown(self) -> None:
        for view in self.board.snapshot():
            assert view.health is self.board.health(view.name)
            assert (view.health, view.root, view.kind) == self.told[view.name]
            assert view.kind is None or view.health is Health.DEGRADED
            assert view.since == self.since[view.name]
            assert (view.health is Health.MAINTENANCE) is (view.maintenance is not None)

    @invariant()
    def what_is_off_stays_off(self) -> None:
        view = self.board.service("shub")
        assert (view.health, view.root, view.maintenance) == (Health.OFF, None, None)

    @invariant()
    def a_root_is_down_and_stands_for_itself(self) -> None:
        for view in self.board.snapshot():
            if view.root is None:
                continue
            root = self.board.service(view.root)
            assert view.health in (Health.DOWN, Health.DEGRADED)
            assert root.health in (Health.DOWN, Health.MAINTENANCE)
            assert root.root is None
            assert any(
                parent == view.root
                or self.board.service(parent).root == view.root
                or self.board.service(parent).health is Health.MAINTENANCE
                for parent in PARENTS[view.name]
            )

    @invariant()
    def a_service_is_down_only_when_all_its_addresses_are(self) -> None:
        for view in self.board.snapshot():
            if view.health is Health.DOWN:
                assert {one.health for one in view.upstreams} == {Health.DOWN}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
