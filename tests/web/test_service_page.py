"""The page of one service, as it comes over HTTP."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model.health import (
    Certificate,
    ConcurrencyView,
    Counts,
    Endpoint,
    EndpointView,
    Health,
    ProbeResult,
    SeenCertificate,
)
from tentaculo.model.history import DAY, HOUR, MINUTE, Period, RouteCount, Uptime
from tentaculo.model.request_phases import Phases
from tentaculo.model.service_rates import UsualRates
from tentaculo.web.languages import language
from tentaculo.web.service_page import concurrency_facts, time_rows
from tentaculo.web.viewer import Viewer
from tests.support.native_gateway import CLOSED, NOW, OPEN, TOKEN, Gateway, State, event, running, view
from tests.web.test_incidents import HERMES, NOTE
from tests.web.test_status_page import HOSTILE, Outline, change, rates, words

SIGNED_IN = Viewer(is_signed_in=True)


async def page(gateway: Gateway, service: str, query: str = "") -> str:
    async with gateway.client.get(f"/status/services/{service}{query}") as response:
        assert response.status == 200
        return await response.text()


async def test_it_says_the_state_and_why(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    text = await page(gateway, "hermes")
    said = words(text)
    assert "Down for 3 h hermes is down. connection refused" in said
    assert "<title>hermes is down · Tentáculo Link</title>" in text
    assert "madre is up." in words(await page(gateway, "madre"))
    assert "its circuit breaker is open: connection refused 5 times in a row" in words(await page(gateway, "mcp"))


async def test_numbers_stand_beside_what_is_usual(gateway: Gateway) -> None:
    state = gateway.state
    state.rates = {"madre": rates(300, 20)}
    state.usual_rates = {"madre": UsualRates(0, 7, 60.0, 0.024, 0.001)}
    state.route_counts = {"madre": {"/a": RouteCount(3, 2), "/b": RouteCount(40, 0)}}
    said = words(await page(gateway, "madre"))
    assert "Requests, 5 min 64 a minute, usually 60" in said
    assert "Failed, 5 min 6.2 % 95 % interval 4.1 % to 9.5 %" in said
    assert "95 % within 10 ms usually 24 ms; half within 10 ms, 99 % within 10 ms; of requests" in said
    assert "Up, 90 days 99.98 %" in said
    assert "Routes The last 3 hours /b 40 requests, 0 failed /a 5 requests, 2 failed" in said
    assert "1,200 requests, 0 failed." in said, "the chart in words"
    assert text_of_chart(await page(gateway, "madre")) >= 3


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (ConcurrencyView(None, 3, 0, 0), "en", "In flight 3 no limit now; 0 refused in 5 min"),
        (ConcurrencyView(12, 9, 40, 1), "es", "En curso 9 como máximo 12; 1 rechazada en 5 min"),
        (ConcurrencyView(12, 9, 40, 1240), "pt", "Em curso 9 no máximo 12; 1.240 recusadas em 5 min"),
    ],
)
async def test_what_is_in_flight_and_what_was_refused(
    gateway: Gateway, found: ConcurrencyView, code: str, said: str
) -> None:
    gateway.state.concurrency = {"madre": found}
    text = await page(gateway, "madre", f"?lang={code}")
    assert said in words(text)
    assert "In flight" not in words(await page(gateway, "hermes")), "it is off there"


def test_one_worker_of_several_says_that_it_is_one() -> None:
    (fact,) = concurrency_facts(ConcurrencyView(12, 9, 40, 3), 2, language("en"))
    assert fact.more == "at most 12; 3 refused in 5 min; of worker 2"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("en", "Where the time goes last 5 minutes /a 310 ms on average: 60 % until the first byte, 30 % connecting,"),
        (
            "es",
            "En qué se va el tiempo últimos 5 minutos /a 310 ms de media: 60 % hasta el primer byte, 30 % para conectar,",
        ),
        (
            "pt",
            "Para onde vai o tempo últimos 5 minutos /a 310 ms em média: 60 % até o primeiro byte, 30 % para conectar,",
        ),
    ],
)
async def test_where_the_time_goes(gateway: Gateway, code: str, said: str) -> None:
    gateway.state.phases = {"madre": {"/a": (10, Phases(0.31, 0.93, 1.86, 0.0))}}
    assert said in words(await page(gateway, "madre", f"?lang={code}"))
    assert "Where the time goes" not in words(await page(gateway, "hermes"))


def test_the_times_of_one_worker_are_its_own_and_an_unused_phase_is_left_out() -> None:
    found = {"/a": (1, Phases(first_byte=0.5)), "/b": (4, Phases(body=2.0, first_byte=2.0))}
    assert [(row["prefix"], row["said"]) for row in time_rows(found, 2, language("en"))] == [
        ("/b", "1.0 s on average: 50 % until the first byte, 50 % for the bodies; of worker 2"),
        ("/a", "500 ms on average: 100 % until the first byte; of worker 2"),
    ]


def text_of_chart(page: str) -> int:
    """How many paths the chart has."""
    return len(re.findall(r'<path class="(?:p50|p95|p99|r-none)" d="M', page))


async def test_each_of_90_days_has_its_colour(gateway: Gateway) -> None:
    today = int(NOW.timestamp()) // DAY * DAY
    shares = {0: 1.0, 1: 0.995, 2: 0.5}
    days = tuple(
        Period("switch", DAY, today - ago * DAY, uptime=Uptime(round(share * 1000), round((1 - share) * 1000)))
        for ago, share in shares.items()
    )
    gateway.state.past["switch"] = replace(gateway.state.past["switch"], hours=days)
    text = await page(gateway, "switch")
    assert text.count('width=".9%"') == 90
    assert re.findall(r'class="r-(\w+)" x="9[678]\.\d+%" width=".9%"', text) == ["down", "slow", "up"]
    assert "<title>12 Mar: up 50 %</title>" in text
    assert "<title>11 Mar: not known</title>" in text


async def test_addresses_are_numbered_while_everybody_may_look(gateway: Gateway) -> None:
    upstreams = (
        EndpointView(Endpoint("madre", "10.9.8.7", 8001), Health.UP, CLOSED, Counts(812, 3), Counts(4000, 31)),
        EndpointView(Endpoint("madre", "10.9.8.8", 8001), Health.DOWN, OPEN),
    )
    gateway.state.services = (view("madre", upstreams=upstreams),)
    text = await page(gateway, "madre")
    said = words(text)
    assert "Address 1 Up Breaker: Closed 815 probes, 3 failed, 4,031 requests, 31 failed" in said
    assert "Address 2 Down Breaker: Open, next try in 6 s" in said
    assert "10.9.8" not in text
    assert TOKEN not in text


async def test_who_has_the_token_sees_the_addresses() -> None:
    state = State(viewer=Viewer(is_signed_in=True))
    async with running(state, AuthSettings(open_status=False)) as gateway:
        async with gateway.client.get("/status/services/madre") as response:
            assert response.status == 401
        async with gateway.client.get("/status/services/madre", headers={"X-VX11-Token": TOKEN}) as response:
            assert "10.9.8.7:8001 Up" in words(await response.text())


async def test_what_happened_is_its_own(gateway: Gateway) -> None:
    gateway.state.viewer = SIGNED_IN
    state = gateway.state
    state.books.incidents = [HERMES]
    state.books.notes = {HERMES.id: [NOTE]}
    state.events = [event(1, source="hermes", type="restarted"), event(2, source="ci", type="deployed")]
    state.changes = [change("hermes", Health.DOWN, 25), change("operator", Health.DEGRADED, 24)]
    said = words(await page(gateway, "operator"))
    assert "operator is degraded" in said
    assert "hermes is down: connection refused Affected: operator." in said, "the incident that it is a part of"
    said = words(await page(gateway, "hermes"))
    assert "hermes sent restarted" in said
    assert "ci sent" not in said
    assert "operator is degraded" not in said


async def test_its_dependencies_lead_to_each_other(gateway: Gateway) -> None:
    gateway.state.dependencies.update({"operator": ("switch",), "switch": ("hermes",)})
    text = await page(gateway, "switch")
    assert 'Depends on <a href="/status/services/hermes">hermes</a>' in text
    assert '<a href="/status/services/operator">operator</a> depends on it' in text


def probe(ago: float, health: Health = Health.UP, port: int = 8001, **changes: Any) -> ProbeResult:
    values: dict[str, Any] = {"endpoint": "/health?key=1", "code": 200, "latency_ms": 4, "snippet": "{}", **changes}
    return ProbeResult(
        Endpoint("madre", "10.9.8.7", port), health, "answered 200 in 4 ms", NOW - timedelta(seconds=ago), **values
    )


async def test_the_last_probes_without_what_is_private(gateway: Gateway) -> None:
    gateway.state.results["madre"] = (
        probe(3),
        probe(13, Health.DOWN, code=None, latency_ms=None),
        probe(23, Health.UNKNOWN, code=None),
        probe(33, Health.DOWN, code=503),
        probe(43, code=None),
    )
    text = await page(gateway, "madre")
    assert (
        "Last probes 15:09:23 Up: answered 200 in 4 ms 15:09:13 Down: failed without a response 15:09:03 Unknown: not sent "
        "15:08:53 Down: answered 503 in 4 ms 15:08:43 Up: succeeded in 4 ms" in words(text)
    )
    assert "{}" not in text
    assert "key=1" not in text
    assert "Last probes It was not probed yet." in words(await page(gateway, "operator"))


async def test_the_last_probes_with_what_they_were_sent(gateway: Gateway) -> None:
    gateway.state.viewer = Viewer(is_signed_in=True)
    upstreams = tuple(EndpointView(Endpoint("madre", "10.9.8.7", port), Health.UP, CLOSED) for port in (8001, 8002))
    gateway.state.services = (view("madre", upstreams=upstreams),)
    gateway.state.results["madre"] = (probe(3), probe(13, port=8002), probe(23, snippet="hello \u202e" + "z" * 300))
    text = await page(gateway, "madre")
    assert (
        "15:09:23 Up: /health?key=1 answered 200 in 4 ms 10.9.8.7:8001 {} "
        "15:09:13 Up: /health?key=1 answered 200 in 4 ms 10.9.8.7:8002 "
        "15:09:03 Up: /health?key=1 answered 200 in 4 ms 10.9.8.7:8001 hello zzz" in words(text)
    ), "what was sent again is shown once"
    assert "z" * 193 + "…" in text
    assert "\u202e" not in text


async def test_the_probe_that_another_machine_stored(gateway: Gateway) -> None:
    assert "Last probes 15:09:23 Up: answered 200 in 4 ms" in words(await page(gateway, "madre"))


def certificate(days: float, issuer_days: float = 900, **changes: Any) -> Certificate:
    end, issuer_end = (NOW + timedelta(days=left) for left in (days, issuer_days))
    return replace(Certificate(("a.example", "b.example"), 0, "R11", None, end, min(end, issuer_end)), **changes)


@pytest.mark.parametrize(
    ("found", "said", "tone"),
    [
        (certificate(90.5), "It is valid until 13 Jun 2026, for 90 days", "up"),
        (certificate(13.5), "It is valid until 28 Mar 2026, for 13 days only", "slow"),
        (certificate(0.5), "It is valid until 15 Mar 2026, for 12 h only", "slow"),
        (certificate(-0.5), "It expired on 14 Mar 2026", "down"),
        (certificate(300, 13.5), "The certificate of its issuer is valid until 28 Mar 2026, for 13 days only", "slow"),
        (certificate(300, -2), "The certificate of its issuer expired on 12 Mar 2026", "down"),
    ],
)
async def test_until_when_a_certificate_is_valid(gateway: Gateway, found: Certificate, said: str, tone: str) -> None:
    seen = SeenCertificate(Endpoint("madre", "10.9.8.7", 8001), found, NOW - timedelta(seconds=70))
    gateway.state.seen_certificates["madre"] = (seen,)
    text = await page(gateway, "madre")
    assert f"Certificate {said} seen 1 min ago" in words(text)
    assert (f'<span class="{tone}">' in text) is (tone != "up")
    assert "example" not in text, "names are addresses"
    assert "R11" not in text
    gateway.state.viewer = Viewer(is_signed_in=True)
    assert "for a.example, b.example, issued by R11" in words(await page(gateway, "madre"))


async def test_addresses_with_one_certificate_share_a_row(gateway: Gateway) -> None:
    ports = (8001, 8002, 8003)
    upstreams = tuple(EndpointView(Endpoint("madre", "10.9.8.7", port), Health.UP, CLOSED) for port in ports)
    gateway.state.services = (view("madre", upstreams=upstreams),)
    found = (certificate(90.5), certificate(40.5), certificate(90.5))
    gateway.state.seen_certificates["madre"] = tuple(
        SeenCertificate(upstream.upstream, one, NOW) for upstream, one in zip(upstreams, found, strict=True)
    )
    assert (
        "Certificates It is valid until 24 Apr 2026, for 40 days Address 2, seen just now "
        "It is valid until 13 Jun 2026, for 90 days Address 1, Address 3, seen just now"
    ) in words(await page(gateway, "madre"))


async def test_a_service_without_tls_has_no_certificates(gateway: Gateway) -> None:
    assert "Certificate" not in await page(gateway, "madre")


async def test_what_comes_from_outside_is_text(gateway: Gateway) -> None:
    gateway.state.viewer = Viewer(is_signed_in=True)
    gateway.state.services = (
        view(
            "madre", health=Health.DOWN, reason=HOSTILE, endpoint=f"/{HOSTILE}", snippet=HOSTILE + "\u202e" + "z" * 999
        ),
    )
    gateway.state.events = [event(1, type=HOSTILE, payload={"message": HOSTILE})]
    gateway.state.route_counts = {"madre": {HOSTILE: RouteCount(1)}}
    text = await page(gateway, "madre")
    outline = Outline(text)
    assert outline.tags.count("script") == 1
    assert "img" not in outline.tags
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name == "style"]
    assert outline.text.count("<script>alert(1)</script>") >= 5
    assert "\u202e" not in text
    assert "z" * 200 not in text


@pytest.mark.parametrize("lost", ["The database file fleet.db is damaged."])
async def test_a_lost_database_takes_only_the_past(gateway: Gateway, lost: str) -> None:
    gateway.state.viewer = SIGNED_IN
    gateway.state.lost = lost
    said = words(await page(gateway, "hermes"))
    assert "hermes is down. connection refused" in said
    assert f"The database is lost. {lost}" in said
    assert "The past cannot be read now" in said


async def test_a_store_that_hangs_costs_a_bounded_time(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 0.1)
    gateway.state.hangs = True
    assert "The past cannot be read now" in words(await page(gateway, "hermes"))


@pytest.mark.parametrize(("query", "span"), [("", MINUTE), ("?range=24h", HOUR), ("?range=90d", DAY)])
async def test_the_range_is_chosen(gateway: Gateway, query: str, span: int) -> None:
    await page(gateway, "madre", query)
    (wanted,) = gateway.state.asked_for_past
    assert (wanted.span, wanted.services, wanted.detailed) == (span, ("madre",), ("madre",))


async def test_a_service_or_a_range_that_is_none(gateway: Gateway) -> None:
    async with gateway.client.get("/status/services/nobody") as response:
        assert response.status in (401, 404)
    async with gateway.client.get("/status/services/madre?range=1y") as response:
        assert (response.status, (await response.json(content_type=None))["detail"]) == (
            400,
            "range may be 3h, 24h, 7d, 90d.",
        )


async def test_the_past_of_a_page_is_read_seldom(gateway: Gateway) -> None:
    state = gateway.state
    for _ in range(10):
        await page(gateway, "madre")
        state.clock += 1.9
    assert len(state.asked_for_past) == 1
    state.clock += 2
    await page(gateway, "madre")
    assert len(state.asked_for_past) == 2


async def test_the_event_just_before_trouble_is_marked_for_who_is_signed_in(gateway: Gateway) -> None:
    gateway.state.just_before = {
        "hermes": event(1, type="deployed", source="ci", received_at=NOW - timedelta(minutes=20))
    }
    assert 'class="pin"' not in await page(gateway, "hermes")
    gateway.state.viewer = Viewer(is_signed_in=True)
    shown = await page(gateway, "hermes")
    assert shown.count('<line class="pin"') == 1
    assert "deployed from ci" in words(shown)
    assert 'class="pin"' not in await page(gateway, "madre"), "it is up"
    assert [one.failing for one in gateway.state.asked_for_past][-1] == ()
