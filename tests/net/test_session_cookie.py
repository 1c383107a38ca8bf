"""The gateway's own cookie in the fields that clients and services send."""

from __future__ import annotations

import pytest

from tentaculo.net.session_cookie import HOST_ONLY, PLAIN, is_set_by, take_out
from tests.support.calls import counting_calls


@pytest.mark.parametrize(
    ("cookie", "rest", "found"),
    [
        (b"a=b; c=d", b"a=b; c=d", {}),
        (b"tentaculo_session=x", b"", {PLAIN: b"x"}),
        (b"__Host-tentaculo_session=x", b"", {HOST_ONLY: b"x"}),
        (b"a=b; tentaculo_session=x; c=d", b"a=b; c=d", {PLAIN: b"x"}),
        (b"tentaculo_session=x; c=d", b"c=d", {PLAIN: b"x"}),
        (b"a=b;tentaculo_session=x", b"a=b", {PLAIN: b"x"}),
        (b"a=b; \ttentaculo_session\t= x ;c=\xff", b"a=b;c=\xff", {PLAIN: b"x"}),
        (b"tentaculo_session=x; __Host-tentaculo_session=y", b"", {PLAIN: b"x", HOST_ONLY: b"y"}),
        (b"tentaculo_session=x; tentaculo_session=x", b"", {PLAIN: b"x"}),
        (b"tentaculo_session=x; tentaculo_session=y", b"", {PLAIN: b""}),
        (b"tentaculo_session", b"", {PLAIN: b""}),
        # A cookie in quotation marks ends at a semicolon all the same, for browsers.
        (b'a="; tentaculo_session=x"', b'a="', {PLAIN: b'x"'}),
        # Other names, and a value that only looks like it.
        (b"my_tentaculo_session=x", b"my_tentaculo_session=x", {}),
        (b"tentaculo_session2=x; a=tentaculo_session=x", b"tentaculo_session2=x; a=tentaculo_session=x", {}),
        (b"Tentaculo_Session=x", b"Tentaculo_Session=x", {}),
        (b"tentaculo_session x=y", b"tentaculo_session x=y", {}),
        # Separators stay where they are.
        (b";tentaculo_session=x;a", b";a", {PLAIN: b"x"}),
        (b"tentaculo_session=x;;a=b;", b";a=b;", {PLAIN: b"x"}),
        (b"a;;tentaculo_session=x", b"a;", {PLAIN: b"x"}),
        (b"tentaculo_session=x;tentaculo_session= x ; a=b", b"a=b", {PLAIN: b"x"}),
        (b"tentaculo_session=x;" * 9 + b"a=b", b"a=b", {PLAIN: b""}),
    ],
)
def test_it_is_taken_out_of_a_cookie_field_and_nothing_else_is(
    cookie: bytes, rest: bytes, found: dict[bytes, bytes]
) -> None:
    assert take_out(cookie) == (rest, found)


@pytest.mark.parametrize(
    ("value", "is_it"),
    [
        (b"tentaculo_session=x", True),
        (b"__Host-tentaculo_session=x; Path=/; Secure", True),
        (b"  tentaculo_session = x; Max-Age=0", True),
        (b"tentaculo_session", True),
        (b"=tentaculo_session=x", True),
        (b"= __Host-tentaculo_session=x; Path=/", True),
        (b"__host-TENTACULO_SESSION=x", True),
        (b"a=tentaculo_session=x", False),
        (b"a=b; tentaculo_session=x", False),
        (b"tentaculo_session2=x", False),
        (b"", False),
    ],
)
def test_who_would_set_it_is_known(value: bytes, *, is_it: bool) -> None:
    assert is_set_by(value) is is_it


@pytest.mark.parametrize("more", [b";" * 30_000, b";tentaculo_session=x" * 1_500, b"; \t" * 10_000 + b"=" * 10_000])
def test_the_cost_of_a_long_cookie_is_small(more: bytes) -> None:
    with counting_calls() as calls:
        assert PLAIN in take_out(b"tentaculo_session=x" + more)[1]
    assert calls.total < 50
