from __future__ import annotations

import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tentaculo.config.accepted_tokens import AuthSettings, TokenSettings
from tentaculo.config.schema import Config
from tentaculo.config.types import Secret
from tentaculo.security.token_file import (
    ENVIRONMENT,
    TokenFileError,
    WatchedTokenFile,
    accepted_tokens,
    edit,
    keep_token,
    make_token,
    read_tokens,
    token_file,
)
from tentaculo.security.tokens import Tokens, hash_token
from tests.support.gateway_process import ROOT

ONE, TWO, THREE = (TokenSettings(hash=hash_token(token)) for token in ("one", "two", "three"))


def test_every_source_of_hashes_counts_once(tmp_path: Path) -> None:
    (tmp_path / "hashes").write_text(f"# ours\n\n  {TWO.hash}\n{ONE.hash.upper().replace('SHA', 'sha')}\n")
    auth = AuthSettings(tokens=(ONE,), token_file=Path("hashes"))
    config = Config(auth=auth, folder=tmp_path, plain_token=Secret("three"))
    found = accepted_tokens(config)
    assert [one.hash for one in found] == [ONE.hash, TWO.hash, THREE.hash]
    assert [one.source for one in found] == ["auth.tokens[0]", f"{tmp_path}/hashes, line 3", "the environment"]
    assert [one.name for one in found] == [None, None, ENVIRONMENT]


def test_the_token_of_the_environment_may_be_listed_with_a_name_and_scopes(tmp_path: Path) -> None:
    (tmp_path / "hashes").write_text(f"{THREE.hash} name=ana scopes=status,admin\n")
    config = Config(auth=AuthSettings(token_file=Path("hashes")), folder=tmp_path, plain_token=Secret("three"))
    (found,) = accepted_tokens(config)
    assert (found.name, found.scopes) == ("ana", ("status", "admin"))


def test_a_kept_hash_is_accepted_and_the_token_is_nowhere(tmp_path: Path) -> None:
    config = Config(folder=tmp_path)
    assert accepted_tokens(config) == []
    token, other = make_token(), make_token()
    assert token != other
    file = token_file(config)
    assert file == tmp_path / "data/token"
    keep_token(file, TokenSettings(hash=hash_token(token)))
    keep_token(file, TokenSettings(hash=hash_token(other), name="ci", scopes=("events:write",)))
    tokens = Tokens(accepted_tokens(config))
    assert tokens.accepts(token.encode())
    assert tokens.check(other.encode(), None).name == "ci"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_a_failure_to_keep_a_hash_leaves_the_file_and_no_litter(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError):
        keep_token(tmp_path / "token", ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_a_change_leaves_comments_and_the_lines_of_others_as_they_are(tmp_path: Path) -> None:
    path, end = tmp_path / "token", datetime(2030, 1, 1, tzinfo=UTC)
    path.write_text(f"# ours\n{ONE.hash}\n\n# of ana\n{TWO.hash}   name=ana\n")
    with edit(path) as kept:
        kept.put(kept.tokens[1].replace(expires=end))
        kept.add(THREE)
        kept.write()
    lines = ["# ours", ONE.hash, "", "# of ana", f"{TWO.hash} name=ana expires=2030-01-01T00:00:00Z", THREE.hash]
    assert path.read_text().splitlines() == lines
    with edit(path) as kept:
        kept.remove(ONE)
        kept.write()
    assert [one.hash for one in read_tokens(path)] == [TWO.hash, THREE.hash]


def test_a_change_leaves_the_file_to_those_who_could_read_it(tmp_path: Path) -> None:
    """`sudo tentaculo token new` must not lock the gateway out, which runs as another user."""
    path, is_root = tmp_path / "token", os.geteuid() == 0
    path.write_text(f"{ONE.hash}\n")
    path.chmod(0o640)
    if is_root:
        os.chown(path, 65534, 65533)
    before = path.stat()
    keep_token(path, TWO)
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_the_first_one_belongs_to_who_owns_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "token"
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65533)
    keep_token(path, ONE)
    made, folder = path.stat(), tmp_path.stat()
    assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (folder.st_uid, folder.st_gid, 0o600)


