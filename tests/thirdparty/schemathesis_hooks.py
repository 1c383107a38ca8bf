"""What schemathesis cannot know of the gateway: its own formats, its integers, and media types of lines."""

from __future__ import annotations

import json

import schemathesis
from hypothesis import strategies as st

from tentaculo.model.event import MAX_EVENT_ID

# The name in a cursor is the one of a certain log; a plain id is a position in all of them.
schemathesis.openapi.format("event-position", st.integers(0, MAX_EVENT_ID).map(str))

EVENTS = st.fixed_dictionaries(
    {
        "source": st.sampled_from(("madre", "switch")),
        "type": st.just("t"),
        "payload": st.dictionaries(st.text(), st.text()),
    }
)
schemathesis.openapi.format(
    "event-lines", st.lists(EVENTS, max_size=3).map(lambda events: "\n".join(map(json.dumps, events)))
)


def lines(_context: object, value: object) -> bytes:
    """The text as it is."""
    return str(value).encode("utf-8", "replace")


def filter_body(_context: object, body: object) -> bool:
    """Leave out numbers such as 5.0: an integer for JSON Schema, and none for CloudEvents and canonical events."""
    values, is_plain = [body], True
    while values and is_plain:
        value = values.pop()
        is_plain = not (isinstance(value, float) and value.is_integer())
        values.extend(value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
    return is_plain


# Not as decorators: they have no types where schemathesis is not installed.
schemathesis.serializer("application/x-ndjson", "application/jsonl")(lines)
schemathesis.hook(filter_body)
