from __future__ import annotations

import pytest

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.header_fields import ResponseHeaders, split_list
from tentaculo.net.http1 import parse_head
from tentaculo.net.request_headers import RequestHeaders, request_length
from tentaculo.proxy.request_head import header_block
from tentaculo.proxy.route import HeaderRules

NO_RULES = HeaderRules({}, ())
Pairs = list[tuple[bytes, bytes]]


def sent(raw: Pairs, *, added: bytes = b"", rules: HeaderRules = NO_RULES) -> Pairs:
    """What an upstream gets for a client's fields, without Host."""
    fields = RequestHeaders(raw)
    fields.drop_named()
    lines = header_block(fields.lines, b"h", added, rules).removesuffix(b"\r\n").split(b"\r\n")
    assert lines[0] == b"Host: h"
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines[1:])]


def names(pairs: Pairs) -> list[bytes]:
    return [name for name, _ in pairs]


def answered(*lines: bytes) -> ResponseHeaders:
    return ResponseHeaders(parse_head(b"HTTP/1.1 200 OK\r\n%b\r\n" % b"".join(line + b"\r\n" for line in lines)).fields)


class TestToTheUpstream:
    def test_nothing_is_invented_and_nothing_is_changed(self) -> None:
        raw = [
            (b"Host", b"h"),
            (b"user-AGENT", b"x"),
            (b"Accept", b"*/*"),
            (b"Cookie", b"a=b"),
            (b"X-A", b"1"),
            (b"Cookie", b"c=d"),
            (b"x-a", b"caf\xe9 \xff \xc3\xa9"),
            (b"X-Empty", b""),
            (b"Accept", b"text/html"),
            (b"Origin", b"http://o"),
            (b"Via", b"1.0 a"),
            (b"Via", b"1.1 b"),
        ]
        assert sent(raw) == raw[1:]

    @pytest.mark.parametrize(
        "name",
        [
            "Connection",
            "Keep-Alive",
            "Proxy-Connection",
            "Proxy-Authenticate",
            "Proxy-Authorization",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "Upgrade",
            "Forwarded",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-Proto",
            "X-Real-IP",
            "X-Request-ID",
            "X-VX11-Token",
            "Authorization",
            "Content-Length",
            "Expect",
        ],
    )
    def test_what_is_the_gateways_to_say(self, name: str) -> None:
        for spelling in {name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "_", 1)}:
            assert sent([(spelling.encode(), b"x"), (b"A", b"b")]) == [(b"A", b"b")]

    def test_other_underscores_are_nobodys_look_alike(self) -> None:
        raw = [(b"X_Custom", b"1"), (b"_", b"2"), (b"x_forwarded", b"3")]
        assert sent(raw) == raw

    def test_what_connection_names_goes(self) -> None:
        raw = [
            (b"X-Drop", b"1"),
            (b"Connection", b"close, X-DROP ,"),
            (b"x-drop", b"2"),
            (b"connection", b"x-also,keep-alive"),
            (b"X-Also", b"3"),
            (b"Via", b"1.0 a"),
            (b"Accept", b"*/*"),
            (b"connection", b"via, accept"),
            (b"X-Keep", b"4"),
        ]
        assert sent(raw) == [(b"X-Keep", b"4")]

    def test_a_client_cannot_name_what_is_ours(self) -> None:
        ours = [
            (b"X-Forwarded-For", b"1.2.3.4"),
            (b"Forwarded", b"for=1.2.3.4"),
            (b"X-Real-IP", b"1.2.3.4"),
            (b"X-Request-ID", b"7"),
            (b"Via", b"1.1 g"),
            (b"X-VX11-Token", b"service"),
            (b"Content-Length", b"5"),
        ]
        named = b", ".join([*names(ours), b"host", b"close"])
        added = b"".join(b"%b: %b\r\n" % pair for pair in ours)
        assert (
            sent([(b"Connection", named), (b"Via", b"1.0 theirs"), (b"X-Forwarded-For", b"9.9.9.9")], added=added)
            == ours
        )

    def test_authorization_and_expect_can_be_named(self) -> None:
        fields = RequestHeaders(
            [(b"Authorization", b"a"), (b"Expect", b"100-continue"), (b"Connection", b"authorization, expect")]
        )
        assert (fields.authorization, fields.expect) == (b"a", b"100-continue")  # as the gateway itself judges them
        fields.drop_named()
        assert (fields.authorization, fields.expect) == (None, None)

    def test_the_routes_rules_have_the_last_word(self) -> None:
        rules = HeaderRules({"X-User": "route", "Authorization": "Basic x"}, ["Cookie", "X-Real-IP"])
        raw = [(b"x-user", b"client"), (b"X_User", b"client"), (b"Cookie", b"a=b"), (b"A", b"b")]
        added = b"X-Real-IP: 1.2.3.4\r\nVia: 1.1 g\r\nAuthorization: Bearer client\r\n"
        assert sent(raw, added=added, rules=rules) == [
            (b"A", b"b"),
            (b"Via", b"1.1 g"),
            (b"X-User", b"route"),
            (b"Authorization", b"Basic x"),
        ]

    def test_the_host_goes_byte_for_byte(self) -> None:
        assert header_block([], b"h\xff", b"", NO_RULES) == b"Host: h\xff\r\n"


