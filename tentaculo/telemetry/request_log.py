"""One record per request: its id, and its access log line.

The line does not pass through structlog: its processors would cost more than the forwarding of the request.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Protocol, TextIO

import msgspec
from msgspec import UNSET, UnsetType

from tentaculo.config.operation import LogSettings
from tentaculo.model.history import RouteKey
from tentaculo.model.target_group import TargetRecord
from tentaculo.telemetry.logging import MAX_TARGET, LineWriter, escape, is_console, json_line
from tentaculo.telemetry.request_stats import RequestStats, Timed, phases_of


class AdmittedRequest(Protocol):
    """What the limits of its route have given to a request."""

    fields: Mapping[str, str]
    """Header fields of its response."""

    @property
    def lines(self) -> bytes:
        """The same as whole lines."""

    def release(self) -> None:
        """Give back what it holds."""


class RequestRecord(msgspec.Struct, eq=False):
    """One request, as it is logged in one line. Text from the client is unescaped here; the log escapes it.

    A struct is made in half of the time of a dataclass, whose fields are set one by one in bytecode.
    """

    method: str
    target: str
    """Raw, without its query: queries hold secrets."""
    status: int
    """What the client got; 499 if it left before the end, 101 for a tunnel."""
    seconds: float
    peer: str
    request_id: str
    service: str | None = None
    error: str | None = None
    """The failure's word, if the gateway answered or cut the exchange."""
    detail: str | None = None
    received: int = 0
    """Bytes of the request's body."""
    sent: int = 0
    """Bytes of the response's body."""
    is_own: bool = False
    """Whether the gateway answered in the service's place, without any failure: a preflight, a trace."""
    started: float = 0.0
    """Time of `time.perf_counter` at which the request arrived."""
    head_seconds: float = 0.0
    """Seconds until the head of the response was relayed, where its body ended later; 0 where all was relayed at once."""
    queue_seconds: float = 0.0
    """Seconds in which it waited for room at an endpoint."""
    connect_seconds: float = 0.0
    """Seconds in which it waited for new connections."""
    upload_seconds: float = 0.0
    """Seconds in which its body was sent as it arrived; 0 where it had arrived before."""
    hedge: str | None = None
    """Where it was sent to a second endpoint too: which of the two gave the response, `first`, `second` or `none`."""
    is_event_stream: bool = False
    route: RouteKey | None = None
    """The route that took it; None where no route matched."""
    rotation: TargetRecord | None = None
    """The target that it went to, where its route has several."""
    caller: str | None = None
    """The name of the token that it was sent with, or that its ticket or session was made with."""
    admitted: AdmittedRequest | None = None
    """What limits have let it pass; None where its route has none, and once it is closed."""

    @property
    def is_endless(self) -> bool:
        """Whether it ends as it should when its client leaves: a tunnel, or an event stream."""
        return self.status == 101 or (self.is_event_stream and self.status < 400)


LogRecord = Callable[[RequestRecord], None]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:+/=-]{1,128}")


class RequestLog:
    """Opens a record for each request and closes it once."""

    def __init__(self, write: LogRecord | None) -> None:
        """`write` takes each finished record; None where no access log is kept."""
        self.stats = RequestStats()
        # A random start and a counter tell requests apart in logs, at little cost.
        self._start = secrets.token_hex(6)
        self._count = 0
        self._write = write

    def __repr__(self) -> str:
        return f"<RequestLog: {self.stats.in_flight} in flight>"

    def begin(
        self,
        method: str,
        target: str,
        peer: str,
        forwarded: Mapping[bytes, bytes] | None,
        service: str | None = None,
        route: RouteKey | None = None,
        caller: str | None = None,
    ) -> RequestRecord:
        """The record of a request that has just arrived.

        `target` is without its query. `forwarded` are the forwarding fields of a trusted peer, None for any other: their
        X-Request-ID is kept if it is plain, else the request gets a new id. The last three are given where they are known.
        """
        given = None if forwarded is None else forwarded.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request_id = given.decode("ascii")
        else:
            self._count = number = self._count + 1
            request_id = f"{self._start}-{number:x}"
        started = time.perf_counter()
        return RequestRecord(
            method, target, 0, 0.0, peer, request_id, service, started=started, route=route, caller=caller
        )

    def refused(self, peer: str, status: int, error: str, detail: str | None) -> str:
        """Record bytes that never became a request, and return the id of their response."""
        record = self.begin("-", "-", peer, None)
        record.status, record.error, record.detail = status, error, detail
        self.finish(record, is_counted=False)
        return record.request_id

    def finish(self, record: RequestRecord, *, is_counted: bool = True) -> None:
        """Count and log a request. Called once, when its response has been sent or its client has gone.

        `is_counted` is false for native requests: the statistics are those of the services.
        """
        record.seconds = time.perf_counter() - record.started
        if record.admitted is not None:
            record.admitted.release()
            record.admitted = None
        if is_counted:
            self.stats.end(record)
        if self._write is not None:
            self._write(record)


