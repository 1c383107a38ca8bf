from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tentaculo.health.board import Board
from tentaculo.model.health import (
    BreakerState,
    Counts,
    DegradedKind,
    Endpoint,
    Health,
    Outcome,
    ProbeDetails,
    ProbeResult,
    StateChange,
    Transition,
)
from tentaculo.model.reason import because, coded
from tentaculo.upstream.circuit_breaker import CircuitBreakers
from tests.support.health import Clock, fleet

AT_ONCE = {"failures": 1, "successes": 1}
CONFIG = fleet(
    madre={
        "url": "http://127.0.0.1:8001/",
        "health": ["/health", "/healthz"],
        "aliases": ["mother"],
        "probe": AT_ONCE,
    },
    switch={"urls": ["http://a:8002", "http://b:8002", "http://c:8002"], "probe": AT_ONCE},
    shubniggurath={"url": "http://127.0.0.1:8007", "enabled": False, "off_reason": "off unless SHUB_ENABLED=true"},
)
MADRE = CONFIG.services["madre"].upstreams[0]
A, B, C = CONFIG.services["switch"].upstreams
SHUB = CONFIG.services["shubniggurath"].upstreams[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(CONFIG, now=clock.now)


def found(clock: Clock, upstream: Endpoint, health: Health, endpoint: str = "/health") -> ProbeResult:
    reason = {Health.UP: "answered 200 in 4 ms", Health.DOWN: "connection refused"}.get(health, "calls itself so")
    code = 200 if health.is_healthy else None
    return ProbeResult(upstream, health, reason, clock.now(), endpoint, code, 4 if code else None, "{}")


def changed(transitions: tuple[Transition, ...]) -> list[tuple[str, Health]]:
    return [(transition.service, transition.after) for transition in transitions]


def test_before_the_first_probe_nothing_is_known(board: Board, clock: Clock) -> None:
    view = board.service("madre")
    assert (view.health, view.reason, view.since) == (Health.UNKNOWN, "not probed yet", clock.now())
    assert (view.checked_at, view.code, view.latency_ms, view.last_seen_well) == (None, None, None, None)
    assert (view.host, view.port, view.aliases) == ("127.0.0.1", 8001, ("mother",))
    assert view.health_url == "http://127.0.0.1:8001/health"
    assert [part.health for part in view.upstreams] == [Health.UNKNOWN]


def test_only_a_flip_is_reported_and_moves_since(board: Board, clock: Clock) -> None:
    assert changed(board.accept_result(found(clock, MADRE, Health.UP)).transitions) == [("madre", Health.UP)]
    start = clock.now()
    clock.seconds += 10
    assert board.accept_result(found(clock, MADRE, Health.UP)).transitions == ()
    view = board.service("madre")
    assert (view.since, view.checked_at, view.last_seen_well) == (start, clock.now(), clock.now())
    well = clock.now()
    clock.seconds += 10
    (transition,) = board.accept_result(found(clock, MADRE, Health.DOWN)).transitions
    assert transition == Transition("madre", Health.UP, Health.DOWN, "connection refused", clock.now())
    view = board.service("madre")
    assert (view.health, view.reason, view.code) == (Health.DOWN, "connection refused", None)
    assert (view.since, view.last_seen_well) == (clock.now(), well)


def test_the_reason_follows_every_probe(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, MADRE, Health.DOWN))
    slow = ProbeResult(MADRE, Health.DOWN, "no response within 3 s at /health", clock.now())
    assert board.accept_result(slow).transitions == ()
    assert board.service("madre").reason == "no response within 3 s at /health"


def test_the_last_good_health_path_is_kept(board: Board, clock: Clock) -> None:
    assert board.health_path("madre") == "/health"
    board.accept_result(found(clock, MADRE, Health.UP, "/healthz"))
    board.accept_result(found(clock, MADRE, Health.DOWN, "/health"))
    assert board.health_path("madre") == "/healthz"
    assert board.service("madre").health_url == "http://127.0.0.1:8001/healthz"
    with pytest.raises(KeyError):
        board.health_path("nobody")


def test_off_on_purpose_stays_off(board: Board, clock: Clock) -> None:
    for _ in range(2):
        view = board.service("shubniggurath")
        assert (view.health, view.reason) == (Health.OFF, "off unless SHUB_ENABLED=true")
        assert view.cause is not None
        assert view.cause.public == view.reason, "a text of the configuration"
        assert (view.port, view.checked_at) == (8007, None)
        assert [part.health for part in view.upstreams] == [Health.OFF]
        assert board.accept_result(found(clock, SHUB, Health.DOWN)).transitions == ()


