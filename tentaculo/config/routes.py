"""The table `[[services.<name>.routes]]`: a path prefix of a service, and what is done with its requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from tentaculo.config.probes import Statuses
from tentaculo.config.request_limits import AllowedNetworks, ClientNetwork, RequestLimits
from tentaculo.config.rotation import RotationSettings
from tentaculo.config.section import Doc, Section, more_than
from tentaculo.config.types import (
    Bytes,
    HeaderName,
    HeaderValue,
    RouteHost,
    RoutePath,
    Seconds,
    Upgrade,
)


class RouteSettings(Section, frozen=True):
    """One path prefix of a service. The longest prefix wins, by whole path segments."""

    prefix: Annotated[
        RoutePath,
        Doc(
            'Path prefix. The longest one wins; "/" takes every path that no other route takes. Where it ends with / and '
            "is replaced, a request without that / is redirected.",
            example="/example",
            variant="/example/v1",
            active=True,
        ),
    ]
    exact: Annotated[
        bool, Doc("Whether prefix is a whole path. `{name}` in it, and in to, stands for any one segment.")
    ] = False
    host: Annotated[
        RouteHost | None,
        Doc(
            "Only requests with this Host, without a port. The name then belongs to the routes that claim it.",
            default="any",
            example="example.org",
        ),
    ] = None
    strip: Annotated[bool, Doc("Whether the prefix is removed from the forwarded path.", example=True, active=True)] = (
        False
    )
    to: Annotated[
        RoutePath | None,
        Doc("Replaces the prefix in the forwarded path.", default="the prefix stays", variant="/v2"),
    ] = None
    timeout: Annotated[
        Seconds | None,
        Doc(
            "How long the service may send nothing, before the first byte and between bytes.",
            unit="seconds",
            default="limits.first_byte and limits.idle",
            example=60,
        ),
    ] = None
    connect_timeout: Annotated[
        Seconds | None,
        Doc("How long connecting may take.", unit="seconds", default="limits.connect", example=5),
    ] = None
    slow: Annotated[
        Annotated[Seconds, more_than(0)] | None,
        Doc(
            "Time after which the head of a response is late, for the concurrency of the service. Where each route has it and"
            " the service has no slow, early warnings take the largest as the limit of the latency.",
            unit="seconds",
            default="slow of the service, else five times what 95 % of the route's responses usually take",
            example=2,
        ),
    ] = None
    max_body: Annotated[
        Bytes | None,
        Doc("Size of a request body.", unit="bytes", zero="unlimited", default="limits.body", example=0),
    ] = None
    auth: Annotated[Literal["token", "none"], Doc('Whether requests need a token; "none" needs no token.')] = "token"
    send_token: Annotated[
        bool, Doc("Whether the token of the service is also sent for callers without an accepted token.")
    ] = False
    allow: Annotated[
        AllowedNetworks | None,
        Doc(
            "Networks whose clients may send requests. The client is the one that trusted proxies name.",
            default="all networks",
            example=["10.0.0.0/8", "fd00::/8"],
        ),
    ] = None
    deny: Annotated[
        tuple[ClientNetwork, ...],
        Doc(
            "Networks whose clients may not. It counts more than allow, however small the networks are.",
            example=["10.9.0.0/16"],
        ),
    ] = ()
    check_origin: Annotated[
        bool,
        Doc("Whether a WebSocket of a page needs a listed origin, unless a header carries an accepted token."),
    ] = False
    upgrades: Annotated[
        tuple[Upgrade, ...] | None,
        Doc(
            "Protocols that a request may switch to; with the key set, by any method.",
            default='["websocket"], by GET',
            example=["websocket", "tcp"],
        ),
    ] = None
    hedge: Annotated[
        bool,
        Doc(
            "Whether a request that waits longer than 95 % of the route's do is also sent to a second endpoint, and the"
            " first response wins. Only for idempotent methods, where the body has arrived whole, at most 64 KiB; at most"
            " 5 % of the requests, and only to an endpoint that has less to do than the others, or no more while the"
            " first one responds to nothing. A PUT or DELETE that lost may take effect later."
        ),
    ] = False
    via: Annotated[
        bool,
        Doc(
            "Whether the gateway adds Via to requests and responses. nginx compresses nothing for a request with Via."
            " Without it a loop of gateways is not recognised."
        ),
    ] = True
    breaker_statuses: Annotated[
        tuple[Statuses, ...],
        Doc(
            "Statuses, and ranges of them, that count as failures for the circuit breaker. By default none does: a"
            " response shows that the endpoint is alive.",
            default="none",
            example=["502-504"],
        ),
    ] = ()
    set_headers: Annotated[
        dict[HeaderName, HeaderValue],
        Doc("Headers to set in the request.", example={"X-From": "gateway"}, secret=True),
    ] = {}
    remove_headers: Annotated[
        tuple[HeaderName, ...], Doc("Headers to remove from the request.", example=["X-Debug"])
    ] = ()
    set_response_headers: Annotated[
        dict[HeaderName, HeaderValue],
        Doc("Headers to set in the response.", example={"Cache-Control": "no-store"}, secret=True),
    ] = {}
    remove_response_headers: Annotated[
        tuple[HeaderName, ...], Doc("Headers to remove from the response.", example=["Server"])
    ] = ()
    limits: Annotated[
        RequestLimits | None,
        Doc(
            "Limits of the requests of the route, one table each. An empty list takes those of limits.routes away.",
            default="limits.routes",
        ),
    ] = None
    rotation: Annotated[RotationSettings | None, Doc("Targets between which the gateway learns to choose.")] = None

    def check(self) -> None:
        """Raises ValueError for keys that contradict each other."""
        if self.strip and self.to is not None:
            raise ValueError("has both strip and to; to already replaces the prefix")
        if self.hedge and self.rotation is not None:
            raise ValueError("has both hedge and rotation; which target would be asked twice, and paid for?")

    @property
    def label(self) -> str:
        """Its name where its requests are counted: the prefix, behind the host where it has one."""
        return f"{self.host or ''}{self.prefix}"

    @property
    def base(self) -> str:
        """The prefix without a slash at its end, or the whole path as it is."""
        return self.prefix if self.exact else self.prefix.rstrip("/")

    def at_target(self, path: str | None) -> RouteSettings:
        """The route as a target of its group with this `path` sees it."""
        return self if path is None else self.replace(to=path, strip=False)

    def at_targets(self, service: str) -> Iterator[tuple[str, RouteSettings]]:
        """The service of each target of its group, and the route as that target sees it.

        `service` is the one of the route. Its targets that see the route as it is are left out.
        """
        for target in self.rotation.targets if self.rotation is not None else ():
            name = target.service or service
            if name != service or target.path is not None:
                yield name, self.at_target(target.path)

    @property
    def replacement(self) -> str:
        """The replacement of `base` in the upstream path: `base` itself, `to`, or nothing. A prefix never ends with /."""
        if self.strip:
            return ""
        if self.to is None:
            return self.base
        return self.to if self.exact else self.to.rstrip("/")
