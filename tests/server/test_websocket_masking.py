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
        self.unfinished: list[int] = []

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.got += data
        return False, b""

    def feed_eof(self) -> None:
        self.is_ended = True


def masked_only(reader: Reader) -> MaskEnforcer:
    return MaskEnforcer(cast(WebSocketReader, cast(Any, reader)), reader.unfinished.append)


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


def part(payload: bytes, first: int) -> bytes:
    """A masked frame whose first byte is `first`."""
    return bytes([first]) + frame(payload)[1:]


PING = part(b"", 0x89)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 70_000])
@pytest.mark.parametrize("before", [b"", PING])
@pytest.mark.parametrize("behind", [b"", PING, PING * 3])
def test_the_bytes_of_a_message_that_has_not_ended_are_counted(size: int, before: bytes, behind: bytes) -> None:
    reader = Reader()
    parser = masked_only(reader)
    begins, continues, ends = (part(bytes(size), first) for first in (0x01, 0x00, 0x80))
    parser.feed_data(frame(b"whole") + PING)
    assert reader.unfinished == []
    parser.feed_data(before + begins + behind)
    parser.feed_data(before + continues + behind)
    fed = len(reader.got) - len(frame(b"whole") + PING)
    counted = reader.unfinished[-1]
    assert fed - len(before) <= counted <= fed  # a control frame before it waits for nothing
    parser.feed_data(PING)
    assert reader.unfinished[-1] == counted + len(PING)
    parser.feed_data(ends + behind)
    assert reader.unfinished[-1] == 0


@pytest.mark.thorough
@pytest.mark.parametrize("size", [0, 126])
def test_messages_before_it_are_not_counted(size: int) -> None:
    reader = Reader()
    parser = masked_only(reader)
    whole = frame(bytes(size)) + part(bytes(size), 0x01) + part(bytes(size), 0x80) + PING
    unfinished = part(b"x", 0x01) + part(b"x", 0x00)
    for _ in range(1000):
        parser.feed_data(whole * 3 + unfinished)
        assert len(unfinished) <= reader.unfinished[-1] <= len(unfinished) + 2 * len(PING)
        parser.feed_data(part(b"x", 0x80))
        assert reader.unfinished[-1] == 0
    stream, reader.unfinished[:] = whole * 1000, []
    for start in range(0, len(stream), 100):
        parser.feed_data(stream[start : start + 100])
    assert max(reader.unfinished) <= 100 + 2 * len(whole)


FRAMES = st.tuples(
    st.sampled_from([0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A]), st.sampled_from([0, 1, 125, 126])
)
HEAD, SMALL = 8, 131
"""Bytes of the longest head of these frames, and of the longest small frame."""


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(0, 2000), max_size=6))
def test_what_is_counted_is_what_has_arrived_since_a_message_ended(
    frames: list[tuple[int, int]], cuts: list[int]
) -> None:
    data = b"".join(part(bytes(size), first) for first, size in frames)
    marks = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    reader = Reader()
    parser = masked_only(reader)
    for start, end in itertools.pairwise(marks):
        parser.feed_data(data[start:end])
        position = message_ended = ended = 0
        is_open = False
        for first, size in frames:
            length = len(part(bytes(size), first))
            if position + length > end:
                break
            position += length
            if first & 0x0F < 8:
                is_open = first < 0x80
                message_ended = message_ended if is_open else position
            ended = (
                ended if is_open else position
            )  # control frames between messages may count, in the read that has them
        counted = reader.unfinished[-1] if reader.unfinished else 0
        if not is_open and position == end:
            assert counted == 0
        else:
            assert end - ended - HEAD <= counted <= end - message_ended + SMALL


@pytest.mark.parametrize("cut", [20, 100, -1])
def test_the_bytes_of_a_frame_that_has_not_ended_are_counted(cut: int) -> None:
    reader = Reader()
    parser = masked_only(reader)
    data = frame(bytes(70_000))
    parser.feed_data(data[:cut])
    assert reader.unfinished == [len(data[:cut])]
    parser.feed_data(data[cut:])
    assert reader.unfinished[-1] == 0


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
