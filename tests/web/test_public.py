"""What everybody may see: nothing that a service said, no address, no event, no note, no channel and no person."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tentaculo.model.health import DegradedKind, Health, StateChange
from tentaculo.model.incident import Acknowledgement, Incident, MaintenanceWindow, Note, NotificationState, Notified
from tentaculo.model.reason import Reason, because
from tentaculo.web.viewer import Viewer
from tests.support.native_gateway import NOW, OPEN, State, event, running, view

SECRET = "s3cret"
"""Stands in everything that is private."""
CAUSE = because("answered_but", status=503, what=SECRET)


def fleet() -> State:
    """Everything that a page shows has the secret in it."""
    began = NOW - timedelta(minutes=20)
    told = Notified(NotificationState.OPEN, began, Health.DOWN, 1)
    incident = Incident(
        *(7, "hermes", ("hermes", "operator"), Health.DOWN, str(CAUSE), began, NOW),
        cause=CAUSE,
        notified={f"channel {SECRET}": told},
        acknowledged=Acknowledgement(1, 7, NOW, SECRET, SECRET),
    )
    ending = because("recovered", what=SECRET)
    over = replace(incident, id=6, started_at=began - timedelta(hours=1), ended_at=began, ending=str(ending))
    over = replace(over, ending_cause=ending)
    state = State(
        services=(
            view("hermes", 8003, Health.DOWN, reason=str(CAUSE), cause=CAUSE, since=began, snippet=SECRET),
            view("mcp", 8006, breaker=replace(OPEN, reason=SECRET, cause=because("trial_failed_because", what=SECRET))),
            view("old", 8007, Health.DEGRADED, reason=SECRET, kind=DegradedKind.FAILING),
            view("spawner", 8008, Health.MAINTENANCE, reason="a new disk"),
        )
    )
    state.books.incidents = [incident, over]
    state.books.notes = {7: [Note(1, 7, NOW, SECRET, SECRET)]}
    state.books.planned = [MaintenanceWindow(("spawner",), began, NOW + timedelta(hours=1), "a new disk", SECRET)]
    state.events = [event(1, source="hermes", payload={"message": SECRET}, type=f"t-{SECRET}")]
    state.just_before = {"hermes": state.events[0]}
    state.earlier = {"hermes": over}
    state.changes = [
        StateChange("old", "", Health.UP, Health.DEGRADED, str(CAUSE), NOW - timedelta(minutes=5), cause=CAUSE)
    ]
    return state


@pytest.mark.parametrize("path", ["/status", "/status/services/hermes", "/status/services/mcp", "/status/services/old"])
async def test_a_public_page_has_codes_and_numbers_and_no_text(path: str) -> None:
    state = fleet()
    async with running(state) as gateway, gateway.client.get(path) as answer:
        text = await answer.text()
    assert answer.status == 200
    assert SECRET not in text
    assert "10.9.8.7" not in text
    if path == "/status":
        assert "answered 503, but …" in text
        assert "a new disk" in text
        assert "Shown after sign-in." in text


@pytest.mark.parametrize("path", ["/status", "/status/services/hermes"])
async def test_who_has_signed_in_sees_it_on_the_same_page(path: str) -> None:
    state = fleet()
    state.viewer = Viewer(is_signed_in=True)
    async with running(state) as gateway, gateway.client.get(path) as answer:
        assert SECRET in await answer.text()


async def test_a_code_of_a_later_version_is_not_public() -> None:
    cause = because("answered", status=503)
    cause.code = "of a later version"
    state = State(services=(view("hermes", 8003, Health.DOWN, reason=SECRET, cause=cause),))
    async with running(state) as gateway, gateway.client.get("/status") as answer:
        text = await answer.text()
    assert "hermes is down" in text
    assert SECRET not in text


@pytest.mark.parametrize("is_signed_in", [True, False])
async def test_values_that_nobody_can_read_fail_no_page(*, is_signed_in: bool) -> None:
    cause = Reason("as it came", "recovered_unseen", {"time": "0001-01-01T00:00:00+14:00"})
    state = State(services=(view("hermes", 8003, Health.DOWN, reason="as it came", cause=cause),))
    state.viewer = Viewer(is_signed_in=is_signed_in)
    async with running(state) as gateway, gateway.client.get("/status") as answer:
        text = await answer.text()
    assert (answer.status, "as it came" in text) == (200, is_signed_in)
