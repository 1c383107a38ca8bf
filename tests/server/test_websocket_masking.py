"""Only masked frames come from a client, however they are cut on their way."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from aiohttp.http import WebSocketReader
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.server.websocket_masking import MaskEnforcer
from tests.support.calls import counting_calls

REFUSED = b"\xf0\x80"


class Reader:
    """Keeps what it is fed."""

    def __init__(self) -> None:
        self.got = b""
        self.is_ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.got += data
        return False, b""

    def feed_eof(self) -> None:
        self.is_ended = True


def masked_only(reader: Reader) -> MaskEnforcer:
    return MaskEnforcer(cast(WebSocketReader, cast(Any, reader)))


def frame(payload: bytes, *, masked: bool = True) -> bytes:
    length, mask = len(payload), 0x80 if masked else 0
    if length < 126:
        size = bytes([mask | length])
    elif length < 65536:
        size = bytes([mask | 126]) + length.to_bytes(2, "big")
    else:
        size = bytes([mask | 127]) + length.to_bytes(8, "big")
    return b"\x82" + size + (b"mask" if masked else b"") + payload


PAYLOADS = st.sampled_from([b"", b"x", b"\x81\x01" * 60, b"y" * 125, b"z" * 126, b"\x00" * 300, b"w" * 70_000])


@given(st.lists(PAYLOADS, max_size=5), st.lists(st.integers(0, 200_000), max_size=8), st.booleans())
def test_masked_frames_pass_and_the_first_that_is_not_ends_it(
    payloads: list[bytes], cuts: list[int], is_unmasked_last: bool
) -> None:
    good = b"".join(map(frame, payloads))
    data = good + (frame(b"unmasked", masked=False) if is_unmasked_last else b"")
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    reader = Reader()
    parser = masked_only(reader)
    for start, end in itertools.pairwise(marks):
        parser.feed_data(data[start:end])
        if reader.got.endswith(REFUSED):
            break
    assert reader.got == good + (REFUSED if is_unmasked_last else b"")


@pytest.mark.parametrize("length", [0, 5, 126, 70_000])
def test_byte_by_byte(length: int) -> None:
    reader = Reader()
    parser = masked_only(reader)
    for byte in frame(b"a" * length) * 2:
        parser.feed_data(bytes([byte]))
    assert reader.got == frame(b"a" * length) * 2


def test_the_end_is_passed_on() -> None:
    reader = Reader()
    masked_only(reader).feed_eof()
    assert reader.is_ended


@pytest.mark.parametrize("size", [0, 1, 125])
def test_many_small_frames_take_few_calls(size: int) -> None:
    data, reader = frame(bytes(size)) * 1000, Reader()
    with counting_calls() as calls:
        masked_only(reader).feed_data(data)
    assert calls.total < 20
    assert reader.got == data


def test_an_unmasked_frame_among_small_ones_is_found() -> None:
    reader = Reader()
    masked_only(reader).feed_data(frame(b"x") * 100 + frame(b"x", masked=False) + frame(b"x"))
    assert reader.got == frame(b"x") * 100 + REFUSED