_encode_lines = msgspec.json.Encoder().encode_lines


class Request(Timed, Protocol):
    """What is logged of a request."""

    method: str
    target: str
    status: int
    service: str | None
    peer: str
    request_id: str
    received: int
    sent: int
    error: str | None
    detail: str | None
    hedge: str | None
    rotation: TargetRecord | None
    caller: str | None


class AccessLine(msgspec.Struct):
    """The members of the line in JSON.

    `path` is without its query, which may hold secrets; `service` is null for the gateway's own paths and where no
    route matched; `received` and `sent` are bytes of body. `error`, and `detail` where there is one, stand where the
    gateway answered or cut the exchange. `queue_ms`, `connect_ms`, `first_byte_ms` and `body_ms` stand where `ms` has
    several phases: without them all of it is the wait for the response. `hedge` stands where the request was sent to a
    second endpoint too: which gave the response, `first`, `second` or `none`. `target` is the one of several that the
    route has, `probability` that with which it was chosen, `reward` what it was worth. `caller` is the name of the
    token of a caller who is known. `worker` is the number of the process, where there are several.
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
    queue_ms: float | UnsetType = UNSET
    connect_ms: float | UnsetType = UNSET
    first_byte_ms: float | UnsetType = UNSET
    body_ms: float | UnsetType = UNSET
    hedge: str | UnsetType = UNSET
    target: str | UnsetType = UNSET
    probability: float | UnsetType = UNSET
    reward: float | UnsetType = UNSET
    caller: str | UnsetType = UNSET
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
    rotation = request.rotation
    queue, connect, first_byte, body = _phase_members(request)
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
        queue,
        connect,
        first_byte,
        body,
        request.hedge or UNSET,
        UNSET if rotation is None else rotation.target,
        UNSET if rotation is None or rotation.probability is None else rotation.probability,
        UNSET if rotation is None or rotation.reward is None else rotation.reward,
        request.caller or UNSET,
        worker,
    )


_NO_PHASES = (UNSET, UNSET, UNSET, UNSET)
_Member = float | UnsetType


def _phase_members(request: Request) -> tuple[_Member, _Member, _Member, _Member]:
    if not _has_phases(request):
        return _NO_PHASES
    queue, connect, first_byte, body = (round(seconds * 1000, 2) for seconds in phases_of(request))
    return queue, connect, first_byte, body


def _has_phases(request: Request) -> bool:
    waited = request.queue_seconds + request.connect_seconds + request.upload_seconds
    return bool(waited or request.head_seconds)


def _console_lines(logged: list[Logged], worker: int | None = None) -> str:
    end = "\n" if worker is None else f", worker {worker}\n"
    return "".join([escape(_console_line(at, request)) + end for at, request in logged])


def _console_line(at: float, request: Request) -> str:
    said = f", {request.error}" if request.error else ""
    said += f": {request.detail}" if request.detail else ""
    said += f", hedged: {request.hedge}" if request.hedge else ""
    said += f", target {request.rotation.target}" if request.rotation is not None else ""
    if _has_phases(request):
        phases = phases_of(request)._asdict().items()
        said += " (" + ", ".join(f"{name.replace('_', ' ')} {seconds * 1000:.1f}" for name, seconds in phases) + " ms)"
    said += f", caller {request.caller}" if request.caller else ""
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
