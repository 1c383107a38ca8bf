"""Loads a TOML file, the files it names and the environment into one frozen Config, or reports every fault at once."""

from __future__ import annotations

import copy
import ipaddress
import socket
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tentaculo.config.accepted_tokens import DEFAULT_TOKEN_FILE, parse_line
from tentaculo.config.cross_checks import Table, check, services_of, webhooks_of
from tentaculo.config.environment import CONFIG, FLEET_TOKEN, PLAIN_TOKENS, lay_over, process_environment, read
from tentaculo.config.errors import ConfigError, ConfigFault, ConfigFaults, KeyPath
from tentaculo.config.reader import REFUSED, reader_for
from tentaculo.config.schema import Config
from tentaculo.config.services import grouped_by_endpoint
from tentaculo.config.types import Secret, is_token, parse_flag


def resolve(
    data: Table, environ: Mapping[str, str], folder: Path, variables: Mapping[KeyPath, str], faults: ConfigFaults
) -> Secret | None:
    """Read the tokens, keys and variables that `data` names, and put their values into it.

    Paths of files become absolute. `variables` has the values that the environment set. Returns the token of the
    environment, None if there is none.
    """
    plain = _from_environment(environ, PLAIN_TOKENS, faults)
    fleet = _from_environment(environ, (FLEET_TOKEN,), faults)
    if fleet is None and _is_true(data, "auth", "share_token"):
        fleet = plain
    for name, table in services_of(data):
        _resolve_token(("services", name), table, folder, fleet, faults)
        if ("services", name, "enabled") not in variables:
            _resolve_enabled(("services", name), table, environ, faults)
    for place, webhook in webhooks_of(data):
        _resolve_keys(place, webhook, folder, faults)
    auth = data.get("auth")
    file = folder / DEFAULT_TOKEN_FILE
    if isinstance(auth, dict) and isinstance(auth.get("token_file"), str):
        file = folder / auth["token_file"]
        auth["token_file"] = str(file)
    _check_hashes(file, faults)
    return None if plain is None else Secret(plain)


def _resolve_keys(place: KeyPath, webhook: Table, folder: Path, faults: ConfigFaults) -> None:
    if not isinstance(webhook.get("secrets_file"), str) or "secrets" in webhook:
        return
    file = folder / webhook["secrets_file"]
    webhook["secrets_file"] = str(file)
    text = _read(file, (*place, "secrets_file"), faults)
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


def _resolve_token(place: KeyPath, table: Table, folder: Path, fleet: str | None, faults: ConfigFaults) -> None:
    if isinstance(table.get("token_file"), str):
        file = folder / table["token_file"]
        table["token_file"] = str(file)
        text = _read(file, (*place, "token_file"), faults)
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
        return file.read_text(encoding="utf-8")
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            return missing
        faults.add(place, f"cannot be read: {error.strerror or type(error).__name__}")
    except ValueError:  # not UTF-8, or a path with a zero byte
        faults.add(place, "is not text")
    return None


