"""Who may call, judged from the two headers alone."""

from __future__ import annotations

import gc
import hmac
import re
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from types import FrameType
from typing import Any

import pytest

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.model.scopes import (
    ADMIN,
    EVENTS_READ,
    EVENTS_WRITE,
    INCIDENTS_WRITE,
    STATUS,
    SUBSCRIBE,
    heartbeat_of,
    to_service,
)
from tentaculo.security.tokens import Caller, TokenCheck, Tokens, fingerprint_of, hash_token

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
    assert TOKENS.check(header, authorization).check is verdict


@pytest.mark.parametrize("verdict", TokenCheck)
def test_only_an_accepted_token_authenticates(verdict: TokenCheck) -> None:
    assert verdict.is_authenticated is (verdict.name in ("BY_HEADER", "BY_BEARER", "BY_TICKET", "BY_SESSION"))


def test_where_no_token_is_asked_for_everything_is_open() -> None:
    tokens = Tokens([hash_token("first")], enabled=False)
    assert {tokens.check(h, a).check for h in (None, b"third") for a in (None, b"Bearer first")} == {TokenCheck.OPEN}


@pytest.mark.parametrize("header", [None, b"", b" ", b"\t"])
@pytest.mark.parametrize("authorization", [None, b"Bearer", b"Bearer ", b"bearer \t", b"Basic eDp5"])
def test_an_empty_token_is_a_missing_one(header: bytes | None, authorization: bytes | None) -> None:
    assert TOKENS.check(header, authorization).check is TokenCheck.MISSING


def test_an_empty_header_leaves_the_decision_to_authorization() -> None:
    assert TOKENS.check(b"", b"Bearer first").check is TokenCheck.BY_BEARER


def test_without_any_token_nobody_is_let_in() -> None:
    tokens = Tokens([])
    assert tokens.check(b"x", None).check is TokenCheck.WRONG
    assert tokens.check(None, None).check is TokenCheck.MISSING


def made(name: str, **keys: Any) -> TokenSettings:
    return TokenSettings(hash=hash_token(name), name=name, **keys)


def calls(tokens: Tokens, token: bytes) -> int:
    """The functions that a check calls, Python's own and those in C."""
    found = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        tokens.check(token, None)
    finally:
        sys.setprofile(None)
    return found


def test_a_look_up_costs_the_same_for_one_token_and_for_a_thousand() -> None:
    few, many = (Tokens([made(f"t{number}") for number in range(count)]) for count in (1, 1000))
    for token, check in ((b"t0", TokenCheck.BY_HEADER), (b"none of them", TokenCheck.WRONG)):
        assert few.check(token, None).check is many.check(token, None).check is check
        assert calls(few, token) == calls(many, token) < 25
    assert many.check(b"t999", None).name == "t999"
    assert calls(many, b"t999") == calls(many, b"t0")


def test_what_is_found_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    class Watched:
        @staticmethod
        def compare_digest(a: bytes, b: bytes) -> bool:
            compared.append(b)
            return hmac.compare_digest(a, b)

    monkeypatch.setattr("tentaculo.security.tokens.hmac", Watched)
    assert TOKENS.accepts(b"second")
    assert compared == [sha256(b"second").digest()]


def test_a_caller_has_the_name_and_the_scopes_of_its_token() -> None:
    names = {"shubniggurath": "shubniggurath", "shub": "shubniggurath"}
    tokens = Tokens([made("ci", scopes=("events:write", "proxy:shub", "heartbeat:shub"))], names=names)
    caller = tokens.check(b"ci", None)
    assert (caller.name, caller.is_authenticated, caller.ends_at) == ("ci", True, None)
    assert caller.may(EVENTS_WRITE)
    assert not caller.may(EVENTS_READ)
    assert not caller.may(ADMIN)
    # An alias means its service.
    assert [caller.may(to_service(name).read or ()) for name in ("shubniggurath", "madre")] == [True, False]
    assert [caller.may(heartbeat_of(name).read or ()) for name in ("shubniggurath", "madre")] == [True, False]