def test_maintenance_covers_what_is_found_meanwhile(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, MADRE, Health.UP))
    clock.seconds += 10
    (entered,) = board.set_maintenance("madre", "a new disk")
    assert entered == Transition("madre", Health.UP, Health.MAINTENANCE, "a new disk", clock.now())
    start = clock.now()
    clock.seconds += 10
    assert board.accept_result(found(clock, MADRE, Health.DOWN)).transitions == ()
    view = board.service("madre")
    assert (view.health, view.reason, view.since) == (Health.MAINTENANCE, "a new disk", start)
    assert (view.maintenance, view.checked_at) == ("a new disk", clock.now())
    assert [part.health for part in view.upstreams] == [Health.DOWN], "its addresses show what the probes find"
    assert board.set_maintenance("madre", "two new disks") == ()
    assert board.service("madre").reason == "two new disks"
    (left,) = board.set_maintenance("madre", None)
    assert left == Transition("madre", Health.MAINTENANCE, Health.DOWN, "connection refused", clock.now())
    assert board.service("madre").maintenance is None
    assert board.set_maintenance("madre", None) == ()


def test_one_that_is_off_has_no_maintenance(board: Board) -> None:
    assert board.set_maintenance("shubniggurath", "a new disk") == ()
    assert board.service("shubniggurath").health is Health.OFF
    with pytest.raises(KeyError):
        board.set_maintenance("nobody", "a new disk")


def test_slow_requests_degrade_what_is_up_and_nothing_else(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, MADRE, Health.UP))
    (became,) = board.set_slow("madre", "95 % take 900 ms")
    assert became == Transition(
        "madre", Health.UP, Health.DEGRADED, "95 % take 900 ms", clock.now(), kind=DegradedKind.SLOW
    )
    assert board.accept_result(found(clock, MADRE, Health.UP)).transitions == (), "a probe that passes changes nothing"
    assert board.set_slow("madre", "95 % take 950 ms") == ()
    assert board.service("madre").reason == "95 % take 950 ms"
    assert board.slow == {"madre": "95 % take 950 ms"}
    (fell,) = board.accept_result(found(clock, MADRE, Health.DOWN)).transitions
    assert (fell.after, fell.kind) == (Health.DOWN, None)
    (rose,) = board.accept_result(found(clock, MADRE, Health.UP)).transitions
    assert (rose.after, rose.kind) == (Health.DEGRADED, DegradedKind.SLOW)
    (ended,) = board.set_slow("madre", None)
    assert (ended.after, board.slow) == (Health.UP, {})
    assert board.set_slow("shubniggurath", "slow") == ()
    assert board.service("shubniggurath").health is Health.OFF


def test_slow_requests_survive_a_restart_and_a_change_of_the_leader(board: Board, clock: Clock) -> None:
    slow = replace(change(clock, "madre", None, Health.DEGRADED, "95 % take 900 ms"), kind=DegradedKind.SLOW)
    changes = [change(clock, "madre", MADRE, Health.UP, "answered"), slow]
    board.restore(changes, clock.now())
    assert board.slow == {"madre": "95 % take 900 ms"}
    view = board.service("madre")
    assert (view.health, view.kind, view.reason) == (Health.DEGRADED, DegradedKind.SLOW, "95 % take 900 ms")
    follower = Board(CONFIG, now=clock.now)
    follower.follow(changes)
    assert follower.slow == board.slow
    follower.follow([change(clock, "madre", None, Health.UP, "answered")])
    assert (follower.slow, follower.service("madre").health) == ({}, Health.UP)


def test_a_slow_probe_is_no_slow_request(board: Board, clock: Clock) -> None:
    changes = [
        replace(change(clock, "madre", where, Health.DEGRADED, "slower than 1 s"), kind=DegradedKind.SLOW)
        for where in (MADRE, None)
    ]
    board.restore(changes, clock.now())
    assert (board.service("madre").kind, board.slow) == (DegradedKind.SLOW, {})


def test_the_snapshot_is_in_the_order_of_the_configuration(board: Board) -> None:
    assert [view.name for view in board.snapshot()] == ["madre", "switch", "shubniggurath"]


