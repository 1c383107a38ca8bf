"""The one list of the gateway's own paths, with the scopes that each of them needs.

A route that is not listed is closed to every token that has scopes: `tests/model/test_native_paths.py` fails for it.
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
_FREE, _STATUS, _EVENTS = Needs.both(None), Needs.both(STATUS), Needs.both(EVENTS_READ)
_INCIDENTS, _ADMIN = Needs(STATUS, INCIDENTS_WRITE), Needs.both(ADMIN)
UNLISTED = Needs.both((USUAL,))
NATIVE_PATHS: Mapping[str, Needs] = {
    # What everybody may know.
    **dict.fromkeys(("/", "/health", "/vx11/status", "/livez", "/readyz", "/metrics"), _FREE),
    **dict.fromkeys(("/tentaculo/openapi.json", "/tentaculo/asyncapi.json"), _FREE),
    # A ticket has the scopes of its caller, and a session those of its token.
    **dict.fromkeys(("/auth/ticket", "/status/sign-in", "/status/sign-out"), _FREE),
    "/status/actions": _INCIDENTS,
    **dict.fromkeys(("/status", "/status/events", "/status/incidents", "/status/incidents.atom"), _STATUS),
    **dict.fromkeys(("/status/badge.json", "/status/badge.svg"), _STATUS),
    "/status/api/v2/components.json": _STATUS,
    "/status/api/v2/incidents.json": _STATUS,
    "/status/api/v2/incidents/unresolved.json": _STATUS,
    "/status/api/v2/scheduled-maintenances.json": _STATUS,
    "/status/api/v2/scheduled-maintenances/active.json": _STATUS,
    "/status/api/v2/scheduled-maintenances/upcoming.json": _STATUS,
    "/status/api/v2/status.json": _STATUS,
    "/status/api/v2/summary.json": _STATUS,
    **dict.fromkeys(("/vx11/overview", "/vx11/circuit-breaker/status"), _STATUS),
    **dict.fromkeys(("/tentaculo/alerts", "/tentaculo/clocks", "/tentaculo/warnings"), _STATUS),
    **dict.fromkeys(("/vx11/incidents", "/vx11/maintenance"), _INCIDENTS),
    "/events/ingest": Needs.both(EVENTS_WRITE),
    **dict.fromkeys(("/events", "/events/stream", "/api/events"), _EVENTS),
    **dict.fromkeys(("/debug/events/cardinality", "/debug/events/correlations"), _EVENTS),
    # The handler distinguishes the two by each message.
    "/ws": Needs.both(SUBSCRIBE),
    **dict.fromkeys(("/tentaculo/admin/changes", "/tentaculo/admin/config", "/tentaculo/admin/maintenance"), _ADMIN),
    **dict.fromkeys(("/tentaculo/admin/reload", "/tentaculo/admin/tokens"), _ADMIN),
}
"""The paths that do not change."""
NATIVE_TREES: Mapping[str, Needs] = {
    **dict.fromkeys(("/status/badges/", "/status/incidents/"), _STATUS),
    **dict.fromkeys(("/vx11/incidents/", "/vx11/maintenance/"), _INCIDENTS),
    **dict.fromkeys(("/tentaculo/admin/alerts/apprise/", "/tentaculo/admin/alerts/webhooks/"), _ADMIN),
    **dict.fromkeys(("/tentaculo/admin/maintenance/", "/tentaculo/admin/services/"), _ADMIN),
}
"""What stands before the changing part of the others. Every path that begins so is the gateway's."""
HEARTBEATS = "/vx11/heartbeat/"
OF_SERVICES = frozenset((HEARTBEATS, "/status/services/", "/vx11/history/"))
"""The same where only a path that ends with the name of a service is the gateway's."""
YIELDED = frozenset(("/", "/api/events"))
"""The paths that a route of a service may take from the gateway."""
_TREES = {**NATIVE_TREES, "/status/": _STATUS, "/vx11/history/": _STATUS, "/tentaculo/admin/": _ADMIN}


def access_of(path: str, names: Mapping[str, str] | None = None) -> Needs:
    """The scopes of the route that is written as `path`; `UNLISTED` for one that is in no list.

    `names` maps names and aliases of services to their names.
    """
    if (found := NATIVE_PATHS.get(path)) is not None:
        return found
    if path.startswith(HEARTBEATS):
        name = path.removeprefix(HEARTBEATS)
        return heartbeat_of((names or {}).get(name, name))
    return next((_TREES[tree] for tree in _TREES if f"{path}/".startswith(tree)), UNLISTED)
