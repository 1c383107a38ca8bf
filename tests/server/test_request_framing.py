"""Where requests begin and end, however what a client sends is cut on its way."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.request_framing import SLICE, MessageBoundaries, RequestLine, is_unfinished
from tests.support.calls import counting_calls

# What a parser would find in these bytes: (the whole request, the length of its head, chunked).
Shape = tuple[bytes, int, bool]


def head(extra: bytes = b"") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\n" + extra + b"\r\n"


BARE: Shape = (head(), len(head()), False)
HEADS = [head(), head(b"X: " + b"y" * SLICE * 2 + b"\r\n")]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    start = draw(st.sampled_from(HEADS))
    body = draw(st.sampled_from([b"", b"x", b"\r\n\r\n", b"a\r\n\r\nb", b"x" * SLICE * 2, b"GET / HTTP/1.1\r\n\r\n"]))
    if body and draw(st.booleans()):
        return start + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), len(start), True
    return start + body, len(start), False


def pieces(seams: MessageBoundaries, segments: list[bytes], requests: list[Shape]) -> Iterator[tuple[int, bool]]:
    """Feed as a connection does, with a parser that knows everything: (offset, whether it is held for a start)."""
    ends = []
    offset = 0
    for data, length, chunked in requests:
        ends.append((offset, offset + length, offset + len(data), chunked))
        offset += len(data)
    at = 0
    for segment in segments:
        position = 0
        while position < len(segment):
            yield at, seams.is_at_start
            cut = seams.cut(segment, position)
            assert position < cut <= len(segment)
            piece, position = segment[position:cut], cut
            before, at = at, at + len(piece)
            begun = [end for end in ends if before < end[1] <= at]
            if begun:
                _, _, end, chunked = begun[-1]
                if end <= at:
                    seams.ended(piece)
                else:
                    seams.began(None if chunked else end - at)
            elif any(chunked and before < end <= at for _, _, end, chunked in ends):
                seams.ended(piece)
            else:
                seams.continued(piece)


@given(st.lists(shapes(), min_size=1, max_size=6), st.lists(st.integers(0, 200_000), max_size=6))
def test_a_start_is_never_held_to_be_where_none_is(requests: list[Shape], cuts: list[int]) -> None:
    data = b"".join(request[0] for request in requests)
    marks = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    segments = [data[a:b] for a, b in pairwise(marks)]
    starts, offset = set(), 0
    for request in requests:
        starts.add(offset)
        offset += len(request[0])
    held = {at for at, is_start in pieces(MessageBoundaries(), segments, requests) if is_start}
    assert held <= starts
    # Each start is found, and no piece reaches over it.
    assert held == starts


def test_an_empty_piece_changes_nothing() -> None:
    seams = MessageBoundaries()
    seams.continued(b"")
    assert seams.is_at_start
    seams.began(3)
    seams.continued(b"")
    assert not seams.is_at_start
    assert seams.cut(b"abcdef", 0) == 3


def test_a_body_is_one_piece_and_chunks_come_in_slices() -> None:
    seams = MessageBoundaries()
    seams.began(SLICE * 10)
    assert seams.cut(b"x" * SLICE * 20, 5) == 5 + SLICE * 10
    seams.began(None)
    assert seams.cut(b"xyz\n" * SLICE, 0) == SLICE


def test_an_empty_line_may_end_a_chunked_body_however_it_is_cut() -> None:
    for data in (b"2\r\nhi\r\n0\r\n\r\n", b"2\r\nhi\r\n0;x\r\nTrailer: y\r\n\r\n"):
        for cut in range(len(data)):
            seams = MessageBoundaries()
            seams.began(None)
            if cut:
                assert seams.cut(data[:cut], 0) == cut
                seams.continued(data[:cut])
            rest = data[cut:]
            assert seams.cut(rest + BARE[0], 0) == len(rest)
            seams.ended(rest)
            assert seams.is_at_start


def test_what_is_lost_stays_lost() -> None:
    seams = MessageBoundaries()
    seams.lost()
    assert seams.cut(BARE[0] * 3, 0) == len(BARE[0]) * 3
    seams.continued(BARE[0] * 3)
    assert not seams.is_at_start


REST = b" HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "method", "target", "plain"),
    [
        (b"FOO /", "FOO", "/", b"GET /"),
        (b"M-X! /?q", "M-X!", "/?q", b"GET /?q"),
        ("GET /é".encode(), "GET", "/é", b"GET /%C3%A9"),
        ("BREW /日?é%C3".encode(), "BREW", "/日?é%C3", b"GET /%E6%97%A5?%C3%A9%C3"),
        ("OPTIONS /é".encode(), "OPTIONS", "/é", b"OPTIONS /%C3%A9"),
        ("FOO HTTP://é/".encode(), "FOO", "HTTP://é/", b"GET HTTP://%C3%A9/"),
    ],
)
def test_an_odd_line_and_its_plain_form(line: bytes, method: str, target: str, plain: bytes) -> None:
    found = RequestLine.find(line + REST)
    assert found is not None
    assert (found.method, found.target) == (method, target)
    assert found.plain + (line + REST)[found.length :] == plain + REST


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"OPTIONS *",
        b"CONNECT h:80",
        b"get /",
        b"Options /",
        b"FOO *",
        b"FOO ftp://h/",
        b"FOO\t/",
        b"F(O /",
        b" /",
        b"X" * 65 + b" /",
        b"GET /\xff",
        b"GET /\xc0\xae",
        b"GET /\xed\xa0\x80",
        b"GET /a b",
        b"FOO /\x00",
        b"FOO /\x7f",
    ],
)
def test_what_is_usual_or_wrong_is_left_to_the_parser(line: bytes) -> None:
    assert RequestLine.find(line + REST) is None


@pytest.mark.parametrize("line", [b"GET  /", b"FOO  /", b"GET /  ", b"GET /  HTTP/1.1", b"GET / x  y"])
def test_more_than_one_blank_in_a_row_is_refused(line: bytes) -> None:
    with pytest.raises(Problem) as caught:
        RequestLine.find(line + REST)
    assert caught.value.failure is Failure.BAD_REQUEST


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"9.9"])
@pytest.mark.parametrize("line", [b"GET /", b"FOO *", "GET /é".encode()])
def test_another_version_is_refused_as_such(line: bytes, version: bytes) -> None:
    with pytest.raises(Problem) as caught:
        RequestLine.find(b"%b HTTP/%b\r\nHost: h\r\n\r\n" % (line, version))
    assert caught.value.failure is Failure.HTTP_VERSION


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"G", True),
        (b"FOO", True),
        (b"FOO ", True),
        ("FOO /é HTTP/1.1\r".encode(), True),
        (b"\r", True),
        (b"FOO / HTTP/1.1\r\n", False),
        (b"GARBAGE\n", False),
        (b"G{T / HTTP/1.1", False),
        (b" GET /", False),
        (b"\x16\x03\x01\x02", False),
        (b"X" * 65, False),
    ],
)
def test_what_may_still_become_a_request_line(data: bytes, expected: bool) -> None:
    assert is_unfinished(b"before\n" + data, 7) is expected


@pytest.mark.parametrize("end", [b"", b" HTTP/1.1", b" HTTP/1.1\n", b" http/1.1\r\n", b" HTTP/11.1\r\n"])
def test_a_line_without_its_proper_end_is_left_to_the_parser(end: bytes) -> None:
    assert RequestLine.find(b"FOO /" + end) is None


def test_the_fields_are_not_looked_at() -> None:
    found = RequestLine.find(b"FOO / HTTP/1.0\r\n" + b"X: \xff\r\n bad\r\n")
    assert found is not None
    assert (found.plain, found.length) == (b"GET / HTTP/1.0\r\n", 16)
    assert RequestLine.find(b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n") is None


def test_many_empty_lines_take_few_calls() -> None:
    data = b"\r\n" * 8000 + b"GET / HTTP/1.1\r\n"
    with counting_calls() as calls:
        position = MessageBoundaries().skip_empty_lines(data, 0)
    assert data[position:] == b"GET / HTTP/1.1\r\n"
    assert calls.total < 100