@pytest.mark.parametrize(
    ("healths", "expected", "reason"),
    [
        ("uuu", Health.UP, "all 3 addresses are up"),
        ("u..", Health.UP, "1 of 3 addresses is up, the others are not known yet"),
        ("uud", Health.DEGRADED, "1 of 3 addresses is down: connection refused"),
        ("udd", Health.DEGRADED, "2 of 3 addresses are down: connection refused"),
        ("u.d", Health.DEGRADED, "1 of 3 addresses is down: connection refused"),
        ("uuw", Health.DEGRADED, "1 of 3 addresses is degraded: calls itself so"),
        (
            "uwd",
            Health.DEGRADED,
            "1 of 3 addresses is down: connection refused; 1 of 3 addresses is degraded: calls itself so",
        ),
        (
            "wdd",
            Health.DEGRADED,
            "2 of 3 addresses are down: connection refused; 1 of 3 addresses is degraded: calls itself so",
        ),
        ("ddd", Health.DOWN, "all 3 addresses are down: connection refused"),
        ("dd.", Health.UNKNOWN, "2 of 3 addresses are down: connection refused; the others are not known yet"),
        ("...", Health.UNKNOWN, "not probed yet"),
    ],
)
def test_a_service_with_several_addresses(
    board: Board, clock: Clock, healths: str, expected: Health, reason: str
) -> None:
    letters = {"u": Health.UP, "w": Health.DEGRADED, "d": Health.DOWN}
    for upstream, letter in zip((A, B, C), healths, strict=True):
        if letter != ".":
            board.accept_result(found(clock, upstream, letters[letter]))
    view = board.service("switch")
    assert (view.health, view.reason) == (expected, reason)
    assert [part.health for part in view.upstreams] == [letters.get(letter, Health.UNKNOWN) for letter in healths]


def test_the_details_are_those_of_a_healthy_address(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, A, Health.UP))
    clock.seconds += 1
    board.accept_result(found(clock, B, Health.DOWN))
    view = board.service("switch")
    assert (view.code, view.latency_ms, view.checked_at) == (200, 4, clock.now())


def test_the_same_address_twice_counts_once(clock: Clock) -> None:
    config = fleet(madre={"urls": ["http://a:1", "http://a:1/"]})
    board = Board(config, now=clock.now)
    board.accept_result(found(clock, config.services["madre"].upstreams[0], Health.DOWN))
    assert board.service("madre").health is Health.DOWN


def test_an_open_breaker_is_shown_and_what_requests_met_can_be_weighed_at_once(clock: Clock) -> None:
    breakers = CircuitBreakers(CONFIG, clock, clock.now)
    board = Board(CONFIG, now=clock.now, breaker_view=breakers.view, traffic_view=breakers.traffic)
    board.accept_result(found(clock, A, Health.UP))
    breaker = breakers.of(A)
    for _ in range(5):
        breaker.record(breaker.try_acquire(), Outcome.FAILURE, "reset")
    view = board.service("switch")
    assert view.upstreams[0].breaker == breakers.view(A)
    assert view.upstreams[0].breaker.state is BreakerState.OPEN
    assert view.breaker.state is BreakerState.CLOSED, "two addresses still take traffic"
    assert view.health is Health.UP
    assert (view.probes, view.traffic) == (Counts(1, 0), Counts(0, 5)), "they are counted apart"
    assert changed(board.evaluate_traffic(A)) == [("switch", Health.DEGRADED)]
    assert changed(board.evaluate_traffic(A)) == []
    assert "requests failed (5 failures in a row: reset), though its probes pass" in board.service("switch").reason


def test_probes_never_touch_a_breaker(clock: Clock) -> None:
    breakers = CircuitBreakers(CONFIG, clock, clock.now)
    board = Board(CONFIG, now=clock.now, breaker_view=breakers.view)
    for _ in range(50):
        board.accept_result(found(clock, MADRE, Health.DOWN))
    assert board.service("madre").breaker.state is BreakerState.CLOSED
    assert breakers.of(MADRE).is_closed


def test_repr(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, MADRE, Health.UP))
    assert repr(board) == "<Board: 1 of 3 services healthy>"


