"""Whose request it is: the address of the client, behind proxies that are trusted."""

from __future__ import annotations

import re
from collections.abc import Callable

from tentaculo.net.inbound_request import InboundRequest

_FOR = re.compile(r'(?:^|;)[ \t]*for[ \t]*=[ \t]*("[^"]*"|[^;]*)', re.IGNORECASE)
_LONGEST = 100
"""Characters of an address that is looked at. No longer text is one."""


def client_address(inbound: InboundRequest, is_trusted: Callable[[str], bool]) -> str:
    """The client's address; behind trusted proxies the last one before them, as they state it.

    `is_trusted` returns whether the forwarding fields of a peer are used. Of these `X-Forwarded-For` counts, else
    `X-Real-IP`, else `Forwarded`. What another peer sends counts for nothing.
    """
    forwarded = inbound.forwarded_by_trusted
    found = inbound.client.address
    if forwarded is None:
        return found
    chain = forwarded.get(b"x-forwarded-for") or forwarded.get(b"x-real-ip")
    if chain is not None:
        stated = chain.decode("latin-1").split(",")
    else:
        stated = [_for(element) for element in forwarded.get(b"forwarded", b"").decode("latin-1").split(",")]
    for part in reversed(stated):
        found = part.strip()[:_LONGEST] or found
        if not is_trusted(_without_port(found)):
            break
    return found


def _for(element: str) -> str:
    """The value of `for` in an element of Forwarded (RFC 7239); empty where it has none."""
    found = _FOR.search(element)
    return found[1].strip('" \t') if found is not None else ""


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address.partition("]")[0][1:]
    return address.partition(":")[0] if address.count(":") == 1 else address
