"""The form of the configuration: frozen values with unit and default on every key.

`load.py` reads the file and the environment into these; rooms receive them and never read either. An unknown key is a
fault. Durations are seconds and sizes are bytes unless a description says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tentaculo.config.alerts import AlertSettings, IncidentSettings
from tentaculo.config.constraints import at_least, at_most
from tentaculo.config.maintenance import MaintenanceSettings
from tentaculo.config.reader import read
from tentaculo.config.section import INTERNAL, Section
from tentaculo.config.services import ServiceSettings
from tentaculo.config.types import (
    Bytes,
    DatabaseUrl,
    Listen,
    ListenHost,
    Origin,
    Port,
    Seconds,
    Secret,
    TokenHash,
    TrustedNetwork,
    split_host_port,
)


class ServerSettings(Section, frozen=True):
    """[server]: where the gateway listens."""

    host: Annotated[
        ListenHost, 'Address to listen on. Default "127.0.0.1"; "0.0.0.0" for all, "::" for all of IPv6.'
    ] = "127.0.0.1"
    port: Annotated[Port, "Port to listen on. Default 8000; 0 takes any free port."] = 8000
    listen: Annotated[
        tuple[Listen, ...],
        'Several addresses in place of host and port: ["127.0.0.1:8000", "[::1]:8000"]. Default none.',
    ] = ()
    trusted_proxies: Annotated[
        tuple[TrustedNetwork, ...], "Networks whose X-Forwarded-* and Forwarded headers are believed. Default none."
    ] = ()
    workers: Annotated[
        int, at_least(1), at_most(64), "Processes that share the addresses; more than one are supervised. Default 1."
    ] = 1
    keepalive: Annotated[Seconds, "Seconds an idle client connection is kept. Default 75."] = 75
    grace: Annotated[Seconds, "Seconds that requests in flight get when the gateway stops. Default 10."] = 10

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each listener: `listen`, else `host` and `port`. IPv6 hosts without brackets."""
        if not self.listen:
            return ((self.host, self.port),)
        return tuple((host, port or 0) for host, port in map(split_host_port, self.listen))


class AuthSettings(Section, frozen=True):
    """[auth]: who may call."""

    enabled: Annotated[bool, "Whether a token is asked for. Default true."] = True
    tokens: Annotated[tuple[TokenHash, ...], 'Hashes of accepted tokens, "sha256:<64 hex digits>". Default none.'] = ()
    token_file: Annotated[
        Path | None, "File with one hash per line, made at the first start if no token is set. Default data/token."
    ] = None
    share_token: Annotated[
        bool, "Whether services are sent the plain token of the environment (TENTACULO_TOKEN). Default false."
    ] = False
    open_websocket: Annotated[bool, "Whether /ws is open without a token. Default false."] = False
    open_status: Annotated[bool, "Whether /status is open without a token. Default true."] = True


class CorsSettings(Section, frozen=True):
    """[cors]: which web pages may call."""

    origins: Annotated[
        tuple[Origin, ...], "Origins that may call with credentials and open WebSockets. Default: the Operator's six."
    ] = tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (8011, 8020, 5173))


class DatabaseSettings(Section, frozen=True):
    """[database]: where health and events are kept."""

    url: Annotated[
        DatabaseUrl,
        "SQLAlchemy address. A relative SQLite path is relative to this file. Default sqlite:///data/tentaculo.db.",
    ] = Secret("sqlite:///data/tentaculo.db")
    auto_upgrade: Annotated[
        bool | None, "Whether `serve` brings the schema up to date. Default: yes for SQLite, no for PostgreSQL."
    ] = None


class HistorySettings(Section, frozen=True):
    """[history]: how long what was met is kept, in the database."""

    hours_of_minutes: Annotated[int, at_least(3), at_most(8760), "Hours for which each minute is kept. Default 48."] = (
        48
    )
    days_of_hours: Annotated[int, at_least(2), at_most(3660), "Days for which each hour is kept. Default 90."] = 90
    years_of_days: Annotated[int, at_least(1), at_most(100), "Years for which each day is kept. Default 2."] = 2


