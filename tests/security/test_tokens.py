"""Who may call, judged from the two headers alone."""

from __future__ import annotations

import hmac
import re

import pytest

from tentaculo.security.tokens import TokenCheck, Tokens, hash_token

TOKENS = Tokens([hash_token("first"), hash_token("second")])


def test_a_token_is_kept_as_its_hash() -> None:
    # The well-known digest of "abc", FIPS 180-2 appendix B.1.
    assert hash_token("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", hash_token("añil"))


@pytest.mark.parametrize(
    ("header", "authorization", "verdict"),
    [
        (None, None, TokenCheck.MISSING),
        (b"first", None, TokenCheck.BY_HEADER),
        (b"second", None, TokenCheck.BY_HEADER),
        (b"third", None, TokenCheck.WRONG),
        (b"First", None, TokenCheck.WRONG),
        (b"first ", None, TokenCheck.WRONG),
        (b"\xff\x00", None, TokenCheck.WRONG),
        (hash_token("first").encode(), None, TokenCheck.WRONG),
        (None, b"Bearer first", TokenCheck.BY_BEARER),
        (None, b"bearer second", TokenCheck.BY_BEARER),
        (None, b"BEARER   first ", TokenCheck.BY_BEARER),
        (None, b"Bearer third", TokenCheck.WRONG),
        (None, b"Bearer first second", TokenCheck.WRONG),
        # Another scheme, or none, is somebody else's business: no token was sent.
        (None, b"Bearer", TokenCheck.MISSING),
        (None, b"Bearerfirst", TokenCheck.MISSING),
        (None, b"Basic first", TokenCheck.MISSING),
        (None, b"first", TokenCheck.MISSING),
        (None, b"", TokenCheck.MISSING),
        # X-VX11-Token decides where both are there.
        (b"first", b"Bearer third", TokenCheck.BY_HEADER),
        (b"third", b"Bearer first", TokenCheck.WRONG),
    ],
)
def test_the_verdict(header: bytes | None, authorization: bytes | None, verdict: TokenCheck) -> None:
    assert TOKENS.check(header, authorization) is verdict


@pytest.mark.parametrize("verdict", TokenCheck)
def test_only_an_accepted_token_authenticates(verdict: TokenCheck) -> None:
    assert verdict.is_authenticated is (verdict.value in ("by_header", "by_bearer"))


def test_where_no_token_is_asked_for_everything_is_open() -> None:
    tokens = Tokens([hash_token("first")], enabled=False)
    assert {tokens.check(h, a) for h in (None, b"third") for a in (None, b"Bearer first")} == {TokenCheck.OPEN}


@pytest.mark.parametrize("header", [None, b"", b" ", b"\t"])
@pytest.mark.parametrize("authorization", [None, b"Bearer", b"Bearer ", b"bearer \t", b"Basic eDp5"])
def test_an_empty_token_is_a_missing_one(header: bytes | None, authorization: bytes | None) -> None:
    assert TOKENS.check(header, authorization) is TokenCheck.MISSING


def test_an_empty_header_leaves_the_decision_to_authorization() -> None:
    assert TOKENS.check(b"", b"Bearer first") is TokenCheck.BY_BEARER


def test_without_any_token_nobody_is_let_in() -> None:
    tokens = Tokens([])
    assert tokens.check(b"x", None) is TokenCheck.WRONG
    assert tokens.check(None, None) is TokenCheck.MISSING


def test_every_hash_is_compared_in_constant_time_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Watched:
        @staticmethod
        def compare_digest(a: bytes, b: bytes) -> bool:
            compared.append(b)
            return hmac.compare_digest(a, b)

    monkeypatch.setattr("tentaculo.security.tokens.hmac", Watched)
    tokens = Tokens([hash_token(name) for name in ("first", "second", "third")])
    for token in (b"first", b"third", b"none of them"):
        compared.clear()
        tokens.accepts(token)
        assert len(set(compared)) == 3


def test_its_repr_tells_nothing() -> None:
    assert repr(TOKENS) == "<Tokens: 2 accepted>"
    assert repr(Tokens([], enabled=False)) == "<Tokens: 0 accepted, disabled>"
