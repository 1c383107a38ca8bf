from __future__ import annotations

import pytest

from tentaculo.net.http1 import (
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    ChunkedReader,
    Framing,
    HeadTooLargeError,
    Http1Error,
    field_name,
    find_head,
    frame_response,
    parse_head,
    parse_length,
)
from tests.support.calls import counting_calls

START = b"HTTP/1.1 200 OK\r\n"


def fields_of(*lines: bytes) -> list[tuple[bytes, bytes]]:
    return parse_head(START + b"".join(line + b"\r\n" for line in lines) + b"\r\n").fields


class TestFindHead:
    HEAD = START + b"A: b\r\n\r\n"

    def test_a_whole_head_and_what_follows_it(self) -> None:
        assert find_head(self.HEAD + b"body\r\n\r\n", 1024) == len(self.HEAD)

    @pytest.mark.parametrize("length", range(len(HEAD)))
    def test_a_part_of_one(self, length: int) -> None:
        assert find_head(self.HEAD[:length], 1024) == -1

    def test_the_limit_counts_the_empty_line(self) -> None:
        assert find_head(self.HEAD, len(self.HEAD)) == len(self.HEAD)
        with pytest.raises(HeadTooLargeError):
            find_head(self.HEAD, len(self.HEAD) - 1)

    def test_an_unfinished_head_is_too_large_once_it_is_over_the_limit(self) -> None:
        assert find_head(START, len(START)) == -1
        with pytest.raises(HeadTooLargeError):
            find_head(START, len(START) - 1)

    @pytest.mark.parametrize("data", [b"S", b"\r\n", b"http/1.1", b"HTTP/2", b"HTTP/1,1", b"\x16\x03\x01\x02\x00"])
    def test_what_is_not_http_is_known_at_once(self, data: bytes) -> None:
        with pytest.raises(Http1Error):
            find_head(data, 1024)

    def test_what_is_not_http_is_not_called_too_large(self) -> None:
        # Whole or in pieces, it is the same fault.
        with pytest.raises(Http1Error) as caught:
            find_head(b"SSH-2.0" + b"x" * 2000 + b"\r\n\r\n", 1024)
        assert not isinstance(caught.value, HeadTooLargeError)


class TestStatusLine:
    @pytest.mark.parametrize(
        ("line", "minor", "status", "reason"),
        [
            (b"HTTP/1.1 200 OK", 1, 200, b"OK"),
            (b"HTTP/1.0 404 Not Found", 0, 404, b"Not Found"),
            (b"HTTP/1.1 200 ", 1, 200, b""),
            (b"HTTP/1.1 200", 1, 200, b""),  # without the last space: common, and harmless
            (b"HTTP/1.1 299 a  b\tc", 1, 299, b"a  b\tc"),
            (b"HTTP/1.1 500 caf\xe9 \xc3\xa9", 1, 500, b"caf\xe9 \xc3\xa9"),
            (b"HTTP/1.1 999 Odd", 1, 999, b"Odd"),
        ],
    )
    def test_read(self, line: bytes, minor: int, status: int, reason: bytes) -> None:
        head = parse_head(line + b"\r\n\r\n")
        assert (head.minor, head.status, head.reason, head.fields) == (minor, status, reason, [])

    @pytest.mark.parametrize(
        "line",
        [
            b"HTTP/1.2 200 OK",
            b"HTTP/2.0 200 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1\t200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 +20 OK",
            b"HTTP/1.1 200OK",
            b"HTTP/1.1 200 O\x00K",
            b"HTTP/1.1 200 O\x1bK",
            b"HTTP/1.1 200 O\x7fK",
            b"HTTP/1.1 200 O\rK",
            b"HTTP/1.1 200 O\nK",
            b" HTTP/1.1 200 OK",
            b"\r\nHTTP/1.1 200 OK",
            b"ICY 200 OK",
        ],
    )
    def test_refused(self, line: bytes) -> None:
        with pytest.raises(Http1Error):
            parse_head(line + b"\r\n\r\n")


