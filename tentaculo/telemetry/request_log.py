"""The beginning and the end of every request, native or proxied: its id, its record, its line in the access log."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Mapping

from tentaculo.telemetry.traffic import LogRecord, RequestRecord, RequestStats

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:+/=-]{1,128}")


class RequestLog:
    """Opens a record for each request and closes it once."""

    def __init__(self, write: LogRecord | None) -> None:
        """`write` takes each finished record; None where no access log is kept."""
        self.stats = RequestStats()
        # A random start and a counter tell requests apart in logs, at little cost.
        self._start = secrets.token_hex(6)
        self._counter = itertools.count(1)
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
            request_id = f"{self._start}-{next(self._counter):x}"
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
