"""One record per request: its id, the counts by route and status class for metrics and history, its access log line.

The line does not pass through structlog: its processors would cost more than the forwarding of the request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import log
from typing import Protocol, TextIO

import msgspec
from msgspec import UNSET, UnsetType

from tentaculo.config.schema import LogSettings
from tentaculo.model.failure import Blame, Failure
from tentaculo.model.history import BUCKETS, SCALE, SHIFT, SHORTEST, Histogram, RouteKey, Tally
from tentaculo.model.target_group import TargetRecord
from tentaculo.telemetry.logging import MAX_TARGET, LineWriter, escape, is_console, json_line


@dataclass(slots=True)
class RequestRecord:
    """One proxied request, as it is logged in one line. Text from the client is unescaped here; the log escapes it."""

    method: str
    target: str
    """Raw, without its query: queries hold secrets."""
    status: int
    """What the client got; 499 if it left, 101 for a tunnel."""
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
    is_event_stream: bool = False
    route: RouteKey | None = None
    """The route that took it; None where no route matched."""
    rotation: TargetRecord | None = None
    """The target that it went to, where its route has several."""


LogRecord = Callable[[RequestRecord], None]

STREAM_AFTER = 10.0
"""Seconds from the head of a response to the end of its body, from which on it counts as a stream."""


_FAULTS = frozenset(
    failure.error
    for failure in Failure
    if failure.blame is Blame.UPSTREAM or failure in (Failure.CIRCUIT_OPEN, Failure.OVERLOADED)
)
"""The errors that count as failures of the service. The others are caused by the client or intended."""


@dataclass(slots=True)
class _Total:
    """Of one route and class of status."""

    latencies: list[int] | None
    """How many responses fell into each bucket of latency; None where no response of the class is ok."""
    requests: int = 0
    seconds: float = 0.0


class RequestStats:
    """Totals by route and status class, the requests in flight, and the counts since the last `drain`."""

    def __init__(self) -> None:
        self._totals: dict[tuple[RouteKey | None, int], _Total] = {}
        self._latencies: dict[RouteKey, list[int]] = {}
        self._failed: dict[RouteKey, int] = {}
        self._streams: dict[RouteKey, int] = {}
        self.in_flight = 0
        """Exchanges under way, tunnels and event streams included. Count a request here when it arrives."""
        self._idle: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<RequestStats: {self.in_flight} in flight>"

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        if self.in_flight:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    def end(self, record: RequestRecord) -> None:
        """Count a request that has ended."""
        self.in_flight -= 1
        if self._idle is not None and not self.in_flight:
            self._idle.set()
            self._idle = None
        key = (record.route, record.status // 100)
        total = self._totals[key] if key in self._totals else self._begin(*key)
        total.requests += 1
        if record.head_seconds and self._is_stream(record):
            self._count_stream(record, total)
            return
        seconds = record.seconds
        total.seconds += seconds
        if record.error is not None or total.latencies is None:
            self._count_fault(record)
        elif not record.is_own:
            # `histogram.bucket` and not a call of it, which would cost as much again.
            number = int(log(seconds) * SCALE + SHIFT) if seconds > SHORTEST else 0
            total.latencies[number if number < BUCKETS else -1] += 1

    @staticmethod
    def _is_stream(record: RequestRecord) -> bool:
        """Whether how long the response took says nothing of how fast the service is."""
        return record.is_event_stream or record.seconds - record.head_seconds > STREAM_AFTER

    def _count_stream(self, record: RequestRecord, total: _Total) -> None:
        """Count a stream: a request like any other, with the time until its head and no latency."""
        total.seconds += record.head_seconds
        if record.error is not None or total.latencies is None:
            self._count_fault(record)
        elif record.route is not None:
            self._streams[record.route] = self._streams.get(record.route, 0) + 1

    def _begin(self, route: RouteKey | None, status_class: int) -> _Total:
        latencies = None
        if route is not None and status_class in (2, 3, 4):
            latencies = self._latencies.setdefault(route, [0] * BUCKETS)
        total = self._totals[route, status_class] = _Total(latencies)
        return total

    def _count_fault(self, record: RequestRecord) -> None:
        is_fault = record.status >= 500 and record.status != 501 if record.error is None else record.error in _FAULTS
        if is_fault and record.route is not None:
            self._failed[record.route] = self._failed.get(record.route, 0) + 1

    def totals(self) -> Iterator[tuple[str, str, int, float]]:
        """(service, status class such as `2xx`, requests, seconds in all); an empty service where no route matched."""
        sums: dict[tuple[str, int], tuple[int, float]] = {}
        for (route, status), total in self._totals.items():
            key = (route.service if route is not None else "", status)
            requests, seconds = sums.get(key, (0, 0.0))
            sums[key] = requests + total.requests, seconds + total.seconds
        for (service, status), (requests, seconds) in sums.items():
            yield service, f"{status}xx", requests, seconds

    def drain(self) -> dict[RouteKey, Tally]:
        """The counts since the last call, by route. A client's own error counts as ok: the service responded to it.

        Upgraded connections are not in it, nor are clients that left and what the gateway answered by itself. Streams are
        in it without a latency.
        """
        failed, self._failed = self._failed, {}
        tallies = {route: Tally(failed=count) for route, count in failed.items()}
        for route, latencies in self._latencies.items():
            if not any(latencies):
                continue
            latency = Histogram({number: count for number, count in enumerate(latencies) if count})
            latencies[:] = [0] * BUCKETS
            tally = tallies.setdefault(route, Tally())
            tally.ok, tally.latency = latency.count, latency
        streams, self._streams = self._streams, {}
        for route, count in streams.items():
            tallies.setdefault(route, Tally()).ok += count
        return tallies


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

    def begin(self, method: str, target: str, peer: str, forwarded: Mapping[bytes, bytes] | None) -> RequestRecord:
        """The record of a request that has just arrived.

        `target` is without its query. `forwarded` are the forwarding fields of a trusted peer, None for any other: their
        X-Request-ID is kept if it is plain, else the request gets a new id.
        """
        given = None if forwarded is None else forwarded.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request_id = given.decode("ascii")
        else:
            self._count = number = self._count + 1
            request_id = f"{self._start}-{number:x}"
        return RequestRecord(method, target, 0, 0.0, peer, request_id, started=time.perf_counter())

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
        if is_counted:
            self.stats.end(record)
        if self._write is not None:
            self._write(record)


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
    rotation: TargetRecord | None


class AccessLine(msgspec.Struct):
    """The members of the line in JSON.

    `path` is without its query, which may hold secrets; `service` is null for the gateway's own paths and where no
    route matched; `received` and `sent` are bytes of body. `error`, and `detail` where there is one, stand where the
    gateway answered or cut the exchange. `worker` is the number of the process, where there are several. `target` is the
    one of several that the route has, `probability` that with which it was chosen, `reward` what it was worth.
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
    target: str | UnsetType = UNSET
    probability: float | UnsetType = UNSET
    reward: float | UnsetType = UNSET
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
        UNSET if rotation is None else rotation.target,
        UNSET if rotation is None or rotation.probability is None else rotation.probability,
        UNSET if rotation is None or rotation.reward is None else rotation.reward,
        worker,
    )


def _console_lines(logged: list[Logged], worker: int | None = None) -> str:
    end = "\n" if worker is None else f", worker {worker}\n"
    return "".join([escape(_console_line(at, request)) + end for at, request in logged])


def _console_line(at: float, request: Request) -> str:
    said = f", {request.error}" if request.error else ""
    said += f": {request.detail}" if request.detail else ""
    said += f", target {request.rotation.target}" if request.rotation is not None else ""
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
