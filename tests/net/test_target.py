from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.http1 import Target, is_address, is_authority, parse_target


def refusal(target: str, method: str = "GET") -> Failure:
    with pytest.raises(Problem) as caught:
        parse_target(method, target)
    assert caught.value.status == 400
    return caught.value.failure


DOTS = ["..", "%2e%2E", ".%2e", "%2e."]
OVERLONG_DOTS = ["%C0%AE.", "%c0%ae%c0%ae", "%e0%80%ae%2e", "%f0%80%80%ae.", "%u002e%u002E"]
AROUND = ["/{}", "/{}/", "/a/{}", "/a/{}/b", "//{}//", "/a%2f{}", "/a/{}%2fb", "/a%2F{}%2Fb", "/%5c{}", "/{}%5Cb"]
BEHIND = ["", ";", ";x=y", "%3bx", "%3B", ";/x", ";%2f"]


@pytest.mark.parametrize("dots", DOTS + OVERLONG_DOTS)
@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("behind", BEHIND)
def test_segments_that_lead_up_are_refused_in_every_encoding(dots: str, around: str, behind: str) -> None:
    assert refusal(around.format(dots + behind)) is Failure.BAD_TARGET
    assert refusal(around.format(dots + behind) + "?q=1") is Failure.BAD_TARGET
    assert refusal("http://h" + around.format(dots + behind)) is Failure.BAD_TARGET


@pytest.mark.parametrize("dot", [".", "%2e", "%2E"])
@pytest.mark.parametrize("around", ["/{}", "/{}/", "/a/{}", "/a/{}/b", "//{}//", "/a/{}/{}/b", "/{}/..a/{}"])
def test_a_single_dot_leads_nowhere_and_passes_as_it_came(dot: str, around: str) -> None:
    path = around.format(dot, dot)
    assert parse_target("GET", path + "?q=./x") == Target(path, "?q=./x", None)


@pytest.mark.parametrize("dot", [".", "%2e", "%c0%ae", "%u002e"])
@pytest.mark.parametrize("around", ["/a%2f{}", "/a/{}%2Fb", "/%5c{}", "/{}%5Cb", "/a/{};x", "/{}%3b"])
def test_a_single_dot_beside_what_may_be_a_separator_is_refused(dot: str, around: str) -> None:
    assert refusal(around.format(dot)) is Failure.BAD_TARGET


@pytest.mark.parametrize("dot", ["%c0%ae", "%e0%80%ae", "%f0%80%80%ae", "%u002e"])
def test_a_single_dot_that_no_client_writes_so_is_refused(dot: str) -> None:
    assert refusal(f"/a/{dot}/b") is Failure.BAD_TARGET


@pytest.mark.parametrize(
    "target",
    [
        "/a/..%c0%afb",
        "/a%c1%9c../b",
        "/a%e0%80%af../b",
        "/..%u002fb",
        "/a\\b",
        "/\\",
        "/a\\..\\b",
        "/a/..\\b",
        "/a\x00b",
        "/a%00b",
        "/a%00",
        "/..%00/b",
        "/a#b",
        "/a b",
        "/a\tb",
        "/a\rb",
        "/a\nb",
        "/a\x0bb",
        "/a\x1bb",
        "/a\x7fb",
    ],
)
def test_what_no_path_may_hold(target: str) -> None:
    assert refusal(target) is Failure.BAD_TARGET


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/",
        "//",
        "//a//b//",
        "/a%2Fb%2fc",
        "/a%5Cb%5cc",
        "/%20%7E+;,=:@!$&'()*",
        "/a;b=c;d",
        "/;",
        "/%C3%A9/%c3%a9",
        "/é/日本",
        "/\udcff\udc80",
        "/%ff%FE",
        "/%",
        "/%zz/%2",
        "/a.b/.c/d./..e/f../...",
        "/.well-known/x",
        "/%2ehidden",
        "/a%2e/%2e%2e%2e",
        "/a..%2fb",
        "/a%2f.b",
        "/%252e%252e/x",
        "/%2500",
        "/%c0%aehidden",
        "/%e0%a4%85",
        '/"<>[]^`{|}',
        "/a%0d%0ab",
        "/http://else.example/",
    ],
)
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "??",
        "?a=b&c",
        "?a",
        "?a+b=%20%2B",
        "?../..//\\;%2e%2e%00",
        "?é=\udcff",
        "?http://x/?y",
        "?" + "a" * 9000,
    ],
)
def test_every_other_byte_is_left_alone(path: str, query: str) -> None:
    assert parse_target("GET", path + query) == Target(path, query, None)


