"""One value of a JSON body: found, set, and read from a response."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.proxy.json_value import MOST_READ, JsonValue, ResponseCopy, pointer_steps, value_at

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300) | TEXT
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=4), TEXT, TEXT, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_set_changes_that_value_and_nothing_else(
    document: dict[str, Any], name: str, text: str, indent: Any, is_ascii: bool
) -> None:
    place = JsonValue.find(json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode(), (name,))
    assert place is not None
    assert json.loads(place.set(text)) == {**document, name: text}
    assert place.value == document.get(name)


@pytest.mark.parametrize(
    ("body", "steps", "after"),
    [
        (b"{}", "/m", b'{"m":"x"}'),
        (b" {\n} ", "/m", b' {"m":"x"\n} '),
        (b'{"a":{"b":{}}}', "/a/b/m", b'{"a":{"b":{"m":"x"}}}'),
        (b'{"a/b":{"~":1}}', "/a~1b/~0", b'{"a/b":{"~":"x"}}'),
        (b'{"a":"}","m" : [1,[2]] ,"z":1}', "/m", b'{"a":"}","m" : "x" ,"z":1}'),
        (b'{"\\u006d":0}', "/m", b'{"\\u006d":"x"}'),
    ],
)
def test_the_bytes_after_it_was_set(body: bytes, steps: str, after: bytes) -> None:
    place = JsonValue.find(body, pointer_steps(steps))
    assert place is not None
    assert place.set("x") == after


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"1", b'{"m":1', b'{"m":1}x', b'\xef\xbb\xbf{"m":1}', b"{'m':1}", b'{"m":1,}', b'{"m":NaN}'),
        *(b'{"m":1,"m":2}', b'{"m":1,"\\u006d":2}', b'{"a":1,"m":1,"a":1}', b'{"m":1,"a":1,"a":2}'),
        # The end of the first value, by the length of the second one, is a brace.
        *(b'{"a":"}x","a":1}', b'{"m":"auto","a":"}x","a":1,"m":"evil"}'),
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b'{"a":' * 100_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(2000)) + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_two_readers_may_read_differently_is_left_alone(body: bytes) -> None:
    assert JsonValue.find(body, ("m",)) is None


def test_a_body_of_a_hundred_thousand_members_is_not_taken_apart() -> None:
    body = b"{%b,%b}" % (b",".join(b'"k%05d":1' % number for number in range(95_000)), b'"model":"a"')
    tracemalloc.start()
    try:
        assert JsonValue.find(body, ("model",)) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) / 10, "each member would become objects, which takes the event loop 25 ms"


def test_a_long_conversation_is_changed() -> None:
    message = b'{"role":"user","content":"at 12:30"}'
    body = b'{"messages":[%b],"model":"a"}' % b",".join([message] * 3000)
    found = JsonValue.find(body, ("model",))
    assert found is not None
    assert json.loads(found.set("b"))["model"] == "b"


@pytest.mark.parametrize("body", [b'{"a":1}', b"{}", b'{"a":[{"m":1}]}'])
def test_only_the_last_step_may_be_missing(body: bytes) -> None:
    assert JsonValue.find(body, ("a", "m")) is None


def copy_of(*pieces: bytes) -> ResponseCopy:
    copy = ResponseCopy()
    for piece in pieces:
        copy.add([piece])
    return copy


def test_a_response_is_read_whole_or_not_at_all() -> None:
    assert copy_of(b'{"a"', b":1}").document(b"") == {"a": 1}
    assert copy_of(b'{"a":1').document(b"") is None
    assert copy_of().document(b"") is None
    exactly = b'"%b"' % (b"x" * (MOST_READ - 2))
    assert copy_of(exactly).document(b"") is not None
    assert copy_of(exactly + b" ").document(b"") is None


def test_nothing_is_kept_of_a_larger_response() -> None:
    """Its client may take hours to read it."""
    copy = ResponseCopy()
    tracemalloc.start()
    try:
        for _ in range(20):
            copy.add([bytes(MOST_READ // 10)])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert copy.document(b"") is None
    assert kept < MOST_READ / 10


def test_a_compressed_response_is_read_up_to_the_same_size() -> None:
    assert copy_of(gzip.compress(b'{"a":1}')).document(b"gzip") == {"a": 1}
    assert copy_of(zlib.compress(b'{"a":1}')).document(b"deflate") == {"a": 1}
    assert copy_of(gzip.compress(b'"%b"' % (b"x" * 50_000_000))).document(b"gzip") is None
    # The members of a gzip file follow each other (RFC 1952 section 2.2).
    assert copy_of(gzip.compress(b'{"a":'), gzip.compress(b"1}")).document(b"gzip") == {"a": 1}
    assert copy_of(gzip.compress(b'{"a":1}') + b"rest").document(b"gzip") is None
    # Each member is copied with all that follow: three thousand of them took 8 ms.
    many = [gzip.compress(b"")] * 200
    assert copy_of(*many[:8], gzip.compress(b"1")).document(b"gzip") == 1
    assert copy_of(*many, gzip.compress(b"1")).document(b"gzip") is None
    assert copy_of(b"no gzip").document(b"gzip") is None
    assert copy_of(b"{}").document(b"br") is None


def test_a_value_is_found_in_objects_and_lists() -> None:
    document = {"a": [{"b": 3}], "": 1}
    assert value_at(document, pointer_steps("/a/0/b")) == 3
    assert value_at(document, pointer_steps("/")) == 1
    for missing in ("/b", "/a/1", "/a/x", "/a/0/b/c", "/a/999999999", "/a/-1"):
        assert value_at(document, pointer_steps(missing)) is None
