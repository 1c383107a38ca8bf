"""The page's words."""

from __future__ import annotations

from datetime import timedelta, timezone
from functools import partial
from typing import Any

import pytest

from tentaculo.model.health import BreakerState, BreakerView, Counts, DegradedKind, Health, ServiceView
from tentaculo.model.reason import because
from tentaculo.web import reasons, wording
from tentaculo.web.languages import language
from tentaculo.web.wording import ENGLISH
from tests.support.native_gateway import NOW, OPEN, view


def test_ago() -> None:
    assert wording.ago(None, NOW, ENGLISH) == "never"
    assert wording.ago(NOW, NOW, ENGLISH) == "just now"
    assert wording.ago(NOW - timedelta(seconds=8), NOW, ENGLISH) == "8 s ago"


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


def test_numbers_of_the_page_have_the_decimal_sign_of_the_language() -> None:
    spanish, portuguese = language("es"), language("pt")
    assert wording.share(0.9998, spanish) == "99,98 %"
    assert wording.failed_share(0.00023, portuguese) == "0,023 %"
    assert wording.latency(1.84, spanish) == "1,8 s"
    assert wording.rate(12400, portuguese) == "12.400"
    assert wording.ago(NOW - timedelta(days=2), NOW, spanish) == "hace 2 días"


def test_a_reason_is_said_in_the_language_and_what_a_service_said_stays() -> None:
    told = because("answered_but", status=503, what="the disk is full")
    one = view("a", **DOWN, reason=str(told), cause=told)
    shown = wording.reason(one, language("es"))
    assert shown == "respondió 503, pero \u2068the disk is full\u2069"
    assert reasons.marked(shown, str) == 'respondió 503, pero <bdi lang="">the disk is full</bdi>'
    hostile = because("answered_but", status=503, what="<b>\u2069\u202e")
    one = view("a", **DOWN, reason=str(hostile), cause=hostile)
    assert reasons.marked(wording.reason(one, language("pt")), str) == 'respondeu 503, mas <bdi lang="">&lt;b&gt;</bdi>'


def test_a_time_in_a_reason_is_one_of_the_page_and_of_the_reader() -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    clock = partial(wording.clock, now=NOW.astimezone(zone), t=language("es"))
    end = NOW.replace(hour=22, minute=15)
    cause = because("maintenance_until", stated="until 2026-03-03 10:00 UTC", time=end.isoformat())
    shown = reasons.said("", cause, language("es"), 200)
    exact = f'<time datetime="{end:%Y-%m-%dT%H:%M}Z" title="{end:%Y-%m-%d %H:%M}:00 UTC">'
    local = wording.clock(end, NOW.astimezone(zone), language("es"))
    assert local.endswith("03:45")
    assert reasons.marked(shown, clock) == (
        f'<bdi lang="">until 2026-03-03 10:00 UTC</bdi>, hasta: {exact}{local}</time>'
    ), "what somebody wrote stays as it is"
    for odd in ("9999-12-31 23:59 UTC", "2026-02-31 10:00 UTC"):
        assert reasons.marked(odd, clock) == odd


@pytest.mark.parametrize("most", [3, 20, 21, 25, 40])
def test_a_cut_reason_leaves_no_isolate_open(most: int) -> None:
    shown = reasons.cut("respondió 503, pero \u2068the disk is full\u2069", most)
    assert shown.count("\u2068") == shown.count("\u2069")
    assert len(reasons.plain(shown)) <= most


@pytest.mark.parametrize("health", Health)
def test_every_health_has_its_word_and_its_colour(health: Health) -> None:
    state = wording.state(view("a", health=health), ENGLISH)
    assert state.key == health.value
    assert state.is_trouble is (health in (Health.DOWN, Health.DEGRADED))


def test_the_words_differ() -> None:
    assert len({wording.state(view("a", health=health), ENGLISH).word for health in Health}) == len(Health)


def test_degraded_is_said_with_its_kind() -> None:
    said = [wording.state(view("a", **one), ENGLISH).word for one in (SLOW, FAILING, {"health": Health.DEGRADED})]
    assert said == ["Slow", "Failing", "Degraded"]


@pytest.mark.parametrize("health", Health)
def test_behind_an_open_breaker_requests_fail(health: Health) -> None:
    one = view("a", health=health, breaker=OPEN)
    is_cut_off = health in (Health.UP, Health.DEGRADED, Health.UNKNOWN)
    assert (wording.state(one, ENGLISH).key == "failing") is is_cut_off
    assert (
        reasons.plain(wording.reason(one, ENGLISH)).startswith("its circuit breaker is open: connection refused")
        is is_cut_off
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (list("abcd"), "a, b, c and d"),
        (list("abcde"), "a, b, c and 2 more"),
    ],
)
def test_listed(names: list[str], said: str) -> None:
    assert wording.listed(names, ENGLISH) == said


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 %"),
        (0.000001, "< 0.01 %"),
        (0.000234, "0.023 %"),
        (0.0625, "6.2 %"),
        (0.3804, "38 %"),
        (0.29, "29 %"),
        (0.99999, "99 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_of_failures_is_never_none_of_a_few(part: float | None, said: str) -> None:
    assert wording.failed_share(part, ENGLISH) == said


@pytest.mark.parametrize(
    ("number", "said"), [(None, "\N{EN DASH}"), (0.0, "0"), (0.2, "0.2"), (64.4, "64"), (1240, "1,240")]
)
def test_rate(number: float | None, said: str) -> None:
    assert wording.rate(number, ENGLISH) == said


def test_moments_are_as_short_as_they_can_be() -> None:
    assert wording.clock(NOW, NOW, ENGLISH) == "15:09"
    assert wording.clock(NOW - timedelta(days=1), NOW, ENGLISH) == "13 Mar, 15:09"
    days = [wording.day(NOW - timedelta(days=ago), NOW, ENGLISH) for ago in (0, 1, 2, 90)]
    assert days == ["Today", "Yesterday", "12 Mar", "14 Dec 2025"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (None, "\N{EN DASH}"),
        (1.0, "100 %"),
        (0.999999, "99.99 %"),
        (0.99, "99 %"),
        (0.29, "29 %"),
        (0.5, "50 %"),
        (0.0005, "0.05 %"),
        (0.000001, "0 %"),
        (0.0, "0 %"),
    ],
)
def test_a_share_is_never_rounded_up(part: float | None, said: str) -> None:
    assert wording.share(part, ENGLISH) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "\N{EN DASH}"),
        (0.000_05, "0.05 ms"),
        (0.000_996, "1.0 ms"),
        (0.0042, "4.2 ms"),
        (0.00996, "10 ms"),
        (0.1234, "123 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1.84, "1.8 s"),
        (31.2, "31 s"),
    ],
)
def test_a_latency_has_the_digits_that_mean_something(seconds: float | None, said: str) -> None:
    assert wording.latency(seconds, ENGLISH) == said
