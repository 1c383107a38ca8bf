"""How many clients may be connected at once, in all and from one address."""

from __future__ import annotations

import resource
from collections import Counter

RESERVED = 256
"""Descriptors kept for what is not a proxied connection: files, the database, probes."""


class ConnectionLimits:
    """Counts client connections. A limit of 0 for one address is none; in all it is what the descriptors allow.

    Each proxied connection takes two descriptors, its client's and its upstream's.
    """

    def __init__(self, connections: int, per_address: int) -> None:
        self._limit = connections or max(1, (_descriptors() - RESERVED) // 2)
        self._per_address = per_address
        self._addresses: Counter[str] = Counter()
        self.open = 0
        """Connections now."""

    def __repr__(self) -> str:
        return f"<Admission: {self.open} of {self._limit} connections>"

    def enter(self, address: str) -> bool:
        """Whether a connection from `address` is let in; it must `leave` then."""
        if self.open >= self._limit:
            return False
        if self._per_address:
            if self._addresses[address] >= self._per_address:
                return False
            self._addresses[address] += 1
        self.open += 1
        return True

    def leave(self, address: str) -> None:
        """A connection from `address` that was let in has ended."""
        self.open -= 1
        if self._per_address:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the system allows this process: the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1_000_000
