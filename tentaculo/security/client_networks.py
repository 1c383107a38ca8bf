"""Which clients a list of networks lets through. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address
from typing import NamedTuple

from tentaculo.config.types import Network

Address = IPv4Address | IPv6Address
LONGEST_ADDRESS = 100
"""Characters of an address with its zone and port. A longer text is none."""


@lru_cache(maxsize=1024)
def _parse(text: str) -> Address | None:
    host = text.partition("]")[0][1:] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        # The zone says by which interface of this machine the client is reached, not who it is.
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def parse_client_address(text: str) -> Address | None:
    """The address that `text` names, without port, brackets and zone; None for a text that is none.

    An IPv4 address in the form of an IPv6 one is the IPv4 address.
    """
    return _parse(text) if len(text) <= LONGEST_ADDRESS else None


class _Ranges(NamedTuple):
    """Sorted ranges of addresses of one version, as numbers. None overlaps another."""

    first: Sequence[int]
    last: Sequence[int]

    def has(self, address: int) -> bool:
        position = bisect_right(self.first, address) - 1
        return position >= 0 and address <= self.last[position]


class NetworkSet:
    """A set of networks. A look-up costs the same few steps for ten networks and for ten thousand."""

    def __init__(self, networks: Iterable[Network]) -> None:
        listed = list(networks)
        self._ranges = {version: _ranges(listed, version) for version in (4, 6)}
        self._count = len(listed)

    def __repr__(self) -> str:
        return f"<NetworkSet: {self._count} networks>"

    def __contains__(self, address: Address) -> bool:
        return self._ranges[address.version].has(int(address))

    def __bool__(self) -> bool:
        return self._count > 0


def _ranges(networks: Iterable[Network], version: int) -> _Ranges:
    found = sorted(collapse_addresses([one for one in networks if one.version == version]))  # type: ignore[type-var]
    return _Ranges(
        [int(one.network_address) for one in found],
        [int(one.broadcast_address) for one in found],
    )


class NetworkRules:
    """`allow` and `deny` of a route."""

    def __init__(self, allow: Iterable[Network], deny: Iterable[Network]) -> None:
        self._allow = NetworkSet(allow)
        self._deny = NetworkSet(deny)

    def __repr__(self) -> str:
        return f"<NetworkRules: allow {self._allow!r}, deny {self._deny!r}>"

    def __bool__(self) -> bool:
        return bool(self._allow) or bool(self._deny)

    def permits(self, address: Address | None) -> bool:
        """Whether a client may send requests: one of no network of `deny`, and of one of `allow` where that has any.

        A client whose address is not known, which is None, may not where there is any rule.
        """
        if not self:
            return True
        if address is None or address in self._deny:
            return False
        return address in self._allow or not self._allow
