"""Incidents over the real board, with dependencies and maintenance, under any sequence of probes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.health.board import Board
from tentaculo.incidents.tracker import IncidentTracker
from tentaculo.model.health import Health, ProbeResult
from tests.support.health import Clock, fleet

SETTLE = 60.0
NAMES = ("db", "switch", "operator", "front", "mcp")
PARENTS = {"switch": ["db"], "operator": ["switch", "mcp"], "front": ["operator"]}


class Duty:
    """A board, incidents that hear of its transitions, and a clock."""

    def __init__(self) -> None:
        probe = {"failures": 1, "successes": 1}
        self.config = fleet(
            **{
                name: {"url": f"http://127.0.0.1:{port}", "depends_on": PARENTS.get(name, []), "probe": probe}
                for port, name in enumerate(NAMES, 9000)
            }
        )
        self.clock = Clock()
        self.board = Board(self.config, now=self.clock.now)
        self.incidents = IncidentTracker(settle=SETTLE)

    def hears(self, transitions: Any) -> None:
        for one in transitions:
            self.incidents.observe(self.board.service(one.service), one.at)

    def probe(self, name: str, health: Health) -> None:
        upstream = self.config.services[name].upstreams[0]
        self.hears(
            self.board.accept_result(ProbeResult(upstream, health, f"it is {health}", self.clock.now())).transitions
        )

    def maintenance(self, name: str, *, begins: bool) -> None:
        self.hears(self.board.set_maintenance(name, "by plan" if begins else None))

    def passes(self, seconds: float) -> None:
        """Time, and a look at everything."""
        self.clock.seconds += seconds
        for view in self.board.snapshot():
            self.incidents.observe(view, self.clock.now())


STEPS = st.one_of(
    st.tuples(st.just("probe"), st.sampled_from(NAMES), st.sampled_from([Health.UP, Health.DOWN, Health.DOWN])),
    st.tuples(st.just("maintenance"), st.sampled_from(NAMES), st.booleans()),
    st.tuples(st.just("passes"), st.just(""), st.sampled_from([1.0, 5.0, 30.0, 61.0, 500.0])),
)


@pytest.mark.thorough
@settings(max_examples=200)
@given(st.lists(STEPS, max_size=50))
def test_once_it_is_quiet_each_failure_has_its_incident_and_each_incident_its_failure(steps: list[Any]) -> None:
    duty = Duty()
    for kind, name, value in steps:
        if kind == "probe":
            duty.probe(name, value)
        elif kind == "maintenance":
            duty.maintenance(name, begins=value)
        else:
            duty.passes(value)
    duty.passes(1.0)
    # Who is down after its parent is back waits for as long as a settle time, and the next look opens.
    duty.passes(SETTLE + 1)
    duty.passes(1.0)
    views = {view.name: view for view in duty.board.snapshot()}
    open_by_root = {one.root: one for one in duty.incidents.open}
    assert len(open_by_root) == len(duty.incidents.open)
    for root in open_by_root:
        assert views[root].health in (Health.DOWN, Health.MAINTENANCE), "an incident's root fails or waits"
    for name, view in views.items():
        if view.health is not Health.DOWN:
            continue
        behind = view.root
        if behind is None:
            assert name in open_by_root, "who fails by itself has an incident"
        elif views[behind].health is Health.DOWN:
            covering = open_by_root.get(name) or open_by_root[behind]
            assert name in covering.services, "who fails by another is in its incident, or kept the one it had"
        else:
            assert views[behind].health is Health.MAINTENANCE


@given(st.randoms(use_true_random=False))
def test_what_falls_with_its_root_is_one_incident_in_whatever_order_it_is_found(random: Any) -> None:
    duty = Duty()
    duty.passes(100)
    falling = ["db", "switch", "operator", "front"]
    random.shuffle(falling)
    for name in falling:
        duty.probe(name, Health.DOWN)
        duty.passes(random.choice([0.0, 1.0, 5.0]))
    duty.passes(5)
    (one,) = duty.incidents.open
    assert one.root == "db"
    assert set(one.services) == {"db", "switch", "operator", "front"}
    part_of = {ended.id: ended.part_of for ended in duty.incidents.ended}
    for number in part_of:
        while number in part_of:
            number = part_of[number] or 0
        assert number == one.id, "all others lead to it, some by way of another"
    for name in falling:
        duty.probe(name, Health.UP)
    assert duty.incidents.open == ()
    assert duty.clock.now() - one.started_at < timedelta(minutes=1)
