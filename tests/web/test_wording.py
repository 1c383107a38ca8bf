"""The page's words."""

from __future__ import annotations

from datetime import timedelta, timezone
from functools import partial
from typing import Any

import pytest

from tentaculo.model.health import BreakerState, BreakerView, Counts, DegradedKind, Health, ServiceView
from tentaculo.model.reason import because
from tentaculo.web import wording
from tentaculo.web.languages import language
from tentaculo.web.wording import ENGLISH
from tests.support.native_gateway import NOW, OPEN, view


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(), ""),
        (Counts(1, 0), "1 probe"),
        (Counts(0, 1), "1 probe, 1 failed"),
        (Counts(811, 1), "812 probes, 1 failed"),
        (Counts(1_234_567, 1_000), "1,235,567 probes, 1,000 failed"),
    ],
)
def test_counted(counts: Counts, said: str) -> None:
    assert wording.counted(counts, "common.probes", ENGLISH) == said


@pytest.mark.parametrize(
    ("breaker", "said"),
    [
        (BreakerView(BreakerState.CLOSED, 0), "Closed"),
        (BreakerView(BreakerState.CLOSED, 3), "Closed, 3 failed in a row"),
        (BreakerView(BreakerState.OPEN, 5, retry_after=6.3), "Open, next try in 7 s"),
        (BreakerView(BreakerState.OPEN, 5), "Open, next try is due"),
        (BreakerView(BreakerState.HALF_OPEN, 5), "Half open, tries one request"),
    ],
)
def test_breaker(breaker: BreakerView, said: str) -> None:
    assert wording.breaker(breaker, ENGLISH) == said


FAILING: dict[str, Any] = {"health": Health.DEGRADED, "kind": DegradedKind.FAILING}
SLOW: dict[str, Any] = {"health": Health.DEGRADED, "kind": DegradedKind.SLOW}
DOWN: dict[str, Any] = {"health": Health.DOWN}


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ((), "No services are configured yet."),
        ((view("a", health=Health.OFF),), "Every service is off."),
        ((view("a"),), "a is up."),
        ((view("a"), view("b"), view("c", health=Health.OFF)), "Everything is up."),
        ((view("a"), view("b", **SLOW)), "b is slow."),
        ((view("a", health=Health.DEGRADED), view("b", **SLOW)), "a is degraded."),
        ((view("a", **FAILING), view("b", health=Health.DEGRADED)), "a is failing."),
        ((view("a"), view("b", **DOWN), view("c", **FAILING)), "b is down."),
        ((view("a"), view("b"), view("c", breaker=OPEN)), "c is failing."),
        ((view("a", **DOWN),), "a is down."),
        ((view("a", **DOWN), view("b", breaker=OPEN)), "a is down."),
        ((view("a"), view("b", **DOWN), view("c", **DOWN)), "b and c are down."),
        ((view("a"), *(view(name, **DOWN) for name in "bcde")), "4 services are down."),
        ((view("a", **DOWN), view("b", **DOWN)), "Everything is down."),
        ((view("a"), view("b", **DOWN), view("c", **FAILING, root="b")), "b is down."),
        ((view("a"), view("b", **DOWN), view("c", **DOWN, root="b")), "b is down, and 1 service with it."),
        ((view("a"), view("b", health=Health.MAINTENANCE)), "b is in maintenance."),
        ((view("a"), view("b", health=Health.UNKNOWN)), "b is not checked yet."),
        ((view("a", health=Health.UNKNOWN), view("b", health=Health.UNKNOWN)), "a and b are not checked yet."),
    ],
)
def test_the_headline_is_the_worst_true_sentence(services: tuple[ServiceView, ...], said: str) -> None:
    assert wording.headline(services, ENGLISH) == said


