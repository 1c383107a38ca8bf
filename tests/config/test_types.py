from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from tentaculo.config import types
from tentaculo.config.reader import REFUSED, EnvironmentText, reader_for
from tentaculo.config.types import trusted_proxy_matcher

SECRET = "hunter2"


def accepts(form: Any, value: object) -> Any:
    faults: list[str] = []
    kept = reader_for(form)(value, (), lambda place, message: faults.append(message))
    assert not faults
    return kept


def refuses(form: Any, value: object) -> str:
    faults: list[str] = []
    assert reader_for(form)(value, (), lambda place, message: faults.append(message)) is REFUSED
    (message,) = faults
    return message


@pytest.mark.parametrize(
    ("given", "kept"), [("/", "/"), ("/a/", "/a"), ("/a//", None), ("/a/b%2Fc", "/a/b%2Fc"), ("/a;b", "/a;b")]
)
def test_prefixes(given: str, kept: str | None) -> None:
    if kept is None:
        refuses(types.PathPrefix, given)
    else:
        assert accepts(types.PathPrefix, given) == kept


@pytest.mark.parametrize(
    "wrong", ["", "a", "//a", "/a?b", "/a#b", "/a b", "/a\\b", "/á", "/a/../b", "/.", "/a\x00", "/a\x7f", "/a\n"]
)
def test_prefixes_that_no_request_could_match_or_none_should(wrong: str) -> None:
    refuses(types.PathPrefix, wrong)


@pytest.mark.parametrize(
    "address", ["http://h", "https://h/", "http://127.0.0.1:8001", "http://[::1]:8001", "http://my_service.internal:1"]
)
def test_addresses(address: str) -> None:
    assert accepts(types.HttpAddress, address) == address


@pytest.mark.parametrize(
    "wrong",
    [
        "h:80",
        "ftp://h",
        "http://",
        "http://h/path",
        "http://h?q",
        "http://h#f",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://[::1",
        "http://a b",
        f"http://u:{SECRET}@h",
        f"http://{SECRET}@h",
    ],
)
def test_addresses_that_are_none_and_are_not_shown(wrong: str) -> None:
    assert SECRET not in refuses(types.HttpAddress, wrong)


def test_networks_and_single_addresses() -> None:
    assert str(accepts(types.TrustedNetwork, "10.0.0.0/8")) == "10.0.0.0/8"
    assert str(accepts(types.TrustedNetwork, "::1")) == "::1/128"
    assert "the network is 10.0.0.0/8" in refuses(types.TrustedNetwork, "10.1.2.3/8")
    assert "is not an address or a network" in refuses(types.TrustedNetwork, "localhost")


@pytest.mark.parametrize(
    ("given", "split"),
    [
        ("h", ("h", None)),
        ("h:1", ("h", 1)),
        ("[::1]", ("::1", None)),
        ("[::1]:65535", ("::1", 65535)),
        ("h:0", ("h", 0)),
    ],
)
def test_hosts_and_ports_are_taken_apart(given: str, split: tuple[str, int | None]) -> None:
    assert types.split_host_port(given) == split


@pytest.mark.parametrize(
    "wrong", ["", ":80", "::1", "[::1", "[h]:1", "[::1]80", "h:", "h:65536", "h:-1", "h:٣", "a b:1"]
)
def test_what_is_no_host_and_port(wrong: str) -> None:
    with pytest.raises(ValueError):
        types.split_host_port(wrong)


def test_where_to_listen() -> None:
    assert accepts(types.ListenHost, "[::]") == "::"
    assert accepts(types.ListenHost, "localhost") == "localhost"
    refuses(types.ListenHost, "127.0.0.1:80")
    refuses(types.ListenHost, "")
    assert accepts(types.Listen, "[::1]:0") == "[::1]:0"
    refuses(types.Listen, "localhost")


def test_a_routes_host_is_kept_as_requests_name_it() -> None:
    assert accepts(types.RouteHost, "API.Example.org.") == "api.example.org"
    assert accepts(types.RouteHost, "::1") == "[::1]"
    assert accepts(types.RouteHost, "[::1]") == "[::1]"
    for wrong in ("", "a:80", "[::1]:80", "a/b", "*.example.org", "http://a"):
        refuses(types.RouteHost, wrong)


