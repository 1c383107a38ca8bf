"""CORS response headers for listed and other origins, and the Origin check of a WebSocket."""

from __future__ import annotations

import pytest

from tentaculo.config.schema import CorsSettings
from tentaculo.security.cors import CorsPolicy, is_allowed

LISTED = "http://localhost:8020"
POLICY = CorsPolicy(CorsSettings(origins=(LISTED, "https://panel.example.org")))
OTHERS = [
    None,
    "",
    "null",
    "*",
    "http://localhost",
    "http://localhost:80200",
    "https://localhost:8020",
    "http://localhost:8020/",
    "http://localhost:8020, http://evil.example",
    "http://evil.example/http://localhost:8020",
    "http://panel.example.org.evil.example",
    "HTTP://LOCALHOST:8020",
]


def test_the_default_is_the_operators_pages() -> None:
    policy = CorsPolicy(CorsSettings())
    for host in ("localhost", "127.0.0.1"):
        for port in (8011, 8020, 5173):
            assert policy.allows(f"http://{host}:{port}")
    assert not policy.allows("http://localhost:8000")


def test_a_listed_origin_may_call_with_credentials() -> None:
    headers = POLICY.headers(LISTED)
    assert headers["Access-Control-Allow-Origin"] == LISTED
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert headers["Vary"] == "Origin"


@pytest.mark.parametrize("origin", OTHERS)
def test_another_origin_is_told_nothing(origin: str | None) -> None:
    assert not POLICY.allows(origin)
    assert dict(POLICY.headers(origin)) == {}
    assert POLICY.preflight(origin, "POST", None) is None


def test_a_preflight_is_answered_with_what_was_asked_for() -> None:
    assert POLICY.preflight(LISTED, "PATCH", "x-vx11-token, content-type") == {
        "Access-Control-Allow-Origin": LISTED,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "PATCH",
        "Access-Control-Allow-Headers": "x-vx11-token, content-type",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


@pytest.mark.parametrize("headers", [None, ""])
def test_a_preflight_that_asks_for_no_headers_is_told_of_none(headers: str | None) -> None:
    answer = POLICY.preflight(LISTED, "DELETE", headers)
    assert answer is not None
    assert "Access-Control-Allow-Headers" not in answer


def test_options_without_a_requested_method_is_no_preflight() -> None:
    assert POLICY.preflight(LISTED, None, "content-type") is None


def test_a_wildcard_is_never_sent() -> None:
    answers = [POLICY.headers(LISTED), POLICY.preflight(LISTED, "GET", "accept") or {}]
    assert all("*" not in value for answer in answers for value in answer.values())


def test_its_repr_counts() -> None:
    assert repr(POLICY) == "<CorsPolicy: 2 origins>"


WEBSOCKET_ORIGINS = ("http://localhost:8020", "https://operator.example")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "gateway:8000"),
        ("http://localhost:8020", "127.0.0.1:8000"),
        ("HTTP://LOCALHOST:8020", "127.0.0.1:8000"),
        ("https://operator.example", "127.0.0.1:8000"),
        ("http://gateway:8000", "gateway:8000"),
        ("http://Gateway", "gateway:80"),
        ("https://gateway", "gateway"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_allowed(origin: str | None, host: str) -> None:
    assert is_allowed(origin, host, WEBSOCKET_ORIGINS, is_own=lambda name: True)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "gateway:8000"),
        ("", "gateway:8000"),
        ("", ""),
        ("http://", ""),
        ("http://evil.example", "gateway:8000"),
        ("http://gateway:8001", "gateway:8000"),
        ("http://gateway", "gateway:8000"),
        ("http://localhost:8020.evil.example", "gateway:8000"),
        ("http://localhost:80200", "gateway:8000"),
        ("file://", "gateway:8000"),
        ("http://[::1", "[::1"),
        ("http://gateway:99999", "gateway:99999"),
        ("\0http://gateway", "gateway"),
        (" http://gateway", "gateway"),
        ("ht\ttp://gateway", "gateway"),
        ("http://evil@gateway", "gateway"),
        ("http://gateway/path", "gateway"),
        ("http://gateway?", "gateway"),
    ],
)
def test_denied(origin: str, host: str) -> None:
    assert not is_allowed(origin, host, WEBSOCKET_ORIGINS, is_own=lambda name: True)


def test_a_page_of_the_same_host_is_the_gateways_only_where_the_name_is() -> None:
    """DNS rebinding: an attacker's name that leads to the gateway's address is Origin and Host alike."""
    asked: list[str] = []

    def is_own(name: str) -> bool:
        asked.append(name)
        return False

    assert not is_allowed("http://Rebound.example.:8000", "rebound.example.:8000", (), is_own)
    assert asked == ["rebound.example"]