def test_an_update_says_everything_that_follows_from_a_result(clock: Clock) -> None:
    config = fleet(
        root={"url": "http://127.0.0.1:8001"},
        leaf={"url": "http://127.0.0.1:8002", "depends_on": ["root"], "probe": {"failures": 2}},
    )
    board = Board(config, now=clock.now)
    (leaf,) = config.services["leaf"].upstreams
    up = board.accept_result(found(clock, leaf, Health.UP))
    assert (up.health, up.is_failing, up.probe_soon, up.probe_now) == (Health.UP, False, False, ())
    unsure = board.accept_result(found(clock, leaf, Health.DOWN))
    assert (unsure.transitions, unsure.health) == ((), Health.UP)
    assert (unsure.is_failing, unsure.probe_soon, unsure.probe_now) == (True, True, ("root",))
    down = board.accept_result(found(clock, leaf, Health.DOWN))
    assert changed(down.transitions) == [("leaf", Health.DOWN)]
    assert (down.health, down.is_failing, down.probe_soon, down.probe_now) == (Health.DOWN, True, False, ())


def test_an_update_has_the_service_where_a_health_may_be_new(clock: Clock) -> None:
    breakers = CircuitBreakers(CONFIG, clock, clock.now)
    board = Board(CONFIG, now=clock.now, breaker_view=breakers.view, traffic_view=breakers.traffic)

    def shown(upstream: Endpoint, health: Health) -> list[Health] | None:
        view = board.accept_result(found(clock, upstream, health)).view
        return None if view is None else [view.health, *(one.health for one in view.upstreams)]

    def fail(upstream: Endpoint) -> list[tuple[str, Health]]:
        breaker = breakers.of(upstream)
        for _ in range(5):
            breaker.record(breaker.try_acquire(), Outcome.FAILURE, "reset")
        return changed(board.evaluate_traffic(upstream))

    up, unknown, degraded = Health.UP, Health.UNKNOWN, Health.DEGRADED
    assert shown(A, up) == [up, up, unknown, unknown]
    assert shown(A, up) is None
    assert shown(B, up) == [up, up, up, unknown], "the service was up already"
    assert shown(C, up) == [up, up, up, up]
    assert fail(A) == [("switch", degraded)]
    assert fail(B) == [], "it changes no service"
    assert shown(C, up) == [degraded, degraded, degraded, up], "but an endpoint"
    assert shown(C, up) is None
    # Another configuration may have other endpoints, and another process other states.
    moved = fleet(
        **{**{name: {"url": service.url} for name, service in CONFIG.services.items()}, "switch": {"url": "http://h"}}
    )
    breakers.use(breakers.prepare(moved))
    board.prepare(moved).use()
    assert shown(moved.services["switch"].upstreams[0], up) == [up, up]
    board.restore([], clock.now())
    assert shown(moved.services["switch"].upstreams[0], up) == [up, up]
    assert shown(moved.services["switch"].upstreams[0], up) is None


def test_the_probe_that_confirms_a_state_from_before_a_restart_shows_it(clock: Clock) -> None:
    board = Board(fleet(madre={"url": "http://127.0.0.1:8001", "probe": {"failures": 3}}), now=clock.now)
    board.restore(
        [change(clock, "madre", MADRE, Health.UP, "r"), change(clock, "madre", None, Health.UP, "r")], clock.now()
    )
    views = [board.accept_result(found(clock, MADRE, health)).view for health in (Health.DOWN, Health.DOWN, Health.UP)]
    assert [view if view is None else view.is_restored for view in views] == [True, None, False]


def test_an_outage_began_when_the_first_of_the_probes_that_found_it_was_sent(clock: Clock) -> None:
    board = Board(fleet(madre={"url": "http://h", "probe": {"failures": 3}}), now=clock.now, clock=clock)
    (madre,) = board.service("madre").upstreams

    def ago(health: Health) -> float:
        return board.accept_result(replace(found(clock, madre.upstream, health), took=2.0)).ago

    for health, expected in ((Health.UP, 2), (Health.DOWN, 2), (Health.UP, 12), (Health.DOWN, 2), (Health.DOWN, 12)):
        assert ago(health) == expected
        clock.seconds += 10
    assert ago(Health.DOWN) == 22
    assert ago(Health.DOWN) == 2, "it agrees with the state"


