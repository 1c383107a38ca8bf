from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.net.http1 import Framing, HeadTooLargeError, Http1Error
from tentaculo.upstream.response_reader import INTERIM_COST, MAX_BEYOND, MAX_INTERIM, ResponseHeadCache, ResponseReader

LIMIT = 512
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

# -- whatever the pieces -----------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """All that a reader tells of an answer."""

    body: bytes = b""
    refusal: type[Exception] | None = None
    ends_well: bool = False
    rest: tuple[object, ...] = field(default=())


def read(pieces: list[bytes], method: str = "GET", used: ResponseReader | None = None) -> Seen:
    reader, seen = used or ResponseReader(method, LIMIT, ResponseHeadCache()), Seen()
    reader.again(method)
    try:
        for piece in pieces:
            seen.body += b"".join(reader.feed(piece))
    except Http1Error as error:
        # What came before a fault in the body depends on the pieces: it may be told or not.
        return Seen(refusal=type(error))
    seen.rest = (reader.interim, reader.head, reader.beyond, reader.is_whole, reader.is_untouched, reader.is_switching)
    try:
        reader.end()
    except Http1Error:
        seen.ends_well = False
    else:
        seen.ends_well = True
    return seen


TOKENS = st.text("ABCXYZabcxyz-_09!~", min_size=1, max_size=12).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda raw: bytes(c if c >= 0x20 and c != 0x7F else 0x61 for c in raw))
OTHER_FIELDS = st.lists(st.tuples(st.just(b"X-").flatmap(lambda p: TOKENS.map(p.__add__)), VALUES), max_size=4)
EXTENSIONS = st.sampled_from([b"", b";x", b" ; a=b", b';q="z"'])


@dataclass
class Made:
    """An answer as it was meant."""

    method: str
    raw: bytes
    framing: Framing
    status: int
    lines: list[bytes]
    body: bytes
    interims: int


@st.composite
def answers(draw: st.DrawFn) -> Made:
    method = draw(st.sampled_from(["GET", "GET", "POST", "HEAD"]))
    status = draw(st.sampled_from([200, 200, 201, 204, 304, 404, 500, 999]))
    framing = draw(st.sampled_from([Framing.LENGTH, Framing.CHUNKED, Framing.CLOSE]))
    minor = 1 if framing is Framing.CHUNKED else draw(st.integers(0, 1))
    body = draw(st.binary(max_size=60))
    lines = [b"%b:%b\r\n" % pair for pair in draw(OTHER_FIELDS)]
    coded = body
    if framing is Framing.LENGTH:
        lines.insert(draw(st.integers(0, len(lines))), b"Content-Length: %d\r\n" % len(body))
    elif framing is Framing.CHUNKED:
        lines.insert(draw(st.integers(0, len(lines))), b"transfer-encoding:chunked\r\n")
        cuts = sorted({0, len(body), *draw(st.lists(st.integers(0, len(body)), max_size=4))})
        chunks = [body[a:b] for a, b in pairwise(cuts)]
        coded = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), draw(EXTENSIONS), chunk) for chunk in chunks)
        coded += b"0%b\r\n%b\r\n" % (draw(EXTENSIONS), draw(st.sampled_from([b"", b"T: x\r\n", b"A: b\r\nC: d\r\n"])))
    if method == "HEAD" or status in (204, 304):
        framing, body, coded = Framing.NONE, b"", b""
    elif framing is Framing.LENGTH and not body:
        framing = Framing.NONE
    interims = draw(st.integers(0, 2))
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * interims
    raw += b"HTTP/1.%d %d Why\r\n%b\r\n%b" % (minor, status, b"".join(lines), coded)
    return Made(method, raw, framing, status, lines, body, interims)


@st.composite
def mutants(draw: st.DrawFn) -> Made:
    made = draw(answers())
    raw = bytearray(made.raw)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        new = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"\r", b"\n", b"\r\n", b"0", b":", b" ", b"\x00"]))
        )
        raw[at : at + draw(st.integers(0, 3))] = new
    made.raw = bytes(raw)
    return made


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


CUTS = st.lists(st.integers(0, 2000), max_size=12)


@given(answers())
def test_a_valid_answer_is_read_as_it_was_meant(made: Made) -> None:
    reader = ResponseReader(made.method, LIMIT, ResponseHeadCache())
    body = b"".join(reader.feed(made.raw))
    assert reader.head is not None
    assert reader.head.status == made.status
    assert [line for line, _ in reader.head.fields] == made.lines
    assert len(reader.interim) == made.interims
    assert body == made.body
    assert reader.is_whole == (made.framing is not Framing.CLOSE)
    reader.end()
    assert reader.is_whole
    assert reader.beyond == b""


@given(answers(), CUTS, st.binary(max_size=20))
def test_the_pieces_do_not_matter(made: Made, cuts: list[int], beyond: bytes) -> None:
    raw = made.raw + beyond
    assert read(cut(raw, cuts), made.method) == read([raw], made.method)


@given(answers(), st.binary(max_size=20))
def test_bytes_one_by_one(made: Made, beyond: bytes) -> None:
    raw = made.raw + beyond
    assert read([raw[i : i + 1] for i in range(len(raw))], made.method) == read([raw], made.method)


@given(answers(), st.binary(min_size=1, max_size=20))
def test_what_follows_is_never_taken_for_the_body(made: Made, beyond: bytes) -> None:
    reader = ResponseReader(made.method, LIMIT, ResponseHeadCache())
    body = b"".join(reader.feed(made.raw + beyond))
    if made.framing is Framing.CLOSE:
        assert body == made.body + beyond
    else:
        assert (body, reader.beyond) == (made.body, beyond)
    assert not reader.leaves_connection


