"""What must hold for any bytes on the wire: only declared exceptions, one meaning, and clean lines from us.

Each target takes some bytes and fails where that is not so.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from urllib.parse import unquote_to_bytes

from tentaculo.config.schema import Config
from tentaculo.model.failure import Problem
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import ChunkedReader, Http1Error, find_head, is_authority, parse_head, parse_target
from tentaculo.net.request_headers import RequestHeaders, request_length
from tentaculo.proxy.client_view import ClientView
from tentaculo.proxy.request_head import header_block, trusted_forwarded_lines
from tentaculo.proxy.response_head import ResponseHeadBuilder
from tentaculo.proxy.route import CompiledRoute, HeaderRules
from tentaculo.server.request_framing import RequestLine
from tentaculo.telemetry.request_log import RequestLog
from tentaculo.upstream.response_reader import ResponseHeadCache, ResponseReader
from tests.wire.readers import FIELD, BrokenError, IncompleteError, Message, read_chunks, read_head

MAX_HEAD = 4096
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_NO_RULES = HeaderRules({}, ())


def _pieces(data: bytes, step: int) -> list[bytes]:
    return [data[position : position + step] for position in range(0, len(data), step)]


def _split(data: bytes) -> tuple[int, bytes]:
    """A number from the first byte, and the rest."""
    return (data[0], data[1:]) if data else (0, b"")


def _fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """The lines of `data` that are fields, as the server's parser would hand them over."""
    matches = [FIELD.fullmatch(line) for line in data.split(b"\n")]
    return [(match[1], match[2]) for match in matches if match is not None]


def _strict_head(head: bytes) -> Message:
    """A head that we emit, read by the strict reader: it must be one whole head and nothing else."""
    assert b"\0" not in head
    message = read_head(head, 0)
    assert message.end == len(head)
    return message


def _read(method: str, pieces: list[bytes], used: ResponseReader | None = None) -> tuple[object, ...] | None:
    """All that an answer came to, None where it was refused; `used` has read others before."""
    reader = used or ResponseReader(method, MAX_HEAD, ResponseHeadCache())
    reader.again(method)
    payload = b""
    try:
        for piece in pieces:
            payload += b"".join(reader.feed(piece))
    except Http1Error:
        return None
    assert len(payload) + len(reader.beyond) <= sum(map(len, pieces))
    whole = reader.is_whole
    head = reader.head
    if head is not None:
        _check_answer_head(reader)
    beyond = reader.beyond
    with suppress(Http1Error):
        reader.end()
    return head, payload, whole, beyond, len(reader.interim), reader.leaves_connection, reader.is_whole


def _check_answer_head(reader: ResponseReader) -> None:
    head = reader.head
    assert head is not None
    assert 100 <= head.status <= 999
    lines = b"".join(line for line, _ in head.fields)
    again = b"HTTP/1.%d %d %b\r\n%b\r\n" % (head.minor, head.status, head.reason, lines)
    assert parse_head(again) == head
    for line, name in head.fields:
        match = FIELD.fullmatch(line[:-2])
        assert match is not None
        assert line.endswith(b"\r\n")
        assert match[1] == name


