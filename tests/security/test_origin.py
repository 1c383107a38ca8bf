from __future__ import annotations

import pytest

from tentaculo.security.origin import is_allowed

LISTED = ("http://localhost:8020", "https://operator.example/")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "gateway:8000"),
        ("http://localhost:8020", "127.0.0.1:8000"),
        ("HTTP://LOCALHOST:8020", "127.0.0.1:8000"),
        ("https://operator.example", "127.0.0.1:8000"),
        ("http://gateway:8000", "gateway:8000"),
        ("http://Gateway", "gateway:80"),
        ("https://gateway", "gateway"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_allowed(origin: str | None, host: str) -> None:
    assert is_allowed(origin, host, LISTED)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "gateway:8000"),
        ("", "gateway:8000"),
        ("", ""),
        ("http://", ""),
        ("http://evil.example", "gateway:8000"),
        ("http://gateway:8001", "gateway:8000"),
        ("http://gateway", "gateway:8000"),
        ("http://localhost:8020.evil.example", "gateway:8000"),
        ("http://localhost:80200", "gateway:8000"),
        ("file://", "gateway:8000"),
        ("http://[::1", "[::1"),
        ("http://gateway:99999", "gateway:99999"),
        ("\0http://gateway", "gateway"),
        (" http://gateway", "gateway"),
        ("ht\ttp://gateway", "gateway"),
        ("http://evil@gateway", "gateway"),
        ("http://gateway/path", "gateway"),
        ("http://gateway?", "gateway"),
    ],
)
def test_denied(origin: str, host: str) -> None:
    assert not is_allowed(origin, host, LISTED)
