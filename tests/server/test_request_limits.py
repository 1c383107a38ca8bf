"""The limits of requests: what each counts apart, what they share, and what is kept of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import RouteKey
from tentaculo.security.rate_limit import SECOND
from tentaculo.server.request_limits import (
    LEAST_STATES,
    MOST_STATES,
    OF_OWN_PATHS,
    AdmittedRequest,
    LimitedRequest,
    RequestLimit,
    RequestLimits,
    RouteLimits,
    SharedLimits,
)

KEY = RouteKey("madre", "/madre")


class Clock:
    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


def config(*limits: dict[str, Any], **shared: Any) -> Config:
    routes = [{"prefix": "/madre", "limits": list(limits)}, {"prefix": "/other"}]
    return Config.of({"services": {"madre": {"url": "http://h", "routes": routes}}, "limits": shared})


def made(*limits: dict[str, Any], clock: Clock | None = None, processes: int = 1) -> RequestLimits:
    return RequestLimits(config(*limits), SharedLimits(processes, clock or Clock()))


def route(limits: RequestLimits) -> RouteLimits:
    found = limits.of(KEY, "/madre/x")
    assert found is not None
    return found


def passes(limits: RequestLimits, caller: str | None = None, address: str = "10.0.0.1") -> AdmittedRequest | None:
    try:
        return route(limits).admit(caller, address)
    except Problem:
        return None


def test_what_is_counted_apart() -> None:
    limits = made({"rate": "1/h"})
    assert passes(limits, "ann")
    assert not passes(limits, "ann", "10.0.0.2")
    assert passes(limits, "bob")
    assert passes(limits, None)
    assert not passes(limits, None)
    assert passes(limits, None, "10.0.0.2")


def test_a_caller_that_is_called_like_an_address_is_not_that_address() -> None:
    limits = made({"rate": "1/h"})
    assert passes(limits, None, "10.0.0.1")
    assert passes(limits, "10.0.0.1")


def test_by_address_for_each_caller() -> None:
    limits = made({"rate": "1/h", "per": "address"})
    assert passes(limits, "ann")
    assert not passes(limits, "bob")
    assert not passes(limits, None, "::ffff:10.0.0.1")
    assert passes(limits, None, "2001:db8::1")
    assert not passes(limits, None, "2001:db8::ffff:1")
    assert passes(limits, None, "2001:db8:0:1::1")


def test_all_together() -> None:
    limits = made({"rate": "1/h", "per": "route"})
    assert passes(limits, "ann")
    assert not passes(limits, None, "192.0.2.1")


def test_a_place_is_given_back_once_whatever_is_called() -> None:
    limits = made({"in_flight": 2, "per": "route"})
    first, second = passes(limits), passes(limits)
    assert first is not None
    assert second is not None
    assert not passes(limits)
    first.release()
    first.release()
    assert passes(limits)
    assert not passes(limits)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_places_are_counted_as_they_are_held(steps: list[tuple[str, bool]]) -> None:
    limits = made({"in_flight": 2}, {"in_flight": 3, "per": "route"})
    held: list[tuple[str, AdmittedRequest]] = []
    for caller, ends in steps:
        if ends and held:
            held.pop(0)[1].release()
            continue
        mine = sum(name == caller for name, _ in held)
        admitted = passes(limits, caller)
        assert (admitted is not None) is (mine < 2 and len(held) < 3)
        if admitted is not None:
            held.append((caller, admitted))
    for _, admitted in held:
        admitted.release()
    assert all(
        not clients.in_flight for limit in route(limits).limits for clients in (limit._callers, limit._addresses)
    )


def test_several_limits_are_used_up_together_or_not_at_all() -> None:
    clock = Clock()
    limits = made({"rate": "1/h"}, {"rate": "2/h", "per": "route"}, {"in_flight": 1, "per": "route"}, clock=clock)
    first = passes(limits, "ann")
    assert first is not None
    for _ in range(5):
        assert not passes(limits, "ann")
        assert not passes(limits, "bob"), "one is in flight"
    first.release()
    assert passes(limits, "bob"), "what was refused has used up nothing"
    assert not passes(limits, "eve")


def test_a_refusal_says_what_is_left_without_the_request() -> None:
    """It was said to have used up one request of the limits that did not refuse it."""
    clock = Clock()
    limits = made({"rate": "3/min"}, {"in_flight": 2}, {"rate": "1/h", "per": "route"}, clock=clock)
    assert passes(limits, "ann")
    for _ in range(3):
        with pytest.raises(Problem) as raised:
            route(limits).admit("ann", "10.0.0.9")
        left = raised.value.headers["RateLimit"]
        assert left == '"3/min per caller";r=2;t=20, "2 at once per caller";r=1, "1/h per route";r=0;t=3600'
    clock.pass_by(11)
    with pytest.raises(Problem) as raised:
        route(limits).admit("ann", "10.0.0.9")
    assert raised.value.headers["RateLimit"].startswith('"3/min per caller";r=2;t=9, ')


def test_a_refusal() -> None:
    limits = made({"rate": "2/min"}, {"rate": "1/h", "per": "route"})
    told: list[LimitedRequest] = []
    shared = route(limits).shared
    shared.on_refused = told.append
    assert passes(limits, "ann")
    with pytest.raises(Problem) as raised:
        route(limits).admit("bob", "10.0.0.9")
    problem = raised.value
    assert (problem.failure, problem.headers["Retry-After"]) == (Failure.RATE_LIMITED, "3600")
    assert problem.extra["violated-policies"] == ["1/h per route"]
    assert problem.headers["RateLimit-Policy"] == '"2/min per caller";q=2;w=60, "1/h per route";q=1;w=3600'
    assert problem.headers["RateLimit"] == '"2/min per caller";r=2;t=0, "1/h per route";r=0;t=3600'
    assert shared.refused == {("madre", "/madre", "rate", "route"): 1}
    assert [(one.route, one.caller, one.network) for one in told] == [(KEY, "bob", "10.0.0.9")]


def test_the_longest_wait_of_several_counts() -> None:
    limits = made({"rate": "1/min"}, {"rate": "1/h", "per": "route"})
    assert passes(limits, "ann")
    with pytest.raises(Problem) as raised:
        route(limits).admit("ann", "10.0.0.9")
    assert raised.value.extra["violated-policies"] == ["1/min per caller", "1/h per route"]
    assert raised.value.headers["Retry-After"] == "3600"


def test_routes_without_limits_and_paths_that_are_never_counted() -> None:
    limits = made({"rate": "1/h"})
    assert limits.of(RouteKey("madre", "/other"), "/other") is None
    assert limits.of(None, "/status") is None
    own = RequestLimits(Config.of({"limits": {"own_paths": [{"rate": "1/s"}]}}), SharedLimits())
    found = own.of(None, "/status")
    assert found is not None
    assert found.key == OF_OWN_PATHS
    assert all(own.of(None, path) is None for path in ("/livez", "/readyz", "/health", "/metrics"))
    assert not RequestLimits(Config.of({}), SharedLimits())


def test_it_is_divided_among_processes_and_machines() -> None:
    clock = Clock()
    shared = SharedLimits(2, clock)
    limits = RequestLimits(config({"rate": "100/s", "in_flight": 9}, instances=2), shared)
    shared.use(limits)
    found = route(limits)
    assert found.policy == '"100/s per caller";q=25;w=1, "9 at once per caller";q=2;qu="concurrent-requests"'
    held = [passes(limits, "ann") for _ in range(3)]
    assert [one is not None for one in held] == [True, True, False]
    shared.divide(1)
    assert found.policy == '"100/s per caller";q=50;w=1, "9 at once per caller";q=4;qu="concurrent-requests"'
    assert passes(limits, "ann")


def test_what_was_used_stays_used_when_the_number_of_processes_changes() -> None:
    clock = Clock()
    limits = made({"rate": "4/h"}, processes=2, clock=clock)
    assert [bool(passes(limits, "ann")) for _ in range(3)] == [True, True, False]
    for processes in (1, 4, 2):
        limits.divide(processes)
        assert not passes(limits, "ann"), "the whole part was used up, and is a whole part still"
    limits.divide(1)
    clock.pass_by(900)
    assert [bool(passes(limits, "ann")) for _ in range(2)] == [True, False]


def test_another_configuration_keeps_what_is_known_where_the_limit_is_the_same() -> None:
    clock = Clock()
    limits = made({"rate": "1/h"}, {"in_flight": 1, "per": "route"}, clock=clock)
    admitted = passes(limits, "ann")
    assert admitted is not None
    shared = route(limits).shared
    after = RequestLimits(config({"rate": "1/h"}, {"in_flight": 1, "per": "route"}), shared, limits)
    assert not passes(after, "bob"), "the place is still held"
    admitted.release()
    assert not passes(after, "ann"), "the rate is used up"
    assert passes(after, "bob")
    changed = RequestLimits(config({"rate": "2/h"}, {"in_flight": 1, "per": "route"}), shared, after)
    assert route(changed).limits[0] is not route(after).limits[0]
    assert route(changed).limits[1] is route(after).limits[1]


def test_a_limit_of_requests_at_once_that_changes_counts_those_that_are_there() -> None:
    """As many as the new limit came in beside those of the old one."""
    before = made({"in_flight": 4}, {"in_flight": 9, "per": "route"})
    held = [passes(before, "ann") for _ in range(3)]
    shared = route(before).shared
    after = RequestLimits(config({"in_flight": 2, "rate": "100/s"}, {"in_flight": 4, "per": "route"}), shared, before)
    assert not passes(after, "ann")
    assert passes(after, "bob"), "the fourth of the route"
    assert not passes(after, "eve")
    for one in held[:2]:
        assert one is not None
        one.release()
    assert passes(after, "ann"), "the second of ann"
    assert not passes(after, "ann")
    other = RequestLimits(config({"in_flight": 1, "per": "address"}), shared, after)
    assert passes(other, "ann"), "it counts something else"


def test_another_number_of_machines_keeps_what_was_used() -> None:
    """Each caller had its whole burst again when `limits.instances` was changed."""
    clock = Clock()
    shared = SharedLimits(1, clock)
    before = RequestLimits(config({"rate": "4/h", "in_flight": 4}), shared)
    shared.use(before)
    assert [bool(passes(before, "ann")) for _ in range(5)] == [True] * 4 + [False]
    after = RequestLimits(config({"rate": "4/h", "in_flight": 4}, instances=2), shared, before)
    assert '"4/h per caller";q=4;' in route(before).limits[0].policy, "what is served until then stays as it is"
    shared.use(after)
    assert route(after).policy == '"4/h per caller";q=2;w=3600, "4 at once per caller";q=2;qu="concurrent-requests"'
    assert not passes(after, "ann")
    assert passes(after, "bob")


@pytest.mark.parametrize("routes", [1, 3, 200])
def test_the_memory_of_all_limits_together_has_a_bound(routes: int) -> None:
    found = {f"s{number}": {"url": "http://h", "routes": [{"prefix": f"/s{number}"}]} for number in range(routes)}
    limits = RequestLimits(Config.of({"services": found, "limits": {"routes": [{"rate": "1/s"}]}}), SharedLimits())
    most = sum(
        clients.states.most
        for one in limits._routes.values()
        for limit in one.limits
        for clients in (limit._callers, limit._addresses)
    )
    assert most <= max(MOST_STATES, 2 * 2 * routes * LEAST_STATES)


def test_those_that_stay_are_divided_again_only_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload with a thousand limited routes took ten milliseconds for it, in the turn that swaps."""
    shared = SharedLimits(2, Clock())
    limits = RequestLimits(config({"rate": "10/min"}), shared)
    shared.use(limits)
    divided: list[int] = []
    divide = RequestLimit.divide

    def counted(self: RequestLimit, parts: int) -> None:
        divided.append(parts)
        divide(self, parts)

    monkeypatch.setattr(RequestLimit, "divide", counted)
    again = RequestLimits(config({"rate": "10/min"}), shared, limits)
    shared.use(again)
    assert divided == []
    # Another worker ends while the next configuration is made.
    third = RequestLimits(config({"rate": "10/min"}), shared, again)
    shared.divide(1)
    shared.use(third)
    machines = RequestLimits(config({"rate": "10/min"}, instances=5), shared, third)
    shared.use(machines)
    assert divided == [1, 1, 5]
    assert route(machines).limits[0].rate is not None
    assert '"10/min per caller";q=2;' in route(machines).policy
