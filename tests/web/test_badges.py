"""The badges of the fleet and of each service."""

from __future__ import annotations

import asyncio
import unicodedata
from typing import Any
from xml.etree import ElementTree

import pytest
from aiohttp import ClientSession

from tentaculo.model.health import DegradedKind, Health
from tentaculo.model.page import PageInfo
from tentaculo.tasks import TaskGroup
from tentaculo.web import badges
from tests.support.native_gateway import Gateway, State, running, view
from tests.web.test_status_page import HOSTILE, rates

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = {"up": "#17784a", "slow": "#8f5300", "down": "#bd2518", "plan": "#3352c8", "off": "#5b616a"}


async def get(gateway: Gateway, path: str, status: int = 200) -> tuple[str, str]:
    """Text and colour of a badge, which is the same as SVG and as JSON."""
    found = []
    stem, _, query = path.partition("?")
    for form in ("svg", "json"):
        async with gateway.client.get(f"/status/{stem}.{form}?{query}") as answer:
            assert answer.status == status
            body = await answer.text()
            if form == "json":
                assert answer.content_type == "application/json"
                read: dict[str, Any] = await answer.json()
                assert read["schemaVersion"] == 1
                assert read.get("isError", False) is (status != 200)
                found.append((f"{read['label']}: {read['message']}", read["color"]))
            else:
                assert answer.content_type == "image/svg+xml"
                image = ElementTree.fromstring(body)
                shapes = image.findall(f"{SVG}rect")
                assert [text.text for text in image.iter(f"{SVG}title")] == [image.get("aria-label")]
                assert image.get("role") == "img"
                assert ": ".join(text.text or "" for text in image.iter(f"{SVG}text")) == image.get("aria-label")
                found.append((image.get("aria-label") or "", shapes[0].get("fill") or ""))
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("name", "said", "tone"),
    [
        ("madre", "madre: up", "up"),
        ("switch", "switch: degraded", "slow"),
        ("hermes", "hermes: down", "down"),
        ("herald", "hermes: down", "down"),
        ("mcp", "mcp: failing", "slow"),
        ("spawner", "spawner: maintenance", "plan"),
        ("shubniggurath", "shubniggurath: off", "off"),
        ("operator", "operator: unknown", "off"),
    ],
)
async def test_it_says_the_state_in_words_and_colour(gateway: Gateway, name: str, said: str, tone: str) -> None:
    assert await get(gateway, f"badges/{name}") == (said, COLOURS[tone])


async def test_that_of_all_is_the_headline(gateway: Gateway) -> None:
    assert await get(gateway, "badge") == ("status: hermes is down", COLOURS["down"])
    async with running(State(services=(view("a"), view("b")), info=PageInfo("Casa"))) as calm:
        assert await get(calm, "badge") == ("Casa: Everything is up", COLOURS["up"])
    async with running(State(services=())) as empty:
        assert await get(empty, "badge") == ("status: No services are configured yet", COLOURS["off"])


async def test_availability_and_latency(gateway: Gateway) -> None:
    gateway.state.rates = {"madre": rates(300, 0, 0.012)}
    assert await get(gateway, "badges/madre?show=uptime") == ("madre up, 90 d: 99.98 %", COLOURS["up"])
    assert await get(gateway, "badges/madre?show=uptime&range=24h") == ("madre up, 24 h: 98.95 %", COLOURS["down"])
    assert await get(gateway, "badges/madre?show=uptime&range=7d") == ("madre up, 7 d: 98.95 %", COLOURS["down"])
    assert await get(gateway, "badges/madre?show=p95") == ("madre 95 % within: 12 ms", COLOURS["up"])
    assert await get(gateway, "badges/hermes?show=uptime") == ("hermes up, 90 d: not known", COLOURS["off"])
    assert await get(gateway, "badges/hermes?show=p95") == ("hermes 95 % within: not known", COLOURS["off"])


@pytest.mark.parametrize(
    ("path", "es", "pt"),
    [
        ("badge", "estado: hermes está caído", "status: hermes está fora do ar"),
        ("badges/madre", "madre: activo", "madre: ativo"),
        ("badges/hermes", "hermes: caído", "hermes: fora do ar"),
        ("badges/madre?show=uptime", "madre activo, 90 d: 99,98 %", "madre ativo, 90 d: 99,98 %"),
        ("badges/hermes?show=p95", "hermes 95 % en: se desconoce", "hermes 95 % em: desconhecido"),
    ],
)
async def test_it_is_in_the_language_of_its_reader(gateway: Gateway, path: str, es: str, pt: str) -> None:
    stem, _, query = path.partition("?")
    for code, said in (("es", es), ("pt-BR", pt)):
        for asked, headers in ((query, {"Accept-Language": code}), (f"{query}&lang={code[:2]}", {})):
            async with gateway.client.get(f"/status/{stem}.json?{asked}", headers=headers) as answer:
                shown = await answer.json()
                assert f"{shown['label']}: {shown['message']}" == said
                assert "Accept-Language" in answer.headers["Vary"]
    async with gateway.client.get("/status/badges/nobody.json", headers={"Accept-Language": "es"}) as answer:
        assert (answer.status, (await answer.json())["message"]) == (404, "no existe")


