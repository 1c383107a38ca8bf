"""The gateway's own tokens: which are accepted, how one is made, and where its hash is kept."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from tentaculo.config.loader import DEFAULT_TOKEN_FILE
from tentaculo.config.schema import Config
from tentaculo.security.tokens import hash_token


def token_file(config: Config) -> Path:
    """Where hashes are kept: `auth.token_file`, else data/token beside the configuration file."""
    return config.folder / (config.auth.token_file or DEFAULT_TOKEN_FILE)


def accepted_hashes(config: Config) -> list[str]:
    """Hashes of every accepted token: `auth.tokens`, the token file's, and that of the environment's plain token.

    A token file that is missing adds none. Raises OSError where it is there and cannot be read.
    """
    hashes = [*config.auth.tokens, *_kept(token_file(config))]
    if config.plain_token is not None:
        hashes.append(hash_token(config.plain_token.reveal()))
    return list(dict.fromkeys(hashes))


def make_token() -> str:
    """A fresh token: 256 random bits in characters that need no quoting anywhere, recognisable by its prefix."""
    return "tl_" + secrets.token_urlsafe(32)


def keep_hash(path: Path, token_hash: str) -> None:
    """Add a hash to the token file, which only its owner can read; it is replaced in one step. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{line}\n" for line in [*_kept(path), token_hash])
    # mkstemp makes the file with mode 0600.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("# Hashes of accepted tokens, one in a line. The tokens themselves are kept nowhere.\n" + lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _kept(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = (line.strip() for line in text.splitlines())
    return [line.lower() for line in lines if line and not line.startswith("#")]
