"""The declarations of the configuration: every table with its keys, defaults and documentation.

`loader.py` reads the file and the environment into these frozen values. An unknown key is a fault. Durations are in
seconds and sizes in bytes unless the unit of a key says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.config.incidents import AlertSettings, IncidentSettings, MaintenanceSettings
from tentaculo.config.limits import LimitSettings
from tentaculo.config.listening import ServerSettings
from tentaculo.config.operation import AdminSettings, LogSettings, PageSettings, ReloadSettings
from tentaculo.config.reader import read
from tentaculo.config.section import INTERNAL, Doc, Section
from tentaculo.config.services import ServiceSettings
from tentaculo.config.storage import DatabaseSettings, EventSettings, HistorySettings
from tentaculo.config.types import (
    Origin,
    Secret,
)


class CorsSettings(Section, frozen=True):
    """[cors]: which web pages may send requests."""

    origins: Annotated[
        tuple[Origin, ...],
        Doc(
            "Origins of web pages that may send requests with credentials and open WebSockets. Apps have origins such as "
            "file://, capacitor://localhost or app://.; null is that of every page in a sandbox.",
            default="the six origins of the Operator",
        ),
    ] = tuple(f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (8011, 8020, 5173))


class Config(Section, frozen=True):
    """The whole configuration. The loader sets `folder` and `plain_token`, which are no keys of the file."""

    server: Annotated[ServerSettings, Doc("Where the gateway listens.", active=True)] = ServerSettings()
    auth: Annotated[
        AuthSettings,
        Doc(
            "Which tokens are accepted. A client sends a token as X-VX11-Token or as Authorization: Bearer."
            " `tentaculo token new` makes one. The token in TENTACULO_TOKEN is accepted too. If there is no token,"
            " the first start makes one and prints it.",
            active=True,
        ),
    ] = AuthSettings()
    cors: Annotated[CorsSettings, Doc("Which web pages may send requests.", active=True)] = CorsSettings()
    database: Annotated[
        DatabaseSettings,
        Doc("Where health, history, incidents and events are stored. The proxy works without it.", active=True),
    ] = DatabaseSettings()
    history: Annotated[
        HistorySettings,
        Doc("How long the counts and latencies of requests and probes are kept in the database.", active=True),
    ] = HistorySettings()
    events: Annotated[
        EventSettings, Doc("How long events wait for the database, and how long they are kept in it.", active=True)
    ] = EventSettings()
    limits: Annotated[
        LimitSettings,
        Doc("Limits of times, sizes and requests. Keys of a route override them for that route.", active=True),
    ] = LimitSettings()
    log: Annotated[LogSettings, Doc("What is written to standard error.", active=True)] = LogSettings()
    reload: Annotated[
        ReloadSettings, Doc("How a changed configuration is taken up while the gateway runs.", active=True)
    ] = ReloadSettings()
    page: Annotated[PageSettings, Doc("What the status pages are called, and whose time they show.", active=True)] = (
        PageSettings()
    )
    incidents: Annotated[
        IncidentSettings,
        Doc("What counts as one incident. An incident opens when a service becomes unusable.", active=True),
    ] = IncidentSettings()
    alerts: Annotated[
        AlertSettings,
        Doc(
            "When and where incidents are notified. `tentaculo alerts test` sends a test message on every channel.",
            active=True,
        ),
    ] = AlertSettings()
    admin: Annotated[AdminSettings, Doc("What the write API changes while the gateway runs.")] = AdminSettings()
    maintenance: Annotated[
        tuple[MaintenanceSettings, ...],
        Doc("Maintenance windows, one table each.", variant="A maintenance window that repeats."),
    ] = ()
    services: Annotated[
        dict[str, ServiceSettings],
        Doc(
            "The services, one table each. This one is an example: change its name and its URL.",
            active=True,
            names=("example", "workers"),
            variant="A service with several endpoints and its own token.",
        ),
    ] = {}

    folder: Annotated[Path, INTERNAL] = Path()
    """Where relative paths start: the configuration file's folder, else the working directory."""
    plain_token: Annotated[Secret | None, INTERNAL] = None
    """The token from the environment, accepted beside `auth.tokens`."""

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Config:
        """Read a configuration from TOML tables only. Raises ConfigError.

        `loader.load` also checks contradictions between keys, and reads files and the environment.
        """
        return read(cls, tables).with_names()

    def with_names(self) -> Config:
        """A copy in which each service has the name of its table."""
        return self.replace(services={name: one.replace(name=name) for name, one in self.services.items()})

    @property
    def names(self) -> dict[str, str]:
        """Maps every name and alias to the name of its service."""
        return {name: one.name for one in self.services.values() for name in (one.name, *one.aliases)}