def test_a_host_header_may_have_a_port() -> None:
    assert accepts(types.HostHeader, "madre:8001") == "madre:8001"
    refuses(types.HostHeader, "madre\r\nX: y")


def test_origins_are_kept_as_browsers_send_them() -> None:
    assert accepts(types.Origin, "HTTP://LocalHost:8020") == "http://localhost:8020"
    assert accepts(types.Origin, "https://a.example:443") == "https://a.example"
    assert accepts(types.Origin, "http://[::1]:80") == "http://[::1]"
    for app in ("null", "file://", "capacitor://localhost", "app://.", "vscode-webview://abc"):
        assert accepts(types.Origin, app) == app
    for wrong in ("*", "nul", "localhost:80", "http://a/", "file:///a", "http://a b", "https://", "app://a b", "://a"):
        refuses(types.Origin, wrong)


def test_headers() -> None:
    assert accepts(types.HeaderName, "X-A_b") == "X-A_b"
    for wrong in ("", "a b", "a:", "á", "a\n"):
        refuses(types.HeaderName, wrong)
    assert accepts(types.HeaderValue, "a\tb é") == "a\tb é"
    assert "control" in refuses(types.HeaderValue, "a\r\nb")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///a.db",
        "sqlite:////a.db",
        "sqlite:///a.db?path=/x/",
        "postgresql://u:p@h/d",
        "postgresql://u:p/w:x@h:5432/d",
        "postgresql://u:p@[::1]:5432/d?application_name=a:b@c",
        "postgresql://u:p@h:/d",
        "postgresql:///d",
        "postgres://h",
    ],
)
def test_databases(url: str) -> None:
    assert accepts(types.DatabaseUrl, url).reveal() == url


@pytest.mark.parametrize(
    "url", ["", "a.db", f"mysql://u:{SECRET}@h/d", "sqlite+aiosqlite:///a", f"sqlite://{SECRET}.db"]
)
def test_databases_that_are_not_served(url: str) -> None:
    assert SECRET not in refuses(types.DatabaseUrl, url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////", "of a folder"),
        ("sqlite:///data/", "of a folder"),
        ("sqlite:////var/lib/?timeout=3", "of a folder"),
        (f"postgresql://u:{SECRET}@h:x/d", "no valid port"),
        (f"postgresql://u:{SECRET}@h:99999/d", "no valid port"),
        (f"postgresql://u:{SECRET}@h:-1/d", "no valid port"),
        (f"postgresql://u:{SECRET}@h:\uff15/d", "no valid port"),
        (f"postgresql://u:{SECRET}@{SECRET}@h/d", "%40"),
    ],
)
def test_a_database_that_could_never_be_opened_is_refused_with_what_is_right(url: str, words: str) -> None:
    said = refuses(types.DatabaseUrl, url)
    assert words in said
    assert SECRET not in said


def test_numbers_are_numbers() -> None:
    assert accepts(types.Seconds, EnvironmentText("1.5")) == 1.5
    assert "must be a number" in refuses(types.Seconds, True)
    assert "must be a number" in refuses(types.Seconds, "1.5")
    assert "must be a number" in refuses(types.Port, False)
    for wrong in (0, -1, float("inf"), float("nan"), 10**400):
        refuses(types.Seconds, wrong)


def test_hashes() -> None:
    assert accepts(types.TokenHash, "sha256:" + "AB" * 32) == "sha256:" + "ab" * 32
    for wrong in (
        SECRET,
        "sha256:" + "ab" * 31,
        "sha256:" + "zz" * 32,
        "SHA256:" + "ab" * 32,
        "sha256:" + "ab" * 32 + "\n",
    ):
        assert SECRET not in refuses(types.TokenHash, wrong)


@pytest.mark.parametrize(
    ("peer", "is_trusted"),
    [
        ("10.0.0.1", True),
        ("10.255.255.255", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_networks(peer: str, is_trusted: bool) -> None:
    assert trusted_proxy_matcher([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])(peer) is is_trusted


def test_nobody_by_default() -> None:
    assert not trusted_proxy_matcher([])("127.0.0.1")
