"""The gateway's own tokens: which are accepted, how one is made, and the file in which their hashes are kept.

The file is replaced in one step and read whole, so that a reader sees the old one or the new one. Those that change it
take turns by a lock on its folder.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tentaculo.config.accepted_tokens import DEFAULT_TOKEN_FILE, TokenSettings, format_line, parse_line
from tentaculo.config.files import keep_access, read_text, replace_file, replaceable
from tentaculo.config.schema import Config
from tentaculo.security.tokens import hash_token

ENVIRONMENT = "environment"
"""The name of the token of the environment, unless its hash is listed with another one."""
_ENVIRONMENT = "the environment"
_MOST_FAULTS = 20
"""Faulty lines that are named, of a file that is something else."""
_HEADING = "# Hashes of accepted tokens, one in a line. The tokens themselves are kept nowhere.\n"


class TokenFileError(Exception):
    """The token file has lines that are no tokens, or is no text. This says where, never what stands there."""


def token_file(config: Config) -> Path:
    """Where hashes are kept: `auth.token_file`, else data/token beside the configuration file."""
    return config.folder / (config.auth.token_file or DEFAULT_TOKEN_FILE)


def accepted_tokens(config: Config) -> list[TokenSettings]:
    """Every accepted token: those of `auth.tokens`, of the token file, and the plain one of the environment.

    One that is listed twice is there once, as it is listed first. A token file that is missing adds none. Raises OSError
    where it is there and cannot be read, and TokenFileError.
    """
    listed = [
        one.replace(source=one.source or f"auth.tokens[{number}]") for number, one in enumerate(config.auth.tokens)
    ]
    return _once([*listed, *read_tokens(token_file(config)), *environment_tokens(config)])


def environment_tokens(config: Config) -> list[TokenSettings]:
    """The plain token of the environment, if there is one."""
    if config.plain_token is None:
        return []
    return [TokenSettings(hash=hash_token(config.plain_token.reveal()), name=ENVIRONMENT, source=_ENVIRONMENT)]


def _once(tokens: Iterable[TokenSettings]) -> list[TokenSettings]:
    found: dict[str, TokenSettings] = {}
    for one in tokens:
        found.setdefault(one.hash, one)
    return list(found.values())


def read_tokens(path: Path) -> list[TokenSettings]:
    """The tokens of a token file, none where it is missing. Raises OSError and TokenFileError."""
    return [one for _, one in _lines(path) if one is not None]


def make_token() -> str:
    """A fresh token: 256 random bits in characters that need no quoting anywhere, recognisable by its prefix."""
    return "tl_" + secrets.token_urlsafe(32)


class TokenFile:
    """A token file that is being changed. `edit` opens it."""

    def __init__(self, path: Path, target: Path) -> None:
        """`target` is the file to replace, which `path` may lead to by a link."""
        self._path = path
        self._target = target
        self._lines = _lines(path)

    def __repr__(self) -> str:
        return f"<TokenFile {self._path}: {len(self.tokens)} tokens>"

    @property
    def tokens(self) -> list[TokenSettings]:
        """Its tokens, in order."""
        return [one for _, one in self._lines if one is not None]

    def add(self, token: TokenSettings) -> None:
        """Add one at the end."""
        self._lines.append((format_line(token), token))

    def remove(self, token: TokenSettings) -> None:
        """Remove one."""
        self._lines = [line for line in self._lines if line[1] is None or line[1].hash != token.hash]

    def put(self, token: TokenSettings) -> None:
        """Replace the one with the same hash."""
        self._lines = [
            (format_line(token), token) if one is not None and one.hash == token.hash else (line, one)
            for line, one in self._lines
        ]

    def write(self) -> None:
        """Replace the file in one step. Comments and lines that were not changed stay as they are. Raises OSError."""
        lines = [line for line, _ in self._lines]
        text = ("" if any(line.startswith("#") for line in lines) else _HEADING) + "".join(f"{one}\n" for one in lines)
        replace_file(self._target, text.encode(), _set_access)


def _set_access(path: Path, descriptor: int) -> None:
    """As `keep_access`; where there is no file, the new one belongs to the owner of the folder."""
    if not keep_access(path, descriptor):
        with suppress(OSError):
            folder = os.stat(path.parent)
            os.fchown(descriptor, folder.st_uid, folder.st_gid)


Stamp = tuple[int, ...] | None
"""What changes with a file or the access to it: two times, its size and its inode; None where it cannot be looked at."""
_UNREAD: Stamp = ()


class WatchedTokenFile:
    """A token file that a gateway reads again when it has changed."""

    def __init__(self, config: Config, known: Iterable[TokenSettings]) -> None:
        """`known` are the accepted tokens. Those that name their source were read from the places of `config`, perhaps a
        while ago: then the file is to be read once in any case, since it may have changed after that."""
        self.path = token_file(config)
        self._environment = environment_tokens(config)
        self._seen = _UNREAD if any(one.source for one in known) else self._stamp()
        self._was_missing = False

    def __repr__(self) -> str:
        return f"<WatchedTokenFile {self.path}>"

    @property
    def has_changed(self) -> bool:
        """Whether `read_again` has something to do: one look at the file's times, which costs microseconds."""
        return self._was_missing or self._stamp() != self._seen

    def read_again(self) -> list[TokenSettings] | None:
        """Its tokens, None while it is as it was. Raises OSError and TokenFileError, once for each change.

        A missing file has no tokens at the second look only: some programs write a file by removing it first.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            self._was_missing = False
            return None
        if stamp is None and not self._was_missing:
            self._was_missing = True
            return None
        self._seen, self._was_missing = stamp, False
        return read_tokens(self.path)

    def with_others(self, known: Iterable[TokenSettings], now: Iterable[TokenSettings]) -> list[TokenSettings]:
        """The accepted tokens once the file has those of `now`, where `known` were accepted before."""
        others = [one for one in known if one.source != _ENVIRONMENT and not self.has(one)]
        return _once([*others, *now, *self._environment])

    def has(self, token: TokenSettings) -> bool:
        """Whether an accepted token was read from it."""
        return token.source.startswith(f"{self.path}, line ")

    def _stamp(self) -> Stamp:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@contextmanager
def edit(path: Path) -> Iterator[TokenFile]:
    """The token file for a change, while nobody else changes it; it may be missing. Raises OSError and TokenFileError."""
    target = replaceable(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of the folder, not of the file: that is replaced, and a lock on the old one would keep nobody out.
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield TokenFile(path, target)
    finally:
        os.close(descriptor)


def keep_token(path: Path, token: TokenSettings) -> None:
    """Add a token to the token file. Raises OSError and TokenFileError."""
    with edit(path) as file:
        file.add(token)
        file.write()


def _lines(path: Path) -> list[tuple[str, TokenSettings | None]]:
    try:
        text = read_text(path)
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise TokenFileError(f"{path}: it is no text in UTF-8") from None
    found: list[tuple[str, TokenSettings | None]] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            token = parse_line(line)
        except ValueError as error:
            faults.append(f"line {number} {error}")
            continue
        found.append((line.strip(), None if token is None else token.replace(source=f"{path}, line {number}")))
    if faults:
        more = len(faults) - _MOST_FAULTS
        raise TokenFileError(f"{path}: {'; '.join(faults[:_MOST_FAULTS])}{f'; and {more} more' if more > 0 else ''}")
    return found
