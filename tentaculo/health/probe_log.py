"""The last probes of each service, and the last certificate of each endpoint. In memory, and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from tentaculo.model.health import Endpoint, ProbeResult, SeenCertificate

_MOST = 10
"""Probes of one service that are kept."""
_MOST_IN_ALL = 1000
"""Probes of all services that are kept, but for two of each. One takes about a kilobyte."""


class ProbeLog:
    """What the last probes found. A service that is not in the configuration has none."""

    def __init__(self, services: Iterable[str]) -> None:
        self._probes: dict[str, deque[ProbeResult]] = {}
        self._certificates: dict[Endpoint, SeenCertificate] = {}
        self.use(services, lambda _: True)

    def use(self, services: Iterable[str], has: Callable[[Endpoint], bool]) -> None:
        """Keep the probes of these services, and the certificates of the endpoints that `has` is True of."""
        names, before = tuple(services), self._probes
        if names != tuple(before):
            most = max(2, min(_MOST, _MOST_IN_ALL // max(1, len(names))))
            self._probes = {}
            for name in names:
                kept = before.get(name)
                self._probes[name] = (
                    kept if kept is not None and kept.maxlen == most else deque(kept or (), maxlen=most)
                )
        self._certificates = {endpoint: seen for endpoint, seen in self._certificates.items() if has(endpoint)}

    def __repr__(self) -> str:
        return f"<ProbeLog: {sum(map(len, self._probes.values()))} probes, {len(self._certificates)} certificates>"

    def add(self, result: ProbeResult) -> None:
        """Keep a result and its certificate. One without a certificate leaves the endpoint's last one as it is."""
        if result.certificate is not None:
            upstream = result.upstream
            self._certificates[upstream] = SeenCertificate(upstream, result.certificate, result.checked_at)
        self._probes[result.upstream.service].append(replace(result, certificate=None, clock=None))

    def probes(self, service: str) -> tuple[ProbeResult, ...]:
        """The last probes of a service, the latest first. They have no certificates."""
        return tuple(reversed(self._probes[service]))

    def certificates(self, service: str) -> tuple[SeenCertificate, ...]:
        """The last certificate of each endpoint of a service that has shown one."""
        return tuple(seen for seen in self._certificates.values() if seen.endpoint.service == service)

    def content(self) -> tuple[list[ProbeResult], list[SeenCertificate]]:
        """Everything, for another process."""
        return [probe for probes in self._probes.values() for probe in probes], list(self._certificates.values())

    def restore(self, probes: Iterable[ProbeResult], certificates: Iterable[SeenCertificate]) -> None:
        """Add what another process has kept, which may be here in part, and older or newer than what is here.

        During a reload its configuration may have services that this one does not have; they are left out.
        """
        for probe in probes:
            kept = self._probes.get(probe.upstream.service)
            if kept is not None and probe not in kept:
                ordered = sorted((*kept, probe), key=lambda one: one.checked_at)
                kept.clear()
                kept.extend(ordered)
        for seen in certificates:
            known = self._certificates.get(seen.endpoint)
            is_newer = known is None or known.seen_at < seen.seen_at
            if is_newer and seen.endpoint.service in self._probes:
                self._certificates[seen.endpoint] = seen

    def correct(self, moment: Callable[[datetime], datetime]) -> None:
        """Correct every moment after the system clock was set. What a certificate says stays as it is."""
        for kept in self._probes.values():
            corrected = [replace(one, checked_at=moment(one.checked_at)) for one in kept]
            kept.clear()
            kept.extend(corrected)
        for endpoint, seen in self._certificates.items():
            self._certificates[endpoint] = seen._replace(seen_at=moment(seen.seen_at))