def answer(data: bytes) -> None:
    """An answer means the same however it is cut, and whether or not its head is remembered."""
    choice, data = _split(data)
    method = METHODS[choice % 4]
    whole = _read(method, [data])
    for step in (1 + choice % 4, 1 + choice % 64):
        assert _read(method, _pieces(data, step)) == whole
    reader = ResponseReader(method, MAX_HEAD, ResponseHeadCache())
    with suppress(Http1Error):
        reader.feed(data)
    if reader.head is not None:
        other = METHODS[choice // 4 % 4]
        fresh = _read(other, [data])
        assert _read(other, [data], reader) == fresh
        assert _read(other, _pieces(data, 5), reader) == fresh


def chunks(data: bytes) -> None:
    """A chunked body that is taken has one meaning, the strict reader's."""
    step, data = _split(data)
    outcomes: list[tuple[bytes, bytes | None]] = []
    for size in (len(data) or 1, 1 + step % 3, 1 + step):
        reader = ChunkedReader(allows_padding=True)
        payload = b""
        try:
            for position in range(0, len(data), size):
                payload += b"".join(reader.feed(data[position : position + size]))
                if reader.done:
                    outcomes.append((payload, reader.rest + data[position + size :]))
                    break
            else:
                outcomes.append((payload, None))
        except Http1Error:
            outcomes.append((b"", b"refused"))
        assert len(payload) <= len(data)
    assert len(set(outcomes)) == 1
    payload, rest = outcomes[0]
    try:
        strict, end = read_chunks(data, 0, padded=True)
    except BrokenError:
        assert rest in (None, b"refused")
    except IncompleteError:
        assert rest in (None, b"refused")
    else:
        assert rest == b"refused" or (payload, rest) == (strict, data[end:])


def answer_to_client(data: bytes) -> None:
    """Whatever an upstream's head says, the client gets one clean head without what is not for it."""
    choice, data = _split(data)
    try:
        end = find_head(data, MAX_HEAD)
        head = parse_head(data[:end]) if end > 0 else None
        if head is None or head.status < 200:
            return
        fields = ResponseHeaders(head.fields)
        writer = _writer(choice)
        block, is_chunked = writer.final(head, fields)
        again, _ = _writer(choice).final(head, fields)
    except Http1Error:
        return
    assert block == again
    assert len(block) <= 8 * len(data) + 1000
    message = _strict_head(_as_request(block))
    codings, lengths = message.values(b"transfer-encoding"), message.values(b"content-length")
    assert codings == ([b"chunked"] if is_chunked else [])
    assert len(lengths) <= 1
    assert not (codings and lengths)
    assert all(length.isdigit() for length in lengths)
    for gone in (b"keep-alive", b"proxy-authenticate", b"trailer", b"upgrade", b"te", b"proxy-connection"):
        assert not message.values(gone)
    assert message.values(b"connection") in ([], [b"close"], [b"keep-alive"])
    assert message.values(b"x-request-id") == [b"id"]


def _as_request(block: bytes) -> bytes:
    """An answer's head with a request line in place of its status line, for the reader of requests."""
    first, _, rest = block.partition(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 [2-9][0-9]{2} [\t -~\x80-\xff]*", first) is not None
    return b"GET / HTTP/1.1\r\n" + rest


@cache
def _plan() -> CompiledRoute:
    config = Config.of({"services": {"s": {"url": "http://inner:81", "routes": [{"prefix": "/s", "to": "/api/v1"}]}}})
    service = config.services["s"]
    return CompiledRoute(service, service.routes[0], config.limits, None)


def _writer(choice: int) -> ResponseHeadBuilder:
    writer = ResponseHeadBuilder(
        _plan(),
        (_plan().identity, METHODS[choice % 4], choice >> 2 & 1, bool(choice & 16)),
        keep_alive=bool(choice & 8),
        added=b"X-Request-ID: id\r\n",
        via=b"gateway",
        view=lambda: ClientView("http", "outer", "outer", "/o" if choice & 32 else ""),
    )
    writer.upstream = _plan().service.upstreams[0]
    return writer


def request_to_upstream(data: bytes) -> None:
    """Whatever fields a client sends, the upstream gets one clean head with one framing and no hop-by-hop field."""
    raw = _fields(data)
    fields = RequestHeaders(raw)
    try:
        length, is_chunked = request_length(fields, 1)
    except Problem:
        return
    fields.drop_named()
    own = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    own += b"Content-Length: %d\r\n" % length if length is not None else b""
    message = _strict_head(b"GET / HTTP/1.1\r\n" + header_block(fields.lines, b"h", own, _NO_RULES) + b"\r\n")
    assert message.fields[0] == (b"Host", b"h")
    assert len(message.values(b"host")) == 1
    assert len(message.values(b"transfer-encoding")) + len(message.values(b"content-length")) <= 1
    for name in (b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"x-forwarded-for", b"x-real-ip"):
        assert not message.values(name)
        assert not message.values(name.replace(b"-", b"_")) or b"-" not in name


def provenance(data: bytes) -> None:
    """What a trusted peer says of a request's origin ends up in clean lines, and its id only where it is plain."""
    raw = _fields(data)
    known = RequestHeaders(raw).provenance or {}
    lines = trusted_forwarded_lines(known, "10.0.0.1", "http", b'h"\\', 80, "/p")
    message = _strict_head(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    assert message.values(b"x-forwarded-for")[0].endswith(b"10.0.0.1")
    assert len(lines) <= 2 * len(data) + 500
    assert re.fullmatch(r"[A-Za-z0-9_.:+/=-]{1,128}", RequestLog(None).begin("GET", "/", "", known).request_id)


def target(data: bytes) -> None:
    """An accepted target is forwarded as it came, and no reading of its path leads upwards."""
    choice, data = _split(data)
    raw, method = data.decode("utf-8", "surrogateescape"), METHODS[choice % 4]
    try:
        found = parse_target(method, raw)
    except Problem:
        return
    path, query, authority = found.path, found.query, found.authority
    assert path == "*" or path.startswith("/")
    assert query[:1] in ("", "?")
    assert "#" not in path + query
    if authority is None:
        assert path + query == raw
    else:
        assert is_authority(authority)
        assert path == "*" or raw.endswith((path + query, query))
    plain = unquote_to_bytes(path.encode("utf-8", "surrogateescape"))
    for segment in re.split(rb"[/\\]", plain):
        name = segment.partition(b";")[0]
        assert name != b".."
        assert name != b"." or segment == b".", "a single dot passes without parameters only"
    assert b"\0" not in plain


def request_line(data: bytes) -> None:
    """A line that is put in other words keeps its place, and says the same once they are put back."""
    try:
        line = RequestLine.find(data)
    except Problem:
        return
    if line is None:
        return
    said = data[: line.length]
    method, spoken, version = said.split(b" ")
    assert said.endswith(b"\r\n")
    assert said.count(b"\n") == 1
    assert (line.method.encode(), line.target.encode()) == (method, spoken)
    plain_method, plain_target, plain_version = line.plain.split(b" ")
    assert plain_version == version
    assert plain_method in (method, b"GET")
    assert unquote_to_bytes(plain_target) == unquote_to_bytes(spoken)
    assert line.plain.isascii()
    assert read_head(line.plain + b"\r\n", 0).method == plain_method
