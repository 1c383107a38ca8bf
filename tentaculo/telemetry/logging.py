"""Where log lines go: set up, rendered, redacted, and written by a thread of their own."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from select import PIPE_BUF
from threading import Event, Lock, Thread
from typing import Any, TextIO

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from tentaculo.config.operation import LogSettings

log = structlog.get_logger(__name__)

Render = Callable[[list[Any]], str]
"""Makes text of the items queued for it: one line each, with line ends."""

MAX_WAITING = 10_000
"""Lines that wait for a slow terminal or pipe before new ones are dropped and counted."""
CLOSE_WAIT = 2.0
"""Seconds in which `LineWriter.close` writes what is queued."""
_MOST_AT_ONCE = 500
_GATHER = 0.05
"""Seconds in which lines are gathered to be written at once."""


class LineWriter:
    """Writes lines to a stream from a thread of its own. `write` and `put` never wait."""

    def __init__(
        self, stream: TextIO, *, shares: bool = False, on_dropped: Callable[[int], None] | None = None
    ) -> None:
        """`shares`: whether other processes write to the stream too. Lines then keep whole, up to 4,096 bytes each.

        `on_dropped` receives how many lines were dropped, in the writer's thread, once the stream accepts lines again.
        """
        self._stream = stream
        self._shares = shares
        self._on_dropped = on_dropped
        self._counting = Lock()
        self._reported = 0
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
        """Write what is queued, within `CLOSE_WAIT` seconds."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_WAIT)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            # Waking this thread for each line would cost the event loop more than the line does.
            self._closing.wait(_GATHER)
            # Before the lines are taken: one that is put from now on wakes this thread again.
            self._is_awake = False
            self._write_waiting()
        # One may have come after the last look.
        self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._write([self._waiting.popleft() for _ in range(min(_MOST_AT_ONCE, len(self._waiting)))])

    def _write(self, batch: list[tuple[Render, Any]]) -> None:
        groups = groupby(batch, itemgetter(0))
        try:
            text = _without_tickets("".join([render([item for _, item in group]) for render, group in groups]))
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
        missing = self.dropped - self._reported
        # Not into a queue that is still full: this line would be the next one dropped.
        if missing and self._on_dropped is not None and len(self._waiting) <= MAX_WAITING // 2:
            self._reported += missing
            self._on_dropped(missing)


def _without_tickets(text: str) -> str:
    """`text` without the values of parameters `ticket`, wherever a library or a service may have quoted an address."""
    # One look at many lines: an access line has no query, and so none of these.
    return text if "ticket=" not in text else _TICKET.sub(f"ticket={HIDDEN}", text)


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


MAX_TARGET = 1000
"""Characters of a request's target that are logged, so that the lines that wait take a bounded memory."""
HIDDEN = "***"
"""Stands in place of every value whose key says that it is secret."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET = re.compile("token|authorization|cookie|password|secret|ticket", re.IGNORECASE)
_TICKET = re.compile(r"""ticket=[^&\s"'<>\\]+""")


def set_up(
    config: LogSettings, stream: TextIO | None = None, *, worker: int | None = None, shares: bool = False
) -> LineWriter:
    """Configure structlog and the standard logging for the process, to write to `stream`, else to standard error.

    `worker` is the number of this process among several; it stands in each line. `shares`: whether others write to the
    same stream.

    Returns the writer behind them; close that at the end.
    """
    stream = stream or sys.stderr
    writer = LineWriter(stream, shares=shares, on_dropped=lambda count: log.warning("log lines dropped", lines=count))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if worker is None else [_name_worker(worker)]),
            *(_console(stream) if is_console(config, stream) else _JSON),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        logger_factory=lambda *args: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    # Libraries log by the standard module, and Python warns on standard error: both go the same way.
    logging.basicConfig(handlers=[_Bridge()], level=max(_LEVELS[config.level], logging.WARNING), force=True)
    logging.captureWarnings(True)
    return writer


def _name_worker(worker: int) -> Processor:
    def name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return name


def is_console(config: LogSettings, stream: TextIO) -> bool:
    """Whether lines are written for people, not as JSON."""
    return config.format == "console" or (config.format == "auto" and stream.isatty())


def _console(stream: TextIO) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_print_traceback)
    return [_redact, _escape, renderer]


class _Lines:
    """What structlog calls with a rendered line."""

    def __init__(self, writer: LineWriter) -> None:
        self._write = writer.write

    def msg(self, message: str) -> None:
        self._write(message)

    log = debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's faulty call must not fail the library, and is worth its line
            message = f"{record.msg} {record.args!r}"
        info = record.exc_info if record.exc_info and record.exc_info[0] else None
        # structlog knows the five usual levels only.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        structlog.get_logger(record.name).log(level, message, logger=record.name, exc_info=info)


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return json_line(event)


def json_line(members: Mapping[str, Any]) -> str:
    """`members` as one line of JSON without any unprintable character. Never raises, since the caller has other work."""
    try:
        line = msgspec.json.encode(members, enc_hook=str).decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Lone surrogates, for one: aiohttp makes them of header bytes that are not UTF-8.
        line = msgspec.json.encode({escape(key): _plain(value) for key, value in members.items()}).decode()
    if line.isprintable():
        return line
    # Beyond what JSON itself escapes: DEL, the C1 codes that drive a terminal, and what reorders or breaks lines.
    return "".join([char if char.isprintable() else json.dumps(char)[1:-1] for char in line])


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    return escape(value if isinstance(value, str) else repr(value))


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if key != "exc_info":
            event[key] = HIDDEN if _is_secret(key) else _without_secrets(value)
    return event


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key) else _without_secrets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(item) for item in value]
    return value


def _is_secret(key: object) -> bool:
    return _SECRET.search(str(key)) is not None


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Control characters in values become escapes: a client must not be able to forge lines or drive the terminal."""
    for key, value in event.items():
        if key != "exc_info":
            text = value if isinstance(value, str) else repr(value)
            if not text.isprintable():
                event[key] = escape(text)
    return event


def _print_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Python's own form, without local variables, which hold tokens; indented, so that no line of it looks like ours."""
    text = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    stream.writelines(f"\n  {escape(line)}" for line in text.split("\n"))


_JSON: list[Processor] = [
    # Without local variables: they hold tokens.
    structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
    _redact,
    _to_json,
]


def escape(text: str) -> str:
    """`text` with everything unprintable, line ends and terminal codes included, as escapes."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])
