"""Logging: structlog for events, one line per proxied request, and no file or terminal ever written on the event loop."""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Thread
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from tentaculo.config.schema import Log

MAX_WAITING = 10_000
"""Lines that wait for a slow terminal or pipe before new ones are dropped and counted."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SECRET = ("token", "authorization", "cookie", "password", "secret")


class LineWriter:
    """Writes lines to a stream from a thread of its own. `write` never waits."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        self.dropped = 0
        """Lines dropped because the stream was too slow."""

    def __repr__(self) -> str:
        return f"<LineWriter: {self._lines.qsize()} waiting, {self.dropped} dropped>"

    def write(self, line: str) -> None:
        """Queue one line, without its line end."""
        if self._lines.qsize() >= MAX_WAITING:
            self.dropped += 1
        else:
            self._lines.put(line)

    def close(self) -> None:
        """Write what is queued, within two seconds."""
        self._lines.put(None)
        self._thread.join(2.0)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            batch = [line]
            ends = False
            while not self._lines.empty():
                more = self._lines.get()
                if more is None:
                    ends = True
                    break
                batch.append(more)
            try:
                self._stream.write("\n".join(batch) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads the log any more; that must not end the gateway.
                self.dropped += len(batch)
            if ends:
                return


def set_up(config: Log, stream: TextIO = sys.stderr) -> LineWriter:
    """Configure structlog for the process and return the writer behind it; close that at the end."""
    writer = LineWriter(stream)
    is_console = config.format == "console" or (config.format == "auto" and stream.isatty())
    renderer: Callable[[WrappedLogger, str, EventDict], str]
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if is_console else _to_json
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            *([_escape] if is_console else [structlog.processors.dict_tracebacks]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        logger_factory=lambda *args: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    # Libraries log by the standard module: theirs go the same way.
    handler = _Bridge()
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[config.level], logging.WARNING), force=True)
    return writer


class _Lines:
    """What structlog calls with a rendered line."""

    def __init__(self, writer: LineWriter) -> None:
        self._write = writer.write

    def msg(self, message: str) -> None:
        self._write(message)

    log = debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        info = record.exc_info if record.exc_info and record.exc_info[0] else None
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=info)


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=str).decode("utf-8", "replace")


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    for key in event:
        if any(word in key.lower() for word in _SECRET):
            event[key] = "***"
    return event


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Control characters in values become escapes: a client must not be able to forge lines or drive the terminal."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception" and not value.isprintable():
            event[key] = escape(value)
    return event


def escape(text: str) -> str:
    """`text` with everything unprintable, line ends and terminal codes included, as escapes."""
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def utc_stamp(now: datetime | None = None) -> str:
    """The time as it stands in every line."""
    return (now or datetime.now(UTC)).isoformat(timespec="microseconds").replace("+00:00", "Z")


AccessLine = Callable[[Any], None]


def access_logger(config: Log, writer: LineWriter, stream: TextIO = sys.stderr) -> AccessLine | None:
    """The one line per request, or None where that is switched off.

    It takes any object with the attributes of the proxy's record. It does not go through structlog's processors: at
    thousands of requests per second those would cost more than the forwarding.
    """
    if not config.access or _LEVELS[config.level] > logging.INFO:
        return None
    is_console = config.format == "console" or (config.format == "auto" and stream.isatty())

    def shape(record: Any) -> dict[str, Any]:
        line = {
            "timestamp": utc_stamp(),
            "level": "info",
            "event": "request",
            "method": record.method,
            "path": record.target.encode("utf-8", "replace").decode(),
            "status": record.status,
            "ms": round(record.seconds * 1000, 2),
            "service": record.service,
            "peer": record.peer,
            "request_id": record.request_id,
            "received": record.received,
            "sent": record.sent,
        }
        if record.error is not None:
            line["error"] = record.error
        if record.detail is not None:
            line["detail"] = record.detail
        return line

    def write_json(record: Any) -> None:
        writer.write(msgspec.json.encode(shape(record)).decode())

    def write_console(record: Any) -> None:
        said = f" {record.error}: {escape(record.detail or '')}" if record.error else ""
        target = escape(record.target.encode("utf-8", "replace").decode())
        writer.write(
            f"{utc_stamp()} {record.status} {record.method} {target} → {record.service or '-'}"
            f" {record.seconds * 1000:.1f} ms, {record.sent} bytes, {record.peer}{said}"
        )

    return write_console if is_console else write_json
