"""The form of the configuration: frozen values with unit and default on every key.

`load.py` reads the file and the environment into these; rooms receive them and never read either. An unknown key is a
fault. Durations are seconds and sizes are bytes unless a description says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator

from tentaculo.config.alerts import Alerts, Incidents
from tentaculo.config.maintenance import Maintenance
from tentaculo.config.section import Section
from tentaculo.config.services import Service
from tentaculo.config.values import (
    Bytes,
    Count,
    DatabaseUrl,
    Flag,
    Listen,
    ListenHost,
    Origin,
    Port,
    Seconds,
    TokenHash,
    TrustedNetwork,
    split_host_port,
)


class Server(Section):
    """[server]: where the gateway listens."""

    host: ListenHost = Field(
        "127.0.0.1", description='Address to listen on. Default "127.0.0.1"; "0.0.0.0" for all, "::" for all of IPv6.'
    )
    port: Port = Field(8000, description="Port to listen on. Default 8000; 0 takes any free port.")
    listen: tuple[Listen, ...] = Field(
        (), description='Several addresses in place of host and port: ["127.0.0.1:8000", "[::1]:8000"]. Default none.'
    )
    trusted_proxies: tuple[TrustedNetwork, ...] = Field(
        (), description="Networks whose X-Forwarded-* and Forwarded headers are believed. Default none."
    )
    workers: Annotated[Count, Field(ge=1, le=64)] = Field(
        1, description="Processes that share the addresses; more than one are supervised. Default 1."
    )
    keepalive: Seconds = Field(75, description="Seconds an idle client connection is kept. Default 75.")
    grace: Seconds = Field(10, description="Seconds that requests in flight get when the gateway stops. Default 10.")

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each listener: `listen`, else `host` and `port`. IPv6 hosts without brackets."""
        if not self.listen:
            return ((self.host, self.port),)
        return tuple((host, port or 0) for host, port in map(split_host_port, self.listen))


class Auth(Section):
    """[auth]: who may call."""

    enabled: Flag = Field(True, description="Whether a token is asked for. Default true.")
    tokens: tuple[TokenHash, ...] = Field(
        (), description='Hashes of accepted tokens, "sha256:<64 hex digits>". Default none.'
    )
    token_file: Path | None = Field(
        None, description="File with one hash per line, made at the first start if no token is set. Default data/token."
    )
    open_websocket: Flag = Field(False, description="Whether /ws is open without a token. Default false.")
    open_status: Flag = Field(True, description="Whether /status is open without a token. Default true.")


class Cors(Section):
    """[cors]: which web pages may call."""

    origins: tuple[Origin, ...] = Field(
        tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (8011, 8020, 5173)),
        description="Origins that may call with credentials and open WebSockets. Default: the Operator's six.",
    )


class Database(Section):
    """[database]: where health and events are kept."""

    url: DatabaseUrl = Field(
        SecretStr("sqlite:///data/tentaculo.db"),
        description="SQLAlchemy address. A relative SQLite path is relative to this file. Default sqlite:///data/tentaculo.db.",
    )
    auto_upgrade: Flag | None = Field(
        None, description="Whether `serve` brings the schema up to date. Default: yes for SQLite, no for PostgreSQL."
    )


class History(Section):
    """[history]: how long what was met is kept, in the database."""

    hours_of_minutes: Annotated[Count, Field(ge=3, le=8760)] = Field(
        48, description="Hours for which each minute is kept. Default 48."
    )
    days_of_hours: Annotated[Count, Field(ge=2, le=3660)] = Field(
        90, description="Days for which each hour is kept. Default 90."
    )
    years_of_days: Annotated[Count, Field(ge=1, le=100)] = Field(
        2, description="Years for which each day is kept. Default 2."
    )


