"""Who may send requests to a native route. Each route states one of these values. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from tentaculo.model import scopes
from tentaculo.model.scopes import Needs


class Access(NamedTuple):
    """Who may send requests to a path. All routes of one path have the same."""

    needs: Needs
    """The scopes that a caller needs who is known by a token."""
    opened_by: Literal["always", "open_status", "open_websocket"] | None = None
    """The key of `auth` that opens it to callers without a token; `always` where none closes it."""
    checks_origin: bool = False
    """Whether a request for another protocol is judged by its Origin, unless a header authenticated it."""


EVERYBODY = Access(Needs.both(None), "always")
"""No token is needed, and each one will do."""
EVERY_TOKEN = Access(Needs.both(None))
"""What is given has the scopes of the caller's token."""
STATUS = Access(Needs.both(scopes.STATUS))
STATUS_PAGES = Access(Needs.both(scopes.STATUS), "open_status")
"""The status pages, and what other programs read of them."""
PAGE_FORMS = Access(Needs(scopes.STATUS, scopes.INCIDENTS_WRITE), "always")
"""Forms of the pages whose handler asks for the session itself."""
INCIDENTS = Access(Needs(scopes.STATUS, scopes.INCIDENTS_WRITE))
"""Reading needs `status`, writing `incidents:write`."""
EVENTS_WRITE = Access(Needs.both(scopes.EVENTS_WRITE))
EVENTS_READ = Access(Needs.both(scopes.EVENTS_READ))
SOCKET = Access(Needs.both(scopes.SUBSCRIBE), "open_websocket", checks_origin=True)
"""The WebSocket. Its handler distinguishes sending and receiving by each message."""
ADMIN = Access(Needs.both(scopes.ADMIN))


def heartbeat(service: str) -> Access:
    """That of the heartbeats of a service."""
    return Access(scopes.heartbeat_of(service))
