"""Request lines that aiohttp's parser would refuse, put in its words."""

from __future__ import annotations

import pytest

from tentaculo.web.request_line import RequestLine

REST = b" HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "method", "target", "plain"),
    [
        (b"FOO /", "FOO", "/", b"GET /"),
        (b"M-X! /?q", "M-X!", "/?q", b"GET /?q"),
        ("GET /é".encode(), "GET", "/é", b"GET /%C3%A9"),
        ("BREW /日?é%C3".encode(), "BREW", "/日?é%C3", b"GET /%E6%97%A5?%C3%A9%C3"),
        ("OPTIONS /é".encode(), "OPTIONS", "/é", b"OPTIONS /%C3%A9"),
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
        b"FOO http://h/",
        b"FOO  /",
        b"FOO\t/",
        b"F(O /",
        b" /",
        b"X" * 65 + b" /",
        b"GET /\xff",
        b"GET /\xc0\xae",
        b"GET /\xed\xa0\x80",
        "GET http://é/".encode(),
        b"GET /a b",
        b"FOO /\x00",
        b"FOO /\x7f",
    ],
)
def test_what_is_usual_or_wrong_is_left_to_the_parser(line: bytes) -> None:
    assert RequestLine.find(line + REST) is None


@pytest.mark.parametrize(
    "end", [b"", b" HTTP/1.1", b" HTTP/1.1\n", b" HTTP/2.0\r\n", b" http/1.1\r\n", b" HTTP/1.2\r\n"]
)
def test_a_line_without_its_proper_end_is_left_to_the_parser(end: bytes) -> None:
    assert RequestLine.find(b"FOO /" + end) is None


def test_the_fields_are_not_looked_at() -> None:
    found = RequestLine.find(b"FOO / HTTP/1.0\r\n" + b"X: \xff\r\n bad\r\n")
    assert found is not None
    assert (found.plain, found.length) == (b"GET / HTTP/1.0\r\n", 16)
    assert RequestLine.find(b"GET / HTTP/1.1\r\nX: \xff\r\n\r\n") is None
