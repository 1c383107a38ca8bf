"""The fleet's health, joined: watch → probe → board → recorder, and what the proxy asks of all that."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from tentaculo.config.schema import Config
from tentaculo.health.board import Board
from tentaculo.health.breaker import Breakers
from tentaculo.health.probe import Prober
from tentaculo.health.watch import Watch
from tentaculo.model import Health, ProbeResult, ServiceView
from tentaculo.store.recorder import Recorder
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


class Fleet:
    """What is believed of the services, and who keeps it up to date."""

    def __init__(self, config: Config, recorder: Recorder) -> None:
        self._config = config
        self._recorder = recorder
        self.breakers = Breakers(config, time.monotonic, utc_now)
        self.board = Board(config, now=utc_now, breaker_view=self.breakers.view)

    def __repr__(self) -> str:
        return f"<Fleet: {self.board!r}>"

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Probe every service from entering to leaving."""
        async with Prober(self._config) as prober:
            watch = Watch(self._config, prober, self.board, on_result=self._note_result, on_change=self._note_change)
            tasks = TaskGroup("fleet")
            tasks.start(watch.run(), "watch")
            try:
                yield
            finally:
                await tasks.close()

    def why_off(self, name: str) -> str:
        """Why a service is off, in words."""
        return self.board.service(name).reason

    def why_open(self, name: str) -> dict[str, object]:
        """For a service whose breakers are open: why, since when, and when it was last well."""
        view = self.board.service(name)
        breaker = view.breaker
        known = {
            "reason": breaker.reason,
            "last_failure": breaker.last_failure,
            "last_seen_well": view.last_seen_well,
        }
        return {key: value for key, value in known.items() if value}

    def _note_result(self, result: ProbeResult) -> None:
        self._recorder.record_services([self.board.service(result.upstream.service)])

    def _note_change(self, view: ServiceView) -> None:
        level = log.warning if view.health is Health.DOWN else log.info
        level("health changed", service=view.name, health=view.health.value, reason=view.reason)