class TestFieldLines:
    def test_each_is_kept_as_it_came(self) -> None:
        lines = [
            b"A:b",
            b"set-COOKIE:  a=b ",
            b"Empty:",
            b"Set-Cookie: c=d",
            b"X: caf\xe9 \xff:;,\"'",
            b"!#$%&'*+-.^_`|~9:\t",
        ]
        assert fields_of(*lines) == [(line + b"\r\n", line.partition(b":")[0]) for line in lines]

    @pytest.mark.parametrize(
        "line",
        [
            b"no colon",
            b": no name",
            b"A : space before the colon",
            b"A\t: tab before the colon",
            b" A: space before the name",
            b"A: folded\r\n again",
            b"A: folded\r\n\tagain",
            b"A: bare\rCR",
            b"A: bare\nLF: b",
            b"A: NUL \x00",
            b"A: escape \x1b",
            b"A: delete \x7f",
            b"A\x00: b",
            b"\xc3\xa9: b",
            b"A(: b",
            b'A": b',
            b"A/B: b",
            b"A\r: b",
        ],
    )
    @pytest.mark.parametrize("before", [(), (b"Fine: yes",)])
    @pytest.mark.parametrize("after", [(), (b"Fine: yes",)])
    def test_refused(self, line: bytes, before: tuple[bytes, ...], after: tuple[bytes, ...]) -> None:
        with pytest.raises(Http1Error):
            fields_of(*before, line, *after)

    def test_lines_must_end_with_crlf(self) -> None:
        with pytest.raises(Http1Error):
            parse_head(b"HTTP/1.1 200 OK\nA: b\n\r\n\r\n")
        with pytest.raises(Http1Error):
            parse_head(START + b"A: b\nC: d\r\n\r\n")

    def test_a_long_line_without_a_colon_costs_no_more_than_its_length(self) -> None:
        # A search that starts again at each byte would outlast the test's time limit many times over.
        with pytest.raises(Http1Error):
            fields_of(b"a" * 1_000_000)

    def test_names_are_compared_in_lower_case(self) -> None:
        assert field_name(b"Set-COOKIE: a:b\r\n") == b"set-cookie"


class TestLength:
    @pytest.mark.parametrize(
        ("values", "length"), [([b"0"], 0), ([b"5"], 5), ([b"005"], 5), ([b"5", b"5"], 5), ([b"9" * 18], 10**18 - 1)]
    )
    def test_read(self, values: list[bytes], length: int) -> None:
        assert parse_length(values) == length

    @pytest.mark.parametrize(
        "values",
        [
            [b""],
            [b"+5"],
            [b"-5"],
            [b"0x5"],
            [b"5a"],
            [b"5.0"],
            [b"5 5"],
            [b"5,5"],
            [b"5, 5"],
            [b"5_0"],
            [b"5", b"6"],
            [b"5", b"05"],
            [b"5", b""],
            ["\u0665".encode()],
            [b"\xb2"],
            [b"9" * 19],
        ],
    )
    def test_refused(self, values: list[bytes]) -> None:
        with pytest.raises(Http1Error):
            parse_length(values)


