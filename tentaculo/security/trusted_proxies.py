"""Which peers are trusted proxies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from tentaculo.config.types import Network


def trusted_proxy_matcher(networks: Sequence[Network]) -> Callable[[str], bool]:
    """A function that returns whether a peer's address is in one of `networks`; it caches the last thousand results."""
    if not networks:
        return lambda peer: False

    @lru_cache(maxsize=1024)
    def is_trusted(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)

    return is_trusted
