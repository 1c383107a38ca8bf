from __future__ import annotations

from typing import Any

import pytest

from tentaculo.config.errors import ConfigError
from tentaculo.config.reader import read
from tentaculo.config.routes import RouteSettings
from tentaculo.proxy.route import HeaderRules


def test_no_rules() -> None:
    rules = HeaderRules({}, ())
    assert not rules
    assert rules.block == b""
    assert not rules.removes(b"anything")
    assert rules.filter(b"A: b\r\n") == b"A: b\r\n"


def test_what_is_set_is_also_removed_first() -> None:
    rules = HeaderRules({"X-One": "1", "X-Two": "é"}, ["Server"])
    assert rules
    assert rules.block == b"X-One: 1\r\nX-Two: \xc3\xa9\r\n"
    assert [name for name in (b"x-one", b"x-two", b"server", b"x-three") if rules.removes(name)] == [
        b"x-one",
        b"x-two",
        b"server",
    ]


@pytest.mark.parametrize("name", ["X-User-Id", "x-user-id", "X_USER_ID"])
@pytest.mark.parametrize("sent", [b"x-user-id", b"x_user_id", b"x-user_id"])
def test_a_look_alike_does_not_get_past_a_rule(name: str, sent: bytes) -> None:
    assert HeaderRules({}, [name]).removes(sent)
    assert HeaderRules({name: "1"}, ()).removes(sent)


def test_lines_of_the_gateway_give_way() -> None:
    rules = HeaderRules({"authorization": "Basic x"}, ["X-Real-IP"])
    lines = b"X-Real-IP: 1.2.3.4\r\nVia: 1.1 g\r\nAuthorization: Bearer caf\xe9:\xff\r\n"
    assert rules.filter(lines) == b"Via: 1.1 g\r\n"


@pytest.mark.parametrize(
    "name", ["Host", "connection", "Content-Length", "TRANSFER-ENCODING", "Upgrade", "TE", "Trailer"]
)
@pytest.mark.parametrize("key", ["set_headers", "remove_headers", "set_response_headers", "remove_response_headers"])
def test_no_rule_can_break_the_framing(key: str, name: str) -> None:
    rules: Any = {name: "x"} if key.startswith("set") else [name]
    with pytest.raises(ConfigError, match="belongs to the connection"):
        read(RouteSettings, {"prefix": "/", key: rules})
