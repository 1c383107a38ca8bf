from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.net.request_headers import RequestHeaders
from tentaculo.proxy.request_head import announced_trailers, forwarded_lines, trusted_forwarded_lines
from tentaculo.proxy.route import HeaderRules
from tests.support.calls import counting_calls


def lines(block: bytes) -> dict[str, str]:
    split = [line.partition(": ") for line in block.decode("latin-1").removesuffix("\r\n").split("\r\n")]
    assert len({name for name, _, _ in split}) == len(split)
    return {name: value for name, _, value in split}


def untrusted(peer: str = "203.0.113.9", host: bytes = b"h:8000", prefix: str = "") -> dict[str, str]:
    return lines(forwarded_lines(peer, "http", host, 8000, prefix))


def trusted(*said: tuple[bytes, bytes], peer: str = "10.0.0.1", prefix: str = "") -> dict[str, str]:
    known = RequestHeaders(list(said)).provenance or {}
    return lines(trusted_forwarded_lines(known, peer, "http", b"h:8000", 8000, prefix))


def test_the_cost_of_a_long_trailer_is_small() -> None:
    fields = RequestHeaders([(b"Trailer", b"X-A, " + b"b," * 8_000 + b"X-Last")])
    with counting_calls() as calls:
        names = announced_trailers(fields, HeaderRules({}, []))
    assert (names[0], len(names)) == (b"X-A", 128)
    assert calls.total < 1_500


class TestUntrusted:
    def test_all_is_ours(self) -> None:
        assert untrusted() == {
            "X-Forwarded-For": "203.0.113.9",
            "X-Forwarded-Proto": "http",
            "X-Forwarded-Host": "h:8000",
            "X-Forwarded-Port": "8000",
            "X-Real-IP": "203.0.113.9",
            "Forwarded": 'for=203.0.113.9;host="h:8000";proto=http',
        }

    def test_the_prefix_where_one_was_taken_off(self) -> None:
        assert untrusted(prefix="/madre/é")["X-Forwarded-Prefix"] == "/madre/é".encode().decode("latin-1")

    def test_ipv6(self) -> None:
        said = untrusted("2001:db8::1")
        assert said["X-Forwarded-For"] == said["X-Real-IP"] == "2001:db8::1"
        assert said["Forwarded"].startswith('for="[2001:db8::1]";')

    def test_without_host_or_peer(self) -> None:
        said = untrusted("", b"")
        assert said == {"X-Forwarded-Proto": "http", "X-Forwarded-Port": "8000", "Forwarded": "for=unknown;proto=http"}

    @given(st.binary(max_size=40).filter(lambda host: not set(host) & set(b"\r\n")))
    def test_no_host_gets_out_of_its_quotes(self, host: bytes) -> None:
        element = untrusted(host=host)["Forwarded"].encode("latin-1")
        assert element.startswith(b"for=203.0.113.9;")
        assert element.endswith(b";proto=http")
        quoted = element.removeprefix(b"for=203.0.113.9;").removesuffix(b"proto=http")
        if host:
            assert unquoted(quoted.removeprefix(b"host=").removesuffix(b";")) == host


def unquoted(value: bytes) -> bytes:
    """A quoted-string (RFC 9110 section 5.6.4), taken strictly."""
    assert value[:1] == b'"'
    text, rest = b"", value[1:]
    while rest[:1] != b'"':
        assert rest
        if rest[:1] == b"\\":
            rest = rest[1:]
        text, rest = text + rest[:1], rest[1:]
    assert rest == b'"'
    return text


class TestTrusted:
    def test_one_that_says_nothing(self) -> None:
        assert trusted(peer="203.0.113.9") == untrusted()

    def test_what_it_says_stands_and_it_is_added_to_the_chains(self) -> None:
        said = trusted(
            (b"X-Forwarded-For", b"198.51.100.7, 203.0.113.9"),
            (b"X-Forwarded-Proto", b"https"),
            (b"X-Forwarded-Host", b"public.example"),
            (b"X-Forwarded-Port", b"443"),
            (b"X-Forwarded-Prefix", b"/outer"),
            (b"Forwarded", b"for=203.0.113.9;proto=https"),
            prefix="/madre",
        )
        assert said == {
            "X-Forwarded-For": "198.51.100.7, 203.0.113.9, 10.0.0.1",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "public.example",
            "X-Forwarded-Port": "443",
            "X-Real-IP": "203.0.113.9",
            "Forwarded": 'for=203.0.113.9;proto=https, for=10.0.0.1;host="h:8000";proto=http',
            "X-Forwarded-Prefix": "/outer/madre",
        }

    def test_the_real_ip_is_what_it_saw_and_not_what_a_client_made_up(self) -> None:
        assert trusted((b"X-Forwarded-For", b"6.6.6.6,203.0.113.9"))["X-Real-IP"] == "203.0.113.9"
        assert trusted((b"X-Forwarded-For", b"6.6.6.6, "))["X-Real-IP"] == "10.0.0.1"
        # Some load balancers append the client's port.
        assert trusted((b"X-Forwarded-For", b"6.6.6.6, 203.0.113.9:4711"))["X-Real-IP"] == "203.0.113.9"
        assert trusted((b"X-Forwarded-For", b"[2001:db8::1]:4711"))["X-Real-IP"] == "2001:db8::1"
        assert trusted((b"X-Forwarded-For", b"unknown"))["X-Real-IP"] == "unknown"
        assert trusted((b"X-Forwarded-For", b"6.6.6.6"), (b"X-Real-IP", b"203.0.113.9"))["X-Real-IP"] == "203.0.113.9"

    def test_ipv6(self) -> None:
        said = trusted((b"X-Forwarded-For", b"2001:db8::2"), (b"Forwarded", b'for="[2001:db8::2]"'), peer="2001:db8::1")
        assert said["X-Forwarded-For"] == "2001:db8::2, 2001:db8::1"
        assert said["Forwarded"].startswith('for="[2001:db8::2]", for="[2001:db8::1]";')