class LimitSettings(Section, frozen=True):
    """[limits]: how long and how much, where a route says nothing else."""

    connect: Annotated[Seconds, "Seconds to connect to an upstream, else 504. Default 5."] = 5
    first_byte: Annotated[
        Seconds, "Seconds from the request sent whole to the first byte of the answer, else 504. Default 30."
    ] = 30
    idle: Annotated[
        Seconds, "Seconds of silence within an answer, then it is cut. Not for event streams or upgrades. Default 60."
    ] = 60
    stall: Annotated[
        Seconds,
        at_most(1_000_000),
        "Seconds that a client, or a service after an upgrade, may take nothing of what it is sent; then"
        " its connection ends. Default 60.",
    ] = 60
    headers: Annotated[
        int,
        at_least(1024),
        at_most(1024 * 1024),
        "Bytes of a request's or an answer's head, else 431 or 502. Default 32768.",
    ] = 32 * 1024
    body: Annotated[Bytes, "Bytes of a request's body, else 413; 0 is unlimited. Default 0."] = 0
    head_time: Annotated[Seconds, "Seconds a request's head may take to arrive, else 408. Default 10."] = 10
    body_rate: Annotated[
        Bytes, "Bytes a second that a request's body must reach, else 408; 0 asks for none. Default 500."
    ] = 500
    body_grace: Annotated[Seconds, "Seconds of waiting for a body before its rate counts. Default 10."] = 10
    connections: Annotated[
        int, "Client connections at once, else 503; 0 takes what the descriptor limit allows. Default 0."
    ] = 0
    connections_per_address: Annotated[
        int, "Client connections at once from one address, else 503; 0 is unlimited. Default 0."
    ] = 0
    in_flight: Annotated[
        int,
        at_least(1),
        "Requests at once on one upstream address, tunnels not counted; more wait. Default 4096.",
    ] = 4096
    queue: Annotated[int, "Requests that wait for one service, connect seconds at most, else 503. Default 1024."] = 1024
    events_body: Annotated[
        int,
        at_least(1024),
        "Bytes of one event by ingest or WebSocket, else 413 or an error frame. Default 65536.",
    ] = 65536
    subscribers: Annotated[int, at_least(1), "WebSocket subscribers at once, else 503. Default 1024."] = 1024
    subscriber_queue: Annotated[
        int, at_least(1), "Events that wait for one slow subscriber before it is cut off. Default 256."
    ] = 256
    probes: Annotated[
        int,
        at_least(4),
        "Probes at once; a quarter of them for addresses whose last one took over a second. Default 256.",
    ] = 256
    resolve: Annotated[Seconds, "Seconds an upstream's looked-up name is believed. Default 30."] = 30
    pool: Annotated[int, at_least(0), "Idle connections kept per upstream. Default 4096."] = 4096


class LogSettings(Section, frozen=True):
    """[log]: what is written to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], "Least level written. Default info."] = "info"
    format: Annotated[Literal["auto", "json", "console"], "auto is console on a terminal, else json. Default auto."] = (
        "auto"
    )
    access: Annotated[bool, "Whether each request is logged in one line. Default true."] = True


class Config(Section, frozen=True):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    cors: CorsSettings = CorsSettings()
    database: DatabaseSettings = DatabaseSettings()
    history: HistorySettings = HistorySettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    incidents: IncidentSettings = IncidentSettings()
    alerts: AlertSettings = AlertSettings()
    maintenance: Annotated[tuple[MaintenanceSettings, ...], "Planned maintenance, one table each. Default none."] = ()
    services: Annotated[dict[str, ServiceSettings], "The fleet, by name."] = {}

    # Resolved by load.py; not keys of the file.
    folder: Annotated[Path, INTERNAL] = Path()
    """Where relative paths start: the configuration file's folder, else the working directory."""
    plain_token: Annotated[Secret | None, INTERNAL] = None
    """The token from the environment, accepted beside `auth.tokens`."""

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Config:
        """The configuration that `tables` mean, as TOML has them, and nothing else; raises ConfigError.

        `load.py` looks for more than this: contradictions between tables, files and the environment.
        """
        return read(cls, tables).with_names()

    def with_names(self) -> Config:
        """The same, with each service told the name of its table."""
        return self.replace(services={name: one.replace(name=name) for name, one in self.services.items()})

    @property
    def names(self) -> dict[str, str]:
        """Every name of a service, aliases included → the one that it goes by."""
        return {name: one.name for one in self.services.values() for name in (one.name, *one.aliases)}