@given(
    st.lists(st.text("ab%25;.+é\udcff", min_size=1).filter(lambda s: "." not in s), max_size=5).map("/".join),
    st.text().filter(lambda text: "#" not in text),
)
def test_path_and_query_together_are_the_target(path: str, query: str) -> None:
    target = parse_target("GET", f"/{path}?{query}")
    assert target.path + target.query == f"/{path}?{query}"
    assert target.query == f"?{query}"


class TestForms:
    @pytest.mark.parametrize(
        ("target", "expected"),
        [
            ("http://h.example/a?b", Target("/a", "?b", "h.example")),
            ("HTTP://h.example:80/a", Target("/a", "", "h.example:80")),
            ("https://h/", Target("/", "", "h")),
            ("http://h", Target("/", "", "h")),
            ("http://h?q", Target("/", "?q", "h")),
            ("http://h?/q", Target("/", "?/q", "h")),
            ("http://[::1]:8000/a", Target("/a", "", "[::1]:8000")),
            ("http://h//a", Target("//a", "", "h")),
        ],
    )
    def test_absolute(self, target: str, expected: Target) -> None:
        assert parse_target("GET", target) == expected

    @pytest.mark.parametrize(
        "target",
        [
            "http://user@h/",
            "http://user:secret@h/",
            "http://a@b@h/",
            "http://h%40x@y/",
            "http:///a",
            "http://",
            "http://?q",
            "http://h#f",
            "http://h x/",
            "http://h,i/",
            "http://h\\i/",
            "http://h:port/",
            "http://h:123456/",
            "http://::1/",
            "http://[::1/",
            "http://[h]/",
            "http:/h/a",
            "http:h/a",
            "ftp://h/a",
            "ws://h/a",
            "file:///etc/passwd",
            "://h/a",
            "a",
            "?q",
            "",
            "h:443",
            "**",
            "*/a",
            "*?q",
        ],
    )
    def test_no_other(self, target: str) -> None:
        assert refusal(target) is Failure.BAD_TARGET
        assert refusal(target, "OPTIONS") is Failure.BAD_TARGET

    def test_the_asterisk_is_for_options_only(self) -> None:
        assert parse_target("OPTIONS", "*") == Target("*", "", None)
        for method in ("GET", "HEAD", "options", "TRACE"):
            assert refusal("*", method) is Failure.BAD_TARGET


@pytest.mark.parametrize(
    "text",
    [
        "h",
        "H.example",
        "h:",
        "h:0",
        "h:8000",
        "h:59999",
        "h:65535",
        "h:00080",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:80",
        "[fe80::1]:",
        "tentaculo_link:8000",
        "xn--a.b.",
    ],
)
def test_an_authority(text: str) -> None:
    assert is_authority(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "a@b",
        "a/b",
        "a,b",
        "a b",
        " a",
        "a\t",
        "a?b",
        "a#b",
        "a\\b",
        'a"b',
        "a<b",
        "a:b",
        "a:80:80",
        "a:123456",
        "a:65536",
        "a:65540",
        "a:66000",
        "a:70000",
        "a:99999",
        "[::1]:65536",
        "::1",
        "[::1",
        "[]",
        "[::1]x",
        "a\n",
        "a\x00",
        "a" * 256,
    ],
)
def test_no_authority(text: str) -> None:
    assert not is_authority(text)


def test_the_characters_of_a_host_name() -> None:
    """Those of a registered name (RFC 3986 section 3.2.2), and all that are not ASCII."""
    allowed = {*string.ascii_letters, *string.digits, *"-._~%!$&'()*+;="}
    assert {chr(code) for code in range(128) if is_authority(f"a{chr(code)}b")} == allowed
    assert all(is_authority(f"a{letter}b") for letter in "\x80ñ\ud800\udcff\U0010ffff")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("[fe80::1%25eth0]", True),
        ("fe80::1%eth0", True),
        ("", False),
        ("localhost", False),
        ("127.1", False),
        ("127.0.0.1.", False),
        ("127.0.0.1.example", False),
        ("1.2.3.4.5", False),
        ("[localhost]", False),
        ("0x7f000001", False),
    ],
)
def test_is_address(host: str, expected: bool) -> None:
    assert is_address(host) is expected
