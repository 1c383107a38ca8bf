"""A client for the gateway's events, for producers and listeners in Python: this one file, and the standard library.

    events = EventClient("http://127.0.0.1:8000", token)
    events.send({"source": "madre", "type": "spawn_success", "payload": {"spawn_id": "s1"}})
    for received in events.listen(types=["spawn_success"]):
        print(received.event, received.position)

It may be copied into another project as it is. All calls block; in a program with an event loop use
`asyncio.to_thread`. One client may be used by several threads: each call has a connection of its own.
"""

from __future__ import annotations

import http.client
import json
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from ssl import SSLContext
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

FIRST_DELAY = 0.25
"""Seconds before the first repeat, at most. Each further delay may be twice as long."""
MOST_DELAY = 15.0
"""The longest delay between two attempts, and the longest `Retry-After` that is respected."""
SEND_TIMEOUT = 30.0
"""Seconds without a response. The gateway itself waits up to 15 s for its database."""
STREAM_TIMEOUT = 45.0
"""Seconds without a byte on a stream. The gateway sends something every 15 s."""
RETRY_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))
_MOST_BODY = 4 * 1024 * 1024
_MOST_LINE = 16 * 1024 * 1024


class EventRefusedError(Exception):
    """The gateway does not accept the request, however often it is repeated."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title') or 'refused'}")
        self.status = status
        self.problem = problem
        """The body of the response; `errors` of a 422 lists the faulty fields."""


class EventNotSentError(Exception):
    """The gateway could not be reached, or could not store the events, for too long. They may be stored all the same."""


class Received(NamedTuple):
    """An event from a stream."""

    position: str
    """Where to resume: `listen(since=position)` begins behind this event."""
    event: dict[str, Any]
    """`event_id`, `source`, `type`, `severity`, `payload`, `metadata`, `received_at` and others."""


class _Response(NamedTuple):
    status: int
    retry_after: float
    body: dict[str, Any]


class EventClient:
    """Sends events to one gateway and listens to its log."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        give_up: float = 60.0,
        tls: SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` may have a path, where the gateway is behind another proxy. `give_up` are the seconds for which `send`
        repeats. Raises ValueError for a `url` that is not one of http or https."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an address of http or https")
        self._is_secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._headers = {"X-VX11-Token": token} if token else {}
        self._give_up = give_up
        self._tls = tls
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<EventClient: {self._host}:{self._port or ('https' if self._is_secure else 'http')}{self._path}>"

    def send(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Send one event, until it is stored; returns the gateway's response, with `event_id`.

        `event` has `source`, `type`, `payload`, and where wanted `broadcast`, `metadata` and `key`. Without a key it
        gets one, so that no repeat is stored twice. Raises `EventRefusedError` or `EventNotSentError`.
        """
        return self._post(_keyed(event))

    def send_all(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Send up to 1000 events in one request; returns a result for each: `status` is received, duplicate, conflict
        or rejected. Raises as `send` does, `EventRefusedError` too where all are rejected."""
        results: list[dict[str, Any]] = self._post([_keyed(event) for event in events])["results"]
        return results

    def listen(
        self,
        since: str | int | None = None,
        *,
        types: Sequence[str] = (),
        sources: Sequence[str] = (),
        severities: Sequence[str] = (),
        on_reset: Callable[[str], None] | None = None,
    ) -> Generator[Received]:
        """Every event after the position `since`, else from now on, without end; each once, in the order of the log.

        It connects again, as often as needed, and resumes where it was. `on_reset` is called with the reason where the
        gateway cannot resume there, because its database was restored: events may be missing. Raises `EventRefusedError`.
        """
        query = [("type", one) for one in types] + [("source", one) for one in sources]
        query += [("severity", one) for one in severities]
        target = f"{self._path}/events/stream?{urlencode(query)}"
        position, failures = "" if since is None else str(since), 0
        while True:
            connection = self._connection(STREAM_TIMEOUT)
            try:
                for name, id_, data in self._stream(connection, target, position):
                    position, failures = id_ or position, 0
                    if name == "reset" and on_reset is not None:
                        on_reset(str(json.loads(data).get("reason")))
                    if data and name not in ("start", "reset", "end"):
                        yield Received(position, json.loads(data))
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self._sleep(_delay(failures))
            failures += 1

    def _post(self, value: Any) -> dict[str, Any]:
        body = json.dumps(value).encode()
        end, failures = time.monotonic() + self._give_up, 0
        while True:
            reason, retry_after = "", 0.0
            try:
                response = self._exchange(body)
            except (OSError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status in (200, 201, 207):
                    return response.body
                refused = EventRefusedError(response.status, response.body)
                if response.status not in RETRY_STATUSES:
                    raise refused
                reason, retry_after = str(refused), response.retry_after
            wait = max(_delay(failures), min(retry_after, MOST_DELAY))
            if time.monotonic() + wait > end:
                raise EventNotSentError(reason)
            self._sleep(wait)
            failures += 1

    def _exchange(self, body: bytes) -> _Response:
        connection = self._connection(SEND_TIMEOUT)
        try:
            headers = {**self._headers, "Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", f"{self._path}/events/ingest", body, headers)
            response = connection.getresponse()
            value = _json(response.read(_MOST_BODY))
            if response.status < 300 and not value:
                raise http.client.HTTPException("the response is not one of the gateway")
            after = response.getheader("Retry-After", "")
            return _Response(response.status, float(after) if after.isascii() and after.isdigit() else 0.0, value)
        finally:
            connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._is_secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _stream(
        self, connection: http.client.HTTPConnection, target: str, position: str
    ) -> Iterator[tuple[str, str, str]]:
        """Name, last id and data of each event of one connection."""
        headers = {**self._headers, "Accept": "text/event-stream"}
        connection.request("GET", target, headers={**headers, "Last-Event-ID": position} if position else headers)
        response = connection.getresponse()
        if response.status in RETRY_STATUSES:
            raise http.client.HTTPException(str(response.status))
        if response.status != 200:
            raise EventRefusedError(response.status, _json(response.read(_MOST_BODY)))
        name, id_, data = "", "", list[str]()
        while line := response.readline(_MOST_LINE):
            if not line.endswith(b"\n"):
                return  # Cut off, or too long: what is whole only counts.
            field, _, value = line.decode("utf-8", "replace").rstrip("\r\n").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "id":
                id_ = value
            elif field == "data":
                data.append(value)
            elif not field and line.strip() == b"":
                yield name, id_, "\n".join(data)
                name, data = "", []


def _json(content: bytes) -> dict[str, Any]:
    """The object in the body of a response; empty where there is none."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _keyed(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event, "key": uuid.uuid4().hex} if event.get("key") is None else dict(event)


def _delay(failures: int) -> float:
    # Random, so that many clients do not come back in the same moment.
    return random.uniform(0, min(MOST_DELAY, FIRST_DELAY * 2 ** min(failures, 10)))  # noqa: S311
