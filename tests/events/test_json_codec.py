from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tentaculo.events import json_codec
from tentaculo.model.event import Event

RECEIVED = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def event(payload: dict[str, Any]) -> Event:
    return Event(7, "madre", "spawn_success", payload, RECEIVED)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{'a':1}",
        b'{"a":1,}',
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00x"}',
        b'{"\\ud83d":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":01}',
        b'"\x01"',
        b"[" * 100_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"1" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(json_codec.JsonError):
        json_codec.parse(text)


def test_depth_is_bounded_exactly() -> None:
    deepest = b"[" * json_codec.DEPTH + b"]" * json_codec.DEPTH
    json_codec.parse(deepest)
    json_codec.parse(b'{"a":' * json_codec.DEPTH + b"1" + b"}" * json_codec.DEPTH)
    with pytest.raises(json_codec.JsonError, match="levels"):
        json_codec.parse(b"[" + deepest + b"]")
    with pytest.raises(json_codec.JsonError, match="levels"):
        json_codec.parse(b'[1, {"a": ' + deepest + b"}]")


def test_large_integers_and_equal_keys_are_harmless() -> None:
    assert json_codec.parse(b'{"a":1,"a":' + b"9" * 200 + b"}") == {"a": int("9" * 200)}


@given(st.binary())
@example(b'{"a":"\\ud800"}')
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        value = json_codec.parse(data)
    except json_codec.JsonError:
        return
    # What was accepted can be written again, and means the same to a lenient reader.
    assert json.loads(json.dumps(value)) == value == json.loads(data)


def test_flat_is_one_object_of_four_keys_and_the_payload() -> None:
    assert json.loads(json_codec.encode_broadcast(event({"spawn": "s1", "ttl": 60}))) == {
        "type": "spawn_success",
        "source": "madre",
        "id": 7,
        "timestamp": 1767323045678,
        "spawn": "s1",
        "ttl": 60,
    }


def test_flat_the_gateways_type_source_and_id_win_and_the_payloads_timestamp() -> None:
    payload = {"type": "x", "source": "y", "id": "z", "timestamp": "yesterday", "metadata": 1}
    assert json.loads(json_codec.encode_broadcast(event(payload))) == {
        "type": "spawn_success",
        "source": "madre",
        "id": 7,
        "timestamp": "yesterday",
        "metadata": 1,
    }


def test_size_is_of_the_compact_utf8_form() -> None:
    assert json_codec.size_of(json_codec.parse(b'{ "a" : "\\u00e9" }')) == len('{"a":"é"}'.encode())