class TestWhatIsNoted:
    def test_upgrade(self) -> None:
        fields = RequestHeaders([(b"Connection", b"keep-alive, Upgrade"), (b"Upgrade", b"a"), (b"upgrade", b"b")])
        assert fields.wants_upgrade
        assert fields.upgrade == b"a, b"
        assert not RequestHeaders([(b"Upgrade", b"a")]).wants_upgrade

    @pytest.mark.parametrize(
        ("value", "trailers"),
        [(b"trailers", True), (b"gzip, Trailers", True), (b"gzip", False), (b"xtrailers", False), (b"", False)],
    )
    def test_te_only_as_trailers(self, value: bytes, trailers: bool) -> None:
        assert RequestHeaders([(b"TE", value)]).te_trailers is trailers

    def test_what_may_stand_once_only_is_never_chosen_between(self) -> None:
        raw = [(b"Host", b"a"), (b"host", b"b"), (b"X-VX11-Token", b"t"), (b"x-vx11-token", b"t")]
        raw += [(b"Authorization", b"x"), (b"Authorization", b"y"), (b"Origin", b"http://a"), (b"Origin", b"http://b")]
        fields = RequestHeaders(raw)
        assert (fields.host, fields.token) == (b"a, b", b"t, t")
        assert (fields.authorization, fields.origin) == (b"x, y", b"http://a, http://b")
        assert RequestHeaders([(b"Host", b""), (b"Host", b"a")]).host == b", a"

    def test_provenance_is_joined_in_order(self) -> None:
        fields = RequestHeaders([(b"X-Forwarded-For", b"a"), (b"Forwarded", b"for=a"), (b"x-forwarded-for", b"b")])
        assert fields.provenance == {b"x-forwarded-for": b"a, b", b"forwarded": b"for=a"}

    def test_size(self) -> None:
        raw = [(b"Host", b"a"), (b"X-Long", b"x" * 100)]
        assert RequestHeaders(raw).size == sum(len(b"%b: %b\r\n" % pair) for pair in raw)

    def test_a_list(self) -> None:
        assert split_list(b" A ,,b\t, C-d") == [b"a", b"b", b"c-d"]


