"""The axis of time and what is drawn on it."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from tentaculo.model.health import Health, StateChange
from tentaculo.model.history import DAY, HOUR, MINUTE
from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.timeline import Timeline
from tentaculo.web.timeline import (
    HEIGHT,
    RANGES,
    USUAL_Y,
    WIDTH,
    Axis,
    Bar,
    bars,
    curve,
    event_path,
    lanes,
    pin,
    rects,
)
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import ENGLISH
from tests.support.calls import counting_calls
from tests.support.native_gateway import NOW, State, event, running
from tests.web.test_incidents import HERMES, NOTE

AN_HOUR = timedelta(hours=1)
UNTIL = int(NOW.timestamp())
AXIS = Axis(UNTIL - 3 * HOUR, UNTIL)


def changes(*found: tuple[float, Health]) -> list[StateChange]:
    """Changes so many minutes ago."""
    return [StateChange("madre", "", Health.UNKNOWN, after, "", NOW - timedelta(minutes=ago)) for ago, after in found]


def drawn(known: list[StateChange], health: Health, ago: float, axis: Axis = AXIS) -> list[tuple[str, float, float]]:
    return [
        (bar.key, float(bar.x), float(bar.width)) for bar in bars(axis, known, health, NOW - timedelta(minutes=ago))
    ]


def test_states_fill_the_axis() -> None:
    known = changes((900, Health.UP), (90, Health.DOWN), (45, Health.UP))
    assert drawn(known, Health.DEGRADED, 18) == [
        ("up", 0, 500),
        ("down", 500, 250),
        ("up", 750, 150),
        ("slow", 900, 100),
    ]


def test_what_lies_before_the_first_known_state_is_not_known() -> None:
    assert drawn([], Health.UP, 90) == [("none", 0, 500), ("up", 500, 500)]
    assert drawn([], Health.UP, 9000) == [("up", 0, 1000)], "the view says since when"
    assert drawn(changes((9000, Health.DOWN), (500, Health.UP)), Health.UP, 500) == [("up", 0, 1000)]


def test_a_second_of_trouble_is_seen() -> None:
    known = changes((900, Health.UP), (90, Health.DOWN), (90 - 1 / 60, Health.UP))
    assert drawn(known, Health.UP, 90 - 1 / 60) == [("up", 0, 500), ("down", 500, 2), ("up", 502, 498)]


def test_a_storm_of_changes_is_a_few_bars() -> None:
    known = changes((900, Health.UP), *((90 - n / 60, (Health.DOWN, Health.UP)[n % 2]) for n in range(1800)))
    assert drawn(known, Health.UP, 30) == [("up", 0, 500), ("down", 500, 168), ("up", 668, 332)]


def test_a_storm_of_changes_costs_a_few_calls_each() -> None:
    known = changes(*((100 - n / 60, (Health.DOWN, Health.UP)[n % 2]) for n in range(5000)))
    with counting_calls() as calls:
        drawn(known, Health.UP, 10)
    assert calls.total < 3 * len(known)  # 2


def test_a_clock_that_was_set_does_not_mix_up_the_states() -> None:
    known = changes((900, Health.UP), (45, Health.DOWN), (60, Health.UP), (-30, Health.DOWN))
    assert [key for key, _, _ in drawn(known, Health.UP, 10)] == ["up", "down", "up"]


@given(
    st.lists(st.tuples(st.floats(-100, 5000), st.sampled_from(Health)), max_size=30),
    st.sampled_from(Health),
    st.floats(0, 5000),
)
def test_bars_lie_side_by_side_from_end_to_end(found: list[tuple[float, Health]], health: Health, ago: float) -> None:
    shapes = drawn(changes(*found), health, ago)
    assert shapes[0][1] == 0
    for (_, x, width), (_, start, _) in itertools.pairwise(shapes):
        assert x + width == pytest.approx(start, abs=0.11)
    assert sum(shapes[-1][1:]) == pytest.approx(WIDTH)
    assert all(one[0] != other[0] for one, other in itertools.pairwise(shapes))


def points(path: str) -> list[tuple[str, float, float]]:
    return [(kind, float(x), float(y)) for kind, x, y in re.findall(r"([ML])([\d.-]+) ([\d.-]+)", path)]


def test_a_curve_rises_by_the_same_step_with_each_doubling() -> None:
    start = UNTIL // MINUTE * MINUTE
    usual, doubled, fourfold = (
        points(curve(AXIS, MINUTE, {start - 600: latency}, 0.01))[0][2] for latency in (0.01, 0.02, 0.04)
    )
    assert usual == float(USUAL_Y)
    assert usual - doubled == doubled - fourfold > 0
    (_, _, highest), (_, _, lowest) = points(curve(AXIS, MINUTE, {start - 600: 1e6, start - 540: 1e-9}, 0.01))
    assert 0 <= highest < lowest <= HEIGHT, "nothing leaves the canvas"


def test_without_a_usual_latency_its_own_median_stands_for_it() -> None:
    start = UNTIL // MINUTE * MINUTE
    found = points(curve(AXIS, MINUTE, {start - 180: 0.5, start - 120: 0.5, start - 60: 1.0}, None))
    assert [y for _, _, y in found][:2] == [float(USUAL_Y)] * 2
    assert curve(AXIS, MINUTE, {}, 0.01) == ""


def test_a_missing_minute_breaks_the_line() -> None:
    start = UNTIL // MINUTE * MINUTE
    found = points(curve(AXIS, MINUTE, {start - ago * MINUTE: 0.01 for ago in (9, 8, 6, 5)}, None))
    assert [kind for kind, _, _ in found] == ["M", "L", "M", "L"]


@pytest.mark.parametrize("key", RANGES)
def test_marks_are_round_moments_and_leave_room_for_now(key: str) -> None:
    chosen = RANGES[key]
    ticks = Axis(UNTIL - chosen.seconds, UNTIL).ticks(chosen.tick, ENGLISH)
    assert 4 <= len(ticks) <= 8
    assert all(int(tick.at.timestamp()) % chosen.tick == 0 for tick in ticks)
    assert all(3 < float(tick.place.rstrip("%")) < 84 for tick in ticks)
    expected = r"\d\d:\d\d" if chosen.tick < DAY else r"\d+ [A-Z][a-z]{2}"
    assert all(re.fullmatch(expected, tick.text) for tick in ticks)


def test_bars_as_svg() -> None:
    assert rects([Bar("up", "0", "500"), Bar("down", "500", "2")], 31, 4) == (
        '<rect class="r-up" x="0" width="500" y="31" height="4"/>'
        '<rect class="r-down" x="500" width="2" y="31" height="4"/>'
    )
    assert escape(rects([Bar("up", "0", "1")], 0, 6)).startswith("<rect"), "a template does not escape it again"


@pytest.mark.parametrize(
    ("hours", "found"),
    [(0.5, ("end", "83.33%")), (2.5, ("start", "16.67%")), (0, ("end", "100.00%")), (3.1, None), (-0.1, None)],
)
def test_a_pin_is_on_the_axis_and_its_text_on_the_side_with_room(hours: float, found: tuple[str, str] | None) -> None:
    one = pin(AXIS, event(1, source="ci", type="deployed", received_at=NOW - hours * AN_HOUR), ENGLISH)
    assert (None if one is None else (one.key, one.x)) == found
    assert one is None or one.text == "deployed from ci"
    assert pin(AXIS, None, ENGLISH) is None


def test_an_event_has_its_place_in_the_page_of_events() -> None:
    assert event_path(event(7, received_at=NOW)) == "/status/events?range=3h&to=2026-03-14T15:10:26Z#event-7"


def test_incidents_are_drawn_over_the_maintenance_and_dots_beside_each_other_once() -> None:
    before = event(3, received_at=NOW - 0.5 * AN_HOUR)
    found = lanes(
        AXIS,
        Timeline(events=(event(1), event(2), before), just_before={"hermes": before}),
        [(HERMES, ())],
        [MaintenanceWindow(("madre",), NOW - AN_HOUR, NOW + AN_HOUR, "x")],
        NOW,
        ENGLISH,
    )
    assert [one.key for one in found["incidents"]] == ["plan", "down"]
    assert len(found["events"]) == 2
    assert [one.at for one in found["pins"]] == [before.received_at]


@pytest.mark.parametrize("path", ["", "/services/hermes", "/events?range=3h", f"/incidents/{HERMES.id}"])
async def test_what_is_drawn_at_a_time_says_it_exactly_in_the_form_of_the_page(path: str) -> None:
    state = State(viewer=Viewer(is_signed_in=True))
    state.books.incidents = [HERMES]
    state.books.notes = {HERMES.id: [NOTE]}
    state.books.planned = [MaintenanceWindow(("madre",), NOW - AN_HOUR, NOW + AN_HOUR, "x")]
    state.events = [event(1, received_at=NOW - 0.5 * AN_HOUR)]
    state.just_before = {"hermes": state.events[0]}
    async with running(state) as gateway, gateway.client.get(f"/status{path}") as response:
        text = await response.text()
    drawn = text.partition('class="days"')[0]
    titles = re.findall(r"<title>([^<]*)</title></(?:rect|circle)>|<title>([^<]*)</title></text>", drawn)
    said = [circle or pin for circle, pin in titles]
    assert said
    assert [one for one in said if not re.search(r", 2026-03-14 \d\d:\d\d:\d\d UTC$", one)] == []
    windows = [one for one in said if one.startswith("Maintenance")]
    assert set(windows) <= {"Maintenance: madre, 2026-03-14 14:09:26 UTC"}, "when it began"
