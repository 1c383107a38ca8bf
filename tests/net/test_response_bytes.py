"""Whole answers as bytes, read back by aiohttp's own strict parser."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage

from tentaculo.net.response_bytes import SENT_CLOSES, SENT_STAYS, response_bytes


async def parse(data: bytes) -> tuple[RawResponseMessage, bytes]:
    """Head and body of one answer; what follows it would be an error."""
    loop = asyncio.get_running_loop()
    parser = HttpResponseParser(BaseProtocol(loop), loop, 2**16)
    ((message, payload),), _, tail = parser.feed_data(data)
    assert tail == b""
    assert payload.is_eof()
    return message, await payload.read()


async def test_an_answer_is_whole() -> None:
    message, body = await parse(response_bytes(404, {"Content-Type": "text/plain"}, b"nothing here"))
    assert (message.code, message.reason, message.version) == (404, "Not Found", (1, 1))
    date, *others = message.raw_headers
    assert date[0] == b"Date"
    assert parsedate_to_datetime(date[1].decode()).tzinfo is not None
    assert others == [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"12"),
        (b"Connection", b"close"),
    ]
    assert body == b"nothing here"


@pytest.mark.parametrize(
    ("minor", "keep_alive", "connection"),
    [(1, False, b"close"), (1, True, None), (0, False, b"close"), (0, True, b"keep-alive")],
)
async def test_the_connection_header_fits_the_clients_version(
    minor: int, keep_alive: bool, connection: bytes | None
) -> None:
    message, _ = await parse(response_bytes(200, {}, b"x", minor=minor, keep_alive=keep_alive))
    assert dict(message.raw_headers).get(b"Connection") == connection


async def test_an_empty_body_has_a_length() -> None:
    message, body = await parse(response_bytes(200, {}, b"", keep_alive=True))
    assert (message.raw_headers[1:], body) == (((b"Content-Length", b"0"),), b"")


def test_the_answer_to_head_tells_the_length_and_has_no_body() -> None:
    whole = response_bytes(200, {}, b"four")
    assert response_bytes(200, {}, b"four", with_body=False) == whole.removesuffix(b"four")
    assert b"Content-Length: 4\r\n" in whole


def test_no_content_has_neither_body_nor_length() -> None:
    # RFC 9110 section 8.6: no Content-Length in a 204.
    lines = response_bytes(204, {"Vary": "Origin"}, b"", keep_alive=True).split(b"\r\n")
    assert [line for line in lines if not line.startswith(b"Date: ")] == [
        b"HTTP/1.1 204 No Content",
        b"Vary: Origin",
        b"",
        b"",
    ]


def test_a_status_without_a_phrase_keeps_its_space() -> None:
    # RFC 9112 section 4: the space before an absent reason phrase stays.
    assert response_bytes(599, {}, b"").startswith(b"HTTP/1.1 599 \r\n")


async def test_text_that_no_header_can_hold_is_replaced() -> None:
    message, _ = await parse(response_bytes(200, {"X-Said": "caña \udce9 🐙"}, b""))
    assert message.raw_headers[1] == (b"X-Said", b"ca\xf1a ? ?")


@pytest.mark.parametrize("fields", [{"X": "a\r\nSet-Cookie: b"}, {"X": "a\nb"}, {"X\r\nY": "a"}, {"X": "a\0b"}])
def test_nothing_can_be_smuggled_into_a_head(fields: Mapping[str, str]) -> None:
    with pytest.raises(ValueError):
        response_bytes(200, fields, b"")


@pytest.mark.parametrize(("sent", "stays"), [(SENT_STAYS, True), (SENT_CLOSES, False)])
async def test_what_was_sent_tells_the_server_only_whether_the_connection_stays(
    sent: web.StreamResponse, stays: bool
) -> None:
    request = Mock(spec=[])  # the server's two calls must not touch it
    for _ in range(2):
        assert await sent.prepare(request) is None
        await sent.write_eof()
        assert sent.keep_alive is stays
    assert not sent.prepared
