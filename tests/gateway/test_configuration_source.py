"""Reading the configuration again: what is read, what is refused whole, and how files are seen to change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.gateway.configuration_source import ConfigurationSource, look_at
from tentaculo.security.tokens import hash_token
from tests.support.gateway_process import clean_environment

ONE = '[services.one]\nurl = "http://127.0.0.1:1"\n'
TWO = '[services.two]\nurl = "http://127.0.0.1:2"\n'
TOKEN = "a-token"
AUTH = f'[auth]\ntokens = ["{hash_token(TOKEN)}"]\n'


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(AUTH + ONE)
    return file


def faults(source: ConfigurationSource) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        source.read()
    return [str(fault) for fault in caught.value.faults]


def hashes(source: ConfigurationSource) -> list[str]:
    return [one if isinstance(one, str) else one.hash for one in source.read().hashes or ()]


def test_it_reads_what_the_file_has_now(file: Path) -> None:
    source = ConfigurationSource(file)
    assert list(source.read().config.services) == ["one"]
    file.write_text(AUTH + ONE + TWO)
    assert list(source.read().config.services) == ["one", "two"]


def test_the_address_of_the_command_line_stays(file: Path) -> None:
    source = ConfigurationSource(file, host="127.0.0.9", port=7)
    file.write_text(AUTH + ONE + '[server]\nlisten = ["127.0.0.1:8"]\n')
    assert source.read().config.server.addresses == (("127.0.0.9", 7),)
    assert source.load().config.server.addresses == (("127.0.0.9", 7),)


def test_rotated_tokens_are_read_again(file: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "data" / "token"
    tokens.parent.mkdir()
    tokens.write_text(hash_token("old") + "\n")
    file.write_text(ONE)
    source = ConfigurationSource(file)
    assert hashes(source) == [hash_token("old")]
    tokens.write_text(hash_token("new") + "\n")
    assert hashes(source) == [hash_token("new")]


def test_a_file_that_vanished_is_a_fault_and_not_an_empty_configuration(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file.rename(tmp_path / "tentaculo.toml")
    source = ConfigurationSource(None)
    assert list(source.read().config.services) == ["one"]
    (tmp_path / "tentaculo.toml").unlink()
    assert faults(source) == [f"{tmp_path}/tentaculo.toml: cannot be read: No such file or directory"]


def test_a_file_that_is_unreadable_is_a_fault(file: Path) -> None:
    source = ConfigurationSource(file)
    source.read()
    file.unlink()
    file.mkdir()
    assert faults(source) == [f"{file}: cannot be read: Is a directory"]


def test_every_fault_is_found_at_once(file: Path) -> None:
    source = ConfigurationSource(file)
    source.read()
    file.write_text(AUTH + '[server]\nprot = 1\n[services.one]\nurl = "ftp://x"\ntoken_file = "gone"\n')
    assert [fault.split(":")[0] for fault in faults(source)] == [
        "server.prot",
        "services.one.token_file",
        "services.one.url",
    ]


def test_a_secret_file_that_is_missing_is_a_fault(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    file.write_text(AUTH + ONE + 'token_file = "secret"\n')
    source = ConfigurationSource(file)
    assert source.read().config.services["one"].token is not None
    secret.unlink()
    assert faults(source) == ["services.one.token_file: cannot be read: No such file or directory"]


def test_a_variable_that_contradicts_the_new_file_is_a_fault_with_its_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTACULO_SERVICES_ONE_ALIASES", '["two"]')
    source = ConfigurationSource(file)
    assert source.read().config.services["one"].aliases == ("two",)
    file.write_text(AUTH + ONE + TWO)
    (fault,) = faults(source)
    assert "TENTACULO_SERVICES_ONE_ALIASES" in fault


def test_a_variable_whose_service_is_gone_is_a_warning(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTACULO_SERVICES_ONE_URL", "http://127.0.0.1:9")
    source = ConfigurationSource(file)
    assert source.read().warnings == ()
    file.write_text(AUTH + TWO)
    (warning,) = source.read().warnings
    assert warning.startswith("TENTACULO_SERVICES_ONE_URL is not the name of a key and is ignored")


def test_the_last_token_cannot_be_lost(file: Path, tmp_path: Path) -> None:
    """A start makes one and prints it; a reload would lock everybody out."""
    tokens = tmp_path / "data" / "token"
    tokens.parent.mkdir()
    tokens.write_text(hash_token("only") + "\n")
    file.write_text(ONE)
    source = ConfigurationSource(file)
    source.read()
    tokens.write_text("# none\n")
    assert faults(source) == [
        "auth.token_file: has no token, and there is no other token: no request could be authenticated"
    ]
    tokens.unlink()
    assert faults(source) == [
        "auth.token_file: is missing, and there is no other token: no request could be authenticated"
    ]
    file.write_text("[auth]\nenabled = false\n" + ONE)
    assert hashes(source) == []


def test_a_made_token_that_is_kept_nowhere_stays_until_there_is_another(file: Path) -> None:
    file.write_text(ONE)
    source = ConfigurationSource(file)
    source.spare_hashes = (TokenSettings(hash=hash_token("made")),)
    assert hashes(source) == [hash_token("made")]
    file.write_text(AUTH + ONE)
    assert hashes(source) == [hash_token(TOKEN)]


def test_what_needs_more_than_the_configuration_is_verified_too(file: Path) -> None:
    source = ConfigurationSource(file, verify=lambda loaded: [ConfigFault("alerts.apprise.x", "is not an address")])
    assert faults(source) == ["alerts.apprise.x: is not an address"]


def test_it_knows_the_files_that_it_has_read(file: Path, tmp_path: Path) -> None:
    source = ConfigurationSource(file)
    source.read()
    known = [file, tmp_path / "data" / "changes.json", tmp_path / "data" / "token"]
    assert list(source.seen) == known
    file.write_text(AUTH + ONE + 'token_file = "gone"\n')
    faults(source)
    assert list(source.seen) == [*known, tmp_path / "gone"], "to be seen when it is there"
    file.write_text("][")
    faults(source)
    assert list(source.seen) == [*known, tmp_path / "gone"], "the last that are known"


def test_a_change_while_it_reads_is_seen_afterwards(file: Path) -> None:
    source = ConfigurationSource(file)
    source.read()
    assert look_at(source.seen) == source.seen

    def verify(_loaded: object) -> list[ConfigFault]:
        file.write_text(AUTH + TWO)
        return []

    source = ConfigurationSource(file, verify=verify)
    source.read()
    assert look_at(source.seen) != source.seen