async def test_a_slow_service_has_a_slow_latency() -> None:
    slow = view("madre", health=Health.DEGRADED, kind=DegradedKind.SLOW)
    async with running(State(services=(slow,), rates={"madre": rates(300, 0, 2.0)})) as gateway:
        assert await get(gateway, "badges/madre?show=p95") == ("madre 95 % within: 2.0 s", COLOURS["slow"])


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("badges/nobody", 404, "service: not found"),
        ("badges/%3Cscript%3E", 404, "service: not found"),
        ("badges/MADRE", 404, "service: not found"),
        ("badges/madre?show=secrets", 400, "badge: invalid show or range"),
        ("badges/madre?show=uptime&range=1y", 400, "badge: invalid show or range"),
        ("badge?show=uptime", 400, "badge: invalid show or range"),
    ],
)
async def test_what_does_not_exist_is_said_by_a_badge(gateway: Gateway, path: str, status: int, said: str) -> None:
    assert await get(gateway, path, status) == (said, COLOURS["off"])
    assert gateway.state.asked_for_history == []


async def test_without_the_database_the_state_is_shown_and_numbers_are_not(gateway: Gateway) -> None:
    gateway.state.lost = "The database file is locked."
    assert await get(gateway, "badges/madre") == ("madre: up", COLOURS["up"])
    assert await get(gateway, "badges/madre?show=uptime") == ("madre: not known now", COLOURS["off"])


async def test_made_up_parameters_and_many_badges_cost_one_read(gateway: Gateway) -> None:
    for n in range(5):
        for shows in ("uptime", "p95", "uptime&range=7d"):
            await get(gateway, f"badges/madre?show={shows}&x={n}")
    assert len(gateway.state.asked_for_history) == 1


@pytest.mark.thorough
async def test_a_database_that_hangs_holds_a_bounded_number_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.web.past_reader.WAIT", 60)
    names = [f"service-{n}" for n in range(60)]
    state = State(services=tuple(map(view, names)), hangs_everywhere=True)
    async with running(state) as gateway, ClientSession() as session:

        async def ask(name: str) -> int:
            url = f"http://{gateway.host}:{gateway.port}/status/badges/{name}.svg?show=uptime"
            async with session.get(url) as answer:
                return answer.status

        group = TaskGroup("badges")
        tasks = [group.start(ask(name), name) for name in names]
        refused = [await one for _, one in zip(range(40), asyncio.as_completed(tasks), strict=False)]
        assert refused == [503] * 40
        assert sum(not task.done() for task in tasks) == 20
        async with session.get(f"http://{gateway.host}:{gateway.port}/status/badges/service-1.svg") as answer:
            assert answer.status == 200, "a state needs no database"
        await group.close()


async def test_it_may_be_kept_for_a_minute_at_most_and_shown_elsewhere(gateway: Gateway) -> None:
    for path in ("badge.svg", "badges/madre.svg", "badges/madre.json", "badges/nobody.svg"):
        async with gateway.client.get(f"/status/{path}", headers={"Origin": "https://other.example"}) as answer:
            kind, _, age = answer.headers["Cache-Control"].partition(", max-age=")
            assert kind == "public"
            assert 0 < int(age) <= 60
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert "script-src" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with gateway.client.get("/status/badge.svg") as answer:
        tag = answer.headers["ETag"]
    async with gateway.client.get("/status/badge.svg", headers={"If-None-Match": tag}) as answer:
        assert answer.status == 304
    async with (
        running(State(is_public=False)) as private,
        private.client.get("/status/badge.svg", headers={"Origin": "https://other.example"}) as answer,
    ):
        assert answer.headers["Cache-Control"].startswith("private, ")
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("text", [HOSTILE, "\u202e\x00\x1b]0;", "x" * 500, "日本語", "e\u0301" * 10, ""])
def test_any_text_makes_a_badge(text: str) -> None:
    made = badges.made(text, text, "up")
    drawn = badges.svg(made)
    image = ElementTree.fromstring(drawn)
    assert "<script" not in drawn
    assert len(drawn) < 2000
    assert 20 <= int(image.get("width") or 0) <= 1200
    assert not any(unicodedata.category(letter) in ("Cc", "Cf") for letter in drawn)


def test_the_width_of_a_text_is_that_of_its_letters() -> None:
    assert badges.text_width("") == 0
    assert badges.text_width("iiii") < badges.text_width("mmmm") / 3
    assert badges.text_width("e\u0301") == badges.text_width("e"), "an accent of its own takes no room"
    assert badges.text_width("漢字") == 22


def test_the_headline_of_a_large_fleet_is_cut() -> None:
    names = [f"a-service-with-a-long-name-{n}" for n in range(3)]
    assert len(badges.made("status", ", ".join(names) + " are down", "down").message) <= 60
