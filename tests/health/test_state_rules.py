from __future__ import annotations

from graphlib import CycleError

import pytest

from tentaculo.config.schema import Config
from tentaculo.config.services import BreakerSettings
from tentaculo.health.board import Board
from tentaculo.health.state_rules import (
    NOT_PROBED,
    UNPROBED,
    ConsecutiveThreshold,
    Dependencies,
    Finding,
    aggregate,
    combine,
)
from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    Counts,
    DegradedKind,
    Endpoint,
    Health,
    ProbeResult,
    TrafficView,
    Transition,
)
from tests.support.health import Clock, fleet

LETTERS = {"u": Health.UP, "w": Health.DEGRADED, "d": Health.DOWN, "?": Health.UNKNOWN}
UPSTREAM = Endpoint("madre", "a", 1)


def take(streak: ConsecutiveThreshold, letters: str) -> str:
    """What was believed after each probe."""
    told = ""
    for letter in letters:
        health = LETTERS[letter]
        streak.add(ProbeResult(UPSTREAM, health, f"found {health}", Clock().now()))
        told += "f" if streak.is_failing else next(one for one, known in LETTERS.items() if known is streak.health)
    return told


@pytest.mark.parametrize(
    ("found", "believed"),
    [
        ("u", "u"),
        ("d", "d"),
        ("w", "w"),
        ("uddd", "uuud"),
        ("uddudd", "uuuuff"),
        ("dud", "ddd"),
        ("duu", "ddu"),
        ("dudu", "dddd"),
        ("uwww", "uuuw"),
        ("uwdd", "uuud"),
        ("uddw", "uuuw"),
        ("wuu", "wwu"),
        ("dwu", "ddu"),
        ("wddd", "wwwd"),
        ("udddu", "uuudd"),
        ("udwu", "uuuu"),
    ],
)
def test_the_numbers_in_a_row(found: str, believed: str) -> None:
    assert take(ConsecutiveThreshold(3, 2), found) == believed


@pytest.mark.parametrize("found", ["uduwd", "d?ud"])
def test_one_is_enough_where_one_is_asked(found: str) -> None:
    assert take(ConsecutiveThreshold(1, 1), found) == found


def test_what_the_gateway_could_not_ask_is_forgotten_after_a_while() -> None:
    assert take(ConsecutiveThreshold(3, 2), "u??u???d") == "uuuuuu?d", "and the next that it could ask counts at once"


@pytest.mark.parametrize(
    ("found", "believed"),
    [("u??d", "uuuu"), ("u?d?d", "uuuuu"), ("udd??d", "uuuuud"), ("d?u?u", "ddddu"), ("udd?u?d", "uuuuuuf")],
)
def test_what_could_not_be_asked_neither_confirms_a_failure_nor_interrupts_it(found: str, believed: str) -> None:
    streak = ConsecutiveThreshold(3, 2)
    assert take(streak, found) == believed


def test_what_could_not_be_asked_is_no_confirmation_also_by_other_numbers() -> None:
    streak = ConsecutiveThreshold(4, 2)
    take(streak, "udd?")
    assert streak.reason == "found unknown (1 of 4 in a row before it counts as unknown)"
    streak.follow(2, 2)
    assert take(streak, "?d") == "?d", "the gateway does not know, and the next result counts at once"
    assert streak.is_settled


def test_what_could_not_be_asked_is_not_counted() -> None:
    streak = ConsecutiveThreshold(3, 2)
    take(streak, "?ud?w?")
    assert streak.counts == Counts(2, 1)


def test_the_reason_says_how_far_it_is() -> None:
    streak = ConsecutiveThreshold(3, 2)
    assert streak.reason == "not probed yet"
    take(streak, "u")
    assert (streak.reason, streak.is_settled) == ("found up", True)
    take(streak, "d")
    assert streak.reason == "found down (1 of 3 in a row before it counts as down)"
    assert not streak.is_settled
    take(streak, "dd")
    assert (streak.reason, streak.is_settled) == ("found down", True)
    take(streak, "u")
    assert streak.reason == "found down, then found up (1 of 2 in a row before it counts as up)"
    assert streak.counts == Counts(2, 3)
    assert repr(streak) == "<ConsecutiveThreshold down, 0 worse, 1 better>"


RULES = BreakerSettings()
CLOSED = BreakerView(BreakerState.CLOSED, 0)
FOUND_UP = Finding(Health.UP, "answered 200 in 4 ms")
WEAK = Finding(Health.DEGRADED, "calls itself degraded")
FOUND_DOWN = Finding(Health.DOWN, "answered 500 at /health")
BY_TRAFFIC = Finding(Health.DEGRADED, "said before", True)