@pytest.mark.parametrize(
    ("code", "services", "said"),
    [
        ("es", (view("a"), view("b")), "Todo funciona."),
        ("es", (view("a", **DOWN), view("b"), view("c", **DOWN)), "a y c están caídos."),
        (
            "es",
            (view("a", **DOWN), view("b"), view("c", **DOWN, root="a")),
            "a está caído, y otro servicio por su causa.",
        ),
        ("es", (view("a", **SLOW), view("b", **SLOW), view("c")), "a y b van lentos."),
        ("pt", (view("a", **FAILING), view("b")), "a falha."),
        ("pt", (view("a", health=Health.UNKNOWN), view("b")), "a ainda não foi verificado."),
        ("pt", (view("a"), *(view(name, **DOWN) for name in "bcde")), "4 serviços estão fora do ar."),
    ],
)
def test_the_headline_agrees_in_number_in_every_language(
    code: str, services: tuple[ServiceView, ...], said: str
) -> None:
    assert wording.headline(services, language(code)) == said


def test_a_reason_is_said_in_the_language_and_what_a_service_said_stays() -> None:
    told = because("answered_but", status=503, what="the disk is full")
    one = view("a", **DOWN, reason=str(told), cause=told)
    shown = wording.reason(one, language("es"))
    assert shown == "respondió 503, pero \u2068the disk is full\u2069"
    assert wording.marked(shown, str) == 'respondió 503, pero <bdi lang="">the disk is full</bdi>'
    hostile = because("answered_but", status=503, what="<b>\u2069\u202e")
    one = view("a", **DOWN, reason=str(hostile), cause=hostile)
    assert wording.marked(wording.reason(one, language("pt")), str) == 'respondeu 503, mas <bdi lang="">&lt;b&gt;</bdi>'


def test_a_time_in_a_reason_is_one_of_the_page_and_of_the_reader() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    clock = partial(language("es").clock, now=NOW.astimezone(zone))
    end = NOW.replace(hour=22, minute=15)
    cause = because("maintenance_until", stated="until 2026-03-03 10:00 UTC", time=end.isoformat())
    shown = wording.said("", cause, language("es"), 200)
    exact = f'<time datetime="{end:%Y-%m-%dT%H:%M}Z" title="{end:%Y-%m-%d %H:%M}:00 UTC">'
    local = language("es").clock(end, NOW.astimezone(zone))
    assert local.endswith("03:45")
    assert wording.marked(shown, clock) == (
        f'<bdi lang="">until 2026-03-03 10:00 UTC</bdi>, hasta: {exact}{local}</time>'
    ), "what somebody wrote stays as it is"
    for odd in ("9999-12-31 23:59 UTC", "2026-02-31 10:00 UTC"):
        assert wording.marked(odd, clock) == odd


@pytest.mark.parametrize("most", [3, 20, 21, 25, 40])
def test_a_cut_reason_leaves_no_isolate_open(most: int) -> None:
    shown = wording.cut("respondió 503, pero \u2068the disk is full\u2069", most)
    assert shown.count("\u2068") == shown.count("\u2069")
    assert len(wording.plain(shown)) <= most


@pytest.mark.parametrize("health", Health)
def test_every_health_has_its_word_and_its_colour(health: Health) -> None:
    state = wording.state(view("a", health=health).state, ENGLISH)
    assert state.key == health.value
    assert state.is_trouble is (health in (Health.DOWN, Health.DEGRADED))


def test_the_words_differ() -> None:
    assert len({wording.state(view("a", health=health).state, ENGLISH).word for health in Health}) == len(Health)


def test_degraded_is_said_with_its_kind() -> None:
    said = [wording.state(view("a", **one).state, ENGLISH).word for one in (SLOW, FAILING, {"health": Health.DEGRADED})]
    assert said == ["Slow", "Failing", "Degraded"]


@pytest.mark.parametrize("health", Health)
def test_behind_an_open_breaker_requests_fail(health: Health) -> None:
    one = view("a", health=health, breaker=OPEN)
    is_cut_off = health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)
    assert (wording.state(one.state, ENGLISH).key == "failing") is is_cut_off
    assert (
        wording.plain(wording.reason(one, ENGLISH)).startswith("its circuit breaker is open: connection refused")
        is is_cut_off
    )
