from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.model.health import Endpoint
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.http1 import parse_head
from tentaculo.proxy.address_mapping import MOST_MAPPED
from tentaculo.proxy.client_view import ClientView
from tentaculo.proxy.response_head import ResponseHeadBuilder
from tentaculo.proxy.route import CompiledRoute
from tentaculo.security.cors import EXPOSED

UPSTREAM = Endpoint("s", "10.0.0.5", 8001)
STRIP: dict[str, Any] = {"prefix": "/s", "strip": True}
TO: dict[str, Any] = {"prefix": "/madre/tasks", "to": "/tasks"}
KEEP: dict[str, Any] = {"prefix": "/s"}
GATE = ClientView("http", "gate.example:8000", "gate.example:8000")


def make_plan(route: dict[str, Any], **service: Any) -> CompiledRoute:
    data = {"services": {"s": {"url": "http://10.0.0.5:8001", "routes": [route], **service}}}
    config = Config.of(data)
    made = config.services["s"]
    return CompiledRoute(made, made.routes[0], config.limits, None)


class Case:
    """One answer on its way to one client."""

    def __init__(
        self,
        *lines: bytes,
        start: bytes = b"HTTP/1.1 200 OK",
        route: dict[str, Any] = KEEP,
        service: dict[str, Any] | None = None,
        method: str = "GET",
        minor: int = 1,
        keep_alive: bool = True,
        added: bytes = b"",
        replace_cors: bool = False,
        view: ClientView = GATE,
        upstream: Endpoint | None = UPSTREAM,
    ) -> None:
        self.head = parse_head(start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
        self.fields = ResponseHeaders(self.head.fields)
        plan = make_plan(route, **(service or {}))
        self.writer = ResponseHeadBuilder(
            plan,
            (plan.identity, method, minor, replace_cors),
            keep_alive=keep_alive,
            added=added,
            via=b"gate",
            view=lambda: view,
        )
        self.writer.upstream = upstream

    def final(self) -> tuple[list[bytes], bool]:
        """The client's head in lines, without Via, and whether the body is chunked."""
        block, is_chunked = self.writer.final(self.head, self.fields)
        return [line for line in split(block) if not line.startswith(b"Via:")], is_chunked

    def value(self, name: bytes) -> bytes:
        """The one value of a header in the final head."""
        (value,) = [line.split(b":", 1)[1] for line in self.final()[0] if line.lower().startswith(name.lower() + b":")]
        return value.strip()


def split(block: bytes) -> list[bytes]:
    assert block.endswith(b"\r\n\r\n")
    assert block.count(b"\r\n\r\n") == 1
    return block[:-4].split(b"\r\n")


LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
STAY = b"Connection: keep-alive"


class TestFraming:
    @pytest.mark.parametrize(
        ("method", "status", "framing", "minor", "expected", "is_chunked", "stays"),
        [
            ("GET", 200, [LENGTH], 1, [LENGTH], False, True),
            ("GET", 200, [LENGTH], 0, [LENGTH, STAY], False, True),
            ("GET", 200, [LENGTH, LENGTH], 1, [LENGTH], False, True),
            ("GET", 200, [b"Content-Length: 0"], 1, [b"Content-Length: 0"], False, True),
            ("GET", 200, [b"Content-Length: 0"], 0, [b"Content-Length: 0", STAY], False, True),
            ("GET", 200, [CHUNKED], 1, [CHUNKED], True, True),
            ("GET", 200, [CHUNKED], 0, [CLOSE], False, False),
            ("GET", 200, [], 1, [CHUNKED], True, True),
            ("GET", 200, [], 0, [CLOSE], False, False),
            ("GET", 200, [CLOSE], 1, [CHUNKED], True, True),  # the upstream's close is the upstream's
            ("HEAD", 200, [LENGTH], 1, [LENGTH], False, True),
            ("HEAD", 200, [LENGTH], 0, [LENGTH, STAY], False, True),
            ("HEAD", 200, [CHUNKED], 1, [], False, True),
            ("HEAD", 200, [], 1, [], False, True),
            ("HEAD", 200, [], 0, [STAY], False, True),
            ("GET", 204, [LENGTH], 1, [], False, True),
            ("GET", 204, [CHUNKED], 1, [], False, True),
            ("GET", 204, [], 0, [STAY], False, True),
            ("GET", 304, [LENGTH], 1, [LENGTH], False, True),
            ("GET", 304, [CHUNKED], 1, [], False, True),
            ("GET", 304, [], 0, [STAY], False, True),
            ("HEAD", 204, [LENGTH], 1, [], False, True),
        ],
    )
    def test_lines(
        self,
        method: str,
        status: int,
        framing: list[bytes],
        minor: int,
        expected: list[bytes],
        is_chunked: bool,
        stays: bool,
    ) -> None:
        case = Case(b"A: b", *framing, start=b"HTTP/1.1 %d Why not" % status, method=method, minor=minor)
        assert case.final() == ([b"HTTP/1.1 %d Why not" % status, b"A: b", *expected], is_chunked)
        assert case.writer.keep_alive is stays

    @pytest.mark.parametrize("minor", [0, 1])
    def test_a_client_that_does_not_stay(self, minor: int) -> None:
        case = Case(LENGTH, minor=minor, keep_alive=False)
        assert case.final() == ([b"HTTP/1.1 200 OK", LENGTH, CLOSE], False)

    def test_an_upstream_of_http_1_0(self) -> None:
        case = Case(b"A: b", start=b"HTTP/1.0 200")
        block, _ = case.writer.final(case.head, case.fields)
        assert split(block) == [b"HTTP/1.1 200 ", b"A: b", CHUNKED, b"Via: 1.0 gate"]


class TestSameFieldsAgain:
    """The head for the last client is remembered with the fields; another client must not get what is not its own."""

    def test_each_client_gets_its_own(self) -> None:
        case = Case(LENGTH, b"Location: /a", b"Access-Control-Allow-Origin: *", route=KEEP)

        def final(request_id: int, *, minor: int = 1, keep_alive: bool = True, cors: bool = False) -> list[bytes]:
            added = b"X-Request-ID: %d\r\n" % request_id
            writer = ResponseHeadBuilder(
                case.writer._plan,
                (case.writer._plan.identity, "GET", minor, cors),
                keep_alive=keep_alive,
                added=added,
                via=b"gw",
                view=lambda: ClientView("http", "h", "h"),
            )
            block, _ = writer.final(case.head, case.fields)
            assert writer.keep_alive == keep_alive
            return split(block)

        first = final(1)
        assert final(2) == [line.replace(b"ID: 1", b"ID: 2") for line in first]
        assert b"Connection: close" in final(3, keep_alive=False)
        assert b"Connection: keep-alive" in final(4, minor=0)
        assert not any(line.startswith(b"Access-Control-Allow") for line in final(5, cors=True))
        assert final(6) == [line.replace(b"ID: 1", b"ID: 6") for line in first]

    def test_a_location_is_rewritten_for_each_host(self) -> None:
        case = Case(LENGTH, b"Location: http://one/x", route=STRIP)
        for host in ("one", "two"):
            view = ClientView("http", host, host)
            writer = ResponseHeadBuilder(
                case.writer._plan,
                (case.writer._plan.identity, "GET", 1, False),
                keep_alive=True,
                added=b"",
                via=b"gw",
                view=partial(ClientView, *view),
            )
            (location,) = [line for line in split(writer.final(case.head, case.fields)[0]) if b"Location" in line]
            assert location == (b"Location: http://one/s/x" if host == "one" else b"Location: http://one/x")


class TestOtherHeads:
    def test_interim(self) -> None:
        case = Case(
            *(b"Link: </a>", b"Connection: x-drop", b"X-Drop: 1", b"Keep-Alive: 1", LENGTH, CHUNKED),
            start=b"HTTP/1.1 103 Early Hints",
        )
        assert split(case.writer.interim(case.head)) == [b"HTTP/1.1 103 Early Hints", b"Link: </a>"]

    def test_upgraded(self) -> None:
        case = Case(
            *(b"Upgrade: websocket", b"Connection: Upgrade, X-Drop", b"X-Drop: 1", b"Keep-Alive: 5"),
            *(b"Sec-WebSocket-Accept: x", b"Access-Control-Allow-Origin: *", b"Server: s"),
            start=b"HTTP/1.1 101 Switching Protocols",
            added=b"X-Request-ID: 7\r\n",
            replace_cors=True,
            route={**KEEP, "remove_response_headers": ["Server"], "set_response_headers": {"X-One": "1"}},
        )
        assert split(case.writer.upgraded(case.head, case.fields)) == [
            b"HTTP/1.1 101 Switching Protocols",
            b"Sec-WebSocket-Accept: x",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Via: 1.1 gate",
            b"X-One: 1",
            b"X-Request-ID: 7",
        ]


class TestFields:
    def test_order_and_repeats_are_kept_and_ours_follow(self) -> None:
        lines = [b"Set-Cookie: a=b", b"X: caf\xe9", b"set-cookie:c=d", b"Date: x", b"Vary: A"]
        case = Case(*lines, LENGTH, b"X-Request-ID: theirs", added=b"X-Request-ID: ours\r\n")
        block, _ = case.writer.final(case.head, case.fields)
        assert split(block)[1:] == [*lines, LENGTH, b"Via: 1.1 gate", b"X-Request-ID: ours"]

    def test_our_cors_headers_stand_in_place_of_the_upstreams(self) -> None:
        lines = [
            *(b"Access-Control-Allow-Origin: *", b"access-control-allow-CREDENTIALS: false"),
            *(b"Access-Control-Max-Age: 5", b"Vary: Accept", b"A: b"),
        ]
        ours = b"Access-Control-Allow-Origin: http://o\r\nVary: Origin\r\n"
        replaced, _ = Case(*lines, LENGTH, added=ours, replace_cors=True).final()
        assert replaced[1:] == [
            b"Access-Control-Max-Age: 5",
            b"Vary: Accept",
            b"A: b",
            b"Access-Control-Expose-Headers: " + EXPOSED.encode(),
            LENGTH,
            b"Access-Control-Allow-Origin: http://o",
            b"Vary: Origin",
        ]
        assert Case(*lines, LENGTH).final()[0][1:] == [*lines, LENGTH]

    @pytest.mark.parametrize(
        ("sent", "exposed"),
        [
            ([], EXPOSED.encode()),
            ([b""], EXPOSED.encode()),
            ([b"Upload-Offset, Location"], f"Upload-Offset, Location, {EXPOSED}".encode()),
            ([b"Upload-Offset", b"Location"], f"Upload-Offset, Location, {EXPOSED}".encode()),
        ],
    )
    def test_a_page_may_read_what_the_service_exposes_as_well(self, sent: list[bytes], exposed: bytes) -> None:
        lines = [b"access-CONTROL-expose-headers: " + value for value in sent]
        assert Case(*lines, replace_cors=True).value(b"Access-Control-Expose-Headers") == exposed

    def test_a_route_may_remove_the_list_of_exposed_headers(self) -> None:
        route = {**KEEP, "remove_response_headers": ["Access-Control-Expose-Headers"]}
        case = Case(b"Access-Control-Expose-Headers: X", LENGTH, replace_cors=True, route=route)
        assert case.final()[0][1:] == [LENGTH]

    def test_the_routes_rules(self) -> None:
        rules = {
            "set_response_headers": {"Cache-Control": "no-store", "X-Request-ID": "route"},
            "remove_response_headers": ["server", "Via", "Set-Cookie"],
        }
        case = Case(
            *(b"Server: x", b"cache-control: max-age=1", b"Set-Cookie: a=b", b"A: b", LENGTH),
            added=b"X-Request-ID: ours\r\n",
            route={**KEEP, **rules},
        )
        block, _ = case.writer.final(case.head, case.fields)
        assert split(block)[1:] == [b"A: b", LENGTH, b"Cache-Control: no-store", b"X-Request-ID: route"]

    def test_the_answer_itself_is_not_changed(self) -> None:
        # An exchange that is tried again, or a record of it, must see what came.
        case = Case(b"Location: /x", b"Server: s", LENGTH, route={**STRIP, "remove_response_headers": ["Server"]})
        before = case.fields.lines.copy()
        assert case.final() == case.final()
        assert case.fields.lines == before


class TestAddresses:
    """The mapping itself is tested in `test_address_mapping.py`."""

    def test_each_field_that_carries_one_is_mapped_in_its_place(self) -> None:
        case = Case(
            *(b"Set-Cookie: a=b; Path=/", b"A: b", b"set-cookie:c=d;Path=/x", b"Location: /y", b"Link: </z>", LENGTH),
            route=STRIP,
        )
        assert case.final()[0][1:] == [
            b"Set-Cookie: a=b; Path=/s",
            b"A: b",
            b"set-cookie: c=d;Path=/s/x",
            b"Location: /s/y",
            b"Link: </s/z>",
            LENGTH,
        ]

    def test_a_line_whose_address_stays_passes_byte_for_byte(self) -> None:
        lines = [b"location:http://else.example/x ", b"X-Location: /x", b"set-cookie:a=b", b"Refresh: 5"]
        assert Case(*lines, LENGTH, route=STRIP).final()[0][1:] == [*lines, LENGTH]

    @pytest.mark.parametrize("route", [STRIP, KEEP])
    @pytest.mark.parametrize(
        "lines",
        [
            lambda count: [b"Link: " + b",".join([b"</a>"] * (count - 1))],
            lambda count: [b"Link: <x>" + b';Anchor="/a"' * (count - 2)],
            lambda count: [b"Set-Cookie: a=b" + b";domain=a" * (count - 1)],
            lambda count: [b"Upload-Concat: final;/a" + b" //a" * (count - 1)],
            lambda count: [b"Location:/a"] * count,
            lambda count: [b"Set-Cookie: a=b;path=/x"] * (count // 2),
        ],
        ids=["Link", "anchor", "cookie", "Upload-Concat", "Location", "cookies"],
    )
    def test_they_are_counted(self, route: dict[str, Any], lines: Callable[[int], list[bytes]]) -> None:
        Case(*lines(MOST_MAPPED), route=route).final()
        with pytest.raises(UpstreamError) as error:
            Case(*lines(MOST_MAPPED + 2), route=route).final()
        assert error.value.failure is Failure.RESPONSE_HEAD_TOO_LARGE

    @pytest.mark.parametrize("route", [STRIP, KEEP])
    def test_an_interim_head_has_them_too(self, route: dict[str, Any]) -> None:
        case = Case(b"Link: <http://10.0.0.5:8001/s/x>", start=b"HTTP/1.1 103 Early Hints", route=route)
        assert split(case.writer.interim(case.head))[1] == b"Link: <http://gate.example:8000/s/x>"

    @pytest.mark.parametrize(
        ("line", "is_cached"),
        [
            (b"Set-Cookie: a=b", True),
            (b"Set-Cookie: a=b; HttpOnly; Path=/; Secure", True),
            (b"Set-Cookie: a=b; Path=/s", False),
            (b"Set-Cookie: a=b; Domain=x", False),
            (b"Location: x", True),
            (b"Location: /x", False),
            (b"Location: http://one/x", False),
            (b"Link: <x>", True),
        ],
    )
    def test_only_a_head_that_no_client_changes_is_cached(self, line: bytes, is_cached: bool) -> None:
        case = Case(line, LENGTH, route=KEEP)
        case.final()
        assert (case.fields.relayed is not None) is is_cached
