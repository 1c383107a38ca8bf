"""Loads a TOML file, the files it names and the environment into one frozen Config, or reports every fault at once."""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tentaculo.config.accepted_tokens import DEFAULT_TOKEN_FILE, parse_line
from tentaculo.config.change_layer import read_layer
from tentaculo.config.cross_checks import Table, check, services_of, webhooks_of
from tentaculo.config.environment import (
    CONFIG,
    FLEET_TOKEN,
    PLAIN_TOKENS,
    database_path,
    lay_over,
    process_environment,
    read,
)
from tentaculo.config.errors import ConfigError, ConfigFault, ConfigFaults, KeyPath, dotted
from tentaculo.config.files import read_text
from tentaculo.config.layers import Sources, changes_path, origins_of_changes, with_overrides
from tentaculo.config.masking import faults_of_files
from tentaculo.config.reader import REFUSED, reader_for
from tentaculo.config.schema import Config
from tentaculo.config.types import Secret, is_token, parse_flag
from tentaculo.config.warnings import warnings_of
from tentaculo.model.text import utc_now


class _NamedFiles:
    """The files that a configuration names: what they had when they were read, or what they have now."""

    def __init__(self, known: Mapping[Path, str] | None, faults: ConfigFaults) -> None:
        """`known` has what was read before; None where every file is to be read."""
        self._known = known or {}
        self._faults = faults
        self.are_known = known is not None
        self.contents: dict[Path, str] = {}
        """What the files had that were asked for."""

    def read(self, file: Path, place: KeyPath) -> str | None:
        """The text of a file. One that cannot be read is a fault, and None."""
        found = self._known.get(file)
        text = _read(file, place, self._faults) if found is None else found
        if text is not None:
            self.contents[file] = text
        return text


def resolve(
    data: Table, environ: Mapping[str, str], sources: Sources, variables: Mapping[KeyPath, str], faults: ConfigFaults
) -> tuple[Secret | None, Mapping[Path, str]]:
    """Read the tokens, keys and variables that `data` names, and put their values into it.

    Paths of files become absolute. `variables` has the values that the environment set. Returns the token of the
    environment, None if there is none, and what the named files had.
    """
    folder, files = sources.folder, _NamedFiles(sources.contents, faults)
    plain = _from_environment(environ, PLAIN_TOKENS, faults)
    fleet = _from_environment(environ, (FLEET_TOKEN,), faults)
    if fleet is None and _is_true(data, "auth", "share_token"):
        fleet = plain
    for name, table in services_of(data):
        _resolve_token(("services", name), table, folder, fleet, files, faults)
        if ("services", name, "enabled") not in variables:
            _resolve_enabled(("services", name), table, environ, faults)
    for place, webhook in webhooks_of(data):
        _resolve_keys(place, webhook, folder, files)
    auth = data.get("auth")
    file = folder / DEFAULT_TOKEN_FILE
    if isinstance(auth, dict) and isinstance(auth.get("token_file"), str):
        file = folder / auth["token_file"]
        auth["token_file"] = str(file)
    if not files.are_known:
        # The tokens of a configuration that is served are watched, and no change of it adds or removes one.
        _check_hashes(file, faults)
    return None if plain is None else Secret(plain), files.contents


def _resolve_keys(place: KeyPath, webhook: Table, folder: Path, files: _NamedFiles) -> None:
    if not isinstance(webhook.get("secrets_file"), str) or "secrets" in webhook:
        return
    file = folder / webhook["secrets_file"]
    webhook["secrets_file"] = str(file)
    text = files.read(file, (*place, "secrets_file"))
    if text is not None:
        lines = [line.strip() for line in text.splitlines()]
        webhook["secrets"] = [line for line in lines if line and not line.startswith("#")]


def _is_true(data: Table, section: str, key: str) -> bool:
    table = data.get(section)
    value = table.get(key) if isinstance(table, dict) else None
    try:
        return value is True or (isinstance(value, str) and parse_flag(value))
    except ValueError:  # the reader reports it
        return False


def _from_environment(environ: Mapping[str, str], names: tuple[str, ...], faults: ConfigFaults) -> str | None:
    found = read(environ, *names)
    if found is None:
        return None
    if not is_token(found[1]):
        faults.add((found[0],), "must be visible ASCII characters only")
    return found[1]


