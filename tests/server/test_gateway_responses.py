"""The bytes of a refusal. tests/server/test_dispatcher.py has the rest, on real sockets."""

from __future__ import annotations

import json
import re

import pytest

from tentaculo.config.schema import CorsSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.security.cors import CorsPolicy
from tentaculo.server import gateway_responses, templating
from tentaculo.server.gateway_responses import GatewayResponses
from tests.support.calls import counting_calls
from tests.support.gateway_process import ROOT

RESPONSES = GatewayResponses("front", CorsPolicy(CorsSettings(origins=("http://mine.example",))))


def lines(data: bytes) -> list[bytes]:
    return data.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_refusal_names_the_gateway_the_failure_and_the_request() -> None:
    head = lines(RESPONSES.problem_bytes(Problem(Failure.NOT_FOUND), request_id="r-1"))
    assert head[0] == b"HTTP/1.1 404 Not Found"
    assert {b"X-Request-ID: r-1", b"X-Correlation-Id: r-1", b"Server: Tentaculo-Link"} <= set(head)
    assert b"Proxy-Status: front; error=destination_not_found" in head
    assert b"Connection: close" in head


def test_a_listed_origin_may_read_it_and_another_may_not() -> None:
    problem = Problem(Failure.FORBIDDEN)
    listed = lines(RESPONSES.problem_bytes(problem, request_id="r", origin="http://mine.example"))
    assert b"Access-Control-Allow-Origin: http://mine.example" in listed
    assert [line for line in listed if line.startswith(b"Vary")] == [b"Vary: Accept, Origin"]
    other = lines(RESPONSES.problem_bytes(problem, request_id="r", origin="http://other.example"))
    assert not any(line.startswith(b"Access-Control") for line in other)


def test_the_answer_to_head_has_no_body() -> None:
    data = RESPONSES.problem_bytes(Problem(Failure.NOT_FOUND), request_id="r", with_body=False)
    assert data.endswith(b"\r\n\r\n")
    assert any(line.startswith(b"Content-Length: ") for line in lines(data))


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        (BROWSER, True),
        (BROWSER.encode(), True),
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/html, */*", False),
        ("text/html;q=0.9, application/json", False),
        ("text/html, application/json", False),
        ("text/html, application/json;q=0.9", True),
        ("text/html, application/problem+json", False),
        ("text/html, application/*;q=0.5", True),
        ("text/html;q=0.4, */*;q=0.3", True),
        ("text/html;q=0", False),
        ("text/html;q=nan", False),
        ("text/html;q=2", False),
        ("text/html;q=many, */*;q=0.1", False),
        ('text/html;level="1";q=0.7, */*;q=0.5', True),
        (b"\xff\xfe text/html", False),
        ("," * 5000 + "text/html", False),
    ],
)
def test_who_is_given_a_page(accept: str | bytes | None, html: bool) -> None:
    assert gateway_responses.prefers_html(accept) is html


@pytest.mark.parametrize("more", [";", ";q=", ",", ",a;b"])
def test_the_cost_of_a_long_accept_is_small(more: str) -> None:
    with counting_calls() as calls:
        gateway_responses.prefers_html("text/html" + more * 8_000)
    assert calls.total < 2_000


def test_json_carries_the_members_of_the_rfc_and_of_the_seed() -> None:
    problem = Problem(Failure.CIRCUIT_OPEN, "mcp rests.", extra={"service": "mcp"}, headers={"Retry-After": "6"})
    answer = gateway_responses.render(problem, "*/*", request_id="r-1")
    assert (answer.status, answer.content_type) == (503, "application/problem+json")
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "The service has failed; requests are paused",
        "status": 503,
        "error": "circuit_open",
        "status_code": 503,
        "detail": "mcp rests.",
        "service": "mcp",
        "request_id": "r-1",
    }
    assert answer.headers["Retry-After"] == "6"
    assert answer.headers["X-Request-ID"] == "r-1"
    assert answer.headers["Vary"] == "Accept"


def test_the_page_is_self_contained_and_its_style_is_the_one_allowed() -> None:
    answer = gateway_responses.render(Problem(Failure.NOT_FOUND), BROWSER, request_id="r-1")
    page = answer.body.decode()
    assert answer.content_type == "text/html; charset=utf-8"
    assert "Nothing is served at this path." in page
    assert "r-1" in page
    assert not re.search(r'(?:src|href)="(?!/status"|data:)', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert templating.inline("base.css", "error.css").text == style[1]
    assert templating.inline("base.css", "error.css").source in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("detail", "extra", "seen"),
    [
        (None, {"service": "mcp", "reason": "5 failures in a row"}, "<p>mcp: 5 failures in a row</p>"),
        (None, {"service": "mcp"}, "<p>mcp</p>"),
        ("off on purpose", {"service": "mcp"}, "<p>mcp: off on purpose</p>"),
        ("mcp: the connection was refused", {"service": "mcp"}, "<p>mcp: the connection was refused</p>"),
        ("The path holds a dot segment.", {}, "<p>The path holds a dot segment.</p>"),
        (None, {"service": "mcp", "reason": "<b>"}, "<p>mcp: &lt;b&gt;</p>"),
    ],
)
def test_the_page_names_the_service_and_the_reason(detail: str | None, extra: dict[str, str], seen: str) -> None:
    answer = gateway_responses.render(Problem(Failure.CIRCUIT_OPEN, detail, extra=extra), BROWSER, request_id=None)
    assert seen in answer.body.decode()


@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_markup_in_a_detail_is_text(accept: str) -> None:
    answer = gateway_responses.render(
        Problem(Failure.BAD_TARGET, "<script>alert(1)</script>"), accept, request_id="<b>"
    )
    if answer.content_type == gateway_responses.HTML:
        assert b"<script" not in answer.body
        assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in answer.body
        assert b"<b>" not in answer.body
    else:
        assert json.loads(answer.body)["detail"] == "<script>alert(1)</script>"


@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_only_a_missing_token_is_challenged(accept: str) -> None:
    missing = gateway_responses.render(Problem(Failure.AUTH_REQUIRED), accept, request_id=None)
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="Tentaculo Link"'
    wrong = gateway_responses.render(Problem(Failure.FORBIDDEN), accept, request_id=None)
    assert "WWW-Authenticate" not in wrong.headers
    assert "X-Request-ID" not in wrong.headers


def test_every_error_word_is_documented_with_its_status() -> None:
    table = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("| status | `error` |")[2]
    rows = re.findall(r"(?m)^\| ([\d, ]+) \| (.+) \|$", table)
    documented = {word: statuses for statuses, words in rows for word in re.findall(r"`(\w+)`", words)}
    assert {failure.error for failure in Failure} == set(documented)
    assert all(str(failure.status) in documented[failure.error] for failure in Failure)


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_has_a_page(failure: Failure) -> None:
    answer = gateway_responses.render(Problem(failure), BROWSER, request_id=None)
    assert answer.status == failure.status
    assert f"Error {failure.status}".encode() in answer.body
