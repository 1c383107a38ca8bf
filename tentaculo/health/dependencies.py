"""Finds the root cause: a service fails because a service that it depends on is down. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter

from tentaculo.config.schema import Config
from tentaculo.model.health import Health

_AFFECTED = (Health.DOWN, Health.DEGRADED)


class Dependencies:
    """What the services of the configuration depend on. Raises `graphlib.CycleError` where they do in a circle."""

    def __init__(self, config: Config) -> None:
        self._parents = {name: service.depends_on for name, service in config.services.items() if service.depends_on}
        # Parents come before their children, so that one pass finds the ends of all chains.
        self._order = [name for name in TopologicalSorter(self._parents).static_order() if name in self._parents]

    def __repr__(self) -> str:
        return f"<Dependencies of {len(self._parents)} services>"

    def __bool__(self) -> bool:
        return bool(self._parents)

    def parents(self, service: str) -> tuple[str, ...]:
        """What `service` depends on directly."""
        return self._parents.get(service, ())

    def roots(self, found: Mapping[str, Health]) -> dict[str, str]:
        """For each service whose failure another one explains, the name of that root. `found` has every health.

        A service that is down or degraded is explained by the first of its parents that is down, or that is itself
        explained by one; the root is the end of that chain. A service whose parents are healthy is its own root and is not listed.
        """
        roots: dict[str, str] = {}
        for name in self._order:
            if found[name] in _AFFECTED:
                for parent in self._parents[name]:
                    if parent in roots or found[parent] is Health.DOWN:
                        roots[name] = roots.get(parent, parent)
                        break
        return roots
