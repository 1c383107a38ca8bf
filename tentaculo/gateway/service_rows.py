"""Writes the rows of the services that were probed or have changed, several together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from tentaculo.health.board import Board
from tentaculo.model.health import ServiceView

_WRITING_GAP = 0.5
"""Seconds during which changed rows are collected before one write. One write per probe would cost as much as the probe."""


class ServiceRows:
    """The services whose rows are to be written. `record` stores rows; it never waits and never raises."""

    def __init__(self, board: Board, record: Callable[[Sequence[ServiceView]], None]) -> None:
        self._board = board
        self._record = record
        self._unwritten: set[str] = set()
        self._writing: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<ServiceRows: {len(self._unwritten)} unwritten>"

    def write_soon(self, service: str) -> None:
        """Write the row of a service with those that change in the next moment."""
        self._unwritten.add(service)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(_WRITING_GAP, self.write)

    def write(self, services: Iterable[str] = ()) -> None:
        """Write the rows of these services now, with all that wait."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        self._unwritten.update(services)
        if self._unwritten:
            self._record([self._board.service(name) for name in self._unwritten])
            self._unwritten.clear()

    def forget(self, services: Iterable[str] | None = None) -> None:
        """Do not write these, or none at all."""
        if services is None:
            self._unwritten.clear()
        else:
            self._unwritten.difference_update(services)