def test_an_endpoint_is_probed_soon_for_a_minute_after_its_breaker_opened(clock: Clock) -> None:
    breakers = CircuitBreakers(CONFIG, clock, clock.now)
    board = Board(CONFIG, now=clock.now, breaker_view=breakers.view, traffic_view=breakers.traffic)
    assert not board.accept_result(found(clock, A, Health.UP)).probe_soon
    breaker = breakers.of(A)
    for _ in range(5):
        breaker.record(breaker.try_acquire(), Outcome.FAILURE, "reset")
    assert board.accept_result(found(clock, A, Health.UP)).probe_soon
    clock.seconds += 60
    assert not board.accept_result(found(clock, A, Health.UP)).probe_soon


class TestRestored:
    """The states from before a restart."""

    @staticmethod
    def change(service: str, endpoint: str, health: Health, clock: Clock, **more: Any) -> StateChange:
        at = clock.now() - timedelta(hours=3)
        return StateChange(service, endpoint, Health.UNKNOWN, health, "connection refused", at, **more)

    def test_a_state_and_its_beginning_survive(self, board: Board, clock: Clock) -> None:
        changes = [self.change("madre", where, Health.DOWN, clock) for where in ("", MADRE.authority)]
        board.restore(changes, clock.now())
        view = board.service("madre")
        assert (view.health, view.since, view.is_restored) == (Health.DOWN, clock.now() - timedelta(hours=3), True)
        assert view.reason == "connection refused (before the restart)"
        assert board.accept_result(found(clock, MADRE, Health.DOWN)).transitions == ()
        view = board.service("madre")
        assert (view.since, view.is_restored) == (clock.now() - timedelta(hours=3), False)
        assert view.reason == "connection refused"

    def test_a_reason_keeps_its_code_and_values(self, board: Board, clock: Clock) -> None:
        why = because("answered", status=503)
        changes = [self.change("madre", where, Health.DOWN, clock, cause=why) for where in ("", MADRE.authority)]
        board.restore(changes, clock.now())
        cause = board.service("madre").cause
        assert coded("reason", cause) == {
            "reason_code": "before_restart",
            "reason_values": {"what": {"code": "answered", "values": {"status": 503}}},
        }
        board.follow(changes)
        assert coded("reason", board.service("madre").cause) == coded("reason", why)

    def test_the_thresholds_go_on(self, clock: Clock) -> None:
        board = Board(fleet(madre={"url": "http://127.0.0.1:8001"}), now=clock.now)
        upstream = board.service("madre").upstreams[0].upstream
        board.restore([self.change("madre", upstream.authority, Health.UP, clock)], clock.now())
        assert board.accept_result(found(clock, upstream, Health.DOWN)).transitions == ()
        assert (board.service("madre").health, board.service("madre").is_restored) == (Health.UP, True)
        board.accept_result(found(clock, upstream, Health.DOWN))
        changes = board.accept_result(found(clock, upstream, Health.DOWN)).transitions
        assert changed(changes) == [("madre", Health.DOWN)]
        assert not board.service("madre").is_restored

    def test_a_state_that_is_another_now_is_a_transition(self, board: Board, clock: Clock) -> None:
        board.restore([self.change("madre", MADRE.authority, Health.DOWN, clock)], clock.now())
        transition = board.accept_result(found(clock, MADRE, Health.UP)).transitions[0]
        assert (transition.before, transition.after) == (Health.DOWN, Health.UP)
        assert board.service("madre").since == clock.now()

    def test_an_endpoint_that_was_probed_already_keeps_its_state(self, board: Board, clock: Clock) -> None:
        board.accept_result(found(clock, MADRE, Health.UP))
        changes = [self.change("madre", where, Health.DOWN, clock) for where in ("", MADRE.authority)]
        board.restore(changes, clock.now())
        view = board.service("madre")
        assert (view.health, view.since, view.is_restored) == (Health.UP, clock.now(), False)

    def test_its_beginning_survives_where_it_was_probed_already(self, board: Board, clock: Clock) -> None:
        board.accept_result(found(clock, MADRE, Health.DOWN))
        changes = [self.change("madre", where, Health.DOWN, clock) for where in ("", MADRE.authority)]
        board.restore(changes, clock.now())
        assert board.service("madre").since == clock.now() - timedelta(hours=3)

    def test_what_is_off_or_not_configured_or_has_no_state_of_a_probe_is_left_out(
        self, board: Board, clock: Clock
    ) -> None:
        changes = [
            self.change("shubniggurath", SHUB.authority, Health.UP, clock),
            self.change("gone", "h:1", Health.UP, clock),
            self.change("madre", MADRE.authority, Health.MAINTENANCE, clock),
            self.change("switch", A.authority, Health.UP, clock),
        ]
        board.restore(changes, clock.now())
        assert board.service("shubniggurath").health is Health.OFF
        assert board.service("madre").health is Health.UNKNOWN
        assert [one.health for one in board.service("switch").upstreams] == [Health.UP, Health.UNKNOWN, Health.UNKNOWN]

    def test_a_moment_of_a_clock_that_was_ahead_is_no_later_than_now(self, board: Board, clock: Clock) -> None:
        ahead = replace(self.change("madre", "", Health.DOWN, clock), at=clock.now() + timedelta(hours=1))
        board.restore([ahead, self.change("madre", MADRE.authority, Health.DOWN, clock)], clock.now())
        assert board.service("madre").since == clock.now()


