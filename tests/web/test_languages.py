"""The catalogue, in which language a page is shown, and numbers, moments, lists and sentences in each."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from string import Formatter

import pytest
from aiohttp.test_utils import make_mocked_request
from markupsafe import Markup

from tentaculo.model.early_warning import SIGNALS
from tentaculo.model.reason import TEXTS as REASONS
from tentaculo.model.request_phases import Phases
from tentaculo.server import templating
from tentaculo.server.content_negotiation import LANGUAGE_COOKIE, LANGUAGES
from tentaculo.web.events_query import KINDS
from tentaculo.web.languages import Piece, catalogue, language, language_of, paragraph
from tentaculo.web.timeline import RANGES
from tentaculo.web.wording import ENGLISH
from tests.support.calls import counting_calls
from tests.support.gateway_process import ROOT
from tests.support.native_gateway import NOW, Gateway

STATES = {"up", "down", "degraded", "failing", "slow", "maintenance", "off", "unknown"}
SOURCES = [*(ROOT / "tentaculo" / "web").glob("*.py"), *(ROOT / "templates").glob("*.html")]


def forms(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_every_text_is_in_every_language() -> None:
    for key, texts in catalogue().items():
        assert tuple(texts) == tuple(LANGUAGES), key
        for text in texts.values():
            assert all(form.strip() for form in forms(text)), key


def test_every_translation_has_the_same_values() -> None:
    for key, texts in catalogue().items():
        wanted = set().union(*map(placeholders, forms(texts["en"])))
        for code, text in texts.items():
            assert set().union(*map(placeholders, forms(text))) == wanted, (key, code)
            assert isinstance(text, str) == isinstance(texts["en"], str), (key, code)
            assert isinstance(text, str) or len(text) == 2, (key, code)
            # One service may be said without its number; of several each form says how many.
            others = wanted - {"count"}
            assert all(others <= placeholders(form) for form in forms(text)), (key, code)


SCRIPT = ROOT / "templates" / "status.js"
WARNING_OUTCOMES = {"open", "reached", "ended", "unknown"}
FAMILIES = {
    "reason.": {*REASONS, "less_than_a_day"},
    "state.is_": STATES,
    "state.was_": {"down", "degraded"},
    "incident.was_": {"down", "degraded", "notified"},
    "events.kind_": set(KINDS),
    "range.short_": set(RANGES),
    "range.title_": set(RANGES),
    "incidents.in_": {*RANGES, "all"},
    "service.phase_": set(Phases._fields),
    "warning.": {*SIGNALS, *WARNING_OUTCOMES},
    "error.": set(templating.texts("error")),
}
"""The texts whose keys are made of what they are about: how these keys begin, and how they go on."""


OTHER_NAMES = {
    *("incident.opened", "incident.changed", "incident.ended", "incident.reminder"),
    *("script.months", "script.icon"),
}
"""What looks like a key and is none: kinds of messages, and what the script is given beside texts."""


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    sources = "".join(source.read_text("utf-8") for source in SOURCES)
    made = {f"{beginning}{rest}" for beginning, found in FAMILIES.items() for rest in found}
    made |= {f"state.{key}" for key in STATES}
    made |= {f"script.{name}" for name in re.findall(r"\bwords\.(\w+)", SCRIPT.read_text("utf-8"))}
    named = set(re.findall(r"""["']([a-z_]+\.[a-z_0-9]+)["']""", sources))
    files = {key.partition(".")[0] for key in catalogue()}
    named = {
        key
        for key in named
        if key.partition(".")[0] in files and not key.endswith(("_", ".html", ".css", ".atom", ".json"))
    }
    assert set(catalogue()) - named - made == set(), "not used"
    assert (named | made) - set(catalogue()) == OTHER_NAMES, "not there"


def test_reasons_say_in_english_what_the_gateway_says_everywhere() -> None:
    assert {key: catalogue()[f"reason.{key}"]["en"] for key in REASONS} == dict(REASONS)


@pytest.mark.parametrize(
    ("code", "thousand", "million", "part"),
    [("en", "1,240", "1,234,567", "0.3"), ("es", "1240", "1.234.567", "0,3"), ("pt", "1.240", "1.234.567", "0,3")],
)
def test_numbers_are_written_as_the_language_writes_them(code: str, thousand: str, million: str, part: str) -> None:
    texts = language(code)
    assert (texts.number(1240), texts.number(1234567), texts.number(0.3, 1)) == (thousand, million, part)


@pytest.mark.parametrize(
    ("code", "days", "short", "long"),
    [
        ("en", "1 day 4 h", "27 Nov 2025", "27 November 2025"),
        ("es", "1 día 4 h", "27 nov 2025", "27 de noviembre de 2025"),
        ("pt", "1 dia 4 h", "27 nov 2025", "27 de novembro de 2025"),
    ],
)
def test_durations_and_dates_are_said_in_the_language(code: str, days: str, short: str, long: str) -> None:
    texts, day = language(code), date(2025, 11, 27)
    assert texts.duration(100_800, 2) == days
    assert texts.short_date(day, year=True) == short
    assert texts.short_date(day) == short.removesuffix(" 2025")
    assert texts.long_date(day) == long


def test_values_are_escaped_in_markup() -> None:
    texts = language("es")
    said = texts.html("common.long_date", day=Markup("<b>1</b>"), month="<i>", year=2026)
    assert said == "<b>1</b> de &lt;i&gt; de 2026"


async def test_a_page_is_in_the_language_of_its_reader(gateway: Gateway) -> None:
    for code in LANGUAGES:
        async with gateway.client.get("/status", headers={"Accept-Language": f"{code}-XX, fr;q=0.5"}) as response:
            assert f'<html lang="{code}">' in await response.text()
            assert {"Accept-Language", "Cookie"} <= set(response.headers["Vary"].split(", "))
            assert LANGUAGE_COOKIE not in response.cookies


async def test_a_chosen_language_is_remembered(gateway: Gateway) -> None:
    wanted = {"Accept-Language": "pt"}
    async with gateway.client.get("/status?range=7d&lang=es", headers=wanted) as response:
        assert '<html lang="es">' in await response.text()
        cookie = response.cookies[LANGUAGE_COOKIE]
        assert (cookie.value, cookie["path"], cookie["samesite"]) == ("es", "/status", "Lax")
    remembered = wanted | {"Cookie": f"{LANGUAGE_COOKIE}=es"}
    async with gateway.client.get("/status/services/hermes", headers=remembered) as response:
        text = await response.text()
        assert '<html lang="es">' in text
        assert 'href="?range=3h&amp;lang=en"' in text, "the other languages are one step away"


@pytest.mark.parametrize(
    "cookie",
    [
        "=;;=",
        f"{LANGUAGE_COOKIE}",
        f'{LANGUAGE_COOKIE}="es',
        "a" * 4000,
        f"{LANGUAGE_COOKIE}=fr; {LANGUAGE_COOKIE}=<b>",
    ],
)
async def test_a_broken_cookie_changes_nothing(gateway: Gateway, cookie: str) -> None:
    async with gateway.client.get("/status", headers={"Cookie": cookie, "Accept-Language": "pt"}) as response:
        assert response.status == 200
        assert '<html lang="pt">' in await response.text()


@pytest.mark.parametrize("part", ["a=b;", ";", "b;", " x", f"{LANGUAGE_COOKIE}=", f"{LANGUAGE_COOKIE}=es ", "; "])
def test_the_cost_of_a_long_cookie_is_small(part: str) -> None:
    cookie = "a=1; " + part * (30_000 // len(part))
    request = make_mocked_request("GET", "/status", headers={"Cookie": cookie})
    with counting_calls() as calls:
        assert language_of(request) == "en"
    assert calls.total < 100


@pytest.mark.parametrize(
    ("cookie", "code"),
    [
        (f"{LANGUAGE_COOKIE}=es", "es"),
        (f"a=1;{LANGUAGE_COOKIE}=pt;b=2", "pt"),
        (f'a="; {LANGUAGE_COOKIE}=es; ', "es"),
        (f"x{LANGUAGE_COOKIE}=es", "en"),
        (f"{LANGUAGE_COOKIE}=esx", "en"),
        (f"a={LANGUAGE_COOKIE}=es", "en"),
    ],
)
def test_the_language_is_read_from_its_cookie_alone(cookie: str, code: str) -> None:
    assert language_of(make_mocked_request("GET", "/status", headers={"Cookie": cookie})) == code


@pytest.mark.parametrize("made_up", ["fr", "<b>", "", "e" * 4000])
async def test_a_language_that_is_none_is_ignored(gateway: Gateway, made_up: str) -> None:
    parameters = {"lang": made_up}
    cookie = {"Cookie": f"{LANGUAGE_COOKIE}={made_up[:1000]}"}
    async with gateway.client.get("/status", params=parameters, headers=cookie) as response:
        assert '<html lang="en">' in await response.text()
        assert LANGUAGE_COOKIE not in response.cookies


def test_ago() -> None:
    assert ENGLISH.ago(None, NOW) == "never"
    assert ENGLISH.ago(NOW, NOW) == "just now"
    assert ENGLISH.ago(NOW - timedelta(seconds=8), NOW) == "8 s ago"


def test_numbers_of_the_page_have_the_decimal_sign_of_the_language() -> None:
    spanish, portuguese = language("es"), language("pt")
    assert spanish.share(0.9998) == "99,98 %"
    assert portuguese.failed_share(0.00023) == "0,023 %"
    assert spanish.latency(1.84) == "1,8 s"
    assert portuguese.rate(12400) == "12.400"
    assert spanish.ago(NOW - timedelta(days=2), NOW) == "hace 2 días"


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
    assert ENGLISH.listed(names) == said


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
    assert ENGLISH.failed_share(part) == said


@pytest.mark.parametrize(
    ("number", "said"), [(None, "\N{EN DASH}"), (0.0, "0"), (0.2, "0.2"), (64.4, "64"), (1240, "1,240")]
)
def test_rate(number: float | None, said: str) -> None:
    assert ENGLISH.rate(number) == said


def test_moments_are_as_short_as_they_can_be() -> None:
    assert ENGLISH.clock(NOW, NOW) == "15:09"
    assert ENGLISH.clock(NOW - timedelta(days=1), NOW) == "13 Mar, 15:09"
    days = [ENGLISH.day(NOW - timedelta(days=ago), NOW) for ago in (0, 1, 2, 90)]
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
    assert ENGLISH.share(part) == said


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
    assert ENGLISH.latency(seconds) == said


MIDNIGHT = datetime(2026, 3, 14, 0, 30, tzinfo=timezone(timedelta(hours=2)))


def test_values_keep_what_they_are() -> None:
    t = language("en")
    at = datetime(2026, 3, 13, 20, 15, tzinfo=UTC)
    assert t.sentence("summary.note_at", author="Ana", time=t.moment(at, MIDNIGHT)) == [
        Piece("Ana"),
        Piece(" wrote a note at "),
        Piece("13 Mar, 22:15", at=at),
        Piece("."),
    ]
    assert paragraph([[Piece("a"), Piece("b")], [Piece("c")]]) == [Piece("a"), Piece("b"), Piece(" "), Piece("c")]


@pytest.mark.parametrize("code", LANGUAGES)
def test_today_is_that_of_the_zone(code: str) -> None:
    today = language(code).moment(datetime(2026, 3, 13, 22, 15, tzinfo=UTC), MIDNIGHT)
    assert today.text == "00:15"
    assert language(code).moment(MIDNIGHT - timedelta(days=1), MIDNIGHT).text.endswith(", 00:30")