DEFAULT_NAME = "tentaculo.toml"
OWN_PATHS = frozenset(
    (
        "/auth/ticket",
        "/debug/events/cardinality",
        "/debug/events/correlations",
        "/events",
        "/events/ingest",
        "/events/stream",
        "/health",
        "/livez",
        "/metrics",
        "/readyz",
        "/status",
        "/status/actions",
        "/status/api/v2/components.json",
        "/status/api/v2/incidents.json",
        "/status/api/v2/incidents/unresolved.json",
        "/status/api/v2/scheduled-maintenances.json",
        "/status/api/v2/scheduled-maintenances/active.json",
        "/status/api/v2/scheduled-maintenances/upcoming.json",
        "/status/api/v2/status.json",
        "/status/api/v2/summary.json",
        "/status/badge.json",
        "/status/badge.svg",
        "/status/incidents",
        "/status/incidents.atom",
        "/status/sign-in",
        "/status/sign-out",
        "/status/events",
        "/tentaculo/alerts",
        "/tentaculo/asyncapi.json",
        "/tentaculo/clocks",
        "/tentaculo/openapi.json",
        "/tentaculo/warnings",
        "/vx11/circuit-breaker/status",
        "/vx11/incidents",
        "/vx11/maintenance",
        "/vx11/overview",
        "/vx11/status",
        "/ws",
    )
)
"""The gateway's own paths that do not change, without the start page."""
OWN_TREES = ("/status/badges/", "/status/incidents/", "/vx11/incidents/", "/vx11/maintenance/")
"""Before the changing part of the gateway's own paths. Every path that begins so is the gateway's."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared, not listened on


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration."""

    config: Config
    warnings: tuple[str, ...]
    """Warnings about valid but suspicious values, one sentence each."""
    path: Path | None
    """The file it came from, absolute; None where there is none."""


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration; raises ConfigError with every fault.

    Without `path` the file is the one that TENTACULO_CONFIG names, else tentaculo.toml in the working directory if it
    exists, else none. `environ` is this process's own where it is not given, and its TENTACULO_* variables override the
    file.
    """
    environ = process_environment() if environ is None else environ
    if path is None:
        named = read(environ, CONFIG)
        if named is not None:
            path = Path(named[1])
        elif Path(DEFAULT_NAME).exists():
            path = Path(DEFAULT_NAME)
    if path is None:
        return load_tables({}, environ, folder=Path.cwd())
    return load_tables(_read_file(path), environ, folder=path.absolute().parent, path=path.absolute())


def load_tables(tables: Table, environ: Mapping[str, str], *, folder: Path, path: Path | None = None) -> Loaded:
    """Make a configuration of `tables` as TOML has them, with the environment over them; raises ConfigError.

    Relative paths start at `folder`. `path` is the file the tables came from, if any. `tables` stay as they are.
    """
    overlay = lay_over(copy.deepcopy(tables), environ)
    data = overlay.data
    faults = ConfigFaults(overlay.variables)
    check(data, faults)
    warnings = list(overlay.warnings)
    resolved = resolve(data, environ, folder, overlay.variables, faults)
    config = reader_for(Config)(data, (), faults.add)
    found = sorted([*overlay.faults, *faults], key=lambda fault: fault.path)
    if config is REFUSED or found:
        raise ConfigError(found, path)
    whole: Config = config.with_names().replace(folder=folder.absolute(), plain_token=resolved)
    return Loaded(whole, (*warnings, *_warnings(whole)), path)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        # A file saved by Notepad begins with a byte order mark, which is not valid TOML.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError:
        message = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        message = f"is not valid TOML: {error}"
    except RecursionError:
        message = "is not valid TOML: nested too deeply"
    raise ConfigError([ConfigFault(str(path), message)], path.absolute())


def _warnings(config: Config) -> list[str]:
    found = []
    if not config.auth.enabled:
        beyond = [host for host, _ in config.server.addresses if host not in _LOOPBACK]
        if beyond:
            found.append(f"auth.enabled is false: every client that reaches {beyond[0]} may call every service")
        unsent = [
            service.name
            for service in config.services.values()
            if service.token is not None and service.routes and not any(route.send_token for route in service.routes)
        ]
        if unsent:
            found.append(
                f"auth.enabled is false, so every caller is anonymous: only probes carry the token of {', '.join(unsent)};"
                " set send_token on a route to send it with requests"
            )
    if config.auth.share_token and config.plain_token is not None:
        found.append("auth.share_token is true: services receive the token that opens the gateway")
    # Without services it is the demonstration, which is one process.
    if config.server.workers > 1 and config.services:
        found.append(
            f"server.workers is {config.server.workers}: each worker has its own breakers, limits, metrics and event"
            " subscribers. An event reaches only the subscribers of the worker that received it"
        )
    return found + _address_warnings(config) + _route_warnings(config) + _alert_warnings(config)


def _address_warnings(config: Config) -> list[str]:
    """The services whose requests would come back to the gateway."""
    names = {*config.server.hosts, socket.gethostname().lower()}
    return [
        f"services.{service.name} is asked at {endpoint}, where the gateway itself listens"
        for service in config.services.values()
        for endpoint in service.upstreams
        if any(
            port == endpoint.port and _reaches(endpoint.host.lower().removesuffix("."), host.lower(), names)
            for host, port in config.server.addresses
        )
    ]


def _reaches(host: str, listening: str, names: Set[str]) -> bool:
    """Whether `host` leads to a socket of this machine that listens at `listening`; `names` are the machine's."""
    if host == listening:
        return True
    if listening in _EVERY_ADDRESS:
        return host in names or _is_loopback(host)
    return listening in _LOOPBACK and host in _LOOPBACK + _EVERY_ADDRESS


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _route_warnings(config: Config) -> list[str]:
    found: list[str] = []
    own_paths = OWN_PATHS | {f"/vx11/history/{name}" for name in config.names}
    own_paths |= {f"/status/services/{name}" for name in config.services}
    for service in config.services.values():
        for index, route in enumerate(service.routes):
            place = f"services.{service.name}.routes[{index}]"
            if route.host in config.server.hosts:
                found.append(
                    f"{place} claims {route.host}, which is in server.hosts: the gateway's own paths win there"
                )
            if "*" in route.prefix:
                found.append(
                    f"{place}.prefix has a *, which stands for itself: a prefix takes every path below it already"
                )
            if route.prefix in own_paths and (route.host is None or route.host in config.server.hosts):
                found.append(
                    f"{place}.prefix is a path of the gateway itself, which wins: the service gets only paths below it,"
                    f" as of {route.prefix}/"
                )
            if route.prefix.startswith(OWN_TREES) and (route.host is None or route.host in config.server.hosts):
                found.append(
                    f"{place}.prefix is below a path of the gateway itself, which takes every path there: the service"
                    " gets nothing"
                )
    return found + _open_route_warnings(config)


