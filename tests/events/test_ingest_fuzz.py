"""Bodies and headers of every kind at `POST /events/ingest`: a clear response each, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.event_audience import Audience
from tests.support.threaded_gateway import ThreadedGateway

EXPECTED = {200, 201, 207, 400, 413, 415, 422}
MEDIA_TYPES = st.sampled_from(
    (
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "text/plain",
        "application/vnd.x+json; charset=utf-16",
        "",
    )
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
TYPES = st.sampled_from(("t", "system.alert", "switch.tension.updated"))
MEMBERS = st.fixed_dictionaries(
    {"source": st.just("madre") | VALUES, "type": TYPES | VALUES, "payload": st.just({}) | VALUES},
    optional={"broadcast": st.just(True) | VALUES}
    | dict.fromkeys(("metadata", "key", "id", "specversion", "time", "data", "data_base64", "subject", "x"), VALUES),
)
CLOUD_EVENTS = st.fixed_dictionaries(
    {"specversion": st.just("1.0"), "id": st.text(max_size=9), "source": st.just("/a"), "type": TYPES},
    optional={
        "time": st.text(max_size=30) | st.datetimes().map(str),
        "data": VALUES,
        "data_base64": st.text(max_size=9),
    },
)
EVENTS = MEMBERS | CLOUD_EVENTS | VALUES
BODIES = (
    st.binary(max_size=200)
    | EVENTS.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.lists(EVENTS, max_size=6).map(lambda value: json.dumps(value).encode())
    | st.lists(EVENTS, max_size=6).map(lambda value: "\n".join(map(json.dumps, value)).encode())
)
HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
CE_HEADERS = st.dictionaries(
    st.sampled_from(("id", "source", "type", "specversion", "time", "subject", "data", "broadcast", "x", "a_b", "")),
    HEADER_TEXT | st.just("1.0"),
    max_size=6,
)


@pytest.fixture(scope="module")
def served() -> Iterator[ThreadedGateway]:
    one = ThreadedGateway()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def audience(served: ThreadedGateway) -> Iterator[Audience]:
    one = Audience(served)
    yield one
    served.run(one.close())
    served.run(served.wait_until(0, 0))


@pytest.mark.thorough
@settings(max_examples=120)
@given(body=BODIES, media_type=MEDIA_TYPES, attributes=CE_HEADERS)
@example(body=b"[" * 100_000, media_type="application/json", attributes={})
@example(body=b'{"a":' * 800, media_type="application/json", attributes={"id": "1"})
@example(
    body=b'{"specversion":"1.0","time":"0001-01-01T00:00:00+23:59"}',
    media_type="application/cloudevents+json",
    attributes={},
)
@example(body=b"1" * 4000, media_type="application/x-ndjson", attributes={})
def test_every_body_has_a_clear_response(
    served: ThreadedGateway, audience: Audience, body: bytes, media_type: str, attributes: dict[str, str]
) -> None:
    headers = {f"ce-{name}": value for name, value in attributes.items()}
    if media_type:
        headers["Content-Type"] = media_type
    before = len(served.ledger.events)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = b"POST /events/ingest HTTP/1.1\r\nHost: g\r\n" + lines.encode("latin-1")
    status, _, content = served.run(served.exchange(head, body))
    assert status in EXPECTED
    json.loads(content)
    stored = served.ledger.events[before:]
    assert bool(stored) <= (status in (201, 207))
    # What was stored can be written and read by every later step.
    assert all(json.loads(json.dumps(event.payload)) == event.payload for event in stored)
    served.run(audience.check())
