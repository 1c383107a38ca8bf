"""A thread that writes log lines to a stream, so that no caller waits for a slow terminal or pipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from select import PIPE_BUF
from threading import Event, Lock, Thread
from typing import Any, TextIO

Render = Callable[[list[Any]], str]
"""Makes text of the items queued for it: one line each, with line ends."""

MAX_WAITING = 10_000
"""Lines that wait for a slow terminal or pipe before new ones are dropped and counted."""
_MOST_AT_ONCE = 500
_GATHER = 0.05
"""Seconds in which lines are gathered to be written at once."""


class LineWriter:
    """Writes lines to a stream from a thread of its own. `write` and `put` never wait."""

    def __init__(
        self, stream: TextIO, *, shares: bool = False, on_dropped: Callable[[int], None] | None = None
    ) -> None:
        """`shares`: whether other processes write to the stream too. Lines then keep whole, up to 4,096 bytes each.

        `on_dropped` hears how many lines were dropped, in the writer's thread, once the stream takes lines again.
        """
        self._stream = stream
        self._shares = shares
        self._on_dropped = on_dropped
        self._counting = Lock()
        self._told = 0
        self._waiting: deque[tuple[Render, Any]] = deque()
        self.dropped = 0
        """Lines dropped because the stream was too slow or gone."""
        self._closing = Event()
        self._wake = Event()
        self._is_awake = False
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<LineWriter: {len(self._waiting)} waiting, {self.dropped} dropped>"

    def write(self, line: str) -> None:
        """Queue one line, without its line end."""
        self.put(_as_it_is, line)

    def put(self, render: Render, item: Any) -> None:
        """Queue what becomes a line when it is written, so that the caller pays for neither.

        `render` gets what was put for it in succession, in the writer's thread. It never raises, and `item` is never
        changed again, and small.
        """
        if len(self._waiting) >= MAX_WAITING:
            self._count_dropped(1)
            return
        self._waiting.append((render, item))
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()

    def close(self) -> None:
        """Write what is queued, within two seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            # Waking this thread for each line would cost the event loop more than the line does.
            self._closing.wait(_GATHER)
            # Before the lines are taken: one that is put from now on wakes this thread again.
            self._is_awake = False
            while self._waiting:
                self._write([self._waiting.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._waiting)))])

    def _write(self, batch: list[tuple[Render, Any]]) -> None:
        groups = groupby(batch, itemgetter(0))
        try:
            text = "".join([render([item for _, item in group]) for render, group in groups])
            for piece in _pieces(text) if self._shares else (text,):
                self._stream.write(piece)
                self._stream.flush()
        except (OSError, ValueError):
            # Nobody reads the log any more; that must not end the gateway.
            self._count_dropped(len(batch))
        else:
            self._tell()

    def _count_dropped(self, count: int) -> None:
        with self._counting:
            self.dropped += count

    def _tell(self) -> None:
        missing = self.dropped - self._told
        # Not into a queue that is still full: this line would be the next one dropped.
        if missing and self._on_dropped is not None and len(self._waiting) <= MAX_WAITING // 2:
            self._told += missing
            self._on_dropped(missing)


def _pieces(text: str) -> Iterator[str]:
    """`text` cut behind line ends into pieces that a pipe takes whole, as far as its lines allow (PIPE_BUF, pipe(7))."""
    piece: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        length = len(line) if line.isascii() else len(line.encode(errors="replace"))
        if size + length > PIPE_BUF and piece:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += length
    yield "".join(piece)


def _as_it_is(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
