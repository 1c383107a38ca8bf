"""The pages that every check of `tests/browser` looks at: each page of the gateway with a fleet that has everything."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from tentaculo.model.clock import CorrectedTime
from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.event import Event, EventLink, LogPage
from tentaculo.model.health import (
    GATEWAY_NAME,
    Certificate,
    DegradedKind,
    Endpoint,
    EndpointView,
    Health,
    ProbeResult,
    SeenCertificate,
    StateChange,
)
from tentaculo.model.history import MINUTE, Histogram, HistorySummary, Period, RouteCount, Tally, UptimeShare, bucket
from tentaculo.model.incident import (
    Acknowledgement,
    DeliveryOutcome,
    DeliveryRecord,
    Incident,
    MaintenanceWindow,
    NotificationState,
    Notified,
)
from tentaculo.model.mute import Mute
from tentaculo.model.page import PageInfo, RequestRule, RouteRules, ServiceInfo
from tentaculo.model.precursor import Precursor, PrecursorReport, ServicePrecursors
from tentaculo.model.reason import because
from tentaculo.model.request_phases import Phases
from tentaculo.model.service_rates import RecentRates, UsualRates, recent_end
from tentaculo.model.target_group import GroupView, TargetView
from tentaculo.web.viewer import Viewer
from tests.browser.test_status_page import fleet_of
from tests.support.native_gateway import CLOSED, NOW, OPEN, UNSEEN, State, event, view
from tests.web.test_incidents import NOTE

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


def signed_in() -> State:
    """The same fleet for who is signed in; hermes has everything that a page of a service shows."""
    state = fleet()
    state.viewer = Viewer(is_signed_in=True)
    first, second = (Endpoint("hermes", "10.9.8.7", port) for port in (8003, 9003))
    state.services = tuple(
        replace(one, upstreams=(EndpointView(first, Health.DOWN, OPEN), EndpointView(second, Health.DOWN, CLOSED)))
        if one.name == "hermes"
        else one
        for one in state.services
    )
    state.results["hermes"] = tuple(
        ProbeResult(
            (first, second)[number % 2],
            Health.UP if number > 6 else Health.DOWN,
            "answered 200 in 4 ms" if number > 6 else "answered 503 in 2 ms",
            NOW - timedelta(seconds=3 + 5 * number),
            "/health",
            200 if number > 6 else 503,
            4,
            '{"status":"ok"}' if number > 6 else "database is locked",
        )
        for number in range(10)
    )
    ends = NOW + timedelta(days=9)
    certificate = Certificate(("hermes.example", "mail.example"), 2, "R11, Let's Encrypt", None, ends, ends)
    state.seen_certificates["hermes"] = (
        SeenCertificate(first, certificate, NOW - timedelta(seconds=3)),
        SeenCertificate(second, replace(certificate, chain_ends=ago(600)), ago(20)),
    )
    state.route_counts["hermes"] = {"/mail": RouteCount(412, 320), "/mail/inbound": RouteCount(64, 0)}
    state.dependencies.update({"hormiguero": ("hermes",), "hermes": ("madre",)})
    named = ServiceInfo("Sends receipts.", "Ana", "Mail", "https://runbooks.example/hermes")
    state.info = PageInfo("Ana's fleet", services={"hermes": named, "madre": replace(named, group="Core")})
    return state


OPEN_INCIDENT = 1773499706000
"""The id of the open incident of `fleet`."""


def with_incidents() -> State:
    """The same for who is signed in: the open incident has all that its page shows, and others have ended."""
    state = signed_in()
    text = "answered 503, but database is locked"
    told = DeliveryRecord("duty", "incident.opened", DeliveryOutcome.DELIVERED, ago(20), ago(20))
    lost = DeliveryRecord("phone", "incident.opened", DeliveryOutcome.FAILED, ago(20), ago(14), 1, 10, "answered 502")
    known = replace(
        state.books.incidents[0],
        reason=text,
        cause=because("answered_but", status=503, what="database is locked"),
        peak_error_rate=0.97,
        reopened=1,
        reopened_at=ago(9),
        failed_requests=1310,
        counted_until=ago(1),
        deliveries=(told, lost, replace(told, channel="phone", attempts=2)),
        acknowledged=Acknowledgement(1, OPEN_INCIDENT, ago(15), "ana", "restarting it"),
    )

    def ended(days: float, root: str, affected: tuple[str, ...], minutes: float, **changes: Any) -> Incident:
        at = NOW - timedelta(days=days)
        values: dict[str, Any] = {
            "ended_at": at + timedelta(minutes=minutes),
            "ending": "It is healthy again: answered 200 in 4 ms",
            "cause": because("connection_refused"),
            "failed_requests": round(minutes * 60),
            "counted_until": at + timedelta(minutes=minutes),
        }
        number = OPEN_INCIDENT - round(days * 86_400_000)
        first = Incident(number, root, (root, *affected), Health.DOWN, "connection refused", at, at)
        return replace(first, **{**values, **changes})

    state.books.incidents = [
        known,
        ended(1.2, "hermes", (), 14),
        ended(33, "mcp", ("operator", "switch", "madre"), 41),
        ended(40, "madre", (), 8, severity=Health.DEGRADED, reopened=3),
    ]
    state.books.notes[state.books.incidents[1].id] = [replace(NOTE, text="Disk full; made room.\nNeeds log rotation.")]
    return state


def connected() -> State:
    """The events of a release and of the incident that came after it, for who is signed in."""
    state = signed_in()
    incident = state.books.incidents[0]

    def came(minutes: float, source: str, type_: str, payload: dict[str, Any], width: int = 0, **more: Any) -> Event:
        at = ago(minutes)
        corrected = CorrectedTime(int(at.timestamp() * 1000), width) if width else None
        number = int(at.timestamp() * 1_000_000)
        return event(number, source=source, type=type_, payload=payload, received_at=at, corrected=corrected, **more)

    changed = "gateway.health.changed"
    reason = "/health answered 503: database is locked"
    down = {"service": "hermes", "before": "up", "after": "down", "reason": reason}
    degraded = {"service": "hormiguero", "before": "up", "after": "degraded", "root": "hermes"}
    opened = {"incident": incident.id, "service": "hermes", "services": ["hermes"], "reason": reason}
    release = {"message": "hermes v2.4.0", "correlation_id": "release-240"}
    alert = {"alert_id": "a1", "severity": "critical", "message": "cannot reach hermes", **release}
    state.events = [
        came(170, "spawner", "spawn_created", {"id": "child-7f3", "name": "worker"}, 900),
        came(160, "madre", "spawn_success", {"spawn_id": "child-7f3", "seconds": 3}, 1100),
        came(150, "switch", "switch.tension.updated", {"value": 4, "components": {"a": [1, 2]}}),
        came(120, "madre", "madre.decision.explained", {"summary": "Chose the smaller model"}, 300_000),
        came(24, "ci", "deploy.started", release),
        came(22.5, "ci", "deploy.finished", release),
        came(21, GATEWAY_NAME, changed, down, severity="warning"),
        came(20.9, GATEWAY_NAME, "gateway.incident.opened", opened, severity="warning"),
        came(19, "hormiguero", "system.alert", alert, 60_000, severity="critical"),
        came(18, GATEWAY_NAME, changed, degraded, severity="warning"),
        came(17, GATEWAY_NAME, "gateway.alert.sent", {"channel": "duty", "kind": "opened"}),
        came(2, "manifestator", "x" * 100, {"k" * 60: "v" * 300, "deep": {"a": {"b": "c"}}}),
    ]
    ids = [one.id for one in state.events]
    links = ((0, 1, "payload.id = spawn_id"), (4, 5, "correlation_id"), (5, 8, "correlation_id"))
    state.log_page = LogPage(
        tuple(reversed(state.events)),
        tuple(EventLink(ids[one], ids[other], by) for one, other, by in links),
        {ids[4]: "release-240", ids[5]: "release-240", ids[8]: "release-240"},
    )
    others = dict.fromkeys(range(2, 6), 1)
    claim = Precursor("ci", "deploy.started", {incident.id: ids[4], **others}, 1, 1e-6, 2e-5)
    chance = Precursor("madre", "tick", {incident.id: ids[3], 2: 1}, 20, 0.4, 0.5)
    found = ServicePrecursors("hermes", 60, (incident.id, *others, 6), 80, (claim, chance))
    opening = int(incident.started_at.timestamp() * 1_000_000)
    state.report = PrecursorReport(ago(28 * 1440), NOW, 37, {incident.id: opening}, {"hermes": found})
    return state


def acting() -> State:
    """The same in a browser that has signed in, which has forms: the incident is muted, and two windows are planned."""
    state = signed_in()
    one = state.books.incidents[0]
    state.books.incidents = [replace(one, muted=Mute(1, one.id, ago(9), "ana", NOW + timedelta(hours=1)))]
    (window,) = state.books.planned
    later = replace(window, id=2, starts_at=NOW + timedelta(days=2), ends_at=NOW + timedelta(days=2, hours=1))
    state.books.planned = [replace(window, id=1), later]
    state.viewer = Viewer(is_signed_in=True, has_session=True, may_act=True)
    return state


def learning() -> State:
    """The same for who is signed in: hermes has early warnings of each kind, a group of targets, and slow phases."""
    state = signed_in()
    trend = EarlyWarning(
        "hermes",
        "requests_median",
        opened_at=ago(3),
        rule="trend",
        level=0.32,
        usual=0.08,
        limit=0.5,
        since=ago(63),
        per_minute=0.009,
        expected_at=ago(-30),
        earliest_at=ago(-9),
        latest_at=ago(-900),
    )
    falling = replace(trend, signal="gauge_low:memory.free_megabytes", per_minute=-12.5, usual=900.0, limit=100.0)
    level = EarlyWarning("hermes", "probes_p95", ago(50), "level", 0.4, 0.1, 0.5, ago(50))
    state.warnings = [
        trend,
        falling,
        level,
        replace(level, opened_at=ago(3000), outcome="reached", ended_at=ago(2900)),
        replace(trend, opened_at=ago(9000), outcome="ended", ended_at=ago(8000)),
    ]
    state.phases = {"hermes": {"/mail": (1412, Phases(4.1, 90.2, 1806.5, 12.0)), "/": (10, Phases())}}
    targets = (
        TargetView("large-language-model-long-name-42", 412, 400, 310.0, 100, 0.78, 0.04, 0.81),
        TargetView("small", 64, 60, 20.0, 60, 0.33, 0.12, 0.19),
        TargetView("new", 0, 0, 0.0, 0, None, None, 0.0),
    )
    rules = (RequestRule("caller", "100/min", 20, None), RequestRule("address", "", None, 5))
    networks = ("10.0.0.0/8", "2001:db8:85a3::/48")
    state.rules = [RouteRules("/mail/classify/and/a/long/prefix", rules, networks, ("10.9.0.0/16",), 12)]
    state.groups = [GroupView("hermes", "/mail/classify/and/a/long/prefix", targets)]
    return state


def quiet() -> State:
    """Everything is up."""
    return State(past={}, services=(view("madre"), view("hermes")))


def without_past() -> State:
    """The database is lost."""
    state = fleet()
    state.lost = "The database file fleet.db is damaged."
    return state


def many() -> State:
    """A hundred services in a cascade."""
    return fleet_of(12, 87)


@dataclass(frozen=True)
class Shown:
    """One page: its path, the fleet that it shows, and the status of the response."""

    path: str
    state: Callable[[], State] = fleet
    status: int = 200

    def __str__(self) -> str:
        return f"{self.path} {self.state.__name__}"


PAGES = [
    Shown("/status"),
    Shown("/status", signed_in),
    Shown("/status?range=90d"),
    Shown("/status?filter=nothing-of-this-name"),
    Shown("/status", quiet),
    Shown("/status", without_past),
    Shown("/status", many),
    Shown("/status", State),
    Shown("/status", acting),
    Shown("/status/services/hermes", acting),
    Shown(f"/status/incidents/{OPEN_INCIDENT}", acting),
    Shown("/status/sign-in"),
    Shown("/status/sign-in?said=out", acting),
    Shown("/status/services/hermes"),
    Shown("/status/services/hermes", signed_in),
    Shown("/status/services/hermes?range=90d", signed_in),
    Shown("/status/services/hermes", learning),
    Shown("/status", learning),
    Shown("/status/services/hermes", without_past),
    Shown("/status/services/shubniggurath"),
    Shown("/status/incidents"),
    Shown("/status/incidents", with_incidents),
    Shown("/status/incidents?range=all&service=hermes&before=1", with_incidents),
    Shown("/status/incidents", quiet),
    Shown("/status/incidents", without_past),
    Shown(f"/status/incidents/{OPEN_INCIDENT}"),
    Shown(f"/status/incidents/{OPEN_INCIDENT}", with_incidents),
    Shown(f"/status/incidents/{OPEN_INCIDENT - 103_680_000}", with_incidents),
    Shown(f"/status/incidents/{OPEN_INCIDENT}", without_past),
    Shown("/status/events"),
    Shown("/status/events?range=3h", connected),
    Shown("/status/events?kind=health&service=hermes&text=x&before=5", connected),
    Shown("/status/events", without_past),
    Shown("/status/incidents?range=24h&service=madre"),
    Shown("/no/such/path", status=404),
    Shown("/status?range=1h", status=400),
    Shown("/status?group=x", status=400),
    Shown("/status/incidents/1", status=404),
]
"""Every page joins here, once for each form that it can have."""
