"""Environment variables of the configuration: TENTACULO_* override keys of the file. Also tokens and the database URL.

No other module reads os.environ. The gateway, the commands and Alembic take the driver, the file and the defaults of the
database URL from here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tentaculo.config.errors import ConfigFault, KeyPath, did_you_mean
from tentaculo.config.key_reference import ANY, KeyKind, walk
from tentaculo.config.reader import EnvironmentText
from tentaculo.config.schema import Config

_DRIVERS = {
    "postgres": "postgresql+pg8000",
    "postgresql": "postgresql+pg8000",
    "postgresql+asyncpg": "postgresql+pg8000",
    "sqlite+pysqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
}
"""Schemes that get one of the two drivers that the gateway is shipped with. Other schemes stay."""


def database_url(config: Config) -> str:
    """The SQLAlchemy URL with its driver. It may contain a password: never log or show it.

    A relative SQLite path becomes absolute, from the folder of the configuration file.
    """
    url = with_driver(config.database.url.reveal())
    file = database_path(config)
    if file is None:
        return url
    _, mark, query = url.partition("?")
    return f"sqlite:///{file}{mark}{query}"


def with_driver(url: str) -> str:
    """`url` with a driver of the gateway in place of a general or an asynchronous one."""
    scheme, separator, rest = url.partition("://")
    return f"{_DRIVERS.get(scheme, scheme)}{separator}{rest}"


def sqlite_file(database: str | None) -> Path | None:
    """The file of a SQLite database, from the path in its URL; None for memory and for SQLite's own `file:` form."""
    if not database or database == ":memory:" or database.startswith("file:"):
        return None
    return Path(database)


def is_sqlite(config: Config) -> bool:
    """Whether the database is SQLite, in a file or in memory."""
    return config.database.url.reveal().startswith("sqlite")


def make_database_folder(config: Config) -> None:
    """Make the folder of the SQLite file, if it is a file and the folder is missing. Raises OSError."""
    file = database_path(config)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def database_path(config: Config) -> Path | None:
    """The file of a SQLite database, absolute; None where the database is none."""
    scheme, _, rest = with_driver(config.database.url.reveal()).partition(":///")
    file = sqlite_file(rest.partition("?")[0]) if scheme == "sqlite" else None
    return None if file is None else (config.folder / file).absolute()


PREFIX = "TENTACULO_"
CONFIG = "TENTACULO_CONFIG"
FLEET_TOKEN = "TENTACULO_SERVICE_TOKEN"  # noqa: S105 - the name of a variable
"""Variable of the token that is sent to services without a token of their own."""
PLAIN_TOKENS = ("TENTACULO_TOKEN", "VX11_TENTACULO_LINK_TOKEN", "VX11_GATEWAY_TOKEN")
"""Variables of the token that the gateway accepts; the first that is set wins."""

_NOTIFICATION_SOCKET = "NOTIFY_SOCKET"
HANDOVER = "TENTACULO_HANDOVER"
"""Variable that the predecessor of a process sets: the descriptor of the channel between the two."""
_FIRST_LISTENING = 3
"""The first descriptor that a service manager passes on (sd_listen_fds(3))."""

_OTHERS = (CONFIG, FLEET_TOKEN, PLAIN_TOKENS[0])
# Of two keys that mean the same thing the one that the environment sets must not collide with the other in the file.
_ALTERNATIVES = {"url": ("urls",), "urls": ("url",), "token": ("token_file",), "token_file": ("token",)}
_LISTEN = {"host": ("listen",), "port": ("listen",)}
# Kubernetes makes TENTACULO_SERVER_PORT=tcp://… for a Service that is called tentaculo-server.
_KUBERNETES = re.compile(r"(tcp|udp|sctp)://")


