from __future__ import annotations

from tentaculo.model.page import RequestRule, RouteRules
from tentaculo.web.languages import language
from tentaculo.web.limit_rows import limit_rows


def rules(route: str, *found: RequestRule, allow: tuple[str, ...] = (), refused: int = 0) -> RouteRules:
    return RouteRules(route, found, allow, (), refused)


def test_each_worker_says_that_it_counts_by_itself() -> None:
    (row,) = limit_rows([rules("/a", RequestRule("route", "", None, 5), refused=2)], 3, language("en"))
    assert "3" in row.refused
    assert "2" in row.refused
    assert row.tone == "down"


def test_what_is_left_out_is_said() -> None:
    networks = tuple(f"10.{number}.0.0/16" for number in range(8))
    rows = limit_rows([rules(f"/{number}", allow=networks) for number in range(25)], None, language("en"))
    assert [row.route for row in rows] == [*(f"/{number}" for number in range(20)), ""]
    assert rows[-1].said == "and 5 more"
    assert "10.4.0.0/16, and 3 more" in rows[0].said
    assert "10.5.0.0/16" not in rows[0].said
