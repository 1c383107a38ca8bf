from __future__ import annotations

from tentaculo.config.key_reference import ANY, KeyKind, walk


def test_kinds_say_how_the_environment_writes_a_value() -> None:
    kinds = {key.path: key.kind for key in walk()}
    assert kinds["server", "port"] is KeyKind.SCALAR
    assert kinds["auth", "token_file"] is KeyKind.SCALAR
    assert kinds["services", ANY, "health"] is KeyKind.LIST
    assert kinds["services", ANY, "routes", ANY, "set_headers"] is KeyKind.TABLE
    assert kinds["services", ANY, "probe"] is KeyKind.TABLE


def test_what_only_loading_sets_is_no_key() -> None:
    assert not any(key.path[-1] in ("name", "folder", "plain_token") for key in walk())
