"""A client for the gateway's events, for producers and listeners in Python: this one file, and the standard library.

    events = EventClient("http://127.0.0.1:8000", token)
    events.send({"source": "madre", "type": "spawn_success", "payload": {"spawn_id": "s1"}})
    for received in events.listen(types=["spawn_success"]):
        print(received.event, received.position)

It may be copied into another project as it is. The calls of `EventClient` block; it may be used by several threads, as
each call has a connection of its own. `AsyncEventClient` is the same for a program with an event loop, where aiohttp is
installed. Where the gateway's certificate is not valid, all of them raise `ssl.SSLCertVerificationError` at once.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import time
import uuid
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from ssl import SSLCertVerificationError, SSLContext
from typing import Any, NamedTuple
from urllib.parse import unquote, urlencode, urlsplit

FIRST_DELAY = 0.25
"""Seconds before the first repeat, at most. Each further delay may be twice as long."""
MOST_DELAY = 15.0
"""The longest delay between two attempts, and the longest `Retry-After` that is respected."""
SEND_TIMEOUT = 30.0
"""Seconds without a response. The gateway itself waits up to 15 s for its database."""
STREAM_TIMEOUT = 45.0
"""Seconds without a byte on a stream. The gateway sends something every 15 s."""
RETRY_STATUSES = frozenset((408, 425, 429, 500, 502, 503, 504))
_MOST_BODY, _MOST_LINE, _PIECE = 4 * 2**20, 16 * 2**20, 64 * 2**10
_OWN_FRAMES = ("start", "reset", "end")


class EventRefusedError(Exception):
    """The gateway does not accept the request, however often it is repeated: a wrong token, a faulty event."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail') or problem.get('title') or 'refused'}")
        self.status = status
        self.problem = problem
        """The body of the response; `errors` of a 422 lists the faulty fields."""


