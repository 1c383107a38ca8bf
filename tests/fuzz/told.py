"""What must hold for any bytes that the gateway itself is told: configuration, events, Origin, Accept."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load_tables
from tentaculo.config.schema import Config
from tentaculo.events import schemas
from tentaculo.events.hub import encode_broadcast
from tentaculo.events.schemas import JsonError, json_size, parse_json
from tentaculo.model.event import Event
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.http1 import is_authority
from tentaculo.security.cors import is_allowed
from tentaculo.server.gateway_responses import prefers_html, render


def events(data: bytes) -> None:
    """JSON is taken or refused; what is taken can be judged, sized and handed on."""
    try:
        value = parse_json(data)
    except JsonError:
        return
    schemas.kind_phrase(value)
    if not isinstance(value, dict):
        return
    size = json_size(value)
    assert size <= 6 * len(data) + 32
    for schema in schemas.CANONICAL.values():
        filled, faults = schemas.validate(schema, value, now_ms=1, whole="event")
        assert set(filled) == {*value, "timestamp"}
        assert all(fault.message for fault in faults)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    flat = encode_broadcast(Event(1, "test", "a.b", value, now, False, True, {}))
    again = msgspec.json.decode(flat)
    assert (again["type"], again["source"], again["event_id"]) == ("a.b", "test", 1)
    assert b"\n" not in flat


def config(data: bytes) -> None:
    """A configuration is taken, or refused with faults that say where."""
    try:
        tables = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
        return
    if b"_file" in data:
        return  # other files are not this target's
    try:
        loaded = load_tables(tables, {}, folder=Path("/nonexistent"))
    except ConfigError:
        return
    assert Config.of(tables).services.keys() == loaded.config.services.keys()


def origin(data: bytes) -> None:
    """Only a page of the gateway's own host passes, or one on the list."""
    said, _, host = data.partition(b"\n")
    text, name = said.decode("latin-1"), host.decode("latin-1")
    listed = "https://listed.example"
    if not is_authority(name):
        return  # nothing else gets past the check of Host
    if is_allowed(text, name, [listed], lambda own: True) and text.lower() != listed:
        scheme, _, authority = text.lower().partition("://")
        assert scheme in ("http", "https")
        own = _without_port(name.lower())
        assert _without_port(authority) == own
    assert is_allowed(None, name, [], lambda own: False)
    assert not is_allowed("null", name, [listed], lambda own: True)


def _without_port(authority: str) -> str:
    return re.sub(r":[0-9]*\Z", "", authority)


def accept(data: bytes) -> None:
    """Any Accept value gets an answer in one of the two forms, in little time."""
    wants = prefers_html(data)
    assert not wants or b"text/html" in data.lower()
    rendered = render(Problem(Failure.NOT_FOUND), data, request_id="id")
    assert rendered.content_type.startswith("text/html" if wants else "application/problem+json")
