"""The page about a request that failed: in the language of its reader, with nothing of the others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tentaculo.model.failure import Failure, Problem
from tentaculo.server import templating
from tentaculo.server.content_negotiation import LANGUAGES
from tentaculo.server.error_page import error_page, translated
from tests.support.gateway_process import ROOT

PAGES = (
    *("actions", "badges", "events_query", "forms", "incident_list", "incident_page", "live", "rendering"),
    *("service_page", "sign_in", "status_page"),
)
"""The modules of `web` whose refusals people see."""


def page(problem: Problem, language: str) -> str:
    return error_page().render(problem, "r-1", language).decode()


def text_of(node: ast.expr) -> str:
    """A literal, with `{}` for each value; empty for what is none."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
    return ""


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))


@pytest.mark.parametrize("failure", Failure)
def test_its_title_is_that_of_the_api_in_each_language(failure: Failure) -> None:
    texts = templating.texts("error")[f"title_{failure.name.lower()}"]
    assert texts["en"] == failure.title
    for language in LANGUAGES:
        assert f"<h1>{texts[language]}.</h1>" in page(Problem(failure), language).replace("&#x27;", "'")
        assert f'<html lang="{language}">' in page(Problem(failure), language)


@pytest.mark.thorough
def test_every_detail_of_the_catalogue_is_said_somewhere() -> None:
    sources = [one for path in (ROOT / "tentaculo").rglob("*.py") for one in nodes(path)]
    said = {text_of(one) for one in sources if isinstance(one, ast.Constant | ast.JoinedStr)}
    known = {one["en"] for key, one in templating.texts("error").items() if key.startswith("detail_")}
    # The names of the parameters are literals in the code, and a value here.
    said |= {re.sub(r"^(range|kind|sort|before|to) ", "{} ", text) for text in said}
    # What is wrong with the input of a form follows the name of its field.
    said |= {f"{{}} {text}." for text in said}
    assert {re.sub(r"\{\w+\}", "{}", text) for text in known} - said == set()


@pytest.mark.parametrize("module", ["model/incident.py", "web/actions.py"])
def test_what_is_wrong_with_a_form_is_translated(module: str) -> None:
    calls = [one for one in nodes(ROOT / "tentaculo" / module) if isinstance(one, ast.Call)]
    found = {text_of(one.args[1]) for one in calls if getattr(one.func, "id", "") == "InvalidInputError"}
    # These are about times of the API, which a form has not.
    found -= {"or minutes is needed, and not both", "must say its offset: 2026-12-01T02:00:00Z", "is out of range"}
    assert found
    for words in found:
        for language in ("es", "pt"):
            said = translated(f"starts {words.replace('{}', '7')}.", language)
            assert said is not None, words
            assert said.startswith("starts: ")


@pytest.mark.parametrize("name", PAGES)
def test_every_refusal_of_a_page_is_translated(name: str) -> None:
    calls = [one for one in nodes(ROOT / "tentaculo" / "web" / f"{name}.py") if isinstance(one, ast.Call)]
    details = [one.args[1] for one in calls if getattr(one.func, "id", "") == "Problem" and len(one.args) > 1]
    found = {
        text_of(part) for one in details for part in ([one.body, one.orelse] if isinstance(one, ast.IfExp) else [one])
    }
    # What a parser says of a form, and the media type of one, are of programs.
    for detail in found - {"", "{}.", "Send {}."}:
        assert translated(detail.replace("{}", "x1"), "es") is not None, detail


@pytest.mark.parametrize(
    ("problem", "es"),
    [
        (Problem(Failure.BAD_REQUEST, "range may be 3h, 24h."), "<p>range puede ser 3h, 24h.</p>"),
        (Problem(Failure.NOT_FOUND, "There is no such incident."), "<p>No existe ese incidente.</p>"),
        (Problem(Failure.SERVICE_OFF, "off on purpose", {"service": "mcp"}), "<p>mcp: apagado a propósito</p>"),
        (Problem(Failure.SERVICE_OFF, "<b>", {"service": "mcp"}), '<p>mcp: <bdi lang="">&lt;b&gt;</bdi></p>'),
        (Problem(Failure.CIRCUIT_OPEN, None, {"service": "mcp", "reason": "5 failures"}), "<p>mcp</p>"),
        (Problem(Failure.CONNECT_REFUSED, "mcp: it refused", {"service": "mcp"}), "<p>mcp</p>"),
        (Problem(Failure.BAD_REQUEST, "New <words>."), '<p lang="en">New &lt;words&gt;.</p>'),
    ],
)
def test_what_happened_is_said_in_the_language(problem: Problem, es: str) -> None:
    assert es in page(problem, "es")
    assert "Cómo están los servicios" in page(problem, "es")
    assert "Petición <code>r-1</code>" in page(problem, "es")


def test_a_value_that_is_markup_or_a_template_stays_text() -> None:
    said = page(Problem(Failure.BAD_REQUEST, "<b>{x} may be {0.__class__}."), "pt")
    assert "<p>&lt;b&gt;{x} pode ser {0.__class__}.</p>" in said
