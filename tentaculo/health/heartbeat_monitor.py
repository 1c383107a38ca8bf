"""The heartbeats of services that are not probed, and how long each has been silent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tentaculo.config.schema import Config

_LATE = 0.05
"""Seconds added to `probe.silence` before the check: a timer may fire slightly early."""


class HeartbeatMonitor:
    """The last heartbeat of each service whose probe is of that kind.

    `on_change` is called with the name of a service after each heartbeat, and when none came for `probe.silence`
    seconds. `clock` is monotonic, in seconds, and the clock that measures pauses. The first heartbeat is due
    `probe.silence` seconds after the start.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float], on_change: Callable[[str], None]) -> None:
        self._silences = _silences(config)
        self._is_running = False
        self._clock = clock
        self._on_change = on_change
        self._start = clock()
        self._starts: dict[str, float] = {}
        self._last: dict[str, tuple[float, bytes]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<HeartbeatMonitor: {len(self._last)} of {len(self._silences)} services have sent one>"

    @property
    def services(self) -> tuple[str, ...]:
        """The services that send heartbeats."""
        return tuple(self._silences)

    def expects(self, service: str) -> bool:
        """Whether `service` sends heartbeats."""
        return service in self._silences

    def start(self) -> None:
        """Start the timers. Needs a running event loop."""
        self._start = self._clock()
        self._is_running = True
        for service in self._silences:
            self._wait(service)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Find the services of another configuration that send heartbeats; the result follows it. May run in a thread.

        The silence of a service that is new begins when it is followed.
        """
        silences = _silences(config)

        def use() -> None:
            before, self._silences = self._silences, silences
            for service in before.keys() - silences.keys():
                self._last.pop(service, None)
                self._starts.pop(service, None)
                if (timer := self._timers.pop(service, None)) is not None:
                    timer.cancel()
            for service, silence in silences.items():
                if service not in before:
                    self._starts[service] = self._clock()
                if self._is_running and before.get(service) != silence:
                    self._wait(service)

        return use

    def stop(self) -> None:
        """Cancel the timers."""
        self._is_running = False
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def silence(self, service: str) -> tuple[float, bytes | None]:
        """Seconds since the last heartbeat and its body, or None since when the first one is awaited."""
        moment, body = self._last_moment(service)
        return self._clock() - moment, body if service in self._last else None

    def restore(self, service: str, silent: float, body: bytes | None) -> bool:
        """Continue the silence of a service that had been silent for `silent` seconds before a restart.

        `body` is that of its last heartbeat, None where it has sent none. Returns False where it has sent one since.
        """
        if service in self._last:
            return False
        moment = self._clock() - silent
        if body is None:
            self._starts[service] = moment
        else:
            self._last[service] = moment, body
        if service in self._timers:
            self._wait(service)
            self._on_change(service)
        return True

    def note_pause(self, seconds: float) -> None:
        """The process itself was paused for `seconds` until now, and heartbeats of that time may be lost.

        Each silence that was not too long before the pause starts again.
        """
        now = self._clock()
        for service, silence in self._silences.items():
            moment, body = self._last_moment(service)
            if now - seconds - moment >= silence:
                continue
            if service in self._last:
                self._last[service] = now, body
            else:
                self._starts[service] = now
            if service in self._timers:
                self._wait(service)

    def beat(self, service: str, body: bytes) -> None:
        """Record a heartbeat of `service` with its body, JSON or empty. Raises KeyError for a service without heartbeats."""
        if service not in self._silences:
            raise KeyError(service)
        self._last[service] = self._clock(), body
        if service in self._timers:
            self._wait(service)
        self._on_change(service)

    def last(self, service: str) -> tuple[float, bytes] | None:
        """Seconds since the last heartbeat, and its body; None while the first one is not overdue."""
        moment, body = self._last_moment(service)
        seconds = self._clock() - moment
        return None if service not in self._last and seconds < self._silences[service] else (seconds, body)

    def _wait(self, service: str) -> None:
        if (timer := self._timers.get(service)) is not None:
            timer.cancel()
        due = self._last_moment(service)[0] + self._silences[service] + _LATE
        delay = max(0.0, due - self._clock())
        self._timers[service] = asyncio.get_running_loop().call_later(delay, self._on_change, service)

    def _last_moment(self, service: str) -> tuple[float, bytes]:
        """The moment and body of the last heartbeat, or the moment since which the first one is awaited."""
        if (last := self._last.get(service)) is not None:
            return last
        return self._starts.get(service, self._start), b""


def _silences(config: Config) -> dict[str, float]:
    return {
        name: service.probe.silence
        for name, service in config.services.items()
        if service.enabled and service.probe.kind == "heartbeat"
    }
