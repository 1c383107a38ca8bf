"""The commands for tokens, in a folder of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tentaculo.cli.main import cli
from tentaculo.config.accepted_tokens import format_moment
from tentaculo.security.token_file import read_tokens
from tentaculo.security.tokens import Tokens, fingerprint_of, hash_token
from tentaculo.store import migrate
from tentaculo.store.database import once
from tentaculo.store.token_uses import note_uses

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("TENTACULO_TOKEN", raising=False)
    (tmp_path / "tentaculo.toml").write_text('[services.madre]\nurl = "http://127.0.0.1:9"\n')

    def run(*words: str, code: int = 0) -> Result:
        found = CliRunner().invoke(cli, ["token", *words, "-c", str(tmp_path / "tentaculo.toml")])
        assert found.exit_code == code, found.output
        return found

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data/token"


def made(result: Result) -> str:
    found = re.search(r"(?m)^  (tl_\S+)$", result.output)
    assert found is not None, result.output
    return found[1]


def test_a_new_token_is_kept_with_its_name_scopes_and_end(run: Run, file: Path) -> None:
    token = made(run("new", "ci", "--scope", "events:write", "--scope", "proxy:madre", "--expires", "90d"))
    (kept,) = read_tokens(file)
    caller = Tokens([kept]).check(token.encode(), None)
    assert (caller.name, caller.scopes) == ("ci", frozenset({"events:write", "proxy:madre"}))
    assert kept.expires is not None
    assert abs(kept.expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "\u202egnp", "\x1b[31m", "a\nb", "é", "a,b"])
def test_every_fault_is_said_at_once_and_nothing_is_changed(run: Run, file: Path, name: str) -> None:
    run("new", "kept")
    before = file.read_text()
    output = run("new", name, "--scope", "root", "--scope", "status", "--expires", "soon", code=2).output
    for words in ("the name must be", "scope 1 is not one of", "--expires must be"):
        assert words in output
    assert "\u202e" not in output
    assert "\x1b" not in output
    assert file.read_text() == before
    assert "--expires is a time that is over" in run("new", "x", "--expires", "2020-01-01T00:00:00Z", code=2).output
    file.write_text(f"{before}plain\n")
    for command in ("new", "rotate"):
        output = run(command, "x y" if command == "new" else "kept", "--expires", "soon", code=2).output
        assert "--expires must be" in output
        assert "line 3 hash must" in output
    assert file.read_text() == f"{before}plain\n"


def test_the_faults_of_the_configuration_are_said_with_those_of_the_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tentaculo.toml").write_text('[auth]\ntoken_fiel = "x"\n')
    output = run("new", "x y", "--expires", "soon", code=2).output
    for words in ("the name must be", "--expires must be", "auth.token_fiel: unknown key"):
        assert words in output


def test_a_name_that_is_there_is_rotated_and_not_made_again(run: Run, file: Path) -> None:
    run("new", "ci")
    assert "tentaculo token rotate ci" in run("new", "ci", code=2).output
    assert len(read_tokens(file)) == 1


def test_an_end_that_utc_does_not_have_is_refused(run: Run, file: Path) -> None:
    said = run("new", "ci", "--expires", "9999-12-31T23:59:59-05:00", code=2).output
    assert "--expires must be a duration such as 90d or 10m, or a time" in said
    assert not file.exists()


def test_rotating_a_token_that_ends_with_the_calendar_keeps_its_end(run: Run, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(f"{hash_token('old')} name=ci created=2020-01-01T00:00:00Z expires=9999-12-31T23:59:59Z\n")
    run("rotate", "ci")
    assert read_tokens(file)[-1].expires == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_rotating_keeps_name_and_scopes_and_the_old_one_ends_after_the_grace(run: Run, file: Path) -> None:
    old = made(run("new", "ci", "--scope", "status", "--expires", "30d"))
    new = made(run("rotate", "ci", "--grace", "10m"))
    assert old != new
    now = datetime.now(UTC).timestamp()
    tokens = Tokens(read_tokens(file), clock=lambda: now)
    for token in (old, new):
        assert (tokens.check(token.encode(), None).name, tokens.check(token.encode(), None).scopes) == (
            "ci",
            frozenset({"status"}),
        )
    now += 660
    assert not tokens.accepts(old.encode())
    assert tokens.accepts(new.encode())
    now += 31 * 86400
    assert not tokens.accepts(new.encode()), "it lasts as long as the old one did"
    assert "no token of this name" in run("rotate", "other", code=2).output


def test_the_end_of_the_old_one_is_said_as_it_is(run: Run, file: Path) -> None:
    """A grace that is longer than the old one lasts was said to be its end."""
    run("new", "ci", "--expires", "1h")
    ends_at = read_tokens(file)[0].expires
    assert ends_at is not None
    assert f"The old one ends at {format_moment(ends_at)}." in run("rotate", "ci", "--grace", "2h").output
    file.write_text(f"{hash_token('old')} name=ci created=2020-01-01T00:00:00Z expires=2020-01-02T00:00:00Z\n")
    assert "The old one has expired." in run("rotate", "ci").output


def test_no_token_is_made_that_has_expired_already(run: Run, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(f"{hash_token('old')} name=ci expires=2020-01-02T00:00:00Z\n")
    before = file.read_text()
    assert (
        "ci has expired, and it is not known how long it was to last: give --expires"
        in run("rotate", "ci", code=2).output
    )
    assert file.read_text() == before
    made(run("rotate", "ci", "--expires", "1h"))


def test_a_revoked_token_is_gone_with_all_of_its_name(run: Run, file: Path) -> None:
    made(run("new", "ci"))
    made(run("rotate", "ci"))
    kept = made(run("new", "ana"))
    assert "ci is revoked (2 tokens)" in run("revoke", "ci").output
    (left,) = read_tokens(file)
    assert Tokens([left]).accepts(kept.encode())
    assert "no token of this name" in run("revoke", "ci", code=2).output
    run("revoke", fingerprint_of(left.hash)[:8])
    assert read_tokens(file) == []


def test_the_list_shows_who_may_what_until_when_and_used_it_last(run: Run, file: Path, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'data' / 'tentaculo.db'}"
    run("new", "ci", "--scope", "events:write")
    run("new", "ana")
    missing = run("list")
    assert "last used  unknown" in missing.output
    migrate.upgrade(address)
    ci = fingerprint_of(read_tokens(file)[0].hash)
    once(address, partial(note_uses, ages={ci: 3600}))
    rows = json.loads(run("list", "--json").output)["tokens"]
    assert [(row["name"], row["scopes"]) for row in rows] == [("ci", ["events:write"]), ("ana", None)]
    used = datetime.fromisoformat(rows[0]["last_used_at"])
    assert timedelta(minutes=55) < datetime.now(UTC) - used < timedelta(minutes=70)
    assert rows[1]["last_used_at"] is None
    shown = run("list").output
    assert "scopes     all but admin" in shown
    assert "last used  never" in shown
    assert f"from       {file}, line 2" in shown
    assert "sha256:" not in shown


def test_a_token_of_the_configuration_is_changed_there(run: Run, tmp_path: Path) -> None:
    printed = run("new", "ci", "--scope", "status", "--print").output
    table = "\n".join(line.strip() for line in printed.partition("[[auth.tokens]]")[2].splitlines())
    with (tmp_path / "tentaculo.toml").open("a") as toml:
        toml.write(f"[[auth.tokens]]\n{table}\n")
    assert json.loads(run("list", "--json").output)["tokens"][0]["name"] == "ci"
    assert "the token is from auth.tokens[0]" in run("revoke", "ci", code=2).output
    assert "the token is from auth.tokens[0]" in run("rotate", "ci", code=2).output


def test_check_prints_what_is_accepted_and_warns_of_an_end(run: Run, tmp_path: Path) -> None:
    run("new", "ci", "--scope", "proxy:gone", "--expires", "3d")
    found = CliRunner().invoke(cli, ["check", "-c", str(tmp_path / "tentaculo.toml")])
    assert found.exit_code == 0
    assert "token ci: proxy:gone, until " in found.output
    assert "warning: the token ci ends in 2 days 23 h" in found.output
    assert (
        "warning: the token ci has the scope proxy:gone, which names a service that is not configured" in found.output
    )


@pytest.mark.parametrize("broken", ["services", "changes", "a file"])
def test_a_fault_elsewhere_keeps_nobody_from_revoking(run: Run, file: Path, tmp_path: Path, broken: str) -> None:
    """`revoke` needed a configuration without a fault, also in what the write API has changed."""
    leaked, toml = made(run("new", "ci")), tmp_path / "tentaculo.toml"
    if broken == "changes":
        (tmp_path / "data" / "changes.json").write_text("{")
    else:
        key = 'token_file = "gone"' if broken == "a file" else "abuot = 1"
        toml.write_text(toml.read_text() + f"{key}\n")
    assert CliRunner().invoke(cli, ["check", "-c", str(toml)]).exit_code == 1
    new = made(run("rotate", "ci"))
    assert Tokens(read_tokens(file)).accepts(new.encode())
    assert "ci  " in run("list").output
    run("revoke", "ci")
    assert not Tokens(read_tokens(file)).accepts(leaked.encode())
    made(run("new", "ana", "--scope", "proxy:nobody"))


def test_a_fault_of_the_tokens_themselves_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTACULO_AUTH_TOKENS", "[")
    assert "TENTACULO_AUTH_TOKENS: must be a list as JSON" in run("list", code=2).output
    monkeypatch.delenv("TENTACULO_AUTH_TOKENS")
    (tmp_path / "tentaculo.toml").write_text('[auth]\ntoken_fiel = "x"\n')
    assert 'auth.token_fiel: unknown key; did you mean "token_file"?' in run("revoke", "ci", code=2).output
