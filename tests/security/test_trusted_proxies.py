from __future__ import annotations

from ipaddress import ip_network

import pytest

from tentaculo.security.trusted_proxies import trusted_proxy_matcher


@pytest.mark.parametrize(
    ("peer", "is_trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_networks(peer: str, is_trusted: bool) -> None:
    assert trusted_proxy_matcher([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])(peer) is is_trusted


def test_nobody_by_default() -> None:
    assert not trusted_proxy_matcher([])("127.0.0.1")
