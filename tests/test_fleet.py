"""The fleet's health as the composition root joins it: who hears of a change."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.fleet import Fleet
from tentaculo.model import Health, ServiceView, Transition
from tentaculo.store.recorder import Recorder


@pytest.fixture
def fleet() -> Fleet:
    services = {"madre": {"url": "http://127.0.0.1:8001"}}
    return Fleet(Config.model_validate({"services": services}), Recorder("sqlite://"))


def test_every_listener_hears_of_a_change_with_the_service_as_it_is_then(fleet: Fleet) -> None:
    heard: list[tuple[Transition, ServiceView]] = []

    def broken(_: Transition, __: ServiceView) -> None:
        raise ValueError("a listener's fault")

    fleet.on_transition += [broken, lambda transition, view: heard.append((transition, view))]
    with capture_logs() as logs:
        fleet.set_maintenance("madre", "a new disk")
        fleet.set_maintenance("madre", "two new disks")
    ((transition, view),) = heard
    assert (transition.service, transition.before, transition.after) == ("madre", Health.UNKNOWN, Health.MAINTENANCE)
    assert (view.health, view.reason) == (Health.MAINTENANCE, "a new disk")
    assert [entry["event"] for entry in logs] == ["health changed", "a listener failed"]
