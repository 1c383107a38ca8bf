"""Which scope each of the gateway's own routes needs, as its path is written: the one table of it.

A route that is not listed is closed to every token that has scopes: `tests/server/test_native_access.py` fails for it.
"""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.model.scopes import (
    ADMIN,
    EVENTS_READ,
    EVENTS_WRITE,
    INCIDENTS_WRITE,
    STATUS,
    SUBSCRIBE,
    USUAL,
    Needs,
    heartbeat_of,
)

READS = ("GET", "HEAD")
"""Methods that change nothing."""
HEARTBEATS = "/vx11/heartbeat/"


_FREE, _STATUS, _EVENTS = Needs.both(None), Needs.both(STATUS), Needs.both(EVENTS_READ)
_INCIDENTS = Needs(STATUS, INCIDENTS_WRITE)
UNLISTED = Needs.both((USUAL,))
ACCESS: Mapping[str, Needs] = {
    # What everybody may know.
    **dict.fromkeys(("/", "/health", "/vx11/status", "/livez", "/readyz", "/metrics"), _FREE),
    **dict.fromkeys(("/tentaculo/openapi.json", "/tentaculo/asyncapi.json"), _FREE),
    # A ticket has the scopes of its caller, and a session those of its token.
    **dict.fromkeys(("/auth/ticket", "/status/sign-in", "/status/sign-out"), _FREE),
    "/status/actions": Needs(STATUS, INCIDENTS_WRITE),
    **dict.fromkeys(("/vx11/overview", "/vx11/circuit-breaker/status"), _STATUS),
    **dict.fromkeys(("/tentaculo/alerts", "/tentaculo/clocks", "/tentaculo/warnings"), _STATUS),
    **dict.fromkeys(("/vx11/incidents", "/vx11/incidents/{id}"), _INCIDENTS),
    **dict.fromkeys(("/vx11/maintenance", "/vx11/maintenance/{id}"), _INCIDENTS),
    **dict.fromkeys(("/vx11/incidents/{id}/notes", "/vx11/incidents/{id}/acknowledgements"), _INCIDENTS),
    "/events/ingest": Needs.both(EVENTS_WRITE),
    **dict.fromkeys(("/events", "/events/stream", "/api/events"), _EVENTS),
    **dict.fromkeys(("/debug/events/cardinality", "/debug/events/correlations"), _EVENTS),
    # The handler tells the two apart by each message.
    "/ws": Needs.both(SUBSCRIBE),
}
"""By path, beside the trees below."""
_TREES = (("/status", _STATUS), ("/vx11/history", _STATUS), ("/tentaculo/admin", Needs.both(ADMIN)))
"""The paths that begin so by whole segments."""


def access_of(path: str, names: Mapping[str, str] | None = None) -> Needs:
    """The scopes of the route that is written as `path`; `UNLISTED` for one that is in no list.

    `names` maps names and aliases of services to their names.
    """
    if (found := ACCESS.get(path)) is not None:
        return found
    if path.startswith(HEARTBEATS):
        name = path.removeprefix(HEARTBEATS)
        return heartbeat_of((names or {}).get(name, name))
    return next((found for tree, found in _TREES if path == tree or path.startswith(f"{tree}/")), UNLISTED)
