"""Queries of every kind at the paths that read events: a clear response each, and no reader is left behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_from_bytes

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tentaculo.events import correlations, history, stream
from tentaculo.model.event import MAX_EVENT_ID, Event
from tests.events.conftest import NAME
from tests.support.api_messages import Messages
from tests.support.native_routes import openapi_document
from tests.support.threaded_gateway import ThreadedGateway

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATHS = {
    "/events": history.PARAMETERS,
    "/events/stream": stream.PARAMETERS,
    "/debug/events/correlations": correlations.PARAMETERS,
}
DOCUMENT = openapi_document()
IDS = st.sampled_from((0, 1, 2, 20, 39, 40, 41, MAX_EVENT_ID, MAX_EVENT_ID + 1)).map(str)
POSITIONS = IDS | st.tuples(st.sampled_from((NAME, "ffffffffffff", NAME.upper(), "")), IDS).map("-".join)
TIMES = st.datetimes().map(str) | st.integers(-1, 10**16).map(str) | st.sampled_from(("2026-01-02T03:04:05Z", "now"))
WORDS = st.sampled_from(
    ("t", "é", "s", "L1", "newest", "oldest", "\U0001f419", "a,b,,c", "%", "_", "\\", "'", "\0", "1", "1000")
)
VALUES = (POSITIONS | TIMES | WORDS | st.text(max_size=12)).map(lambda text: text.encode("utf-8", "surrogatepass"))
RAW = st.binary(max_size=30) | st.just(b"x" * 300)
ESCAPED = (VALUES | VALUES | RAW).map(quote_from_bytes)
NAMES = st.sampled_from(sorted({one.name for some in PATHS.values() for one in some} - {"ticket"})) | st.just("other")
QUERIES = st.lists(st.tuples(NAMES, ESCAPED), max_size=5)
HEADERS = (
    st.none()
    | POSITIONS
    | st.binary(max_size=30).map(lambda raw: re.sub(r"[^\x20-\x7e\x80-\xff]", "", raw.decode("latin-1")))
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[ThreadedGateway]:
    """Forty events, of which every third was deleted."""
    one = ThreadedGateway()
    kinds = [("t", "s", None), ("é", "a", "L1"), ("end", "\U0001f419", "L2")]
    for number in range(1, 41):
        type_, source, severity = kinds[number % 3]
        if number % 3:
            event = Event(number, source, type_, {"id": f"job-{number % 5}"}, NOW, severity=severity, stated_ms=number)
            one.ledger.events.append(event)
    yield one
    one.stop()


def check_refusal(lines: bytes, content: bytes, query: list[tuple[str, str]], header: str | None) -> None:
    """A problem that names what is wrong."""
    assert b"application/problem+json" in lines
    problem = json.loads(content)
    assert problem["error"] == "bad_request"
    named = {name for name, _ in query} | ({"Last-Event-ID"} if header else set()) | {"cursor"}
    assert any(name in problem["detail"] for name in named), problem


def check_page(gateway: ThreadedGateway, content: bytes) -> None:
    schema = {"$ref": "#/components/schemas/EventPage", "components": DOCUMENT["components"]}
    page = json.loads(content)
    jsonschema.Draft202012Validator(schema).validate(page)
    stored = {event.id for event in gateway.ledger.events}
    ids = [event["event_id"] for event in page["events"]]
    assert len(set(ids)) == len(ids)
    assert set(ids) <= stored
    assert ids in (sorted(ids), sorted(ids, reverse=True))


async def first_frames(gateway: ThreadedGateway, head: bytes) -> tuple[int, bytes, bytes]:
    """Status, head, and all or the first two frames of a response of `/events/stream`."""
    async with gateway.dial() as (reader, writer):
        writer.write(head + b"\r\n")
        lines = await reader.readuntil(b"\r\n\r\n")
        status = int(lines.split()[1])
        if status != 200:
            size = re.search(rb"(?i)content-length: (\d+)", lines)
            assert size is not None
            return status, lines, await reader.readexactly(int(size[1]))
        found = b""
        while found.count(b"\n\n") < 2:
            size_line = await reader.readline()
            found += await reader.readexactly(int(size_line, 16))
            await reader.readline()
        return status, lines, found


def check_stream(content: bytes) -> None:
    retry, first = content.split(b"\n\n")[:2]
    assert retry == b"retry: 3000"
    fields = dict(line.split(b": ", 1) for line in first.split(b"\n"))
    (kind,) = Messages("sendFrames").kinds(json.loads(fields[b"data"]))
    assert kind == {b"start": "StreamStart", b"reset": "StreamReset"}[fields[b"event"]]


@pytest.mark.thorough
@settings(max_examples=80)
@given(path=st.sampled_from(sorted(PATHS)), query=QUERIES, header=HEADERS)
@example(path="/events", query=[("after", "ffffffffffff-3")], header=None)
@example(path="/events", query=[("before", f"{NAME}-3"), ("after", f"{NAME}-6")], header=None)
@example(path="/events", query=[("after", str(MAX_EVENT_ID))], header=None)
@example(path="/events/stream", query=[("since", str(MAX_EVENT_ID))], header=None)
@example(path="/events/stream", query=[("since", f"{NAME}-3"), ("type", "%ED%A0%80")], header="ffffffffffff-3")
@example(path="/debug/events/correlations", query=[("hours", "24"), ("hours", "24")], header=None)
def test_every_query_has_a_clear_response(
    gateway: ThreadedGateway, path: str, query: list[tuple[str, str]], header: str | None
) -> None:
    text = "&".join(f"{name}={value}" for name, value in query)
    head = f"GET {path}?{text} HTTP/1.1\r\nHost: g\r\n".encode()
    if header is not None:
        head += f"Last-Event-ID: {header}\r\n".encode("latin-1")
    ask: Any = first_frames(gateway, head) if path == "/events/stream" else gateway.exchange(head)
    status, lines, content = gateway.run(ask)
    if status == 400:
        check_refusal(lines, content, query, header)
        return
    assert status == 200
    assert {name for name, _ in query} <= {one.name for one in PATHS[path]}
    if path == "/events":
        check_page(gateway, content)
    elif path == "/events/stream":
        check_stream(content)
    else:
        assert json.loads(content)["status"] == "ok"
    assert len(gateway.hub) == gateway.connections == 0
