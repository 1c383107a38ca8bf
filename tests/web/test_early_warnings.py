"""Early warnings on the page of their service and as JSON, as they come over HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tentaculo.model.early_warning import EarlyWarning, name_of, outcome_sentence, sentence
from tentaculo.web.viewer import Viewer
from tests.support.native_gateway import NOW, TOKEN, Gateway
from tests.web.test_service_page import page
from tests.web.test_status_page import page as overview
from tests.web.test_status_page import words

MINUTE = timedelta(minutes=1)
TREND = EarlyWarning(
    "madre",
    "requests_p95",
    opened_at=NOW,
    rule="trend",
    level=0.32,
    usual=0.08,
    limit=0.5,
    since=NOW - 60 * MINUTE,
    per_minute=0.009,
    expected_at=NOW + 30 * MINUTE,
    earliest_at=NOW + 9 * MINUTE,
    latest_at=NOW + 120 * MINUTE,
)
LEVEL = EarlyWarning("madre", "probes_median", NOW - 50 * MINUTE, "level", 0.4, 0.1, 0.5, NOW - 50 * MINUTE)
REACHED = replace(TREND, opened_at=NOW - 900 * MINUTE, outcome="reached", ended_at=NOW - 850 * MINUTE)


def clock(minutes: int) -> str:
    return f"{NOW + minutes * MINUTE:%H:%M}"


def test_the_sentences() -> None:
    assert sentence(TREND) == (
        f"The p95 of requests has grown by 9 ms a minute since {clock(-60)} UTC; if that continues it passes 500 ms at"
        f" about {clock(30)} UTC ({clock(9)} to {clock(120)})."
    )
    # log 4 of log 5.
    assert sentence(LEVEL) == "The median of probes is 400 ms: 86 % of the way from its usual 100 ms to 500 ms."
    assert outcome_sentence(TREND) == "It is still open."
    assert outcome_sentence(REACHED) == f"The limit was reached at {clock(-850)} UTC."


@pytest.mark.parametrize(("usual", "way"), [(0.0, 0), (0.6, 0), (0.1, 86)])
def test_the_way_is_defined_for_every_row_of_the_database(usual: float, way: int) -> None:
    assert replace(LEVEL, usual=usual).way == way


async def test_the_page_of_the_service_shows_them_and_how_many_were_right(gateway: Gateway) -> None:
    assert "Early warnings" not in await page(gateway, "madre")
    gateway.state.clock += 60
    ended = replace(LEVEL, outcome="ended", ended_at=NOW - 10 * MINUTE)
    gateway.state.warnings = [REACHED, ended, TREND, replace(TREND, service="switch", limit=9.0)]
    said = words(await page(gateway, "madre", "?range=24h"))
    assert f"The p95 of requests has grown by 9.0 ms a minute since {clock(-60)} ; if that continues it passes" in said
    assert "Still open." in said
    assert f"The limit was reached at {clock(-850)} ." in said
    assert f"It ended at {clock(-10)} without the limit." in said
    assert "1 of 2 warnings in 90 days were followed by the limit." in said
    # The open one first.
    assert said.index("Still open") < said.index("without the limit") < said.index("was reached")
    assert "passes 9.0 s" not in said
    # It is information and no state.
    assert "madre is up." in said


async def test_an_outcome_of_a_later_version_is_not_known(gateway: Gateway) -> None:
    gateway.state.warnings = [replace(REACHED, outcome="postponed")]
    assert "What became of it is not known." in words(await page(gateway, "madre"))


async def test_a_time_of_another_day_has_its_date_and_each_has_its_exact_time(gateway: Gateway) -> None:
    gateway.state.warnings = [
        replace(TREND, latest_at=NOW + 700 * MINUTE),
        replace(REACHED, ended_at=NOW - 1440 * MINUTE),
    ]
    for shown in (await page(gateway, "madre"), await overview(gateway)):
        assert f"to {NOW + 700 * MINUTE:%-d %b, %H:%M} )." in words(shown)
        for at in (NOW - 60 * MINUTE, NOW + 30 * MINUTE, NOW + 9 * MINUTE, NOW + 700 * MINUTE):
            assert f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}" title="{at:%Y-%m-%d %H:%M:%S UTC}">' in shown
    assert f"The limit was reached at {NOW - 1440 * MINUTE:%-d %b, %H:%M} ." in words(await page(gateway, "madre"))


async def test_the_list_needs_the_token(gateway: Gateway) -> None:
    gateway.state.warnings = [TREND, LEVEL]
    async with gateway.client.get("/tentaculo/warnings") as response:
        assert response.status == 401
    async with gateway.client.get("/tentaculo/warnings", headers={"X-VX11-Token": TOKEN}) as response:
        assert response.status == 200
        first, second = (await response.json())["warnings"]
    assert first["text"] == sentence(TREND)
    assert (first["outcome"], first["limit"], first["ended_at"]) == ("open", 0.5, None)
    assert (second["rule"], second["expected_at"]) == ("level", None)


GAUGE = replace(LEVEL, signal="gauge:queue.depth", level=81.0, usual=5.0, limit=100.0)
FALLING = replace(TREND, signal="gauge_low:memory.free", usual=900.0, level=300.0, limit=100.0, per_minute=-12.5)


def test_sentences_of_gauges() -> None:
    assert sentence(GAUGE) == "queue.depth is 81: 80 % of the way from its usual 5 to 100."
    assert sentence(FALLING).startswith("memory.free has fallen by 12.5 a minute since ")
    assert (FALLING.way, replace(FALLING, usual=90.0).way) == (75, 0)
    assert [name_of(one) for one in ("requests_p95", "gauge:queue.depth", "other")] == [
        *("the p95 of requests", "queue.depth", "other")
    ]


async def test_the_overview_has_a_line_for_each_open_warning_the_nearest_first(gateway: Gateway) -> None:
    assert "on the way" not in words(await overview(gateway))
    gateway.state.clock += 60
    later = replace(TREND, service="switch", expected_at=NOW + 90 * MINUTE)
    gateway.state.warnings = [later, TREND, REACHED, replace(TREND, service="gone")]
    said = words(await overview(gateway))
    first = f"madre : The p95 of requests has grown by 9.0 ms a minute since {clock(-60)} ; if that continues it passes"
    assert first in said
    assert (
        f"about {clock(30)} ( {clock(9)} to {clock(120)} ). 1 of 1 warning in 90 days was followed by the limit."
        in said
    )
    assert said.index(first) < said.index("switch : The p95")
    assert "gone" not in said


async def test_the_name_of_a_gauge_is_not_for_everybody(gateway: Gateway) -> None:
    gateway.state.warnings = [GAUGE, FALLING]
    for is_signed_in in (True, False):
        gateway.state.clock += 60
        gateway.state.viewer = Viewer(is_signed_in=is_signed_in)
        for said in (words(await overview(gateway)), words(await page(gateway, "madre"))):
            assert ("queue.depth is 81: 80 % of the way from its usual 5 to 100." in said) is is_signed_in
            assert ("memory.free has fallen by 12.5 a minute" in said) is is_signed_in
            assert ("queue.depth" in said or "memory.free" in said) is is_signed_in