def _open_route_warnings(config: Config) -> list[str]:
    """The open routes to paths that another route guards, of the same service or of one at the same endpoint."""
    groups = grouped_by_endpoint([*config.services.values()])
    guards = {
        id(group): [
            (service, f"services.{service.name}.routes[{number}]", route, route.replacement)
            for service in group
            for number, route in enumerate(service.routes)
            if route.auth != "none"
        ]
        for group in groups.values()
    }
    found = []
    for service in config.services.values():
        for index, route in enumerate(service.routes):
            if route.auth != "none":
                continue
            place, inside = f"services.{service.name}.routes[{index}]", route.replacement
            for other, guarded_place, guarded, its_inside in guards[id(groups[service.name])]:
                if its_inside == inside and guarded.exact == route.exact:
                    if service.sees_as(route, other, guarded):
                        end = f", but needs a token: the service sees the paths that {guarded_place} guards"
                    else:
                        end = f" and reaches every path that {guarded_place} guards at another host"
                    found.append(f"{place} is open{end}")
                elif other is not service and not route.exact and its_inside.startswith(inside + "/"):
                    found.append(
                        f"{place} is open, but not to the paths that {guarded_place} guards: {other.name} has an"
                        f" endpoint of {service.name}"
                    )
    return found


def _alert_warnings(config: Config) -> list[str]:
    found = []
    for name, webhook in config.alerts.webhooks.items():
        address = urlsplit(webhook.url.reveal())
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            found.append(f"alerts.webhooks.{name} is not https://: others on the network can read its messages")
    if (config.alerts.webhooks or config.alerts.apprise) and config.alerts.page is None:
        found.append("alerts.page is not set: the links in alerts work on this machine only")
    if config.alerts.apprise and find_spec("apprise") is None:
        found.append("alerts.apprise needs a package that is not installed: pip install 'tentaculo-link[alerts]'")
    return found
