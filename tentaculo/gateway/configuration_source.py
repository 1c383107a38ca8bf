"""Where a gateway that runs reads its configuration again: the file, what it names, the environment, the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.environment import process_environment
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.config.layers import Sources
from tentaculo.config.loader import Loaded, load, load_sources
from tentaculo.config.schema import Config
from tentaculo.security.token_file import TokenFileError, accepted_tokens, token_file


class Candidate(msgspec.Struct, frozen=True):
    """A valid configuration that has been read, with all that belongs to it, and is not served yet."""

    config: Config
    hashes: tuple[TokenSettings | str, ...] | None
    """Hashes of the accepted tokens; None where those that are accepted stay."""
    warnings: tuple[str, ...] = ()
    """About valid but suspicious values, one sentence each."""
    sources: Sources | None = None
    """What it was made of."""


Seen = tuple[int, ...] | None
"""What changes with a file: its inode, its size and its times; None where it cannot be looked at."""


def look_at(files: Iterable[Path]) -> dict[Path, Seen]:
    """Each file as it is now. It blocks."""
    return {file: _look(file) for file in files}


def _look(file: Path) -> Seen:
    try:
        # Through symbolic links: Kubernetes replaces a link to change all files of a volume at once.
        found = file.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def with_address(config: Config, host: str | None, port: int | None) -> Config:
    """`config` with the address of the command line, where it gives one."""
    given = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    return config.replace(server=config.server.replace(listen=(), **given)) if given else config


def _no_faults(_loaded: Loaded) -> Iterable[ConfigFault]:
    return ()


class ConfigurationSource:
    """Reads the configuration as the start of this process has read it."""

    def __init__(
        self,
        file: Path | None,
        *,
        host: str | None = None,
        port: int | None = None,
        verify: Callable[[Loaded], Iterable[ConfigFault]] = _no_faults,
    ) -> None:
        """Without `file` it is found as `loader.load` does, the first time. `host` and `port` are those of the command line.
        `verify` finds the faults that need more than the configuration to be found.
        """
        self._file = None if file is None else file.absolute()
        self._host = host
        self._port = port
        self.spare_hashes: tuple[TokenSettings | str, ...] = ()
        """Accepted where no other token is: that of a token which this process has made and could not keep."""
        self._verify = verify
        self.first: Sources | None = None
        """What was read at the start; None before."""
        self.seen: Mapping[Path, Seen] = {} if self._file is None else {self._file: None}
        """Each file that was read last, as it was found before it was read."""

    def __repr__(self) -> str:
        return f"<ConfigurationSource: {self._file or 'the environment'}>"

    def load(self, how: Callable[[Path | None], Loaded] = load) -> Loaded:
        """Read the file, the files that it names, and the environment, by `how`. Raises ConfigError. It blocks."""
        before = look_at(self.seen)
        files: Iterable[Path] = ()
        try:
            loaded = how(self._file)
            # A file that was found once is a fault when it is gone, not a reason to serve the environment alone.
            self._file, files = loaded.path, loaded.files
            loaded = self._with_address(loaded)
            if self.first is None:
                self.first = loaded.sources
            return loaded
        except ConfigError as error:
            files = error.files
            raise
        finally:
            self.seen = {file: before[file] if file in before else _look(file) for file in files or before}

    def read(self) -> Candidate:
        """Read everything again, and the accepted tokens. Raises ConfigError with every fault. It blocks."""
        return self._verified(self.load())

    def revise(self, sources: Sources, now: datetime | None = None) -> Candidate:
        """As `read`, but of `sources`, of which nothing is read again. It blocks.

        Only the accepted tokens are, which stay as they are where their file is faulty by now. `now` is the time by which
        overrides end.
        """
        loaded = load_sources(sources, process_environment(), now=now)
        return self._verified(self._with_address(loaded), may_keep_tokens=True)

    def note_written(self, file: Path) -> None:
        """This process has written a file itself, so that it has not changed for `reload.watch`."""
        self.seen = {**self.seen, file: _look(file)}

    def _with_address(self, loaded: Loaded) -> Loaded:
        return replace(loaded, config=with_address(loaded.config, self._host, self._port))

    def _verified(self, loaded: Loaded, *, may_keep_tokens: bool = False) -> Candidate:
        faults = [*self._verify(loaded)]
        hashes: tuple[TokenSettings | str, ...] | None = None
        try:
            hashes = self._hashes(loaded)
        except ConfigError as error:
            if not may_keep_tokens:
                faults += error.faults
        if faults:
            raise ConfigError(faults, loaded.path)
        return Candidate(loaded.config, hashes, loaded.warnings, loaded.sources)

    def _hashes(self, loaded: Loaded) -> tuple[TokenSettings | str, ...]:
        config = loaded.config
        try:
            hashes = accepted_tokens(config)
        except TokenFileError as error:
            raise ConfigError([ConfigFault("auth.token_file", str(error))], loaded.path) from None
        except OSError as error:
            # It could be read a moment ago.
            fault = ConfigFault("auth.token_file", f"cannot be read: {error.strerror or type(error).__name__}")
            raise ConfigError([fault], loaded.path) from None
        if hashes or not config.auth.enabled:
            return tuple(hashes)
        if not self.spare_hashes:
            file = token_file(config)
            missing = "is missing" if not file.exists() else "has no token"
            fault = ConfigFault(
                "auth.token_file", f"{missing}, and there is no other token: no request could be authenticated"
            )
            raise ConfigError([fault], loaded.path)
        return self.spare_hashes
