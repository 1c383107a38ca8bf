"""Heartbeats as they come in: when each service called last, and what it said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tentaculo.config.schema import Config

_LATE = 0.05
"""Seconds after a silence has lasted too long until it is looked at: timers may be early by a little."""


class HeartbeatMonitor:
    """The last heartbeat of each service whose probe is of that kind.

    `on_change` is called with a service's name when it has called, and when it has been silent for too long. `clock` is
    monotonic, in seconds. Services that never called are given `probe.silence` seconds from the start.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float], on_change: Callable[[str], None]) -> None:
        self._silences = {
            name: service.probe.silence
            for name, service in config.services.items()
            if service.enabled and service.probe.kind == "heartbeat"
        }
        self._clock = clock
        self._on_change = on_change
        self._start = clock()
        self._last: dict[str, tuple[float, bytes]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<Heartbeats: {len(self._last)} of {len(self._silences)} services have called>"

    def expects(self, service: str) -> bool:
        """Whether `service` is one that is to call."""
        return service in self._silences

    def start(self) -> None:
        """Look out for silences from now on; needs a running loop."""
        self._start = self._clock()
        for service in self._silences:
            self._wait(service)

    def stop(self) -> None:
        """Look out for nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def beat(self, service: str, said: bytes) -> None:
        """`service` has called, and said `said`, JSON or nothing. KeyError for one that is not to call."""
        if service not in self._silences:
            raise KeyError(service)
        self._last[service] = self._clock(), said
        if service in self._timers:
            self._wait(service)
        self._on_change(service)

    def last(self, service: str) -> tuple[float, bytes] | None:
        """Seconds since the last heartbeat, and what it said; None while the first one may still come."""
        moment, said = self._last.get(service, (self._start, b""))
        seconds = self._clock() - moment
        return None if service not in self._last and seconds < self._silences[service] else (seconds, said)

    def _wait(self, service: str) -> None:
        if (timer := self._timers.get(service)) is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._timers[service] = loop.call_later(self._silences[service] + _LATE, self._on_change, service)
