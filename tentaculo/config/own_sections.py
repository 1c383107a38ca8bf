"""Where a gateway listens and which token the environment has, also where the rest of its configuration is faulty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tentaculo.config.environment import PLAIN_TOKENS, lay_over, process_environment, read
from tentaculo.config.errors import ConfigError, ConfigFaults
from tentaculo.config.listening import ServerSettings
from tentaculo.config.loader import read_file
from tentaculo.config.reader import REFUSED, reader_for
from tentaculo.config.types import Secret


def own_addresses(path: Path | None, environ: Mapping[str, str] | None = None) -> tuple[tuple[str, int], ...]:
    """Host and port of each listener, from `[server]` alone. The file is found as `loader.load` does.

    Raises ConfigError where the file cannot be read or `[server]` is faulty.
    """
    environ = process_environment() if environ is None else environ
    sources, tables = read_file(path, environ)
    overlay = lay_over(tables, environ)
    faults = ConfigFaults(overlay.variables)
    server: ServerSettings = reader_for(ServerSettings)(overlay.data.get("server", {}), ("server",), faults.add)
    if server is REFUSED or len(faults):
        raise ConfigError([*faults], sources.path)
    return server.addresses


def environment_token(environ: Mapping[str, str] | None = None) -> Secret | None:
    """The token of the environment, whatever characters it has."""
    found = read(process_environment() if environ is None else environ, *PLAIN_TOKENS)
    return None if found is None else Secret(found[1])