class EventNotSentError(Exception):
    """The gateway could not be reached, or could not store the events, for too long. They may be stored all the same."""

    def __init__(self, reason: str, events: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(reason)
        self.events = events
        """The events with their keys. To send these again later stores none of them twice."""


class Received(NamedTuple):
    """An event from a stream."""

    position: str
    """Where to resume: `listen(since=position)` begins behind this event."""
    event: dict[str, Any]
    """`event_id`, `source`, `type`, `severity`, `payload`, `metadata`, `received_at` and others."""


class _TryAgainError(Exception):
    """An attempt failed that may succeed later."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after
        """Seconds that the gateway asks to wait."""


class _Attempts:
    """How long to wait between the attempts of one call."""

    def __init__(self, give_up: float, events: Sequence[Mapping[str, Any]] = ()) -> None:
        """`give_up` are the seconds after which no further attempt is made to send `events`."""
        self._end = time.monotonic() + give_up
        self._events = events
        self._failures = 0

    def succeeded(self) -> None:
        """The next delay is a short one again."""
        self._failures = 0

    def delay(self, error: Exception) -> float:
        """Seconds until the next attempt after `error`. Raises `error`, or `EventNotSentError`, where none may follow."""
        if isinstance(error, SSLCertVerificationError):  # aiohttp's own is one too
            raise error
        reason, after = f"{type(error).__name__}: {error}", 0.0
        if isinstance(error, _TryAgainError):
            reason, after = str(error), min(error.after, MOST_DELAY)
        # Random, so that many clients do not come back in the same moment.
        wait = max(after, random.uniform(0, min(MOST_DELAY, FIRST_DELAY * 2 ** min(self._failures, 10))))  # noqa: S311
        if time.monotonic() + wait > self._end:
            raise EventNotSentError(reason, self._events) from error
        self._failures += 1
        return wait


class _Frames:
    """The parser of an event stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._name, self._id = "", ""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[tuple[str, str, str]]:
        """Name, last id and data of each frame that ends in `piece`; a frame that is cut off never counts."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _MOST_LINE:
            raise _TryAgainError("a line of the stream is too long")
        for line in lines:
            field, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                self._name = value
            elif field == "id":
                self._id = value
            elif field == "data":
                self._data.append(value)
            elif not field and not line.strip():
                yield self._name, self._id, "\n".join(self._data)
                self._name, self._data = "", []


class _Listening:
    """What a listener wants, and where it is."""

    def __init__(
        self, since: str | int | None, on_reset: Callable[[str], object] | None, **filters: Sequence[str]
    ) -> None:
        self.target = f"/events/stream?{urlencode(filters, doseq=True)}"
        self.attempts = _Attempts(float("inf"))
        self.failure: Exception
        """Why the last stream ended."""
        self._position = "" if since is None else str(since)
        self._on_reset = on_reset

    def begin(self) -> dict[str, str]:
        """The header fields of the request that begins or resumes the stream."""
        self.failure = _TryAgainError("the stream has ended")
        return {"Accept": "text/event-stream", **({"Last-Event-ID": self._position} if self._position else {})}

    def take(self, name: str, id_: str, data: str) -> Received | None:
        """The event of a frame, if it has one."""
        self._position = id_ or self._position
        if name == "reset" and self._on_reset is not None:
            self._on_reset(str(json.loads(data).get("reason")))
        if name in _OWN_FRAMES:
            return None
        if id_:
            # Not before: a gateway that ends each stream at its start is asked less and less often.
            self.attempts.succeeded()
        return Received(self._position, json.loads(data)) if data else None


class _Client:
    """What both clients have in common: the address and the rules, without input and output."""

    def __init__(self, url: str, token: str | None, give_up: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url!r} is not an address of http or https")
        self._is_secure, self._host = parts.scheme == "https", parts.hostname
        # Never None: `http.client` would look for a port in an address of IPv6.
        self._port = parts.port or (443 if self._is_secure else 80)
        self._path = parts.path.rstrip("/")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._origin = f"{parts.scheme}://{host}:{self._port}"
        self._caller = {"X-VX11-Token": token} if token else {}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._caller["Authorization"] = f"Basic {b64encode(user.encode()).decode()}"
        self._give_up = give_up

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._origin}{self._path}>"


class EventClient(_Client):
    """Sends events to one gateway and listens to its log. All calls block."""

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
        super().__init__(url, token, give_up)
        self._tls = tls
        self._sleep = sleep

    def send(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Send one event, until it is stored; returns the gateway's response, with `event_id`.

        `event` has `source`, `type`, `payload`, and where wanted `broadcast`, `metadata` and `key`. Without a key it
        gets one, so that no repeat is stored twice. Raises `EventRefusedError` or `EventNotSentError`.
        """
        keyed = _keyed(event)
        return self._post("/events/ingest", keyed, [keyed])

    def send_all(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Send up to 1000 events in one request; returns a result for each: `status` is received, duplicate, conflict
        or rejected. Raises as `send` does, `EventRefusedError` too where all are rejected."""
        keyed = [_keyed(event) for event in events]
        results: list[dict[str, Any]] = self._post("/events/ingest", keyed, keyed)["results"]
        return results

    def ticket(self) -> str:
        """A ticket with the rights of this client's token, for a page that opens `/ws` or `/events/stream`: it works
        once, within 60 seconds. Raises as `send` does."""
        return str(self._post("/auth/ticket", None, [])["ticket"])

    def listen(
        self,
        since: str | int | None = None,
        *,
        types: Sequence[str] = (),
        sources: Sequence[str] = (),
        severities: Sequence[str] = (),
        on_reset: Callable[[str], object] | None = None,
    ) -> Generator[Received]:
        """Every event after the position `since`, else from now on, without end; each once, in the order of the log.

        It connects again, as often as needed, and resumes where it was. `on_reset` is called with the reason where the
        gateway cannot resume there, because its database was restored: events may be missing. Raises `EventRefusedError`.
        """
        asked = _Listening(since, on_reset, type=types, source=sources, severity=severities)
        while True:
            with closing(self._frames(asked)) as frames:
                for frame in frames:
                    if (received := asked.take(*frame)) is not None:
                        yield received
            self._sleep(asked.attempts.delay(asked.failure))

    def _frames(self, asked: _Listening) -> Generator[tuple[str, str, str]]:
        """The frames of one stream, to its end. `asked.failure` says why it ended; errors of a caller are not caught."""
        try:
            with closing(self._connection(STREAM_TIMEOUT)) as connection:
                connection.request("GET", self._path + asked.target, headers={**self._caller, **asked.begin()})
                response = connection.getresponse()
                if not _is_stream(response.status, response.getheader("Content-Type", "")):
                    _read(response.status, response.getheader("Retry-After", ""), response.read(_MOST_BODY))
                frames = _Frames()
                while piece := response.read1(_PIECE):
                    yield from frames.feed(piece)
        except (OSError, http.client.HTTPException, _TryAgainError) as failed:
            asked.failure = failed

    def _post(self, target: str, value: Any, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        body, attempts = _body(value), _Attempts(self._give_up, events)
        while True:
            try:
                return self._exchange(target, body)
            except (OSError, http.client.HTTPException, _TryAgainError) as error:
                wait = attempts.delay(error)
            self._sleep(wait)

    def _exchange(self, target: str, body: bytes) -> dict[str, Any]:
        with closing(self._connection(SEND_TIMEOUT)) as connection:
            headers = {**self._caller, "Content-Type": "application/json", "Connection": "close"}
            connection.request("POST", self._path + target, body, headers)
            response = connection.getresponse()
            return _read(response.status, response.getheader("Retry-After", ""), response.read(_MOST_BODY))

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self._is_secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)


class AsyncEventClient(_Client):
    """The same with aiohttp, for a program with an event loop: `async with AsyncEventClient(url, token) as events`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        give_up: float = 60.0,
        tls: SSLContext | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """As `EventClient`. Raises ImportError where aiohttp is not installed."""
        super().__init__(url, token, give_up)
        import aiohttp

        self._aiohttp = aiohttp
        self._tls = tls
        self._sleep = sleep
        self._session: Any = None

    async def __aenter__(self) -> AsyncEventClient:
        # Each listener keeps a connection: with aiohttp's limit of 100 the next call would wait without end.
        connector = self._aiohttp.TCPConnector(limit=0)
        self._session = self._aiohttp.ClientSession(connector=connector, cookie_jar=self._aiohttp.DummyCookieJar())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """As `EventClient.send`."""
        keyed = _keyed(event)
        return await self._post("/events/ingest", keyed, [keyed])

    async def send_all(self, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """As `EventClient.send_all`."""
        keyed = [_keyed(event) for event in events]
        results: list[dict[str, Any]] = (await self._post("/events/ingest", keyed, keyed))["results"]
        return results

    async def ticket(self) -> str:
        """As `EventClient.ticket`."""
        return str((await self._post("/auth/ticket", None, []))["ticket"])

    async def listen(
        self,
        since: str | int | None = None,
        *,
        types: Sequence[str] = (),
        sources: Sequence[str] = (),
        severities: Sequence[str] = (),
        on_reset: Callable[[str], object] | None = None,
    ) -> AsyncGenerator[Received]:
        """As `EventClient.listen`. Cancelling the task that iterates ends it."""
        asked = _Listening(since, on_reset, type=types, source=sources, severity=severities)
        while True:
            async with aclosing(self._frames(asked)) as frames:
                async for frame in frames:
                    if (received := asked.take(*frame)) is not None:
                        yield received
            await self._sleep(asked.attempts.delay(asked.failure))

    async def _frames(self, asked: _Listening) -> AsyncGenerator[tuple[str, str, str]]:
        """As `EventClient._frames`."""
        try:
            async with self._request("GET", asked.target, STREAM_TIMEOUT, headers=asked.begin()) as response:
                if not _is_stream(response.status, response.headers.get("Content-Type", "")):
                    _read(response.status, response.headers.get("Retry-After", ""), await response.read())
                frames = _Frames()
                async for piece in response.content.iter_any():
                    for frame in frames.feed(piece):
                        yield frame
        except (OSError, self._aiohttp.ClientError, _TryAgainError) as failed:
            asked.failure = failed

    async def _post(self, target: str, value: Any, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        body, attempts = _body(value), _Attempts(self._give_up, events)
        while True:
            try:
                headers = {"Content-Type": "application/json"}
                async with self._request("POST", target, SEND_TIMEOUT, data=body, headers=headers) as response:
                    retry_after = response.headers.get("Retry-After", "")
                    return _read(response.status, retry_after, await response.read())
            except (OSError, self._aiohttp.ClientError, _TryAgainError) as error:
                wait = attempts.delay(error)
            await self._sleep(wait)

    def _request(self, method: str, target: str, timeout: float, *, headers: dict[str, str], **options: Any) -> Any:
        if self._session is None:
            raise RuntimeError("use it as `async with AsyncEventClient(…) as events`")
        return self._session.request(
            method,
            f"{self._origin}{self._path}{target}",
            headers={**self._caller, **headers},
            allow_redirects=False,
            ssl=True if self._tls is None else self._tls,
            timeout=self._aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout),
            **options,
        )


def _body(value: Any) -> bytes:
    """The body of a request. Raises ValueError for NaN and infinite numbers, which JSON does not have."""
    return b"" if value is None else json.dumps(value, allow_nan=False).encode()


def _read(status: int, retry_after: str, content: bytes) -> dict[str, Any]:
    """The object in the body of a response. Raises `EventRefusedError` for a refusal, `_TryAgainError` for a passing one."""
    value: Any = None
    with suppress(ValueError):
        value = json.loads(content)
    body = value if isinstance(value, dict) else {}
    after = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
    if status in RETRY_STATUSES:
        raise _TryAgainError(str(EventRefusedError(status, body)), after)
    if status not in (200, 201, 207):
        raise EventRefusedError(status, body)
    if body.keys().isdisjoint(("event_id", "results", "ticket")):
        raise _TryAgainError("the response is not one of the gateway")
    return body


def _is_stream(status: int, content_type: str) -> bool:
    """Whether the response is a stream. Raises `EventRefusedError` for another kind of success."""
    if status != 200:
        return False
    if not content_type:
        raise _TryAgainError("the head of the response was cut off")
    if not content_type.startswith("text/event-stream"):
        raise EventRefusedError(status, {"detail": "the response is no event stream: is this the gateway's address?"})
    return True


def _keyed(event: Mapping[str, Any]) -> dict[str, Any]:
    return {**event, "key": uuid.uuid4().hex} if event.get("key") is None else dict(event)
