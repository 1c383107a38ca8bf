"""Which clients lists of networks let through, against a slow reference."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.config.types import Network
from tentaculo.security.client_networks import LONGEST_ADDRESS, Address, NetworkRules, parse_client_address

V4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda pair: ip_network(pair, strict=False))
V6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(lambda pair: ip_network(pair, strict=False))
NETWORKS = st.lists(st.one_of(V4, V6), max_size=6)
ADDRESSES = st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**33 << 64, 2**128 - 1).map(IPv6Address))


@pytest.mark.thorough
@settings(max_examples=300)
@given(NETWORKS, NETWORKS, st.lists(ADDRESSES, min_size=1, max_size=5))
def test_every_address_is_judged_as_by_a_look_at_each_network(
    allow: list[Network], deny: list[Network], addresses: list[Address]
) -> None:
    rules = NetworkRules(allow, deny)
    edges = [edge for one in (*allow, *deny) for edge in (one.network_address, one.broadcast_address)]
    for address in (*addresses, *edges):
        denied = any(address in network for network in deny)
        allowed = not allow or any(address in network for network in allow)
        assert rules.permits(address) is (allowed and not denied)


def test_an_unknown_address_passes_only_where_there_is_no_rule() -> None:
    assert NetworkRules((), ()).permits(None)
    assert not NetworkRules((), [ip_network("10.0.0.0/8")]).permits(None)
    assert not NetworkRules([ip_network("0.0.0.0/0")], ()).permits(None)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3:4711", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("[::ffff:10.1.2.3]:80", "10.1.2.3"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]", "fe80::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
    ],
)
def test_the_forms_of_an_address(text: str, address: str) -> None:
    assert str(parse_client_address(text)) == address


@pytest.mark.parametrize(
    "text", ["", "unknown", "_hidden", "10.1.2", "10.1.2.3.4", "010.1.2.3", "localhost", "1" * (LONGEST_ADDRESS + 1)]
)
def test_what_is_no_address(text: str) -> None:
    assert parse_client_address(text) is None
