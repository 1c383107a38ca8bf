"""Who sends a request, and whether the cookie of a sign-in counts. tests/gateway/test_sign_in.py has it on sockets."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tentaculo.config.types import trusted_proxy_matcher
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.tokens import Tokens
from tentaculo.server.caller import Sender, session_id_of, sign_in_address
from tests.server.test_access_control import inbound

COOKIE = ("Cookie", "tentaculo_session=id")
HTML = ("Accept", "text/html")
NOBODY = Tokens([]).anonymous


def request(target: str, *fields: tuple[str, str], method: str = "GET", is_trusted: bool = False) -> InboundRequest:
    return inbound(*fields, method=method, is_trusted=is_trusted, target=target)


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ([], "10.0.0.1"),
        ([("X-Forwarded-For", "1.1.1.1")], "1.1.1.1"),
        ([("X-Forwarded-For", "9.9.9.9, 1.1.1.1")], "1.1.1.1"),
        ([("X-Forwarded-For", "9.9.9.9, 1.1.1.1, 10.0.0.7"), ("X-Real-IP", "8.8.8.8")], "1.1.1.1"),
        ([("X-Forwarded-For", "10.0.0.9, 10.0.0.7")], "10.0.0.9"),
        ([("X-Forwarded-For", "9.9.9.9,, ")], "9.9.9.9"),
        ([("X-Forwarded-For", "unknown")], "unknown"),
        ([("X-Real-IP", "8.8.8.8")], "8.8.8.8"),
    ],
)
def test_the_address_is_that_of_the_last_one_before_the_trusted_proxies(
    fields: list[tuple[str, str]], address: str
) -> None:
    is_trusted = trusted_proxy_matcher([ip_network("10.0.0.0/8")])
    made = request("/", *fields, is_trusted=True)
    assert Sender(made, is_trusted, NOBODY, None).address == address
    foreign = request("/", *fields)
    assert Sender(foreign, is_trusted, NOBODY, None).address == "10.0.0.1"


@pytest.mark.parametrize(
    ("method", "target", "counts"),
    [
        ("GET", "/status", True),
        ("HEAD", "/status/services/a", True),
        ("GET", "/events?x=y", True),
        ("GET", "/vx11/history/a", True),
        ("GET", "/tentaculo/admin/routes", False),
        ("GET", "/statuses", False),
        ("GET", "/eventsx", False),
        ("GET", "/vx11/incidentsx", False),
        ("GET", "/tentaculo/alerts", False),
        ("POST", "/events/ingest", False),
        ("POST", "/vx11/incidents/7/notes", False),
        ("DELETE", "/vx11/maintenance/7", False),
        ("DELETE", "/status", False),
        ("POST", "/auth/ticket", False),
    ],
)
def test_the_cookie_opens_what_is_listed(method: str, target: str, *, counts: bool) -> None:
    assert session_id_of(request(target, COOKIE, method=method)) == (b"id" if counts else None)


@pytest.mark.parametrize(
    ("cookie", "scheme", "found"),
    [
        ("tentaculo_session=a; __Host-tentaculo_session=b", "http", b"a"),
        ("tentaculo_session=a; __Host-tentaculo_session=b", "https", b"b"),
        ("tentaculo_session=a", "https", None),
        ("__Host-tentaculo_session=b", "http", None),
        ("tentaculo_session=a; tentaculo_session=b", "http", None),
        ("tentaculo_session=", "http", None),
    ],
)
def test_which_cookie_counts_depends_on_tls(cookie: str, scheme: str, found: bytes | None) -> None:
    made = request("/status", ("Cookie", cookie), ("X-Forwarded-Proto", scheme), is_trusted=True)
    assert session_id_of(made) == found


@pytest.mark.parametrize(
    ("target", "fields", "address"),
    [
        ("/status", [HTML], "/status/sign-in"),
        ("/status/services/a?range=7d", [HTML], "/status/sign-in?next=/status/services/a%3Frange%3D7d"),
        ("/status?filter=" + "a" * 600, [HTML], "/status/sign-in"),
        ("/status", [], None),
        ("/status", [("Accept", "application/json, text/html;q=0.5")], None),
        ("/events", [HTML], None),
    ],
)
def test_where_a_browser_is_sent(target: str, fields: list[tuple[str, str]], address: str | None) -> None:
    assert sign_in_address(request(target, *fields)) == address
    assert sign_in_address(request(target, *fields, method="POST")) is None