def test_a_change_takes_the_file_from_all_others(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{ONE.hash}\n")
    path.chmod(0o4755)
    keep_token(path, TWO)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("tl_plain-token-by-mistake", "hash must be sha256: and 64 hex digits"),
        (f"{ONE.hash} tl_plain-token-by-mistake", "has a part that is none of name=, scopes=, created=, expires="),
        (f"{ONE.hash} name=a name=b", "or has it twice"),
        (f"{ONE.hash} name=", "name must be letters, digits"),
        (f"{ONE.hash} name={'x' * 65}", "name must be letters, digits"),
        (f"{ONE.hash} name=a\x1b[31m", "name must be letters, digits"),
        (f"{ONE.hash} name=\u202egnp", "name must be letters, digits"),
        (f"{ONE.hash} scopes=", "scopes[0] must be one of"),
        (f"{ONE.hash} scopes=status,root", "scopes[1] must be one of"),
        (f"{ONE.hash} expires=2030-01-01", "expires must be a time such as"),
        (f"{ONE.hash} expires=2030-01-01T00:00:00", "expires must name its zone"),
        (f"{ONE.hash} expires=9999-12-31T23:59:59-05:00", "expires must be a time that UTC has too"),
        (f"{ONE.hash} created=0001-01-01T00:00:00+05:00", "created must be a time that UTC has too"),
        (f"{ONE.hash} name=? scopes=? expires=?", "name must be letters, digits"),
    ],
)
def test_a_faulty_line_names_itself_and_never_what_stands_there(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "token"
    path.write_text(f"# ours\n{line}\n")
    with pytest.raises(TokenFileError) as caught:
        read_tokens(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: line 2 ")
    assert fault in text
    assert "mistake" not in text
    assert text.isprintable()
    assert "\u202e" not in text
    with pytest.raises(TokenFileError), edit(path):
        pytest.fail("a faulty file is not changed")


def test_every_fault_of_a_line_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{ONE.hash} name=? scopes=? expires=?\n")
    with pytest.raises(TokenFileError) as caught:
        read_tokens(tmp_path / "token")
    for key in ("name must", "scopes[0] must", "expires must"):
        assert key in str(caught.value)


def test_every_faulty_line_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{ONE.hash} name=?\n{TWO.hash}\nplain-token\n")
    with pytest.raises(TokenFileError) as caught:
        read_tokens(tmp_path / "token")
    assert "line 1 name must" in str(caught.value)
    assert "line 3 hash must" in str(caught.value)
    assert "plain-token" not in str(caught.value)
    (tmp_path / "token").write_text(1000 * "x\n")
    with pytest.raises(TokenFileError, match=r"line 20 .*; and 980 more$"):
        read_tokens(tmp_path / "token")


def test_a_file_of_notepad_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbf" + f"{ONE.hash} name=one\r\n{TWO.hash}\r\n".encode())
    assert [one.hash for one in read_tokens(tmp_path / "token")] == [ONE.hash, TWO.hash]


ADD = """
import sys
from pathlib import Path
from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.security.token_file import keep_token
from tentaculo.security.tokens import hash_token
for number in range(25):
    keep_token(Path(sys.argv[1]), TokenSettings(hash=hash_token(f"{sys.argv[2]}-{number}")))
"""


def test_several_processes_that_add_tokens_lose_none(tmp_path: Path) -> None:
    path = tmp_path / "token"
    processes = [subprocess.Popen([sys.executable, "-c", ADD, str(path), str(number)], cwd=ROOT) for number in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    wanted = {hash_token(f"{process}-{number}") for process in range(3) for number in range(25)}
    assert {one.hash for one in read_tokens(path)} == wanted


def test_a_file_that_changed_is_read_again_and_one_that_is_missing_at_the_second_look(tmp_path: Path) -> None:
    path = tmp_path / "data/token"
    keep_token(path, ONE)
    watched = WatchedTokenFile(Config(folder=tmp_path), ())
    assert watched.read_again() is None
    keep_token(path, TWO)
    assert [one.hash for one in watched.read_again() or ()] == [ONE.hash, TWO.hash]
    assert watched.read_again() is None
    # Written in place, as an editor may: the same size, and another content.
    os.utime(path, ns=(1, 1))
    assert [one.hash for one in watched.read_again() or ()] == [ONE.hash, TWO.hash]
    # That changes no time of the content, but an attempt to read it may have failed before.
    path.chmod(0o640)
    assert watched.has_changed
    assert [one.hash for one in watched.read_again() or ()] == [ONE.hash, TWO.hash]
    path.write_text("faulty\n")
    with pytest.raises(TokenFileError):
        watched.read_again()
    assert watched.read_again() is None, "said once"
    path.unlink()
    assert watched.read_again() is None
    assert watched.read_again() == []
    assert watched.read_again() is None


def test_the_tokens_of_the_file_take_the_place_of_those_it_had(tmp_path: Path) -> None:
    path = tmp_path / "hashes"
    path.write_text(f"{TWO.hash} name=old\n")
    config = Config(
        auth=AuthSettings(tokens=(ONE,), token_file=Path("hashes")), folder=tmp_path, plain_token=Secret("three")
    )
    before = accepted_tokens(config)
    watched = WatchedTokenFile(config, before)
    path.write_text(f"{hash_token('new')} name=new\n{THREE.hash} name=ana\n")
    found = watched.with_others(before, watched.read_again() or ())
    assert [(one.name, one.hash) for one in found] == [
        *((None, ONE.hash), ("new", hash_token("new")), ("ana", THREE.hash))
    ]
    path.write_text("")
    assert [one.name for one in watched.with_others(found, watched.read_again() or ())] == [None, ENVIRONMENT]


def test_what_was_read_before_is_read_once_more(tmp_path: Path) -> None:
    keep_token(tmp_path / "data/token", ONE)
    config = Config(folder=tmp_path)
    watched = WatchedTokenFile(config, accepted_tokens(config))
    assert watched.has_changed
    assert [one.hash for one in watched.read_again() or ()] == [ONE.hash]
    assert not watched.has_changed


def test_a_file_that_is_no_text_is_a_fault_and_not_a_defect(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"sha256:\xff\xfe")
    with pytest.raises(TokenFileError, match="no text in UTF-8"):
        read_tokens(path)
