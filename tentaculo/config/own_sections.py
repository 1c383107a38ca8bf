"""What a command needs of the configuration where the rest of it is faulty: where the gateway listens, who may call it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tentaculo.config.environment import PLAIN_TOKENS, lay_over, process_environment, read, variable_name
from tentaculo.config.errors import ConfigError, ConfigFaults
from tentaculo.config.loader import read_file
from tentaculo.config.reader import REFUSED, reader_for
from tentaculo.config.schema import Config
from tentaculo.config.types import Secret, is_token


def own_sections(path: Path | None, *names: str, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration with these sections alone: all others are as they are by default.

    The file is found as `loader.load` does. What the write API has changed is in none of these. Raises ConfigError where
    the file cannot be read, or one of these is faulty.
    """
    environ = process_environment() if environ is None else environ
    sources, tables = read_file(path, environ)
    overlay = lay_over(tables, environ)
    faults = ConfigFaults(overlay.variables)
    wanted = {name: overlay.data[name] for name in names if name in overlay.data}
    config = reader_for(Config)(wanted, (), faults.add)
    unread = [one for one in overlay.faults if one.path.startswith(tuple(f"{variable_name(name)}_" for name in names))]
    if config is REFUSED or len(faults) or unread:
        raise ConfigError([*unread, *faults], sources.path)
    token = environment_token(environ)
    if token is not None and not is_token(token.reveal()):
        token = None
    found: Config = config.replace(folder=sources.folder.absolute(), plain_token=token)
    return found


def own_addresses(path: Path | None, environ: Mapping[str, str] | None = None) -> tuple[tuple[str, int], ...]:
    """Host and port of each listener, from `[server]` alone. Raises ConfigError as above."""
    return own_sections(path, "server", environ=environ).server.addresses


def environment_token(environ: Mapping[str, str] | None = None) -> Secret | None:
    """The token of the environment, whatever characters it has."""
    found = read(process_environment() if environ is None else environ, *PLAIN_TOKENS)
    return None if found is None else Secret(found[1])
