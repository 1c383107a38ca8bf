"""Signing in with a token. Failed attempts are limited by address, in constant memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from tentaculo.model.scopes import STATUS
from tentaculo.security.sessions import Sessions
from tentaculo.security.tokens import Tokens

MOST_FAILURES = 10
"""Failed attempts that an address may make at once."""
REGAINED = 60.0
"""Seconds after which it may make one more."""
MOST_ADDRESSES = 4096
"""Addresses that are remembered. The one that failed longest ago gives way: who has so many has as many attempts."""


class AttemptLimit:
    """Counts failed attempts by address: each takes one of `MOST_FAILURES`, and one is regained every `REGAINED` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()
        """Time of the clock at which an address has all of its attempts again, the latest failure at the end."""
        self.report: Callable[[str], None] = lambda _network: None
        """Called with the network of each failure noted here, so that the other workers `count` it as well."""

    def __repr__(self) -> str:
        return f"<AttemptLimit: {len(self._free_at)} addresses>"

    def wait(self, address: str) -> float:
        """Seconds until `address` may try again, 0 where it may now."""
        free_at = self._free_at.get(network_of(address), 0.0)
        return max(free_at - self._clock() - (MOST_FAILURES - 1) * REGAINED, 0.0)

    def note_failure(self, address: str) -> None:
        """Count a failed attempt, here and at the other workers."""
        network = network_of(address)
        self.count(network)
        self.report(network)

    def count(self, network: str) -> None:
        """Count a failed attempt of a network, as `network_of` names it."""
        self._free_at[network] = max(self._free_at.pop(network, 0.0), self._clock()) + REGAINED
        if len(self._free_at) > MOST_ADDRESSES:
            self._free_at.popitem(last=False)


class SignInResult(NamedTuple):
    """What became of an attempt to sign in."""

    outcome: str
    """`accepted`, `wrong`, `forbidden`, `limited` or `unavailable`.

    Forbidden is a token without the scope of the pages; while it is unavailable the database cannot store a session.
    """
    session_id: str = ""
    """For the cookie, where it was accepted."""
    wait: float = 0.0
    """Seconds until the address may try again, where it was limited."""


class SignIn:
    """Signs in with a token."""

    def __init__(self, tokens: Tokens, sessions: Sessions, limit: AttemptLimit) -> None:
        self.tokens = tokens
        """Those that are accepted."""
        self._sessions = sessions
        self._limit = limit

    def __repr__(self) -> str:
        return f"<SignIn: {self._limit!r}>"

    async def attempt(self, token: str, address: str) -> SignInResult:
        """Begin a session, if `token` is accepted. While `address` is limited nothing is said of any token."""
        wait = self._limit.wait(address)
        if wait:
            return SignInResult("limited", wait=wait)
        caller = self.tokens.check(token.encode("utf-8", "surrogateescape"), None)
        if not caller.is_authenticated:
            self._limit.note_failure(address)
            return SignInResult("wrong")
        if not caller.may(STATUS):
            return SignInResult("forbidden")
        session_id = await self._sessions.begin(caller.token)
        return SignInResult("unavailable") if session_id is None else SignInResult("accepted", session_id)


def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, which one customer has; else the address itself.

    Some proxies write the port behind it, which differs with each connection.
    """
    host = address.partition("]")[0][1:] if address.startswith("[") else address
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
