from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tentaculo.config.schema import AuthSettings, Config
from tentaculo.config.types import Secret
from tentaculo.security.token_file import accepted_hashes, keep_hash, make_token, token_file
from tentaculo.security.tokens import Tokens, hash_token


def test_every_source_of_hashes_counts_once(tmp_path: Path) -> None:
    one, two, three = (hash_token(token) for token in ("one", "two", "three"))
    (tmp_path / "hashes").write_text(f"# ours\n\n  {two}\n{one}\n")
    auth = AuthSettings(tokens=(one,), token_file=Path("hashes"))
    config = Config(auth=auth, folder=tmp_path, plain_token=Secret("three"))
    assert accepted_hashes(config) == [one, two, three]


def test_a_kept_hash_is_accepted_and_the_token_is_nowhere(tmp_path: Path) -> None:
    config = Config(folder=tmp_path)
    assert accepted_hashes(config) == []
    token, other = make_token(), make_token()
    assert token != other
    file = token_file(config)
    assert file == tmp_path / "data/token"
    keep_hash(file, hash_token(token))
    keep_hash(file, hash_token(other))
    assert Tokens(accepted_hashes(config)).accepts(token.encode())
    assert Tokens(accepted_hashes(config)).accepts(other.encode())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_a_failure_to_keep_a_hash_leaves_the_file_and_no_litter(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError):
        keep_hash(tmp_path / "token", hash_token("x"))
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
