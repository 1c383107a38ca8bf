from __future__ import annotations

import pytest

from tentaculo.model.scopes import (
    ADMIN,
    EVENTS_READ,
    EVENTS_WRITE,
    PLAIN,
    SUBSCRIBE,
    granted,
    heartbeat_of,
    is_scope,
    to_service,
    unknown_services,
)


@pytest.mark.parametrize("scope", [*PLAIN, "proxy:madre", "proxy:my-api_2", "heartbeat:x"])
def test_a_scope(scope: str) -> None:
    assert is_scope(scope)


@pytest.mark.parametrize(
    "scope",
    [
        *(
            "",
            "*",
            "proxy:",
            "proxy:*",
            "heartbeat",
            "heartbeat:",
            "events",
            "events:*",
            "Admin",
            "admin ",
            "proxy:a b",
        ),
        *("proxy:-a", "proxy:a\n", "proxy:é", "status:madre", "proxy:madre:x", "proxy:" + "a" * 65, "\u202eadmin"),
    ],
)
def test_no_scope(scope: str) -> None:
    assert not is_scope(scope)


def test_proxy_alone_stands_for_every_service() -> None:
    need = to_service("madre").read or ()
    assert need == to_service("madre").write
    assert not granted(["proxy"]).isdisjoint(need)
    assert not granted(["proxy:madre"]).isdisjoint(need)
    assert granted(["proxy:switch", "heartbeat:madre"]).isdisjoint(need)
    assert need[0] == "proxy:madre"


def test_without_scopes_there_is_all_but_admin() -> None:
    usual = granted(None)
    for need in (EVENTS_READ, EVENTS_WRITE, SUBSCRIBE, to_service("x").read or (), heartbeat_of("x").read or ()):
        assert not usual.isdisjoint(need)
    assert usual.isdisjoint(ADMIN)
    # No written scope is that.
    assert granted(["admin"]).isdisjoint(EVENTS_READ)


def test_aliases_mean_their_service_and_unknown_ones_are_found() -> None:
    names = {"shub": "shubniggurath", "shubniggurath": "shubniggurath"}
    assert granted(["proxy:shub", "heartbeat:shub", "status"], names) == {
        *("proxy:shubniggurath", "heartbeat:shubniggurath", "status")
    }
    assert unknown_services(["proxy:shub", "heartbeat:hermes", "proxy:x", "proxy", "admin"], names) == [
        "heartbeat:hermes",
        "proxy:x",
    ]