class TestFraming:
    @pytest.mark.parametrize(
        ("method", "status", "minor", "lengths", "codings", "framing"),
        [
            ("GET", 200, 1, [b"5"], None, (Framing.LENGTH, 5)),
            ("GET", 200, 1, [b"5", b"5"], None, (Framing.LENGTH, 5)),
            ("GET", 200, 1, [b"0"], None, (Framing.NONE, 0)),
            ("GET", 200, 1, None, [b"chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 1, None, [b"Chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 0, None, [b"chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 1, [b"5"], [b"chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 1, None, [b"chunked", b"chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 1, None, [b"identity, chunked"], (Framing.CHUNKED, 0)),
            ("GET", 200, 1, [b"5"], [b"identity"], (Framing.LENGTH, 5)),
            ("GET", 200, 1, None, [b"Identity"], (Framing.CLOSE, 0)),
            ("GET", 200, 1, [b"5, 5"], None, (Framing.LENGTH, 5)),
            ("GET", 200, 1, None, None, (Framing.CLOSE, 0)),
            ("GET", 200, 0, None, None, (Framing.CLOSE, 0)),
            ("GET", 404, 0, [b"5"], None, (Framing.LENGTH, 5)),
            ("HEAD", 200, 1, [b"5"], None, (Framing.NONE, 0)),
            ("HEAD", 200, 1, None, [b"chunked"], (Framing.NONE, 0)),
            ("HEAD", 200, 1, None, None, (Framing.NONE, 0)),
            ("GET", 204, 1, [b"5"], None, (Framing.NONE, 0)),
            ("GET", 204, 1, None, [b"chunked"], (Framing.NONE, 0)),
            ("GET", 304, 1, [b"5"], None, (Framing.NONE, 0)),
            ("GET", 101, 1, None, None, (Framing.NONE, 0)),
            ("GET", 103, 1, [b"5"], None, (Framing.NONE, 0)),
        ],
    )
    def test_read(
        self,
        method: str,
        status: int,
        minor: int,
        lengths: list[bytes] | None,
        codings: list[bytes] | None,
        framing: tuple[Framing, int],
    ) -> None:
        assert frame_response(method, status, minor, lengths, codings) == framing

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [200, 204, 304])
    @pytest.mark.parametrize(
        ("minor", "lengths", "codings"),
        [
            (1, [b"x"], [b"chunked"]),
            (1, [b"x"], None),
            (1, [b"5", b"6"], None),
            (1, [b"5, 6"], None),
            (1, [b"5,"], None),
            (1, [b"5, +5"], None),
            (1, None, [b"gzip"]),
            (1, None, [b"gzip, chunked"]),
            (1, None, [b"identity, gzip"]),
            (1, None, [b"xchunked"]),
            (1, None, [b"chunked;q=1"]),
            (1, None, [b""]),
        ],
    )
    def test_refused(
        self, method: str, status: int, minor: int, lengths: list[bytes] | None, codings: list[bytes] | None
    ) -> None:
        with pytest.raises(Http1Error):
            frame_response(method, status, minor, lengths, codings)


class TestChunks:
    @pytest.mark.parametrize(
        ("data", "body", "rest"),
        [
            (b"0\r\n\r\n", b"", b""),
            (b"000\r\n\r\n", b"", b""),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nrest", b"hello world", b"rest"),
            (b"a\r\n0\r\n\r\n5\r\n01\r\n0\r\n\r\n", b"0\r\n\r\n5\r\n01", b""),
            (b"0A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b""),
            (b"1;x\r\na\r\n0\r\n\r\n", b"a", b""),
            (b'1 ; x=y;z="q"\r\na\r\n0;last\r\n\r\n', b"a", b""),
            (b"1\r\na\r\n0\r\nX: y\r\nSet-Cookie: no\r\n\r\n", b"a", b""),
        ],
    )
    def test_read(self, data: bytes, body: bytes, rest: bytes) -> None:
        reader = ChunkedReader()
        assert b"".join(reader.feed(data)) == body
        assert reader.done
        assert reader.rest == rest

    @pytest.mark.parametrize(
        "data",
        [
            b"\r\n",
            b"g\r\n",
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5 \r\nhello\r\n",
            b"5\r\nhello\r\n0\t\r\n\r\n",
            b"5_0\r\n",
            b"5\nhello\r\n",
            b"5\rhello\r\n",
            b"5\r\r\nhello\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhello\r0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5;a\x00\r\nhello\r\n",
            b'5;a="b\r\nhello\r\n',
            b"5;\r\nhello\r\n",
            b"5;a\rb\r\nhello\r\n",
            b"5 a\r\nhello\r\n",
            b"f" * 16 + b"\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n folded: x\r\n\r\n",
            b"0\r\nA : b\r\n\r\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: \x00\r\n\r\n",
            b"0\r\n\n",
        ],
    )
    def test_refused(self, data: bytes) -> None:
        with pytest.raises(Http1Error):
            ChunkedReader().feed(data)

    def test_blanks_behind_a_size_are_read_where_they_are_allowed(self) -> None:
        for data in (b"5  \r\nhello\r\n00000000 \t\r\n\r\n", b"5;x \t\r\nhello\r\n0 ;y\r\n\r\n"):
            for size in (1, 3, 100):
                reader = ChunkedReader(allows_padding=True)
                pieces = [data[start : start + size] for start in range(0, len(data), size)]
                assert b"".join(b"".join(reader.feed(piece)) for piece in pieces) == b"hello"
                assert reader.done
        with pytest.raises(Http1Error):
            ChunkedReader(allows_padding=True).feed(b" 5\r\nhello\r\n")

    def test_trailers_are_read_byte_for_byte(self) -> None:
        reader = ChunkedReader()
        reader.feed(b"0\r\nX-A:  1\r\n")
        reader.feed(b"x-a: \xff\r\n\r\n")
        assert reader.trailers == [(b"X-A:  1\r\n", b"X-A"), (b"x-a: \xff\r\n", b"x-a")]

    def test_padding_is_allowed_where_asked_for(self) -> None:
        data = b"5  \r\nhello\r\n00000000 \t\r\n\r\n"
        reader = ChunkedReader(allows_padding=True)
        assert reader.feed(data) == [b"hello"]
        assert reader.done
        for length in range(1, len(data)):
            reader = ChunkedReader(allows_padding=True)
            assert b"".join(reader.feed(data[:length]) + reader.feed(data[length:])) == b"hello"
            assert reader.done
        with pytest.raises(Http1Error):
            ChunkedReader().feed(data)

    def test_an_extension_is_bounded(self) -> None:
        fits = b"1;" + b"x" * (MAX_CHUNK_LINE - 3) + b"\r\n"
        reader = ChunkedReader()
        assert reader.feed(fits + b"a") == [b"a"]
        with pytest.raises(Http1Error):
            ChunkedReader().feed(b"1;x" + fits[2:])
        with pytest.raises(Http1Error):
            ChunkedReader().feed(b"1;" + b"x" * MAX_CHUNK_LINE)  # its end has not come, and need not

    def test_trailers_are_bounded_together(self) -> None:
        line = b"A: " + b"b" * 997 + b"\r\n"
        reader = ChunkedReader()
        reader.feed(b"0\r\n" + line * (MAX_TRAILERS // 1000) + b"\r\n")
        assert reader.done
        with pytest.raises(Http1Error):
            ChunkedReader().feed(b"0\r\n" + line * (MAX_TRAILERS // 1000 + 1))

    def test_an_unfinished_body_is_not_done(self) -> None:
        data = b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n"
        for length in range(len(data)):
            reader = ChunkedReader()
            reader.feed(data[:length])
            assert not reader.done

    @pytest.mark.parametrize("sizes", [(1,), (3, 1, 15), tuple(range(1, 16))])
    def test_many_small_chunks_take_few_calls(self, sizes: tuple[int, ...]) -> None:
        pieces = [bytes([65 + size]) * size for size in sizes] * (3000 // len(sizes))
        data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        reader = ChunkedReader()
        with counting_calls() as calls:
            payload = reader.feed(data)
        assert payload == [b"".join(pieces)]
        assert calls.total < 20
        assert 0 < reader.steps < 500

    def test_small_chunks_may_hold_anything(self) -> None:
        pieces = [bytes([byte]) * size for byte in (10, 13, 48, 49, 59, 255) for size in (1, 2, 15, 16, 17)]
        data = b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\nrest"
        for step in (1, 2, 3, 7, 50, len(data)):
            reader, payload = ChunkedReader(), b""
            for position in range(0, len(data), step):
                if not reader.done:
                    payload += b"".join(reader.feed(data[position : position + step]))
            assert payload == b"".join(pieces)
            assert reader.done

    def test_each_line_that_is_not_small_is_a_step(self) -> None:
        reader = ChunkedReader()
        reader.feed(b"1;a\r\nx\r\n" * 100)
        assert reader.steps == 100
