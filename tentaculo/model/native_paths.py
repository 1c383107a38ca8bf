"""Which paths are the gateway's own, for the checks of the configuration. Pure."""

from __future__ import annotations

READS = ("GET", "HEAD")
"""Methods that change nothing."""
OWN_TREES = ("/status/", "/tentaculo/", "/vx11/incidents/", "/vx11/maintenance/")
"""What is below these is the gateway's, or may be in a later version."""
OWN_PATHS = frozenset(
    (
        *("/health", "/livez", "/readyz", "/metrics", "/status", "/auth/ticket"),
        *("/vx11/status", "/vx11/overview", "/vx11/circuit-breaker/status", "/vx11/incidents", "/vx11/maintenance"),
        *("/events", "/events/ingest", "/events/stream", "/ws"),
        *("/debug/events/cardinality", "/debug/events/correlations"),
    )
)
"""The other paths that no service can get, beside the heartbeats and the history of each service."""