def test_its_moments_are_corrected_after_the_system_clock_was_set(board: Board, clock: Clock) -> None:
    board.accept_result(found(clock, MADRE, Health.UP))
    before = board.service("madre")
    board.correct(lambda moment: moment + timedelta(days=400))
    after = board.service("madre")
    for old, new in (
        (before.since, after.since),
        (before.checked_at, after.checked_at),
        (before.last_seen_well, after.last_seen_well),
    ):
        assert old is not None
        assert new == old + timedelta(days=400)
    board.correct(lambda moment: moment)
    assert board.service("madre") == after


def change(clock: Clock, service: str, endpoint: Endpoint | None, after: Health, reason: str) -> StateChange:
    return StateChange(service, endpoint.authority if endpoint else "", Health.UNKNOWN, after, reason, clock.now())


def test_a_follower_shows_the_health_reason_and_since_of_the_leader(board: Board, clock: Clock) -> None:
    began, reason = clock.now(), "1 of 3 addresses is down: connection refused"
    changes = [
        change(clock, "switch", A, Health.UP, "answered"),
        change(clock, "switch", B, Health.DOWN, reason),
        change(clock, "switch", C, Health.UP, reason),
        change(clock, "switch", None, Health.DEGRADED, reason),
    ]
    clock.seconds += 60
    assert board.follow(changes) == [(A, Health.UP), (B, Health.DOWN), (C, Health.UP)]
    view = board.service("switch")
    assert (view.health, view.reason, view.since) == (Health.DEGRADED, reason, began)
    assert [one.health for one in view.upstreams] == [Health.UP, Health.DOWN, Health.UP]
    assert view.is_restored, "no incident opens before a probe here has confirmed it"
    # The next endpoint fails: the service stays degraded since then, for another reason.
    board.follow([change(clock, "switch", C, Health.DOWN, "2 of 3 addresses are down")])
    view = board.service("switch")
    assert (view.health, view.reason, view.since) == (Health.DEGRADED, "2 of 3 addresses are down", began)


def test_what_a_follower_took_over_is_where_its_own_probes_begin(board: Board, clock: Clock) -> None:
    board.follow(
        [change(clock, "madre", MADRE, Health.DOWN, "refused"), change(clock, "madre", None, Health.DOWN, "r")]
    )
    clock.seconds += 60
    update = board.accept_result(found(clock, MADRE, Health.UP))
    assert changed(update.transitions) == [("madre", Health.UP)]
    view = board.service("madre")
    assert (view.health, view.since, view.is_restored) == (Health.UP, clock.now(), False)


def test_a_follower_ignores_services_that_are_off_or_not_configured(board: Board, clock: Clock) -> None:
    changes = [change(clock, name, None, Health.UP, "x") for name in ("shubniggurath", "unheard-of")]
    assert board.follow(changes) == []
    assert board.service("shubniggurath").health is Health.OFF


def test_a_follower_shows_the_details_of_the_leader_s_last_probe_until_it_probes(board: Board, clock: Clock) -> None:
    details = ProbeDetails(clock.now(), 200, 7, "/health", "{}")
    board.note_details({"madre": details, "unheard-of": details})
    view = board.service("madre")
    assert (view.checked_at, view.code, view.latency_ms, view.endpoint) == (clock.now(), 200, 7, "/health")
    clock.seconds += 5
    board.accept_result(found(clock, MADRE, Health.DOWN))
    view = board.service("madre")
    assert (view.checked_at, view.code, view.latency_ms) == (clock.now(), None, None)
