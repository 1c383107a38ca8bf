from __future__ import annotations

import pytest

from tentaculo.proxy.content_security_policy import has_addresses, map_policy


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("img-src a b; script-src-attr c", "img-src <a> <b>; script-src-attr <c>"),
        ("IMG-SRC\ta,report-uri /r  /q ;", "IMG-SRC\t<a>,report-uri (/r)  (/q) ;"),
        ("base-uri a; form-action b; navigate-to c", "base-uri <a>; form-action <b>; navigate-to <c>"),
        ("sandbox allow-scripts; report-to a; src b; -srcx c", "sandbox allow-scripts; report-to a; src b; -srcx c"),
    ],
)
def test_each_word_by_its_directive(value: str, expected: str) -> None:
    assert map_policy(value, "<{}>".format, "({})".format) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"", False), (b"img-src data: 'self'", False), (b"img-src a.example", True), (b"report-uri x", True)],
)
def test_what_may_differ_from_client_to_client(value: bytes, expected: bool) -> None:
    assert has_addresses(value) is expected