def weighed(
    probed: Finding, ok: int, failed: int, breaker: BreakerView = CLOSED, before: Finding = NOT_PROBED
) -> Finding:
    return combine(probed, TrafficView(recent=Counts(ok, failed)), breaker, RULES, before)


@pytest.mark.parametrize("probed", [FOUND_UP, WEAK, FOUND_DOWN, NOT_PROBED])
def test_without_traffic_probes_decide(probed: Finding) -> None:
    assert weighed(probed, 0, 0) == probed


@pytest.mark.parametrize(("ok", "failed"), [(1000, 0), (0, 4), (1000, 100), (46, 5)])
def test_few_failures_say_nothing(ok: int, failed: int) -> None:
    assert weighed(FOUND_UP, ok, failed) == FOUND_UP


@pytest.mark.parametrize(("ok", "failed"), [(0, 5), (45, 5), (10, 20)])
def test_probes_that_pass_while_requests_fail(ok: int, failed: int) -> None:
    health, reason, by_traffic, _ = weighed(FOUND_UP, ok, failed)
    assert (health, by_traffic) == (Health.DEGRADED, True)
    assert reason == (
        f"{failed} of {ok + failed} requests within 10 s failed, though its probes pass: answered 200 in 4 ms"
    )


@pytest.mark.parametrize("state", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_a_breaker_that_is_not_closed_is_enough(state: BreakerState) -> None:
    breaker = BreakerView(state, 5, reason="5 failures in a row: answered 500")
    assert weighed(FOUND_UP, 0, 0, breaker) == Finding(
        Health.DEGRADED,
        "requests failed (5 failures in a row: answered 500), though its probes pass: answered 200 in 4 ms",
        True,
    )
    assert weighed(FOUND_DOWN, 100, 0, breaker) == FOUND_DOWN, "both agree"


def test_a_weak_one_says_both() -> None:
    health, reason, *_ = weighed(WEAK, 0, 9)
    assert health is Health.DEGRADED
    assert reason == "9 of 9 requests within 10 s failed, though its probes pass: calls itself degraded"


@pytest.mark.parametrize(("ok", "failed"), [(5, 0), (100, 0), (60, 40)])
def test_a_health_path_that_fails_while_requests_pass(ok: int, failed: int) -> None:
    health, reason, by_traffic, _ = weighed(FOUND_DOWN, ok, failed)
    assert (health, by_traffic) == (Health.DEGRADED, True)
    assert reason == (
        f"{ok} of {ok + failed} requests within 10 s passed, though its probes fail: answered 500 at /health"
    )


@pytest.mark.parametrize(("ok", "failed"), [(4, 0), (50, 50), (10, 90), (0, 0)])
def test_too_few_that_pass_leave_it_down(ok: int, failed: int) -> None:
    assert weighed(FOUND_DOWN, ok, failed) == FOUND_DOWN


def test_once_requests_have_shown_it_fewer_will_do() -> None:
    assert weighed(FOUND_DOWN, 1, 0, before=BY_TRAFFIC).health is Health.DEGRADED
    assert weighed(FOUND_DOWN, 0, 0, before=BY_TRAFFIC) == FOUND_DOWN
    assert weighed(FOUND_DOWN, 1, 0, before=WEAK) == FOUND_DOWN


@pytest.mark.parametrize(
    ("ok", "failed", "breaker", "health", "reason"),
    [
        (0, 0, CLOSED, Health.UP, "not probed; its requests decide"),
        (0, 4, CLOSED, Health.UP, "not probed; its requests decide"),
        (45, 5, CLOSED, Health.DEGRADED, "5 of 50 requests within 10 s failed"),
        (0, 0, BreakerView(BreakerState.OPEN, 5, reason="why", retry_after=3), Health.DOWN, "requests failed (why)"),
        (0, 0, BreakerView(BreakerState.OPEN, 5, reason="why"), Health.DEGRADED, "requests failed (why)"),
        (0, 0, BreakerView(BreakerState.HALF_OPEN, 5, reason="why"), Health.DEGRADED, "requests failed (why)"),
    ],
)
def test_without_probes_requests_decide(
    ok: int, failed: int, breaker: BreakerView, health: Health, reason: str
) -> None:
    assert weighed(UNPROBED, ok, failed, breaker)[:2] == (health, reason)


class TestFailing:
    """An endpoint of which a part of the probes fails, never enough of them in a row."""

    @pytest.mark.parametrize(
        ("found", "believed"),
        [
            ("ud" * 8, "uuuuuf" + "f" * 10),
            ("du" * 8, "ddddd" + "f" * 11),
            ("uud" * 5, "uuuuuuuu" + "f" * 7),
            ("udd" * 5, "uuuuf" + "f" * 10),
            ("uuuud" * 6, "u" * 30),
            ("ududd", "uuuuf"),
            ("udududddd", "uuuuuffdd"),
        ],
    )
    def test_a_part_of_the_probes(self, found: str, believed: str) -> None:
        assert take(ConsecutiveThreshold(3, 2), found) == believed

    def test_an_outage_that_is_over_leaves_no_trace(self) -> None:
        assert take(ConsecutiveThreshold(3, 2), "u" + "ddd" + "uuu" + "d" + "uuu") == "uuudduuuuuu"

    def test_it_ends_when_one_of_the_last_ten_failed(self) -> None:
        threshold = ConsecutiveThreshold(3, 2)
        assert take(threshold, "ududud") == "uuuuuf"
        assert take(threshold, "u" * 10) == "f" * 7 + "uuu"
        assert take(threshold, "d") == "u"

    def test_higher_thresholds_want_more(self) -> None:
        assert take(ConsecutiveThreshold(10, 10), "u" + "d" * 9 + "u") == "u" * 11
        assert take(ConsecutiveThreshold(10, 10), "ud" * 12)[-1] == "f"

    def test_what_the_gateway_could_not_send_says_nothing(self) -> None:
        assert take(ConsecutiveThreshold(3, 2), "ud?ud?u") == "uuuuuuu"

    def test_what_it_says(self) -> None:
        threshold = ConsecutiveThreshold(3, 2)
        take(threshold, "udududu")
        assert (threshold.health, threshold.finding.kind) == (Health.DEGRADED, DegradedKind.FAILING)
        assert threshold.reason == "3 of its last 7 probes failed: found down"
        assert repr(threshold) == "<ConsecutiveThreshold up, 0 worse, 0 better, failing>"

    def test_requests_that_fail_as_well_do_not_hide_it(self) -> None:
        failing = Finding(Health.DEGRADED, "3 of its last 7 probes failed: found down", kind=DegradedKind.FAILING)
        found = weighed(failing, 5, 5)
        assert found.kind is DegradedKind.FAILING
        assert found.reason == "5 of 10 requests within 10 s failed, and 3 of its last 7 probes failed: found down"


FAILING = Finding(Health.DEGRADED, "3 of its last 7 probes failed: found down", kind=DegradedKind.FAILING)
SLOW = Finding(Health.DEGRADED, "answered 200 in 9 ms, but slower than 0.001 s", kind=DegradedKind.SLOW)


@pytest.mark.parametrize(
    ("findings", "kind"),
    [
        ([FAILING], DegradedKind.FAILING),
        ([FAILING, FAILING], DegradedKind.FAILING),
        ([FAILING, FOUND_DOWN], DegradedKind.FAILING),
        ([FAILING, FOUND_UP], None),
        ([FAILING, WEAK], None),
        ([SLOW], DegradedKind.SLOW),
        ([SLOW, FOUND_UP], DegradedKind.SLOW),
        ([SLOW, FOUND_DOWN], None),
        ([SLOW, FAILING], None),
        ([FOUND_UP, FOUND_DOWN], None),
        ([FOUND_UP], None),
    ],
)
def test_the_kind_of_a_service(findings: list[Finding], kind: DegradedKind | None) -> None:
    assert aggregate(findings).kind is kind


AT_ONCE = {"failures": 1, "successes": 1}
CHAIN: dict[str, list[str]] = {
    "db": [],
    "switch": ["db"],
    "operator": ["switch"],
    "shop": ["mail", "switch"],
    "mail": [],
}
HEALTHS = {"u": Health.UP, "w": Health.DEGRADED, "d": Health.DOWN, "?": Health.UNKNOWN, "o": Health.OFF}


def config(parents: dict[str, list[str]]) -> Config:
    return fleet(
        **{name: {"url": f"http://{name}:1", "depends_on": of, "probe": AT_ONCE} for name, of in parents.items()}
    )


@pytest.mark.parametrize(
    ("db", "switch", "operator", "roots"),
    [
        ("u", "u", "u", {}),
        ("d", "u", "u", {}),
        ("u", "d", "u", {}),
        ("u", "d", "d", {"operator": "switch"}),
        ("u", "d", "w", {"operator": "switch"}),
        ("u", "w", "d", {}),
        ("d", "d", "d", {"switch": "db", "operator": "db"}),
        ("d", "w", "d", {"switch": "db", "operator": "db"}),
        ("d", "u", "d", {}),
        ("d", "d", "?", {"switch": "db"}),
        ("o", "d", "d", {"operator": "switch"}),
        ("?", "d", "d", {"operator": "switch"}),
    ],
)
def test_roots(db: str, switch: str, operator: str, roots: dict[str, str]) -> None:
    found = {"db": HEALTHS[db], "switch": HEALTHS[switch], "operator": HEALTHS[operator]}
    found |= {"shop": Health.UP, "mail": Health.UP}
    assert Dependencies(config(CHAIN)).roots(found) == roots


def test_the_first_parent_that_is_down_explains() -> None:
    found = dict.fromkeys(CHAIN, Health.DOWN)
    assert Dependencies(config(CHAIN)).roots(found)["shop"] == "mail"
    found["mail"] = Health.UP
    assert Dependencies(config(CHAIN)).roots(found)["shop"] == "db"


def test_a_long_chain() -> None:
    names = [f"s{number}" for number in range(3000)]
    parents = {name: [names[place - 1]] if place else [] for place, name in enumerate(names)}
    roots = Dependencies(config(parents)).roots(dict.fromkeys(names, Health.DOWN))
    assert len(roots) == 2999
    assert set(roots.values()) == {"s0"}


def test_a_circle_is_refused() -> None:
    with pytest.raises(CycleError):
        Dependencies(config({"a": ["b"], "b": ["a"]}))


def test_a_fleet_without_any() -> None:
    assert not Dependencies(config({"a": [], "b": []}))
    assert Dependencies(config(CHAIN)).parents("shop") == ("mail", "switch")
    assert Dependencies(config(CHAIN)).parents("db") == ()


class TestBoard:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def board(self, clock: Clock) -> Board:
        board = Board(config(CHAIN), now=clock.now)
        for name in CHAIN:
            self.find(board, clock, name, Health.UP)
        return board

    @staticmethod
    def find(board: Board, clock: Clock, name: str, health: Health) -> list[Transition]:
        upstream = board.service(name).upstreams[0].upstream
        clock.seconds += 1
        return list(board.accept_result(ProbeResult(upstream, health, f"found {health}", clock.now())).transitions)

    def test_a_child_that_falls_after_its_parent(self, board: Board, clock: Clock) -> None:
        (parent,) = self.find(board, clock, "switch", Health.DOWN)
        assert (parent.service, parent.root) == ("switch", None)
        (child,) = self.find(board, clock, "operator", Health.DOWN)
        assert (child.service, child.after, child.root) == ("operator", Health.DOWN, "switch")
        view = board.service("operator")
        assert (view.root, view.reason) == ("switch", "found down")
        assert view.full_reason == "found down; it depends on switch, which is down"

    def test_a_child_that_falls_before_its_parent_is_explained_later(self, board: Board, clock: Clock) -> None:
        (child,) = self.find(board, clock, "operator", Health.DOWN)
        assert child.root is None
        since = board.service("operator").since
        parent, child = self.find(board, clock, "switch", Health.DOWN)
        assert (parent.service, parent.after) == ("switch", Health.DOWN)
        assert (child.service, child.before, child.after) == ("operator", Health.DOWN, Health.DOWN)
        assert child.root == "switch"
        assert board.service("operator").since == since, "its own state has not changed"

    def test_a_child_that_stays_down_stands_for_itself_again(self, board: Board, clock: Clock) -> None:
        self.find(board, clock, "switch", Health.DOWN)
        self.find(board, clock, "operator", Health.DOWN)
        parent, child = self.find(board, clock, "switch", Health.UP)
        assert (parent.service, parent.after) == ("switch", Health.UP)
        assert (child.service, child.after, child.root) == ("operator", Health.DOWN, None)
        assert board.service("operator").full_reason == "found down"

    def test_a_root_above_the_root(self, board: Board, clock: Clock) -> None:
        self.find(board, clock, "switch", Health.DOWN)
        self.find(board, clock, "operator", Health.DOWN)
        told = self.find(board, clock, "db", Health.DOWN)
        assert [(one.service, one.root) for one in told] == [("db", None), ("switch", "db"), ("operator", "db")]

    def test_a_parent_in_maintenance_still_explains(self, board: Board, clock: Clock) -> None:
        board.set_maintenance("switch", "a new disk")
        assert self.find(board, clock, "switch", Health.DOWN) == []
        (child,) = self.find(board, clock, "operator", Health.DOWN)
        assert child.root == "switch"

    def test_a_child_in_maintenance_needs_no_explanation(self, board: Board, clock: Clock) -> None:
        board.set_maintenance("operator", "a new face")
        self.find(board, clock, "operator", Health.DOWN)
        assert [one.service for one in self.find(board, clock, "switch", Health.DOWN)] == ["switch"]
        assert board.service("operator").root is None
        (left,) = board.set_maintenance("operator", None)
        assert (left.before, left.after, left.root) == (Health.MAINTENANCE, Health.DOWN, "switch")
