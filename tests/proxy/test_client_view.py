from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.request_headers import outer_prefix
from tentaculo.proxy.client_view import ClientView, client_view, split_port
from tests.support.calls import counting_calls

GATE = ClientView("http", "gate.example:8000", "gate.example:8000")


def inbound(
    *fields: tuple[str, str], host: str = "gate.example:8000", scheme: str = "http", trusted: bool = True
) -> InboundRequest:
    known = {name.lower().encode(): value.encode() for name, value in fields}
    client = SimpleNamespace(scheme=scheme, port=8000)
    made = SimpleNamespace(client=client, host=host.encode(), forwarded_by_trusted=known if trusted else None)
    return cast(InboundRequest, made)


class TestClientView:
    def test_of_a_client_that_is_not_trusted(self) -> None:
        forged = inbound(("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Prefix", "/evil"), trusted=False)
        assert client_view(forged) == GATE

    @pytest.mark.parametrize(
        ("fields", "scheme", "host"),
        [
            ([], "http", "gate.example:8000"),
            ([("X-Forwarded-Proto", "https")], "https", "gate.example:8000"),
            ([("X-Forwarded-Proto", "HTTPS"), ("X-Forwarded-Host", "a.example")], "https", "a.example"),
            ([("Forwarded", 'for=1.2.3.4;Proto=https;host="a.example:8443"')], "https", "a.example:8443"),
            ([("Forwarded", "host=evil.example, host=a.example; proto=https")], "https", "a.example"),
            # The last of a list is what the trusted proxy added.
            ([("X-Forwarded-Host", "evil.example, a.example")], "http", "a.example"),
            ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Port", "8443")], "http", "a.example:8443"),
            ([("X-Forwarded-Host", "[::1]"), ("X-Forwarded-Port", "8443")], "http", "[::1]:8443"),
            ([("X-Forwarded-Host", "a.example:1"), ("X-Forwarded-Port", "8443")], "http", "a.example:1"),
            ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Port", "443")], "http", "a.example"),
            ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Port", "8000")], "http", "a.example"),
            ([("X-Forwarded-Host", "a.example"), ("X-Forwarded-Port", "x")], "http", "a.example"),
            # What is no host or scheme is left aside.
            (
                [("X-Forwarded-Host", "a.example/evil"), ("X-Forwarded-Proto", "javascript")],
                "http",
                "gate.example:8000",
            ),
            ([("X-Forwarded-Host", "user@evil.example")], "http", "gate.example:8000"),
        ],
    )
    def test_what_a_trusted_proxy_says(self, fields: list[tuple[str, str]], scheme: str, host: str) -> None:
        assert client_view(inbound(*fields)) == ClientView(scheme, host, "gate.example:8000")

    @pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-Prefix"])
    @pytest.mark.parametrize("unit", [",", ";", ";host=", "/a,", ', host="'])
    def test_the_cost_of_a_long_value_is_small(self, name: str, unit: str) -> None:
        """A proxy that is trusted may pass on what any client sends."""
        made = inbound((name, unit * 8_000))
        with counting_calls() as calls:
            client_view(made)
        assert calls.total < 200, "they do not grow with the length"

    @pytest.mark.parametrize(
        ("stated", "expected"),
        [
            (b"/outer", "/outer"),
            (b"/outer/", "/outer"),
            (b"/a, /b", "/a/b"),
            ("/é".encode(), "/é"),
            (b"/", ""),
            (b"", ""),
            (b"outer", ""),
            (b"//evil.example", ""),
            (b"/a//b", ""),
            (b"/\\evil.example", ""),
            (b"/a b", ""),
            (b"/a?b", ""),
            (b"/a#b", ""),
            (b"http://evil.example/a", ""),
        ],
    )
    def test_the_outer_prefix_is_a_path(self, stated: bytes, expected: str) -> None:
        assert outer_prefix({b"x-forwarded-prefix": stated}) == expected


@pytest.mark.parametrize(
    ("authority", "expected"),
    [("a:1", ("a", "1")), ("a:", ("a", "")), ("a", ("a", "")), ("[::1]", ("[::1]", "")), ("[::1]:80", ("[::1]", "80"))],
)
def test_the_port_of_an_authority(authority: str, expected: tuple[str, str]) -> None:
    assert split_port(authority) == expected
