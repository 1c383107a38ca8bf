"""Scopes: what a token may do. Pure.

    proxy, proxy:<service>   requests to all services, or to one
    events:write             sending events, by HTTP and by WebSocket
    events:read              receiving them, and /debug/events
    heartbeat:<service>      the heartbeats of one service
    status                   overview, history, incidents, and the pages after a sign-in
    incidents:write          notes, acknowledgements, mutes and maintenance, by HTTP and on the pages
    admin                    changing the gateway itself

A token without scopes has every one but `admin`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Need = tuple[str, ...]
"""What a request needs: one of these scopes. The first one is named where none is there."""

USUAL = "*"
"""What a token without scopes has: every scope but `admin`."""
PROXY, HEARTBEAT = "proxy", "heartbeat"
"""Scopes that name a service. `proxy` alone stands for all services."""
PLAIN = (PROXY, "events:write", "events:read", "status", "incidents:write", "admin")
"""The scopes without the name of a service."""
_OF_SERVICE = re.compile(rf"(?:{PROXY}|{HEARTBEAT}):[A-Za-z0-9](?:[A-Za-z0-9_-]{{0,62}}[A-Za-z0-9])?")


class Needs(NamedTuple):
    """What the requests of a route need. None where every caller may send them who has passed the check of the token."""

    read: Need | None
    """Those whose method changes nothing."""
    write: Need | None
    """The others."""

    @classmethod
    def both(cls, need: Need | None) -> Needs:
        """The same for all methods."""
        return cls(need, need)


EVENTS_WRITE: Need = ("events:write", USUAL)
EVENTS_READ: Need = ("events:read", USUAL)
STATUS: Need = ("status", USUAL)
INCIDENTS_WRITE: Need = ("incidents:write", USUAL)
ADMIN: Need = ("admin",)
SUBSCRIBE: Need = ("events:read", "events:write", USUAL)
"""Of the WebSocket, which sends and receives."""


def is_scope(text: str) -> bool:
    """Whether `text` is one of the scopes that a token may have. The service that it names may not exist."""
    return text in PLAIN or _OF_SERVICE.fullmatch(text) is not None


def to_service(name: str) -> Needs:
    """What a request to a service needs that is open to tokens only."""
    return Needs.both((f"{PROXY}:{name}", PROXY, USUAL))


def heartbeat_of(name: str) -> Needs:
    """What the heartbeat of a service needs."""
    return Needs.both((f"{HEARTBEAT}:{name}", USUAL))


def granted(scopes: Iterable[str] | None, names: Mapping[str, str] | None = None) -> frozenset[str]:
    """What a token with `scopes` has, None for one without. `names` maps names and aliases of services to their names."""
    if scopes is None:
        return frozenset((USUAL,))
    return frozenset(_with_name(scope, names or {}) for scope in scopes)


def unknown_services(scopes: Iterable[str], names: Mapping[str, str]) -> list[str]:
    """The scopes that name a service which is not in `names`."""
    return [scope for scope in scopes if _OF_SERVICE.fullmatch(scope) and scope.partition(":")[2] not in names]


def _with_name(scope: str, names: Mapping[str, str]) -> str:
    kind, colon, service = scope.partition(":")
    return f"{kind}:{names.get(service, service)}" if colon and kind in (PROXY, HEARTBEAT) else scope
