from __future__ import annotations

from pathlib import Path

import pytest

from tentaculo.config.errors import ConfigError
from tests.support.config import SECRET, FaultsOf, LoadText

ONE = "[services.madre]\nurl = 'http://h'\n"
HASH = "sha256:" + "ab" * 32


def token_of(load_text: LoadText, text: str, environ: dict[str, str]) -> str | None:
    token = load_text(text, environ).config.services["madre"].token
    return None if token is None else token.reveal()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"VX11_GATEWAY_TOKEN": "third"}, "third"),
        ({"VX11_GATEWAY_TOKEN": "third", "VX11_TENTACULO_LINK_TOKEN": "second"}, "second"),
        ({"VX11_GATEWAY_TOKEN": "third", "VX11_TENTACULO_LINK_TOKEN": "second", "TENTACULO_TOKEN": "first"}, "first"),
        ({"VX11_GATEWAY_TOKEN": "third", "TENTACULO_TOKEN": " "}, "third"),
    ],
)
def test_the_first_plain_token_that_is_set_counts(
    load_text: LoadText, environ: dict[str, str], expected: str | None
) -> None:
    plain = load_text(ONE, environ).config.plain_token
    assert (None if plain is None else plain.reveal()) == expected
    assert token_of(load_text, "auth.share_token = true\n" + ONE, environ) == expected


def test_a_service_is_sent_its_own_token_else_the_fleets_else_a_shared_plain_one(
    load_text: LoadText, tmp_path: Path
) -> None:
    (tmp_path / "madre.token").write_text("from-file\n")
    both = {"TENTACULO_TOKEN": "plain", "TENTACULO_SERVICE_TOKEN": "fleet"}
    assert token_of(load_text, ONE + "token = 'own'", both) == "own"
    assert token_of(load_text, ONE + "token_file = 'madre.token'", both) == "from-file"
    assert token_of(load_text, ONE, both) == "fleet"
    plain = {"TENTACULO_TOKEN": "plain"}
    assert token_of(load_text, ONE, plain) is None
    for shares, expected in (("true", "plain"), ("false", None)):
        assert token_of(load_text, f"auth.share_token = {shares}\n{ONE}", plain) == expected
        assert token_of(load_text, ONE, {**plain, "TENTACULO_AUTH_SHARE_TOKEN": shares}) == expected
    assert token_of(load_text, ONE, {}) is None
    assert token_of(load_text, ONE + "token = ''", both) is None


def test_a_token_from_the_environment_replaces_the_files_token_file(load_text: LoadText) -> None:
    text = ONE + "token_file = 'nowhere'"
    assert token_of(load_text, text, {"TENTACULO_SERVICES_MADRE_TOKEN": "own"}) == "own"


def test_token_files_that_cannot_serve_are_faults(faults_of: FaultsOf, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text(f"{SECRET}\nsecond\n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    text = ONE + "token_file = '{}'"
    place = "services.madre.token_file"
    assert faults_of(text.format("empty")) == [f"{place}: is empty"]
    assert faults_of(text.format("two")) == [f"{place}: must hold one token of visible ASCII characters"]
    assert faults_of(text.format("bytes")) == [f"{place}: is not text"]
    assert faults_of(text.format(".")) == [f"{place}: cannot be read: Is a directory"]


def test_the_files_of_tokens_hashes_is_checked_and_may_be_missing(
    load_text: LoadText, faults_of: FaultsOf, tmp_path: Path
) -> None:
    text = "[auth]\ntoken_file = 'hashes'"
    assert load_text(text).config.auth.token_file == tmp_path / "hashes"
    (tmp_path / "hashes").write_text(f"# ours\n\n{HASH}\n")
    assert load_text(text).config.auth.token_file == tmp_path / "hashes"
    (tmp_path / "hashes").write_text(f"{HASH}\n{SECRET}\n")
    hint = "must be sha256: and 64 hex digits, as `tentaculo token new` makes it; not the token itself"
    fault = f"auth.token_file: line 2: hash {hint}"
    assert faults_of(text) == [fault]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/token").write_text(f"{HASH}\n{SECRET}\n")
    assert faults_of("") == [fault], "the default file counts as well"


SHUB = ONE + "enabled = false\nenabled_env = 'SHUB_ENABLED'\n"


@pytest.mark.parametrize(
    ("value", "enabled"),
    [("true", True), ("1", True), ("Yes", True), ("on", True), ("", False), ("FALSE", False), ("0", False), ("no", False), ("off", False)],
)  # fmt: skip
def test_a_variable_decides_whether_a_service_is_on(load_text: LoadText, value: str, enabled: bool) -> None:
    assert load_text(SHUB, {"SHUB_ENABLED": value}).config.services["madre"].enabled is enabled
    if value:
        opposite = SHUB.replace("false", "true")
        assert load_text(opposite, {"SHUB_ENABLED": value}).config.services["madre"].enabled is enabled


@pytest.mark.parametrize("word", ["true", "T", "yes", "y", "on", "1", "false", "F", "no", "n", "off", "0", "perhaps"])
def test_both_variables_accept_and_refuse_the_same_words(load_text: LoadText, word: str) -> None:
    def enabled_by(name: str) -> bool | None:
        try:
            return load_text(SHUB, {name: word}).config.services["madre"].enabled
        except ConfigError:
            return None

    assert enabled_by("SHUB_ENABLED") is enabled_by("TENTACULO_SERVICES_MADRE_ENABLED")


def test_the_keys_own_name_wins_over_that_variable(load_text: LoadText) -> None:
    environ = {"SHUB_ENABLED": "true", "TENTACULO_SERVICES_MADRE_ENABLED": "false"}
    assert load_text(SHUB, environ).config.services["madre"].enabled is False


def test_that_variable_must_be_true_or_false(faults_of: FaultsOf) -> None:
    assert faults_of(SHUB, {"SHUB_ENABLED": SECRET}) == [
        "services.madre.enabled_env: SHUB_ENABLED must be true or false (or 1, yes, y, t, on, 0, no, n, f, off)"
    ]
    assert faults_of(ONE + "enabled_env = 'A B'") == [
        "services.madre.enabled_env: is not the name of an environment variable"
    ]
