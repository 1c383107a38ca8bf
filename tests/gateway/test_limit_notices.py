"""Who is beyond a limit is said once in a while, and never more often than a log can take."""

from __future__ import annotations

from typing import Any

from tentaculo.gateway import limit_notices
from tentaculo.gateway.limit_notices import AGAIN_AFTER, MOST_AT_ONCE, MOST_NOTED, SPAN, LimitNotices
from tentaculo.model.history import RouteKey
from tentaculo.server.request_limits import LimitedRequest, Refusal


class Recorder:
    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[dict[str, Any]] = []
        self.notices = LimitNotices(self.record, lambda: self.now)

    def record(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        assert (type_, severity, key) == ("requests.limited", "warning", None)
        self.events.append(payload)

    def note(
        self, caller: str | None = None, network: str = "192.0.2.1", per: str = "caller", route: str = "/a"
    ) -> None:
        refusal = Refusal((f"1/s per {per}",), "rate", per, 1, {})
        self.notices.note(LimitedRequest(RouteKey("madre", route), refusal, caller, network))


def test_each_caller_and_each_address_is_named_once_in_a_while() -> None:
    here = Recorder()
    for _ in range(5):
        here.note("ann")
        here.note(None)
        here.note("ann", route="/b")
    assert [(one["caller"], one["route"]) for one in here.events] == [("ann", "/a"), (None, "/a"), ("ann", "/b")]
    here.now = AGAIN_AFTER
    here.note("ann")
    assert len(here.events) == 4


def test_a_limit_for_all_together_is_named_once_for_all_refused_callers() -> None:
    here = Recorder()
    for caller in ("ann", "bob", None):
        here.note(caller, per="route")
    assert len(here.events) == 1


def test_an_event_has_no_address() -> None:
    here = Recorder()
    here.note(None, "192.0.2.77")
    assert "192.0.2.77" not in str(here.events)
    assert here.events[0]["limit"] == "1/s per caller"


def test_thousands_of_addresses_make_few_events_and_take_little_memory() -> None:
    here = Recorder()
    for number in range(5000):
        here.note(None, f"10.0.{number // 256}.{number % 256}")
    assert len(here.events) == MOST_AT_ONCE
    for minute in range(1, 300):
        here.now = minute * SPAN
        for number in range(20):
            here.note(None, f"10.{minute}.0.{number}")
    assert len(here.events) <= 300 * MOST_AT_ONCE
    assert here.events[MOST_AT_ONCE]["others"] == 5000 - MOST_AT_ONCE
    assert len(here.notices._noted) <= MOST_NOTED
    assert limit_notices.AGAIN_AFTER >= SPAN
