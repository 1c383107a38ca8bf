from __future__ import annotations

from graphlib import CycleError

import pytest

from tentaculo.config.schema import Config
from tentaculo.health.board import Board
from tentaculo.health.dependencies import Dependencies
from tentaculo.model.health import Health, ProbeResult, Transition
from tests.support.health import Clock, fleet

AT_ONCE = {"failures": 1, "successes": 1}
CHAIN: dict[str, list[str]] = {
    "db": [],
    "switch": ["db"],
    "operator": ["switch"],
    "shop": ["mail", "switch"],
    "mail": [],
}
LETTERS = {"u": Health.UP, "w": Health.DEGRADED, "d": Health.DOWN, "?": Health.UNKNOWN, "o": Health.OFF}


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
    found = {"db": LETTERS[db], "switch": LETTERS[switch], "operator": LETTERS[operator]}
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