@given(answers(), answers(), CUTS)
def test_a_head_that_was_read_before_changes_nothing(before: Made, made: Made, cuts: list[int]) -> None:
    reader = ResponseReader(before.method, LIMIT, ResponseHeadCache())
    reader.feed(before.raw)
    first = (reader.head, reader.beyond, reader.is_whole)
    for _ in range(2):
        assert read(cut(made.raw, cuts), made.method, reader) == read([made.raw], made.method)
    reader.again(before.method)
    assert reader.is_untouched
    reader.feed(before.raw)
    assert (reader.head, reader.beyond, reader.is_whole) == first


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 103 Early Hints\r\n\r\n", OK],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n0\r\nA: b\r\n\r\n"],
        [OK[:-2], OK[-2:]],
        [OK + b"more"],
        [OK, b"more"],
        [OK[:-9], OK[-9:]],
        [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", b"more"],
    ],
)
def test_nothing_is_left_for_the_next_response(pieces: list[bytes]) -> None:
    heads = ResponseHeadCache()
    for _ in range(2):  # at the second time the heads are known
        reader = ResponseReader("GET", LIMIT, heads)
        reader.feed(OK)
        reader.again("GET")
        for piece in pieces:
            reader.feed(piece)
        reader.again("GET", 7)
        fresh = ResponseReader("GET", LIMIT, heads)
        fresh.again("GET", 7)
        assert {name: getattr(reader, name) for name in reader.__slots__} == {
            name: getattr(fresh, name) for name in fresh.__slots__
        }


def test_the_same_head_means_something_else_to_another_method() -> None:
    get, head = fed(OK), ResponseReader("HEAD", LIMIT, ResponseHeadCache())
    head.feed(OK.removesuffix(b"hello"))
    assert read([OK], "GET", head) == read([OK])
    assert read([OK.removesuffix(b"hello")], "HEAD", get) == read([OK.removesuffix(b"hello")], "HEAD")


@given(mutants(), CUTS)
def test_a_broken_answer_is_refused_in_one_way_only(made: Made, cuts: list[int]) -> None:
    # `read` lets nothing but a WireError pass, and whatever the pieces it is the same one.
    assert read(cut(made.raw, cuts), made.method) == read([made.raw], made.method)


@given(st.binary(max_size=700), CUTS)
def test_any_bytes_at_all(data: bytes, cuts: list[int]) -> None:
    assert read(cut(data, cuts)) == read([data])
    assert read(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data, cuts)) == read(
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data]
    )


# -- single rules ------------------------------------------------------------------------------------------------------


def fed(data: bytes, method: str = "GET") -> ResponseReader:
    reader = ResponseReader(method, LIMIT, ResponseHeadCache())
    reader.feed(data)
    return reader


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (OK, "GET"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "GET"),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", "GET"),
    ],
)
def test_a_connection_that_can_be_used_again(data: bytes, method: str) -> None:
    assert fed(data, method).leaves_connection


@pytest.mark.parametrize(
    ("data", "method"),
    [
        (OK[:-1], "GET"),
        (OK + b"x", "GET"),
        (OK, "HEAD"),  # a body where there is none
        (b"HTTP/1.1 204 No Content\r\n\r\nx", "GET"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 0\r\n\r\n", "GET"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "GET"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "GET"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "GET"),
        (b"", "GET"),
    ],
)
def test_a_connection_that_cannot(data: bytes, method: str) -> None:
    reader = fed(data, method)
    assert not (reader.is_whole and reader.leaves_connection)


def test_the_end_makes_a_body_without_length_whole_but_no_other() -> None:
    reader = fed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert not reader.is_whole
    reader.end()
    assert reader.is_whole
    assert not reader.leaves_connection
    for cut_short in (
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        OK[:-1],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    ):
        with pytest.raises(Http1Error):
            fed(cut_short).end()


def test_untouched_until_the_first_byte() -> None:
    assert fed(b"").is_untouched
    assert not fed(b"H").is_untouched
    assert not fed(OK).is_untouched


def test_an_interim_answer_is_a_byte_even_when_it_has_been_taken_out() -> None:
    reader = fed(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert [head.status for head in reader.interim] == [103]
    reader.interim.clear()
    assert not reader.is_untouched


@pytest.mark.parametrize("sent", [0, 10_000_000])
def test_interim_answers_are_bounded_however_fast_they_are_taken_out(sent: int) -> None:
    interim = b"HTTP/1.1 104 Upload\r\nUpload-Offset: 12345678\r\n\r\n"
    reader = fed(b"")
    reader.request_size = sent
    most = (MAX_INTERIM + sent // INTERIM_COST) // len(interim)
    for _ in range(most):
        reader.feed(interim)
        reader.interim.clear()
    with pytest.raises(Http1Error):
        reader.feed(interim)


def test_what_comes_behind_a_101_is_all_kept() -> None:
    reader = fed(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + b"a" * 3000)
    reader.feed(b"b" * 3000)
    assert reader.is_switching
    assert reader.beyond == b"a" * 3000 + b"b" * 3000


def test_what_nobody_asked_for_is_not_hoarded() -> None:
    reader = fed(OK)
    for _ in range(100):
        reader.feed(b"x" * 10_000)
    assert reader.beyond == b"x" * MAX_BEYOND


def test_each_head_has_the_limit_to_itself() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (b"x" * 400)
    assert fed(interim + interim + OK).is_whole
    with pytest.raises(HeadTooLargeError):
        fed(b"HTTP/1.1 200 OK\r\nA: %b\r\n\r\n" % (b"x" * LIMIT))