def _resolve_token(
    place: KeyPath, table: Table, folder: Path, fleet: str | None, files: _NamedFiles, faults: ConfigFaults
) -> None:
    if isinstance(table.get("token_file"), str):
        file = folder / table["token_file"]
        table["token_file"] = str(file)
        text = files.read(file, (*place, "token_file"))
        if text is not None and "token" not in table:
            token = text.strip()
            if not token:
                faults.add((*place, "token_file"), "is empty")
            elif not is_token(token):
                faults.add((*place, "token_file"), "must hold one token of visible ASCII characters")
            else:
                table["token"] = token
    elif "token" not in table and "token_file" not in table:
        if fleet is not None and is_token(fleet):
            table["token"] = fleet
    elif table.get("token") == "":
        del table["token"]


def _resolve_enabled(place: KeyPath, table: Table, environ: Mapping[str, str], faults: ConfigFaults) -> None:
    variable = table.get("enabled_env")
    found = read(environ, variable) if isinstance(variable, str) else None
    if found is None:
        return
    try:
        table["enabled"] = parse_flag(found[1])
    except ValueError as error:
        faults.add((*place, "enabled_env"), f"{variable} {error}")


def _check_hashes(file: Path, faults: ConfigFaults) -> None:
    # A missing file is not a fault: the first start makes it.
    text = _read(file, ("auth", "token_file"), faults, missing="")
    for number, line in enumerate((text or "").splitlines(), 1):
        try:
            parse_line(line)
        except ValueError as error:
            faults.add(("auth", "token_file"), f"line {number}: {error}")


def _read(file: Path, place: KeyPath, faults: ConfigFaults, *, missing: str | None = None) -> str | None:
    """The text of a file. An unreadable file gives a fault and None; a missing file gives `missing`, if set."""
    try:
        return read_text(file)
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            return missing
        faults.add(place, f"cannot be read: {error.strerror or type(error).__name__}")
    except ValueError:  # not UTF-8, or a path with a zero byte
        faults.add(place, "is not text")
    return None


DEFAULT_NAME = "tentaculo.toml"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration."""

    config: Config
    warnings: tuple[str, ...]
    """Warnings about valid but suspicious values, one sentence each."""
    path: Path | None
    """The file it came from, absolute; None where there is none."""
    sources: Sources
    """What it was made of."""
    files: tuple[Path, ...] = ()
    """Every file that was read, or would have been if it existed."""


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration; raises ConfigError with every fault, also those of the file of changes.

    Without `path` the file is the one that TENTACULO_CONFIG names, else tentaculo.toml in the working directory if it
    exists, else none. `environ` is this process's own where it is not given, and its TENTACULO_* variables override the
    file and the changes.
    """
    environ = process_environment() if environ is None else environ
    sources, tables = read_file(path, environ)
    try:
        sources, unread = replace(sources, layer=read_layer(sources.changes_file)), None
    except ConfigError as error:
        unread = error
    try:
        loaded = load_sources(sources, environ, tables)
    except ConfigError as error:
        if unread is None:
            raise
        raise ConfigError([*unread.faults, *error.faults], error.path, files=error.files) from None
    if unread is not None:
        raise ConfigError(unread.faults, sources.path, files=loaded.files)
    return loaded


