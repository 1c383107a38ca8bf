"""What the command events does: it reads the log through the API of a running gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import click

from tentaculo.cli.output import FaultError, StartError, split_url, warn
from tentaculo.config.loader import load_usable
from tentaculo.config.types import is_token
from tentaculo.model.text import printable
from tentaculo.net.tcp import local_url

Query = Sequence[tuple[str, str]]

WAIT = 30.0
"""Seconds without a byte, twice the time between two heartbeats of the stream, after which a connection is given up."""
FIRST_RETRY, LAST_RETRY = 0.5, 10.0
"""Seconds between two attempts to connect; doubled each time."""
PAGE = 1000
_PASSING = (502, 503, 504)
"""Statuses of a gateway that starts or has no database yet, the first and the last of a proxy in front of it."""
_LONGEST = 400


class Gateway:
    """A gateway, by its address and the token that it is to be sent."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raises `FaultError` for an address or a token that is none."""
        parts = split_url(url)
        if token is not None and not is_token(token):
            raise FaultError("the token must be visible ASCII characters only")
        self._address = (parts.hostname or "", parts.port)
        self._connect = HTTPConnection if parts.scheme == "http" else HTTPSConnection
        self._path = parts.path.rstrip("/")
        self._token = token
        self.url = f"{parts.scheme}://{parts.netloc}{self._path}"

    def get(self, path: str, query: Query, **headers: str) -> HTTPResponse:
        """The response to a GET, if its status is 200. Raises `FaultError`, and OSError or HTTPException."""
        host, port = self._address
        connection = self._connect(host, port, timeout=WAIT)
        if self._token is not None:
            headers["X-VX11-Token"] = self._token
        connection.request("GET", f"{self._path}{path}?{urlencode(query)}", headers=headers)
        response = connection.getresponse()
        if response.status in _PASSING:
            raise HTTPException(_detail(response))
        if response.status != 200:
            raise FaultError(f"the gateway at {self.url} responds {response.status}: {_detail(response)}")
        return response

    def no_response(self, error: Exception) -> NoReturn:
        """End the command, since the gateway cannot be reached."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise StartError(f"the gateway at {self.url} does not respond: {reason}") from None


def find_gateway(file: Path | None, url: str | None, token: str | None) -> Gateway:
    """The gateway of the command's options, or of the configuration. Raises ConfigError and FaultError."""
    config = load_usable(file).config
    if token is None and config.plain_token is not None:
        token = config.plain_token.reveal()
    return Gateway(url or local_url(*config.server.addresses[0]), token)


def show_events(
    gateway: Gateway, query: Query, *, since: float | None, limit: int, follow: bool, as_json: bool
) -> None:
    """Print stored events, and with `follow` each new one. Raises `FaultError` and `StartError`."""
    try:
        last = next(iter(_stored(gateway, [], 1)), None)
        position = 0 if last is None else last["event_id"]
        if since is not None:
            query = [*query, ("from", str(max(0, round((time.time() - since) * 1000))))]
        stored = list(_stored(gateway, [*query, ("before", str(position + 1))], limit))
    except (OSError, HTTPException) as error:
        gateway.no_response(error)
    # Outside: an output that nobody reads is no failure of the gateway. Click ends the command then.
    for event in reversed(stored):
        _print(event, as_json=as_json)
    if follow:
        try:
            for event in _followed(gateway, query, str(position)):
                _print(event, as_json=as_json)
        except KeyboardInterrupt:
            return


def _stored(gateway: Gateway, query: Query, limit: int) -> Iterator[dict[str, Any]]:
    """Up to `limit` stored events, the newest first."""
    while limit > 0:
        text = gateway.get("/events", [*query, ("limit", str(min(limit, PAGE)))]).read()
        try:
            page = json.loads(text)
            events, following = list(page["events"]), page["next"]
        except (ValueError, TypeError, KeyError):
            raise FaultError(f"what listens at {gateway.url} is no gateway of this version") from None
        yield from events
        limit -= len(events)
        if following is None:
            return
        query = [*(pair for pair in query if pair[0] != "before"), ("before", following)]


def _followed(gateway: Gateway, query: Query, position: str) -> Iterator[dict[str, Any]]:
    """Each new event after `position`, without end."""
    delay = FIRST_RETRY
    while True:
        try:
            response = gateway.get("/events/stream", query, **{"Last-Event-ID": position})
            for name, id_, event in _frames(response):
                position, delay = id_ or position, FIRST_RETRY
                if name == "reset":
                    warn(f"events may be missing: {event['reason']}")
                elif "event_id" in event:
                    yield event
        except (OSError, HTTPException):
            pass
        # The stream ended, or the gateway is away.
        time.sleep(delay)
        delay = min(delay * 2, LAST_RETRY)


def _frames(response: HTTPResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, id and data of each frame of an event stream; empty where the frame has none."""
    fields: dict[str, str] = {}
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif line == b"\n" and fields:
            yield fields.get("event", ""), fields.get("id", ""), json.loads(fields.get("data", "{}"))
            fields = {}


def _print(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        # JSON escapes control characters, and ASCII has no others.
        click.echo(json.dumps(event))
        return
    received = datetime.fromisoformat(event["received_at"]).astimezone(UTC)
    names = [printable(event["source"]), printable(event["type"]), printable(event["severity"] or "")]
    payload = printable(json.dumps(event["payload"], ensure_ascii=False), _LONGEST)
    click.echo("  ".join([f"{received:%Y-%m-%d %H:%M:%S}", *filter(None, names), payload]))


def _detail(response: HTTPResponse) -> str:
    """What the gateway says in the body of an error."""
    try:
        problem = json.loads(response.read(64 * 1024))
        return printable(str(problem.get("detail") or problem["title"]), _LONGEST)
    except (ValueError, KeyError, AttributeError):
        return printable(response.reason)
