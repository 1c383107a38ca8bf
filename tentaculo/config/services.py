"""The table `[services.<name>]`: the endpoints of a service, its health probe and its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from tentaculo.config.change_layer import TimedOverride
from tentaculo.config.probes import ProbeSettings
from tentaculo.config.routes import RouteSettings
from tentaculo.config.section import INTERNAL, Doc, Parse, Section, at_least, at_most, at_most_long, more_than
from tentaculo.config.types import (
    DEFAULT_PORTS,
    HealthPaths,
    HostHeader,
    HttpAddress,
    Line,
    PageAddress,
    RouteHost,
    Seconds,
    Share,
    Token,
    VariableName,
    split_host_port,
    without_escape,
)
from tentaculo.model.health import Endpoint


class BreakerSettings(Section, frozen=True):
    """When the circuit breaker of an endpoint opens."""

    failures: Annotated[
        int,
        at_least(1),
        Doc(
            "Failures in a row that open it: no connection, a broken response, or a time-out while nothing else succeeds.",
            unit="requests",
        ),
    ] = 5
    rate: Annotated[
        Share, more_than(0), Doc("Share of failed requests within the window that opens it, from 0 to 1.")
    ] = 0.5
    requests: Annotated[
        int,
        at_least(1),
        Doc("Requests within the window that are needed before the share counts.", unit="requests"),
    ] = 20
    window: Annotated[Seconds, Doc("Time in which requests are counted.", unit="seconds")] = 10
    degraded_rate: Annotated[
        Share,
        Doc("Share of failed requests, with at least 5 failures, above which the service is degraded."),
    ] = 0.1
    open_for: Annotated[Seconds, Doc("How long it stays open before it lets one request through.", unit="seconds")] = 10


def _as_concurrency(value: object) -> object:
    if value in ("auto", "off"):
        return str(value)
    # The environment has text only.
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError("must be 'auto', 'off' or a whole number of at least 1")
    return number


Concurrency = Annotated[
    int | Literal["auto", "off"],
    Parse(_as_concurrency, {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto", "off"]}]}),
]


Weight = Annotated[int, at_least(1), at_most(1000)]


class ServiceSettings(Section, frozen=True):
    """[services.<name>]: one HTTP service behind the gateway."""

    name: Annotated[str, INTERNAL] = ""
    override: Annotated[TimedOverride | None, INTERNAL] = None
    """What has set `enabled` for a time, in place of the file and the environment."""
    url: Annotated[
        HttpAddress | None,
        Doc(
            "URL of its endpoint, http:// or https://, without a path. Required unless urls is set.",
            example="http://127.0.0.1:9000",
            active=True,
        ),
    ] = None
    urls: Annotated[
        tuple[HttpAddress, ...],
        Doc("URLs of several endpoints, in place of url.", variant=["http://127.0.0.1:9001", "http://127.0.0.1:9002"]),
    ] = ()
    weights: Annotated[
        tuple[Weight, ...],
        Doc(
            "How much each of urls can take beside the others, in their order: with [3, 1] the first takes three of four"
            " requests, with least_requests as long as it is not much slower or faster than the others.",
            default="1 each",
            variant=[3, 1],
        ),
    ] = ()
    policy: Annotated[
        Literal["least_requests", "round_robin"],
        Doc(
            'Which of urls takes a request: "least_requests" is the one with the fewest requests in flight for its weight,'
            ' and the fastest among those with about equally many; with "round_robin" they take turns.'
        ),
    ] = "least_requests"
    concurrency: Annotated[
        Concurrency,
        Doc(
            'Requests of the service in flight, beyond which one gets 503: with "auto" as many as it serves in time, which is'
            ' limited while it is overloaded only; "off" is no limit. A number counts requests until the end of the'
            " response. Upgraded connections, event streams and routes with a timeout above limits.first_byte do not"
            " count, and each worker limits by itself."
        ),
    ] = "auto"
    sticky: Annotated[
        bool,
        Doc(
            "Whether a client stays with one of urls while that is healthy. The gateway sets a cookie for it,"
            " tentaculo-endpoint-<service>."
        ),
    ] = False
    host: Annotated[
        HostHeader | None,
        Doc("Host header of forwarded requests.", default="the client's", example="example.internal"),
    ] = None
    tls_server_name: Annotated[
        RouteHost | None,
        Doc(
            "Name of the service for TLS: it is sent in the handshake, and its certificate must have it.",
            default="host, else the host of the endpoint",
            example="example.internal",
        ),
    ] = None
    aliases: Annotated[tuple[str, ...], Doc("Other names of the service.", example=["sample"])] = ()
    depends_on: Annotated[
        tuple[str, ...],
        Doc("Services that this one cannot work without. Their failure explains its own.", example=["workers"]),
    ] = ()
    about: Annotated[
        Annotated[Line, at_most_long(300)] | None,
        Doc(
            "What the service does. Everybody who may open the status pages sees this, owner, group and runbook.",
            default="none",
            example="An example.",
        ),
    ] = None
    owner: Annotated[
        Annotated[Line, at_most_long(100)] | None,
        Doc(
            "Who takes care of the service. The overview shows it while the service has trouble.",
            default="none",
            example="The example team",
        ),
    ] = None
    group: Annotated[
        Annotated[Line, at_most_long(60)] | None,
        Doc(
            "Group of the service on the overview, which `/status?group=` shows alone.",
            default="none",
            example="Examples",
        ),
    ] = None
    runbook: Annotated[
        PageAddress | None,
        Doc(
            "URL of a page that says what to do, http:// or https://. Shown where owner is.",
            default="none",
            example="https://wiki.example.org/example",
        ),
    ] = None
    slow: Annotated[
        Annotated[Seconds, more_than(0)] | None,
        Doc(
            "Time that 95 % of its requests of five minutes may take before it counts as slow.",
            unit="seconds",
            default="four times what is usual for the hour, and 50 ms more than that",
            example=2,
        ),
    ] = None
    warn: Annotated[
        bool, Doc("Whether its early warnings are sent on the channels of alerts, each once, when it opens.")
    ] = False
    enabled: Annotated[
        bool, Doc("Whether the service is on. A service that is off gets 503 and never counts as a failure.")
    ] = True
    enabled_env: Annotated[
        VariableName | None,
        Doc("Environment variable with true or false that decides enabled.", example="EXAMPLE_ENABLED"),
    ] = None
    off_reason: Annotated[str, Doc("Reason that is shown while the service is off.")] = "off on purpose"
    token: Annotated[
        Token | None,
        Doc(
            'Token that the gateway sends to it as X-VX11-Token; "" sends none.',
            default="TENTACULO_SERVICE_TOKEN",
            variant="a-token-of-its-own",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Doc("File with the token that the gateway sends to it, in place of token.", example="example.token"),
    ] = None
    health: Annotated[
        HealthPaths,
        Doc(
            "Health paths, with a query if needed. They are tried in order until one response is healthy.", active=True
        ),
    ] = ("/health",)
    routes: Annotated[
        tuple[RouteSettings, ...],
        Doc(
            "Its routes, one table each. Without a route the service is probed, and nothing is forwarded.",
            active=True,
            variant="A route that replaces its prefix.",
        ),
    ] = ()
    breaker: Annotated[BreakerSettings, Doc("When the circuit breaker of an endpoint opens.", active=True)] = (
        BreakerSettings()
    )
    probe: Annotated[ProbeSettings, Doc("How the health of the service is probed.", active=True)] = ProbeSettings()

    def check(self) -> None:
        """Raises ValueError for keys that contradict each other, such as neither or both of `url` and `urls`."""
        if (self.url is None) == (not self.urls):
            raise ValueError("needs either url or urls")
        if self.sticky and any(route.hedge for route in self.routes):
            raise ValueError(
                "has both sticky and a route with hedge; a hedge goes to another endpoint than the session's"
            )
        if self.weights and len(self.weights) != len(self.urls):
            raise ValueError("needs as many weights as urls")

    @property
    def latency_limits(self) -> dict[str, float]:
        """The latencies of which early warnings warn, in seconds, by what they are of.

        The requests are those of all routes, so that the largest `slow` of the routes counts, and only where each has one.
        """
        of_routes = [route.slow for route in self.routes]
        largest = max((one for one in of_routes if one is not None), default=None) if all(of_routes) else None
        limits = {"requests": self.slow or largest or self.probe.slow, "probes": self.probe.slow}
        return {kind: limit for kind, limit in limits.items() if limit} if self.enabled else {}

    @property
    def has_limits(self) -> bool:
        """Whether there is something to warn of early: a latency, or a number in its health response."""
        return self.enabled and bool(self.latency_limits or self.probe.gauges)

    @property
    def probed_by(self) -> tuple[object, ...]:
        """What decides how its endpoints are probed, beside `probe`."""
        return self.health, self.host, self.tls_server_name, self.token, self.probe_headers

    @property
    def is_sticky(self) -> bool:
        """Whether clients stay with one of several endpoints."""
        return self.sticky and len(self.addresses) > 1

    @property
    def shares(self) -> tuple[int, ...]:
        """The weight of each of `upstreams`."""
        return self.weights or (1,) * len(self.addresses)

    @property
    def common_headers(self) -> dict[str, str]:
        """The headers that every route sets in requests, as for basic authentication."""
        first, *others = [route.set_headers.items() for route in self.routes] or [{}.items()]
        return {name: value for name, value in first if all((name, value) in one for one in others)}

    @property
    def probe_headers(self) -> dict[str, str]:
        """Headers of its probes: the common ones, then those of `probe.headers`."""
        own = {name.lower() for name in self.probe.headers}
        common = {name: value for name, value in self.common_headers.items() if name.lower() not in own}
        return common | self.probe.headers

    @property
    def name_for_tls(self) -> str:
        """The name for TLS where it is not the host of the endpoint: `tls_server_name`, else `host`; else empty."""
        if self.tls_server_name is not None:
            return self.tls_server_name.strip("[]")
        return split_host_port(self.host)[0] if self.host is not None else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The configured addresses, one or several."""
        return (self.url,) if self.url is not None else self.urls

    @property
    def upstreams(self) -> tuple[Endpoint, ...]:
        """The addresses, taken apart."""
        parts = [urlsplit(url) for url in self.addresses]
        return tuple(
            Endpoint(
                self.name, without_escape(p.hostname or ""), p.port or DEFAULT_PORTS[p.scheme], p.scheme == "https"
            )
            for p in parts
        )

    @property
    def host_name(self) -> str | None:
        """The name in `host`, in lower case."""
        return split_host_port(self.host)[0].lower() if self.host is not None else None

    def seen_host(self, route: RouteSettings) -> str | None:
        """The host name that it sees in the requests of a route; None where that is up to the client."""
        return self.host_name or route.host

    def sees_as(self, route: RouteSettings, other: ServiceSettings, its_route: RouteSettings) -> bool:
        """Whether requests of `route` may have the host that `other` sees in those of `its_route`.

        A client can name the `host` of another service, but on a route without a host no name that a route claims.
        """
        hosts = self.seen_host(route), other.seen_host(its_route)
        return hosts[0] == hosts[1] or (None in hosts and (self.host or other.host) is not None)


def grouped_by_endpoint(services: Sequence[ServiceSettings]) -> dict[str, tuple[ServiceSettings, ...]]:
    """By the name of a service, the services that see the same paths, itself among them.

    They have an endpoint in common, and are not told apart by a `host` that differs.
    """
    keys = {
        one.name: (frozenset((_machine(at.host), at.port) for at in one.upstreams), one.host_name) for one in services
    }
    users: dict[tuple[str, int], list[ServiceSettings]] = {}
    for service in services:
        for endpoint in keys[service.name][0]:
            users.setdefault(endpoint, []).append(service)
    groups = {
        (endpoints, host): tuple(
            {
                one.name: one
                for endpoint in sorted(endpoints)
                for one in users[endpoint]
                if host is None or one.host is None or one.host_name == host
            }.values()
        )
        for endpoints, host in set(keys.values())
    }
    return {name: groups[key] for name, key in keys.items()}


def _machine(host: str) -> str:
    """A host as another spelling of it has it: in lower case, without a dot at its end, 127.0.0.1 for the loopback."""
    host = host.lower().removesuffix(".")
    return "127.0.0.1" if host in ("localhost", "::1") else host
