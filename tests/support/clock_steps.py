"""A gateway whose system clock is set while it runs."""

from __future__ import annotations

import time

import pytest

from tentaculo.gateway import gateway as gateway_module
from tentaculo.gateway import incident_repository, incident_service
from tentaculo.health import steady_clock as clock_module
from tentaculo.health.steady_clock import SteadyClock


def clock_ahead(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """By how many seconds the system clock of the gateways that start from now on is ahead. They look soon."""
    ahead = [0.0]
    monkeypatch.setattr(clock_module, "CHECK_EVERY", 0.01)
    monkeypatch.setattr(gateway_module, "SteadyClock", lambda: SteadyClock(system=lambda: time.time() + ahead[0]))
    monkeypatch.setattr(incident_service, "TICK", 0.02)
    monkeypatch.setattr(incident_service, "ROUND", 1)
    monkeypatch.setattr(incident_repository, "VISIT_EVERY", 0.1)
    monkeypatch.setattr(incident_repository, "PAUSE", 0.02)
    return ahead
