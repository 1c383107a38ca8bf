"""The shared values: what follows from them, and that nobody changes them."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mypy import api

from tentaculo.model.event import Event
from tentaculo.model.health import (
    BreakerState,
    BreakerView,
    DegradedKind,
    Endpoint,
    EndpointView,
    Health,
    Outcome,
    ProbeResult,
    ServiceView,
    words_of,
)

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def service(*states: BreakerState) -> ServiceView:
    upstreams = tuple(
        EndpointView(Endpoint("madre", "127.0.0.1", 8001 + number), Health.UP, BreakerView(state, number))
        for number, state in enumerate(states)
    )
    return ServiceView("madre", 8001, Health.UP, "answered 200 in 4 ms", NOW, upstreams)


@pytest.mark.parametrize("health", Health)
def test_up_and_degraded_are_healthy(health: Health) -> None:
    assert health.is_healthy is (health in (Health.UP, Health.DEGRADED))


@pytest.mark.parametrize("health", Health)
def test_what_is_off_on_purpose_does_not_count(health: Health) -> None:
    assert health.is_counted is (health is not Health.OFF)


def test_states_are_the_words_of_the_contract() -> None:
    assert [state.value for state in BreakerState] == ["closed", "open", "half_open"]
    assert f"{Health.UP} {Outcome.NEUTRAL}" == "up neutral"


@pytest.mark.parametrize(
    ("upstream", "authority", "origin"),
    [
        (Endpoint("madre", "127.0.0.1", 8001), "127.0.0.1:8001", "http://127.0.0.1:8001"),
        (Endpoint("madre", "madre", 443, tls=True), "madre:443", "https://madre:443"),
        (Endpoint("madre", "::1", 8001), "[::1]:8001", "http://[::1]:8001"),
    ],
)
def test_an_upstream_is_written_as_its_origin(upstream: Endpoint, authority: str, origin: str) -> None:
    assert (upstream.authority, str(upstream)) == (authority, origin)


CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN


@pytest.mark.parametrize(
    ("states", "chosen"),
    [
        ([CLOSED], 0),
        ([OPEN], 0),
        ([OPEN, CLOSED], 1),
        ([OPEN, HALF_OPEN], 1),
        ([HALF_OPEN, OPEN, CLOSED], 2),
        ([CLOSED, CLOSED], 0),
    ],
)
def test_a_services_breaker_is_the_least_open_one(states: list[BreakerState], chosen: int) -> None:
    view = service(*states)
    assert view.breaker is view.upstreams[chosen].breaker


@pytest.mark.parametrize(
    "value",
    [
        Endpoint("madre", "127.0.0.1", 8001),
        BreakerView(CLOSED, 0),
        service(CLOSED),
        service(CLOSED).upstreams[0],
        ProbeResult(Endpoint("madre", "127.0.0.1", 8001), Health.UP, "answered 200 in 4 ms", NOW),
        Event(1, "madre", "spawn_success", {}, NOW),
    ],
)
def test_values_are_frozen(value: object) -> None:
    field = next(iter(type(value).__slots__))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        setattr(value, field, None)
    with pytest.raises((AttributeError, TypeError)):
        value.extra = 1  # type: ignore[attr-defined]


def test_an_event_has_metadata_of_its_own() -> None:
    one, other = Event(1, "madre", "x", {}, NOW), Event(2, "madre", "x", {}, NOW)
    assert one.metadata == {}
    assert one.metadata is not other.metadata


@pytest.mark.parametrize("health", Health)
def test_every_health_has_words(health: Health) -> None:
    words = words_of(health)
    assert all(words)
    assert words.label == health.value.capitalize()
    assert words.truth in ("OK", "BROKEN", "UNKNOWN")
    assert (words.truth == "OK") is health.is_healthy


def test_words_of_vx11_are_unchanged() -> None:
    assert {health.value: words_of(health).vx11 for health in Health} == {
        "unknown": "unknown",
        "up": "ok",
        "degraded": "degraded",
        "down": "error",
        "maintenance": "maintenance",
        "off": "off",
    }


@pytest.mark.thorough
def test_a_health_without_words_fails_type_checking(tmp_path: Path) -> None:
    source = Path(inspect.getfile(Health)).read_text("utf-8")
    assert '    OFF = "off"\n' in source
    patched = tmp_path / "patched_health.py"
    patched.write_text(source.replace('    OFF = "off"\n', '    OFF = "off"\n    PAUSED = "paused"\n'), "utf-8")
    found, _, _ = api.run(["--strict", "--no-incremental", "--follow-imports=silent", "--config-file=", str(patched)])
    assert 'Argument 1 to "assert_never"' in found
    assert "Health.PAUSED" in found


@pytest.mark.parametrize(
    ("health", "kind", "breakers", "state"),
    [
        (Health.UP, None, (BreakerState.CLOSED,), "up"),
        (Health.UP, None, (BreakerState.OPEN,), "failing"),
        (Health.UP, None, (BreakerState.OPEN, BreakerState.CLOSED), "up"),
        (Health.UP, None, (BreakerState.OPEN, BreakerState.HALF_OPEN), "up"),
        (Health.UNKNOWN, None, (), "unknown"),
        (Health.DEGRADED, None, (BreakerState.CLOSED,), "degraded"),
        (Health.DEGRADED, DegradedKind.SLOW, (BreakerState.CLOSED,), "slow"),
        (Health.DEGRADED, DegradedKind.SLOW, (BreakerState.OPEN,), "failing"),
        (Health.DOWN, None, (BreakerState.OPEN,), "down"),
        (Health.MAINTENANCE, None, (BreakerState.OPEN,), "maintenance"),
        (Health.OFF, DegradedKind.SLOW, (BreakerState.OPEN,), "off"),
    ],
)
def test_the_state_of_a_service_regards_its_least_open_breaker(
    health: Health, kind: DegradedKind | None, breakers: tuple[BreakerState, ...], state: str
) -> None:
    view = replace(service(*breakers), health=health, kind=kind)
    assert view.state == state
    assert view.is_cut_off is (state == "failing")
    assert replace(view, health=Health.DOWN).state == "down", "it follows from what a copy has"
