"""Whose request it is, by what trusted proxies state."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from tentaculo.net.inbound_request import InboundRequest
from tentaculo.server.client_address import client_address

PROXIES = frozenset(("10.0.0.1", "10.0.0.2", "2001:db8::1"))


def address(peer: str, **fields: bytes) -> str:
    stated = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    inbound = SimpleNamespace(
        client=SimpleNamespace(address=peer), forwarded_by_trusted=stated if peer in PROXIES else None
    )
    return client_address(cast(InboundRequest, inbound), PROXIES.__contains__)


def test_a_peer_that_is_not_trusted_is_the_client() -> None:
    assert address("192.0.2.1", x_forwarded_for=b"198.51.100.1", forwarded=b"for=198.51.100.1") == "192.0.2.1"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"x_forwarded_for": b"192.0.2.1"}, "192.0.2.1"),
        ({"x_forwarded_for": b"198.51.100.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"),
        ({"x_forwarded_for": b"10.0.0.2"}, "10.0.0.2"),
        ({"x_forwarded_for": b" , 192.0.2.1 ,"}, "192.0.2.1"),
        ({"x_real_ip": b"192.0.2.1"}, "192.0.2.1"),
        ({"x_forwarded_for": b"192.0.2.1", "forwarded": b"for=198.51.100.1"}, "192.0.2.1"),
        ({"forwarded": b"for=192.0.2.1;proto=https"}, "192.0.2.1"),
        ({"forwarded": b'for=198.51.100.1, proto=https; For="192.0.2.1:80"'}, "192.0.2.1:80"),
        ({"forwarded": b'for="[2001:db8::9]:4711", for="[2001:db8::1]:443"'}, "[2001:db8::9]:4711"),
        ({"forwarded": b"for=unknown"}, "unknown"),
        ({"forwarded": b'for="198.51.100.1, for=192.0.2.1'}, "192.0.2.1"),
        ({"forwarded": b"by=10.0.0.1"}, "10.0.0.1"),
        ({"forwarded": b"xfor=198.51.100.1"}, "10.0.0.1"),
        ({}, "10.0.0.1"),
    ],
)
def test_behind_trusted_proxies(fields: dict[str, bytes], expected: str) -> None:
    assert address("10.0.0.1", **fields) == expected


def test_a_text_without_end_is_cut() -> None:
    assert len(address("10.0.0.1", x_forwarded_for=b"x" * 30_000)) <= 100
