"""What the operator says of the status pages and of the services on them. Frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

import msgspec


class Switched(msgspec.Struct, frozen=True):
    """A service that somebody has switched on or off until a moment, whatever the configuration says."""

    is_on: bool
    until: datetime


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What is said of one service. Each text is one line, empty where nothing is said."""

    about: str = ""
    owner: str = ""
    group: str = ""
    runbook: str = ""
    """An http:// or https:// URL."""
    switched: Switched | None = None
    """That it is switched on or off for a time."""


@dataclass(frozen=True, slots=True)
class ServedConfiguration:
    """Which configuration is served, and the last reload where that changed nothing. For those who have signed in."""

    generation: int
    by: str
    """What loaded it."""
    since: datetime
    refused_by: str = ""
    """What asked for a reload after that, which changed nothing; empty where none was refused."""
    refused_at: datetime | None = None
    refused_why: str = ""
    faults: tuple[str, ...] = ()
    """Those of the configuration that was refused, or the first of them."""


PRODUCT: Final = "Tentáculo Link"
NO_INFO: Final = ServiceInfo()


class RequestRule(NamedTuple):
    """One limit of the requests of a route."""

    per: str
    """Who is counted apart: `caller`, `address` or `route`."""
    rate: str
    """As `100/s`; empty where the rate is not limited."""
    burst: int | None
    in_flight: int | None


class RouteRules(NamedTuple):
    """What limits the requests of one route."""

    route: str
    rules: tuple[RequestRule, ...]
    allow: tuple[str, ...]
    """The networks whose clients may send requests; empty for all."""
    deny: tuple[str, ...]
    refused: int
    """Requests that these have refused in this process."""


@dataclass(frozen=True, slots=True)
class PageInfo:
    """What is said of the pages, and of each service by its name."""

    title: str = ""
    zone: tzinfo = UTC
    """Whose time the pages show."""
    services: Mapping[str, ServiceInfo] = field(default_factory=dict)
    groups: tuple[str, ...] = field(init=False)
    """The groups of the services, each in the place of its first service."""

    def __post_init__(self) -> None:
        groups = tuple(dict.fromkeys(one.group for one in self.services.values() if one.group))
        object.__setattr__(self, "groups", groups)

    def of(self, service: str) -> ServiceInfo:
        """What is said of `service`."""
        return self.services.get(service, NO_INFO)

    @property
    def switched(self) -> list[tuple[str, Switched]]:
        """The services that are switched on or off for a time, in the order of the configuration."""
        return [(name, one.switched) for name, one in self.services.items() if one.switched is not None]

    def heading(self, text: str) -> str:
        """The title of a window or tab: `text` and what the pages are called."""
        return f"{text} · {self.title or PRODUCT}"

    def local(self, moment: datetime) -> datetime:
        """`moment` in the zone of the pages, to be shown and not to be reckoned with."""
        return moment.astimezone(self.zone)
