"""The rules for every request, asked directly. tests/server/test_dispatcher.py asks them on real sockets."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from tentaculo.config.schema import CorsSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import ClientConnection, ClientInfo, InboundRequest, Request
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.sessions import Sessions
from tentaculo.security.tickets import Tickets
from tentaculo.security.tokens import TokenCheck, Tokens, hash_token
from tentaculo.server.access_control import AccessControl
from tests.support.calls import counting_calls
from tests.support.server import NoSessionStore, NoTicketStore

TOKENS, CORS = Tokens([hash_token("right")]), CorsPolicy(CorsSettings(origins=("http://mine.example",)))
TICKETS = Tickets(NoTicketStore())
SESSIONS = Sessions(NoSessionStore(), TOKENS.has_fingerprint)
ACCESS = AccessControl(TOKENS, CORS, TICKETS, SESSIONS)
ASKED = ("Access-Control-Request-Method", "PUT")


def inbound(
    *fields: tuple[str, str],
    method: str = "GET",
    is_trusted: bool = False,
    host: str = "gate",
    target: str = "/",
) -> InboundRequest:
    connection = SimpleNamespace(
        peername=("10.0.0.1", 1), sockname=("10.0.0.2", 80), ssl_context=None, client_info=None
    )
    headers = [(name.encode(), value.encode()) for name, value in (("Host", host), *fields)]
    request = SimpleNamespace(
        method=method, raw_path=target, version=(1, 1), keep_alive=True, raw_headers=headers, protocol=connection
    )
    client = ClientInfo(cast(ClientConnection, connection), lambda peer: is_trusted)
    made = InboundRequest(cast(Request, request), client)
    made.read(8192)
    return made


def test_the_cost_of_long_lists_is_small() -> None:
    lists = ("Connection", "upgrade"), ("Upgrade", "x," * 2_000), ("Accept", "a/b," * 1_000)
    made = inbound(*lists, target="/s?ticket=x")
    with counting_calls() as calls:
        ACCESS.find_ticket(made, is_native=False, needs_token=False)
        made.offered_upgrades(frozenset((b"websocket",)), None)
    assert calls.total < 600


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ([], Failure.AUTH_REQUIRED),
        ([("X-VX11-Token", "wrong")], Failure.FORBIDDEN),
        ([("Authorization", "Bearer wrong")], Failure.FORBIDDEN),
    ],
)
def test_a_missing_and_a_wrong_token(fields: list[tuple[str, str]], failure: Failure) -> None:
    with pytest.raises(Problem) as caught:
        ACCESS.authenticate(inbound(*fields), needs_token=True)
    assert caught.value.failure is failure
    assert not ACCESS.authenticate(inbound(*fields), needs_token=False).is_authenticated


def test_only_authorization_that_carried_the_token_is_hidden() -> None:
    check = partial(ACCESS.authenticate, needs_token=True)
    bearer = inbound(("Authorization", "Bearer right"))
    assert check(bearer).check is TokenCheck.BY_BEARER
    assert ACCESS.hides_authorization(bearer)
    both = inbound(("X-VX11-Token", "right"), ("Authorization", "Bearer for-the-service"))
    assert check(both).check is TokenCheck.BY_HEADER
    assert not ACCESS.hides_authorization(both)


def test_a_preflight_is_answered_for_listed_origins_only() -> None:
    assert ACCESS.preflight(inbound(("Origin", "http://mine.example"), ASKED, method="OPTIONS"))
    assert ACCESS.preflight(inbound(("Origin", "http://other.example"), ASKED, method="OPTIONS")) is None
    assert ACCESS.preflight(inbound(("Origin", "http://mine.example"), method="OPTIONS")) is None
    assert ACCESS.preflight(inbound(("Origin", "http://mine.example"), ASKED)) is None


def test_the_forwarded_host_counts_only_from_a_trusted_peer() -> None:
    fields = (("Origin", "https://public.example"), ("X-Forwarded-Host", "public.example"))
    access = AccessControl(TOKENS, CORS, TICKETS, SESSIONS, ["public.example"])
    access.check_origin(inbound(*fields, is_trusted=True), None)
    with pytest.raises(Problem) as caught:
        access.check_origin(inbound(*fields), None)
    assert caught.value.failure is Failure.ORIGIN_DENIED


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("localhost:8000", True),
        ("gateway", True),
        ("listed.example", True),
        ("claimed.example", True),
        ("rebound.example", False),
        ("sub.listed.example", False),
        ("127.0.0.1.rebound.example", False),
    ],
)
def test_an_origin_equal_to_host_is_own_only_for_names_that_no_attacker_has(host: str, *, is_own: bool) -> None:
    access = AccessControl(TOKENS, CORS, TICKETS, SESSIONS, ["listed.example"])
    request = inbound(("Origin", f"http://{host}"), host=host)
    if is_own:
        access.check_origin(request, "claimed.example")
        return
    with pytest.raises(Problem) as caught:
        access.check_origin(request, "claimed.example")
    assert caught.value.failure is Failure.ORIGIN_DENIED