def test_a_token_without_scopes_has_all_but_admin() -> None:
    caller = TOKENS.check(b"first", None)
    for need in (
        EVENTS_READ,
        EVENTS_WRITE,
        STATUS,
        INCIDENTS_WRITE,
        SUBSCRIBE,
        to_service("x").read,
        heartbeat_of("x").read,
    ):
        assert need is not None
        assert caller.may(need)
    assert not caller.may(ADMIN)
    assert caller.name == f"token-{fingerprint_of(hash_token('first'))[:8]}"


def test_with_authentication_switched_off_everybody_has_all_but_admin() -> None:
    caller = Tokens([], enabled=False).check(None, None)
    assert not caller.is_authenticated
    assert caller.may(EVENTS_WRITE)
    assert not caller.may(ADMIN)


def test_of_a_token_that_is_listed_twice_the_first_entry_decides() -> None:
    tokens = Tokens([made("ci", scopes=("status",)), hash_token("ci")])
    assert not tokens.check(b"ci", None).may(EVENTS_READ)


END = datetime(2030, 1, 1, tzinfo=UTC)


def test_a_token_ends_at_its_end_and_a_clock_that_is_set_back_does_not_revive_it() -> None:
    now = END.timestamp() - 1
    tokens = Tokens([made("ci", expires=END)], clock=lambda: now)
    caller = tokens.check(b"ci", None)
    assert caller.is_authenticated
    assert caller.ends_at == END.timestamp()
    assert tokens.has_fingerprint(caller.token)
    now += 1
    assert tokens.check(b"ci", None).check is TokenCheck.EXPIRED
    assert tokens.check(None, b"Bearer ci").name == "ci"
    now -= 3600
    assert tokens.check(b"ci", None).check is TokenCheck.EXPIRED
    assert not tokens.accepts(b"ci")
    assert tokens.fingerprint(b"ci") is None
    assert not tokens.has_fingerprint(caller.token)
    # No service gets it either.
    assert tokens.hides(b"Bearer ci")
    # The next configuration remembers it, and takes a later end for what it is.
    assert Tokens([made("ci", expires=END)], uses=tokens.uses, clock=lambda: now).check(b"ci", None).name == "ci"
    assert not Tokens([made("ci", expires=END)], uses=tokens.uses, clock=lambda: now).accepts(b"ci")
    later = made("ci", expires=END + timedelta(days=1))
    assert Tokens([later], uses=tokens.uses, clock=lambda: now).accepts(b"ci")


def test_a_stream_ends_with_its_token_or_with_a_scope_that_it_needs() -> None:
    tokens, ended = Tokens([made("ci"), made("page")]), list[str]()
    for name in ("ci", "page"):
        tokens.check(name.encode(), None).use.streams[partial(ended.append, name)] = (EVENTS_READ,)
    tokens.end_streams()
    assert ended == []
    Tokens([made("ci"), made("page", scopes=("status",))], uses=tokens.uses).end_streams()
    assert ended == ["page"]
    Tokens([], uses=tokens.uses).end_streams()
    assert ended == ["page", "ci"]


def test_its_repr_tells_nothing() -> None:
    assert repr(TOKENS) == "<Tokens: 2 accepted>"
    assert repr(Tokens([], enabled=False)) == "<Tokens: 0 accepted, disabled>"


def test_no_caller_is_made_of_a_token_before_its_first_request() -> None:
    """To make all of a thousand tokens held the event loop for 14 ms, whenever one of them was revoked."""

    def callers() -> int:
        return sum(isinstance(one, Caller) for one in gc.get_objects())

    known = callers()
    tokens = Tokens(hash_token(f"token-{number}") for number in range(1000))
    assert callers() - known < 10
    first = tokens.check(b"token-7", None)
    assert (first.is_authenticated, tokens.check(b"token-7", None) is first) == (True, True)