def load_usable(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """As `load`, but without the changes where these are faulty: they must make neither a start nor a command impossible.

    They are left out as a whole then, with a warning. Raises ConfigError where the configuration file or the environment
    is faulty without them.
    """
    environ = process_environment() if environ is None else environ
    try:
        return load(path, environ)
    except ConfigError as error:
        faults = error.faults
    sources, tables = read_file(path, environ)
    loaded = load_sources(replace(sources, refused=faults), environ, tables)
    count = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
    warning = (
        f"the changes in {sources.changes_file} are not applied, since the configuration has {count} with them:"
        f" {'; '.join(map(str, faults))}"
    )
    return replace(loaded, warnings=(warning, *loaded.warnings))


def load_sources(
    sources: Sources, environ: Mapping[str, str], tables: Table | None = None, now: datetime | None = None
) -> Loaded:
    """Make a configuration of its layers, with the environment over them; raises ConfigError.

    Of the files that it names those are read that `sources` does not have the contents of. `tables` are those of the
    configuration file, if they are read already. `now` is the time in UTC by which overrides end.
    """
    layer = sources.layer
    tables = sources.tables if tables is None else tables
    try:
        if faults := [*faults_of_files(layer.changes)]:
            # The file of changes, and the row of several machines, may be somebody else's.
            raise ConfigError(faults, sources.path)
        loaded = _load(layer.over(tables), environ, sources, origins_of_changes(layer))
    except RecursionError:
        # TOML has a bound of its own for that.
        raise ConfigError([ConfigFault(str(sources.changes_file), "is nested too deeply")], sources.path) from None
    config = with_overrides(loaded.config, layer.active(now or utc_now()))
    without_effect = tuple(
        f"the change of {dotted(place)} has no effect: the configuration file no longer has it"
        for place in layer.orphans(tables)
    )
    return replace(loaded, config=config, warnings=(*loaded.warnings, *without_effect))


def load_tables(tables: Table, environ: Mapping[str, str], *, folder: Path) -> Loaded:
    """Make a configuration of `tables` as TOML has them, with the environment over them; raises ConfigError.

    Relative paths start at `folder`. `tables` stay as they are, and no change is laid over them.
    """
    return _load(tables, environ, Sources(folder), {})


def _load(tables: Table, environ: Mapping[str, str], sources: Sources, origins: Mapping[KeyPath, str]) -> Loaded:
    """`origins` names where values of `tables` are from that no file and no variable has set."""
    overlay = lay_over(copy.deepcopy(tables), environ)
    data = overlay.data
    faults = ConfigFaults({**origins, **overlay.variables})
    check(data, faults)
    warnings = list(overlay.warnings)
    token, contents = resolve(data, environ, sources, overlay.variables, faults)
    config = reader_for(Config)(data, (), faults.add)
    files = tuple(_named_files(data, sources))
    others = [*files, None if config is REFUSED else database_path(config.replace(folder=sources.folder))]
    if [one and os.path.normpath(one) for one in others].count(os.path.normpath(sources.changes_file)) > 1:
        # Taking all changes back replaces it, whatever is in it.
        faults.add(("admin", "changes_file"), "is the path of another file of the configuration")
    found = sorted([*overlay.faults, *faults], key=lambda fault: fault.path)
    if config is REFUSED or found:
        raise ConfigError(found, sources.path, files=files)
    whole: Config = config.with_names().replace(folder=sources.folder.absolute(), plain_token=token)
    warnings += warnings_of(whole)
    return Loaded(whole, tuple(warnings), sources.path, replace(sources, contents=contents), files)


def _named_files(data: Table, sources: Sources) -> Iterator[Path]:
    """The configuration file, the file of changes, and those that they name for tokens and keys."""
    if sources.path is not None:
        yield sources.path
    yield sources.changes_file
    auth = data.get("auth")
    named = [(auth if isinstance(auth, dict) else {}).get("token_file", DEFAULT_TOKEN_FILE)]
    named += [table.get("token_file") for _, table in services_of(data)]
    named += [table.get("secrets_file") for _, table in webhooks_of(data)]
    yield from (sources.folder.absolute() / file for file in named if isinstance(file, (str, Path)))


def read_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Sources, Table]:
    """What is read first, and the tables of the configuration file. Raises ConfigError."""
    if path is None:
        named = read(environ, CONFIG)
        if named is not None:
            path = Path(named[1])
        elif Path(DEFAULT_NAME).exists():
            path = Path(DEFAULT_NAME)
    if path is None:
        folder, text = Path.cwd(), ""
        tables: Table = {}
    else:
        path = path.absolute()
        folder, (text, tables) = path.parent, _read_toml(path)
    return Sources(folder, path, text, changes_path(tables, environ, folder)), tables


def _read_toml(path: Path) -> tuple[str, Table]:
    try:
        text = read_text(path)
        return text, tomllib.loads(text)
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        message = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        message = f"is not valid TOML: {error}"
    except RecursionError:
        message = "is not valid TOML: nested too deeply"
    raise ConfigError([ConfigFault(str(path), message)], path)
