"""What lies on the lanes above the rows, and the event that a line through all rows shows."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from tentaculo.model.incident import MaintenanceWindow
from tentaculo.model.timeline import Timeline
from tentaculo.web.lanes import event_path, lanes, pin
from tentaculo.web.languages import language
from tentaculo.web.overview import Fleet
from tentaculo.web.timeline import RANGES, Axis
from tentaculo.web.viewer import Viewer
from tests.support.native_gateway import NOW, State, event, running
from tests.web.test_incidents import HERMES, NOTE

HOUR = timedelta(hours=1)
AXIS = Axis(int((NOW - 3 * HOUR).timestamp()), int(NOW.timestamp()))


@pytest.mark.parametrize(
    ("hours", "found"),
    [(0.5, ("end", "83.33%")), (2.5, ("start", "16.67%")), (0, ("end", "100.00%")), (3.1, None), (-0.1, None)],
)
def test_a_pin_is_on_the_axis_and_its_text_on_the_side_with_room(hours: float, found: tuple[str, str] | None) -> None:
    one = pin(AXIS, event(1, source="ci", type="deployed", received_at=NOW - hours * HOUR), language("en"))
    assert (None if one is None else (one.key, one.x)) == found
    assert one is None or one.text == "deployed from ci"
    assert pin(AXIS, None, language("en")) is None


def test_an_event_has_its_place_in_the_page_of_events() -> None:
    assert event_path(event(7, received_at=NOW)) == "/status/events?range=3h&to=2026-03-14T15:10:26Z#event-7"


def test_incidents_are_drawn_over_the_maintenance_and_dots_beside_each_other_once() -> None:
    before = event(3, received_at=NOW - 0.5 * HOUR)
    found = lanes(
        Fleet(
            NOW,
            RANGES["3h"],
            (),
            incidents=[(HERMES, ())],
            windows=[MaintenanceWindow(("madre",), NOW - HOUR, NOW + HOUR, "x")],
            timeline=Timeline(events=(event(1), event(2), before), just_before={"hermes": before}),
        )
    )
    assert [one.key for one in found["incidents"]] == ["plan", "down"]
    assert len(found["events"]) == 2
    assert [one.at for one in found["pins"]] == [before.received_at]


@pytest.mark.parametrize("path", ["", "/services/hermes", "/events?range=3h", f"/incidents/{HERMES.id}"])
async def test_what_is_drawn_at_a_time_says_it_exactly_in_the_form_of_the_page(path: str) -> None:
    state = State(viewer=Viewer(is_signed_in=True))
    state.books.incidents = [HERMES]
    state.books.notes = {HERMES.id: [NOTE]}
    state.books.planned = [MaintenanceWindow(("madre",), NOW - HOUR, NOW + HOUR, "x")]
    state.events = [event(1, received_at=NOW - 0.5 * HOUR)]
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
