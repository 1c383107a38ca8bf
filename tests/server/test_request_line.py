"""Request lines that aiohttp's parser would refuse, put in its words."""

from __future__ import annotations

import pytest

from tentaculo.model.failure import Failure, Problem
from tentaculo.server import request_line
from tentaculo.server.request_line import RequestLine

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
    ("data", "is_unfinished"),
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
def test_what_may_still_become_a_request_line(data: bytes, is_unfinished: bool) -> None:
    assert request_line.is_unfinished(b"before\n" + data, 7) is is_unfinished


@pytest.mark.parametrize("end", [b"", b" HTTP/1.1", b" HTTP/1.1\n", b" http/1.1\r\n", b" HTTP/11.1\r\n"])
def test_a_line_without_its_proper_end_is_left_to_the_parser(end: bytes) -> None:
    assert RequestLine.find(b"FOO /" + end) is None


def test_the_fields_are_not_looked_at() -> None:
    found = RequestLine.find(b"FOO / HTTP/1.0\r\n" + b"X: \xff\r\n bad\r\n")
    assert found is not None
    assert (found.plain, found.length) == (b"GET / HTTP/1.0\r\n", 16)
    assert RequestLine.find(b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n") is None
