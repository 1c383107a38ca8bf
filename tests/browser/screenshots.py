"""Writes the picture of the status page in docs/: `python -m tests.browser.screenshots`. It needs Debian's chromium."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from pathlib import Path

from tentaculo.model.health import DegradedKind, Health, StateChange
from tentaculo.model.history import MINUTE, Histogram, HistorySummary, Period, Tally, UptimeShare, bucket
from tentaculo.model.incident import Incident, MaintenanceWindow, NotificationState, Notified
from tentaculo.model.service_rates import RecentRates, UsualRates, recent_end
from tests.browser import chromium
from tests.support.native_gateway import NOW, UNSEEN, State, event, running, view
from tests.web.test_incidents import NOTE

DOCS = Path(__file__).resolve().parents[2] / "docs"
UNTIL = int(NOW.timestamp()) // MINUTE * MINUTE


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def history(name: str, usual: float, factor: float, slow_for: int) -> HistorySummary:
    """Three hours, of which the last `slow_for` minutes took `factor` times as long."""
    noise = random.Random(name)
    minutes = []
    for back in range(180, 0, -1):
        seconds = usual * (1 + noise.random() * 0.4) * (factor if back <= slow_for else 1)
        requests = Tally(60, 0, Histogram({bucket(seconds): 60}))
        minutes.append(Period(name, MINUTE, UNTIL - back * MINUTE, Tally(6, 0), requests))
    return HistorySummary(tuple(minutes), UptimeShare(0.9997))


def fleet() -> State:
    """hermes is down, hormiguero fails with it, and switch is slow for another reason."""
    state = State(past={})
    state.services = (
        view("madre", 8001),
        view("switch", 8002, Health.DEGRADED, kind=DegradedKind.SLOW, reason="slow: 193 ms", since=ago(100)),
        view("hermes", 8003, Health.DOWN, reason="/health answered 503: database is locked", since=ago(21)),
        view("hormiguero", 8004, Health.DEGRADED, kind=DegradedKind.FAILING, since=ago(19), root="hermes"),
        *(view(name, port) for name, port in (("manifestator", 8005), ("mcp", 8006), ("spawner", 8008))),
        view("operator", 8011, Health.MAINTENANCE, reason="a new disk", since=ago(50)),
        view("shubniggurath", 8007, Health.OFF, reason="off on purpose", **UNSEEN),
    )
    for service in state.services:
        usual, factor, minutes = {
            "switch": (0.024, 8.0, 100),
            "hormiguero": (0.014, 3.0, 19),
        }.get(service.name, (0.004 + 0.003 * (service.port % 7), 1.0, 0))
        if service.health is not Health.OFF:
            before = StateChange(service.name, "", Health.UNKNOWN, Health.UP, "", ago(9000))
            state.changes.append(before)
            state.past[service.name] = history(service.name, usual, factor, minutes)
            state.usual_rates[service.name] = UsualRates(0, 7, 60.0, usual * 1.2, usual)
            failed = {Health.DOWN: 320, Health.DEGRADED: 121 if service.root else 0}.get(service.health, 0)
            latency = Histogram({bucket(usual * factor * 1.2): 320 - failed}) if failed < 320 else Histogram()
            rates = RecentRates(recent_end(UNTIL), 5, Tally(30, 0), Tally(320 - failed, failed, latency))
            state.rates[service.name] = rates
        if service.health not in (Health.UP, Health.OFF):
            state.changes.append(
                StateChange(service.name, "", Health.UP, service.health, service.reason, service.since, service.kind)
            )
    told = Notified(NotificationState.OPEN, ago(20), Health.DOWN, 1)
    reason = "/health answered 503: database is locked"
    state.books.incidents = [
        Incident(
            1773499706000,
            "hermes",
            ("hermes", "hormiguero"),
            Health.DOWN,
            reason,
            ago(21),
            NOW,
            notified={"duty": told, "phone": told},
        )
    ]
    state.books.notes = {1773499706000: [NOTE]}
    state.earlier = {
        "hermes": Incident(1, "hermes", ("hermes",), Health.DOWN, "disk full", ago(1700), ago(1690), ago(1686))
    }
    state.events = [
        event(2, source="ci", type="deployed", payload={"message": "hermes v2.4.0"}, received_at=ago(24)),
        event(1, received_at=ago(105)),
    ]
    state.just_before = {"hermes": state.events[0]}
    state.books.planned = [MaintenanceWindow(("operator",), ago(50), NOW + timedelta(hours=1), "a new disk")]
    return state


async def main() -> None:
    async with running(fleet()) as gateway, chromium.started() as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 1130})
        await page.goto(f"http://{gateway.host}:{gateway.port}/status")
        await page.screenshot(path=DOCS / "status.png")


if __name__ == "__main__":
    asyncio.run(main())