class TestRequestLength:
    @pytest.mark.parametrize(
        ("raw", "minor", "expected"),
        [
            ([], 1, (None, False)),
            ([(b"Content-Length", b"0")], 1, (0, False)),
            ([(b"Content-Length", b"12")], 0, (12, False)),
            ([(b"Transfer-Encoding", b"chunked")], 1, (None, True)),
            ([(b"transfer-encoding", b"CHUNKED")], 1, (None, True)),
        ],
    )
    def test_read(self, raw: Pairs, minor: int, expected: tuple[int | None, bool]) -> None:
        assert request_length(RequestHeaders(raw), minor) == expected

    @pytest.mark.parametrize(
        ("raw", "minor", "failure"),
        [
            ([(b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")], 1, Failure.BAD_REQUEST),
            ([(b"Transfer-Encoding", b"chunked")], 0, Failure.BAD_REQUEST),
            ([(b"Transfer-Encoding", b"gzip, chunked")], 1, Failure.NOT_IMPLEMENTED),
            ([(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], 1, Failure.NOT_IMPLEMENTED),
            ([(b"Transfer-Encoding", b"identity")], 1, Failure.NOT_IMPLEMENTED),
            ([(b"Transfer-Encoding", b"")], 1, Failure.NOT_IMPLEMENTED),
            ([(b"Transfer-Encoding", b"\x0bchunked")], 1, Failure.NOT_IMPLEMENTED),
            *(
                ([(b"Content-Length", value)], 1, Failure.BAD_REQUEST)
                for value in (b"", b"+5", b"-5", b"0x5", b"5,5", b"5, 6", b"5 ", b"5_0", b"\xb2", b"9" * 30)
            ),
            ([(b"Content-Length", b"5"), (b"Content-Length", b"6")], 1, Failure.BAD_REQUEST),
            ([(b"Content-Length", b"5"), (b"Content-Length", b"5")], 1, Failure.BAD_REQUEST),
        ],
    )
    def test_refused(self, raw: Pairs, minor: int, failure: Failure) -> None:
        with pytest.raises(Problem) as caught:
            request_length(RequestHeaders(raw), minor)
        assert caught.value.failure is failure


class TestFromTheUpstream:
    def test_lines_pass_as_they_came(self) -> None:
        lines = [
            b"Set-Cookie: a=b",
            b"server:x ",
            b"Set-Cookie:c=d",
            b"X: caf\xe9\xff",
            b"Content-Type: text/html",
            b"Location: /x",
        ]
        fields = answered(*lines)
        assert fields.lines == [line + b"\r\n" for line in lines]
        assert fields.addresses == [0, 2, 5]

    @pytest.mark.parametrize(
        "name",
        [
            b"Connection",
            b"Keep-Alive",
            b"Proxy-Connection",
            b"Proxy-Authenticate",
            b"proxy-authorization",
            b"TE",
            b"Trailer",
            b"TRANSFER-ENCODING",
            b"Upgrade",
            b"Content-Length",
            b"X-Request-ID",
        ],
    )
    def test_what_does_not(self, name: bytes) -> None:
        assert answered(name + b": x", b"A: b").lines == [b"A: b\r\n"]

    @pytest.mark.parametrize("name", [b"Content_Length", b"TRANSFER_ENCODING", b"Set_Cookie", b"X-Request_ID"])
    def test_nor_do_look_alikes(self, name: bytes) -> None:
        assert answered(name + b": x", b"X_Custom: b").lines == [b"X_Custom: b\r\n"]

    def test_what_connection_names_goes(self) -> None:
        fields = answered(
            *(b"X-Drop: 1", b"Set-Cookie: a=b", b"Connection: x-drop, Close, set-cookie2", b"x-drop: 2"),
            *(b"Set-Cookie2: n", b"Location: /x", b"Location-X: y"),
        )
        assert fields.close
        assert fields.lines == [b"Set-Cookie: a=b\r\n", b"Location: /x\r\n", b"Location-X: y\r\n"]
        assert fields.addresses == [0, 1]

    def test_what_framing_needs(self) -> None:
        fields = answered(
            b"Content-Length: 5 ", b"content-length:\t6", b"Transfer-Encoding: a", b"transfer-encoding: b"
        )
        assert (fields.lengths, fields.codings) == ([b"5", b"6"], [b"a", b"b"])
        assert answered(b"Connection: Keep-Alive").keep_alive
        assert answered(b"Upgrade: a", b"Upgrade: b").upgrade == b"a, b"

    @pytest.mark.parametrize(
        ("value", "is_stream"),
        [(b"text/event-stream", True), (b"Text/Event-Stream; charset=utf-8", True), (b"text/html", False)],
    )
    def test_event_streams(self, value: bytes, is_stream: bool) -> None:
        assert answered(b"Content-Type: " + value).is_event_stream is is_stream
        assert not answered().is_event_stream