class Limits(Section):
    """[limits]: how long and how much, where a route says nothing else."""

    connect: Seconds = Field(5, description="Seconds to connect to an upstream, else 504. Default 5.")
    first_byte: Seconds = Field(
        30, description="Seconds from the request sent whole to the first byte of the answer, else 504. Default 30."
    )
    idle: Seconds = Field(
        60,
        description="Seconds of silence within an answer, then it is cut. Not for event streams or upgrades. Default 60.",
    )
    stall: Annotated[Seconds, Field(le=1_000_000)] = Field(
        60,
        description="Seconds that a client, or a service after an upgrade, may take nothing of what it is sent; then"
        " its connection ends. Default 60.",
    )
    headers: Annotated[Count, Field(ge=1024, le=1024 * 1024)] = Field(
        32 * 1024, description="Bytes of a request's or an answer's head, else 431 or 502. Default 32768."
    )
    body: Bytes = Field(0, description="Bytes of a request's body, else 413; 0 is unlimited. Default 0.")
    head_time: Seconds = Field(10, description="Seconds a request's head may take to arrive, else 408. Default 10.")
    body_rate: Bytes = Field(
        500, description="Bytes a second that a request's body must reach, else 408; 0 asks for none. Default 500."
    )
    body_grace: Seconds = Field(10, description="Seconds of waiting for a body before its rate counts. Default 10.")
    connections: Count = Field(
        0, description="Client connections at once, else 503; 0 takes what the descriptor limit allows. Default 0."
    )
    connections_per_address: Count = Field(
        0, description="Client connections at once from one address, else 503; 0 is unlimited. Default 0."
    )
    in_flight: Annotated[Count, Field(ge=1)] = Field(
        4096, description="Requests at once on one upstream address, tunnels not counted; more wait. Default 4096."
    )
    queue: Count = Field(
        1024, description="Requests that wait for one service, connect seconds at most, else 503. Default 1024."
    )
    events_body: Annotated[Count, Field(ge=1024)] = Field(
        65536, description="Bytes of one event by ingest or WebSocket, else 413 or an error frame. Default 65536."
    )
    subscribers: Annotated[Count, Field(ge=1)] = Field(
        1024, description="WebSocket subscribers at once, else 503. Default 1024."
    )
    subscriber_queue: Annotated[Count, Field(ge=1)] = Field(
        256, description="Events that wait for one slow subscriber before it is cut off. Default 256."
    )
    probes: Annotated[Count, Field(ge=4)] = Field(
        256,
        description="Probes at once; a quarter of them for addresses whose last one took over a second. Default 256.",
    )
    resolve: Seconds = Field(30, description="Seconds an upstream's looked-up name is believed. Default 30.")
    pool: Annotated[Count, Field(ge=0)] = Field(4096, description="Idle connections kept per upstream. Default 4096.")


class Log(Section):
    """[log]: what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level written. Default info."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto is console on a terminal, else json. Default auto."
    )
    access: Flag = Field(True, description="Whether each request is logged in one line. Default true.")


class Config(Section):
    """The whole configuration."""

    server: Server = Server()
    auth: Auth = Auth()
    cors: Cors = Cors()
    database: Database = Database()
    history: History = History()
    limits: Limits = Limits()
    log: Log = Log()
    incidents: Incidents = Incidents()
    alerts: Alerts = Alerts()
    maintenance: tuple[Maintenance, ...] = Field((), description="Planned maintenance, one table each. Default none.")
    services: dict[str, Service] = Field({}, description="The fleet, by name.")

    # Resolved by load.py; not keys of the file.
    folder: Path = Field(Path(), exclude=True)
    """Where relative paths start: the configuration file's folder, else the working directory."""
    plain_token: SecretStr | None = Field(None, exclude=True)
    """The token from the environment, accepted beside `auth.tokens`."""

    @property
    def names(self) -> dict[str, str]:
        """Every name of a service, aliases included → the one that it goes by."""
        return {name: one.name for one in self.services.values() for name in (one.name, *one.aliases)}

    @model_validator(mode="before")
    @classmethod
    def _name_services(cls, data: Any) -> Any:
        services = data.get("services") if isinstance(data, dict) else None
        if isinstance(services, dict):
            named = {k: {**v, "name": k} if isinstance(v, dict) else v for k, v in services.items()}
            data = {**data, "services": named}
        return data
