"""The one line per request. It has its own way to the log: structlog's processors would cost more than the forwarding."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol, TextIO

import msgspec
from msgspec import UNSET, UnsetType

from tentaculo.config.schema import LogSettings
from tentaculo.telemetry.logging import MAX_TARGET, LineWriter, escape, is_console, json_line

_encode_lines = msgspec.json.Encoder().encode_lines


class Request(Protocol):
    """What is logged of a request."""

    method: str
    target: str
    status: int
    seconds: float
    service: str | None
    peer: str
    request_id: str
    received: int
    sent: int
    error: str | None
    detail: str | None


class AccessLine(msgspec.Struct):
    """The members of the line in JSON.

    `path` is without its query, which may hold secrets; `service` is null for the gateway's own paths and where no
    route matched; `received` and `sent` are bytes of body. `error`, and `detail` where there is one, stand where the
    gateway answered or cut the exchange. `worker` is the number of the process, where there are several.
    """

    timestamp: str
    level: str
    event: str
    method: str
    path: str
    status: int
    ms: float
    service: str | None
    peer: str
    request_id: str
    received: int
    sent: int
    error: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    worker: int | UnsetType = UNSET


Logged = tuple[float, Request]
"""A request, and when it was logged, in seconds of the system's clock."""


def access_logger(
    config: LogSettings, writer: LineWriter, stream: TextIO | None = None, worker: int | None = None
) -> Callable[[Request], None] | None:
    """A function that logs a request, or None where that is switched off.

    What was too malformed to be a request has `-` for method and path. The request must not be changed any more: its
    line is made in the writer's thread. `worker` stands in each line, where there is one.
    """
    if not config.access or logging.getLevelNamesMapping()[config.level.upper()] > logging.INFO:
        return None
    render = _console_lines if is_console(config, stream or sys.stderr) else _json_lines
    if worker is not None:
        render = partial(render, worker=worker)
    clock, put = time.time, writer.put

    def log(request: Request) -> None:
        if len(request.target) <= MAX_TARGET:
            put(render, (clock(), request))
        else:
            # What waits is to take a bounded memory.
            writer.write(render([(clock(), request)]).rstrip("\n"))

    return log


def _json_lines(logged: list[Logged], worker: int | UnsetType = UNSET) -> str:
    lines = [_json_members(at, request, worker) for at, request in logged]
    try:
        text = _encode_lines(lines).decode()
    except (TypeError, ValueError):
        text = ""
    # JSON escapes the control characters of ASCII but DEL; whatever else there is gets a closer look.
    if text.isascii() and "\x7f" not in text and text:
        return text
    return "".join([json_line(_members(line)) + "\n" for line in lines])


def _json_members(at: float, request: Request, worker: int | UnsetType) -> AccessLine:
    return AccessLine(
        utc_stamp(at),
        "info",
        "request",
        request.method,
        _shown(request.target),
        request.status,
        round(request.seconds * 1000, 2),
        request.service,
        request.peer,
        request.request_id,
        request.received,
        request.sent,
        request.error or UNSET,
        request.detail or UNSET,
        worker,
    )


def _console_lines(logged: list[Logged], worker: int | None = None) -> str:
    end = "\n" if worker is None else f", worker {worker}\n"
    return "".join([escape(_console_line(at, request)) + end for at, request in logged])


def _console_line(at: float, request: Request) -> str:
    said = f", {request.error}" if request.error else ""
    said += f": {request.detail}" if request.detail else ""
    return (
        f"{utc_stamp(at)} {request.status} {request.method} {_shown(request.target)}"
        f" → {request.service or '-'} {request.seconds * 1000:.1f} ms, {request.sent} bytes, {request.peer}{said}"
    )


def _members(line: AccessLine) -> dict[str, object]:
    return {key: value for key, value in msgspec.structs.asdict(line).items() if value is not UNSET}


def utc_stamp(seconds: float) -> str:
    """A time of the system's clock as it stands in every line: ISO 8601 in UTC, to the microsecond."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1_000_000):06d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _shown(target: str) -> str:
    """A target as it is logged: bytes that are not UTF-8, which aiohttp reads as surrogates, as escapes."""
    target = target[:MAX_TARGET]
    return target if target.isascii() else target.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