@dataclass
class Overlay:
    """The tables of the file with the values of the environment."""

    data: dict[str, Any]
    variables: dict[KeyPath, str] = field(default_factory=dict)
    """The path of each value that the environment set, with the name of the variable."""
    faults: list[ConfigFault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def process_environment() -> Mapping[str, str]:
    """This process's own environment."""
    return os.environ


class InheritedDescriptors(NamedTuple):
    """Descriptors that this process was started with."""

    handover: int | None
    """The channel to the predecessor; None where there is none."""
    listening: range
    """Listening sockets of a service manager."""


def take_inherited_descriptors() -> InheritedDescriptors:
    """The descriptors that the environment names. Their variables are removed: they are not for child processes."""
    given = {name: os.environ.pop(name, "") for name in (HANDOVER, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    numbers = {name: int(text) for name, text in given.items() if text.isascii() and text.isdecimal()}
    count = numbers.get("LISTEN_FDS", 0) if numbers.get("LISTEN_PID") == os.getpid() else 0
    return InheritedDescriptors(numbers.get(HANDOVER), range(_FIRST_LISTENING, _FIRST_LISTENING + count))


def take_notification_socket() -> str | None:
    """The address at which systemd takes reports about this process. It is removed: child processes must not send any."""
    return os.environ.pop(_NOTIFICATION_SOCKET, None)


def with_notification_socket(environ: Mapping[str, str], address: str | None) -> dict[str, str]:
    """`environ` for a process that takes this one's place with systemd, at `address`."""
    return {**environ, **({_NOTIFICATION_SOCKET: address} if address else {})}


def child_environment(config: Config) -> dict[str, str]:
    """The environment for a child process that opens the database of `config`."""
    return {**os.environ, f"{PREFIX}DATABASE_URL": database_url(config)}


def read(environ: Mapping[str, str], *names: str) -> tuple[str, str] | None:
    """Name and stripped value of the first variable of `names` that is set. An empty variable counts as unset."""
    for name in names:
        if value := environ.get(name, "").strip():
            return name, value
    return None


def variable_name(*path: str) -> str:
    """The variable of a key: ("services", "my-api", "url") is TENTACULO_SERVICES_MY_API_URL."""
    return PREFIX + "_".join(path).upper().replace("-", "_")


def lay_over(data: dict[str, Any], environ: Mapping[str, str]) -> Overlay:
    """Override values of the file with those of the environment. `data` is changed in place."""
    overlay = Overlay(data)
    services = variable_name("services")
    if (found := read(environ, services)) is not None:
        _put(overlay, ("services",), KeyKind.TABLE, *found)
    given = {name for name in environ if name.startswith(PREFIX)}
    names = _names(data.get("services"), given)
    # Whole tables come before the single keys inside them.
    for name, (place, kind) in sorted(names.items(), key=lambda item: len(item[1][0])):
        if (found := read(environ, name)) is not None:
            _put(overlay, place, kind, *found)
    if unknown := sorted(given - names.keys() - {services, *_OTHERS}):
        known = {services, *_OTHERS, *_names(data.get("services"))}
        for name in unknown:
            hint = did_you_mean(name, known, cutoff=0.85)
            overlay.warnings.append(f"{name} is not the name of a key and is ignored{hint}")
    return overlay


def _names(services: Any, wanted: Set[str] | None = None) -> dict[str, tuple[tuple[str, ...], KeyKind]]:
    """Every valid variable name, with its path and kind; of those in `wanted`, where that is given."""
    names: dict[str, tuple[tuple[str, ...], KeyKind]] = {}
    # The longest service name is put in last and wins, should one name read as another service's key.
    present = sorted((str(name) for name in services), key=len) if isinstance(services, dict) else []

    def is_wanted(path: tuple[str, ...]) -> bool:
        # To look at the keys of a table takes time. What follows `services` in a name is the name of a service.
        below = variable_name(*path[: 1 if path[0] == "services" else None], "")
        return wanted is None or any(name.startswith(below) for name in wanted)

    # Once for all services, of which there may be a thousand.
    keys = []
    for key in walk(is_wanted=is_wanted):
        is_service = key.path[:2] == ("services", ANY)
        # A list, or a table with free names, is set as a whole.
        if is_service and ANY not in key.path[2:]:
            keys.append((key.path[2:], key.kind))
        elif key.path[0] != "services" and ANY not in key.path:
            names[variable_name(*key.path)] = (key.path, key.kind)
    for service in present:
        whole = variable_name("services", service)
        if wanted is None or any(name.startswith(whole) for name in wanted):
            names[whole] = (("services", service), KeyKind.TABLE)
            names |= {
                variable_name("services", service, *path): (("services", service, *path), kind) for path, kind in keys
            }
    return names if wanted is None else {name: one for name, one in names.items() if name in wanted}


def _put(overlay: Overlay, place: tuple[str, ...], kind: KeyKind, name: str, text: str) -> None:
    value: Any = EnvironmentText(text)
    if kind is KeyKind.SCALAR and place[-1] == "port" and _KUBERNETES.match(text):
        overlay.warnings.append(f"{name} looks like a variable that Kubernetes makes for a Service, and is ignored")
        return
    if kind is not KeyKind.SCALAR:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            example = '["a", "b"]' if kind is KeyKind.LIST else '{"key": "value"}'
            overlay.faults.append(ConfigFault(name, f"must be a {kind} as JSON, such as {example}"))
            return
    table: Any = overlay.data
    for step in place[:-1]:
        table = table.setdefault(step, {})
        if not isinstance(table, dict):
            return  # The file has another type where a table belongs; the reader reports it.
    table[place[-1]] = value
    overlay.variables[place] = name
    others = _LISTEN if place[0] == "server" else _ALTERNATIVES
    for other in others.get(place[-1], ()):
        if (*place[:-1], other) not in overlay.variables:
            table.pop(other, None)
