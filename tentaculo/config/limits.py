"""The table `[limits]`: what one client, one service and all together may take."""

from __future__ import annotations

from typing import Annotated

from tentaculo.config.request_limits import RequestLimits
from tentaculo.config.section import Doc, Section, at_least, at_most
from tentaculo.config.types import Bytes, Seconds


class LimitSettings(Section, frozen=True):
    """[limits]: limits of times, sizes and requests, unless a route has its own."""

    connect: Annotated[
        Seconds,
        Doc(
            "How long connecting to an endpoint may take.",
            unit="seconds",
            beyond="504 `connect_timeout` (a route's `connect_timeout`)",
        ),
    ] = 5
    first_byte: Annotated[
        Seconds,
        Doc(
            "How long the first byte of the response may take after the request was sent completely. A body that was"
            " streamed adds a second for each 256 KB, at most 32.",
            unit="seconds",
            beyond="504 `upstream_timeout` (a route's `timeout`)",
        ),
    ] = 60
    idle: Annotated[
        Seconds,
        Doc(
            "How long a response may pause. Not for event streams and upgraded connections.",
            unit="seconds",
            beyond="the response is cut, logged as `upstream_idle`; a request body that pauses: 408; a request body"
            " that the service stops reading: 504 (a route's `timeout`)",
        ),
    ] = 60
    stall: Annotated[
        Seconds,
        at_most(1_000_000),
        Doc(
            "How long a client, or a service after an upgrade, may read nothing of what it is sent.",
            unit="seconds",
            beyond="the connection closes",
        ),
    ] = 60
    headers: Annotated[
        int,
        at_least(1024),
        at_most(1024 * 1024),
        Doc(
            "Size of the head of a request or a response.",
            unit="bytes",
            beyond="414 `target_too_long` for the request line, 431 `headers_too_large` for the head; the head of a"
            " response: 502 `response_head_too_large`",
        ),
    ] = 32 * 1024
    body: Annotated[
        Bytes,
        Doc(
            "Size of a request body.",
            unit="bytes",
            zero="unlimited",
            beyond="413 `body_too_large`, before a byte is read if Content-Length says so (a route's `max_body`)",
        ),
    ] = 0
    head_time: Annotated[
        Seconds,
        Doc("How long the head of a request may take to arrive.", unit="seconds", beyond="408 `request_timeout`"),
    ] = 10
    body_rate: Annotated[
        Bytes,
        Doc(
            "Slowest rate at which a request body may arrive while more than half of `limits.connections`, or of"
            " `limits.connections_per_address`, are in use.",
            unit="bytes a second",
            zero="no minimum",
            beyond="408 `request_timeout`, after `limits.body_grace`; only the time that the gateway waits for the"
            " client counts",
        ),
    ] = 500
    body_grace: Annotated[
        Seconds,
        Doc(
            "How long the gateway waits for a request body before its rate counts.",
            unit="seconds",
            beyond="`limits.body_rate` applies",
        ),
    ] = 10
    body_idle: Annotated[
        Seconds,
        Doc("How long a request body may be silent.", unit="seconds", beyond="408 `request_timeout`"),
    ] = 60
    connections: Annotated[
        int,
        at_least(0),
        Doc(
            "Client connections at once.",
            unit="connections",
            zero="as many as the descriptor limit allows, which a larger number is cut to",
            beyond="503 `overloaded` with Retry-After, and the connection closes",
        ),
    ] = 0
    connections_per_address: Annotated[
        int,
        at_least(0),
        Doc(
            "Client connections at once from one address; of IPv6 from one network of 64 bits.",
            unit="connections",
            zero="unlimited",
            beyond="503 `overloaded` with Retry-After, and the connection closes",
        ),
    ] = 0
    memory: Annotated[
        Bytes,
        Doc(
            "Bytes held for clients and services that read slowly, for the heads of requests, and for bodies to the"
            " gateway's own paths and WebSocket messages to `/ws` that have not ended, by all connections together."
            " Several workers share it.",
            unit="bytes",
            zero="half of the container's memory limit, else 256 MiB",
            beyond="503 `overloaded` with Retry-After for new requests and for these bodies, except `/livez` and `/metrics`",
        ),
    ] = 0
    in_flight: Annotated[
        int,
        at_least(1),
        Doc(
            "Requests at once to one endpoint. Upgraded connections do not count.",
            unit="requests",
            beyond="the next request waits in the queue of its service",
        ),
    ] = 4096
    queue: Annotated[
        int,
        at_least(0),
        Doc(
            "Requests that wait for one service, each for at most limits.connect seconds.",
            unit="requests",
            beyond="503 `overloaded` with Retry-After",
        ),
    ] = 1024
    events_body: Annotated[
        int,
        at_least(1024),
        Doc("Size of one event.", unit="bytes", beyond="413 `body_too_large`, or an error frame on `/ws`"),
    ] = 65536
    events_batch: Annotated[
        int,
        at_least(1),
        at_most(10_000),
        Doc("Events in one request to `/events/ingest`.", unit="events", beyond="413 `body_too_large`"),
    ] = 1000
    events_batch_body: Annotated[
        int,
        at_least(1024),
        Doc(
            "Body of a request with several events. Each of them has the limit `events_body` too.",
            unit="bytes",
            beyond="413 `body_too_large`",
        ),
    ] = 1024 * 1024
    subscribers: Annotated[
        int,
        at_least(1),
        Doc("Subscribers of `/ws` and `/events/stream` at once.", unit="subscribers", beyond="503 `overloaded`"),
    ] = 1024
    followers: Annotated[
        int,
        at_least(0),
        Doc(
            "Open status pages that are sent what changes, at once.",
            unit="pages",
            beyond="503 `overloaded`; the page is read again, less and less often",
        ),
    ] = 1024
    subscriber_queue: Annotated[
        int,
        at_least(1),
        Doc(
            "Events that wait for one subscriber, in 40 KiB at most.",
            unit="events",
            beyond="the connection of this subscriber closes",
        ),
    ] = 256
    probes: Annotated[
        int,
        at_least(4),
        Doc(
            "Probes at once. A quarter of them is for endpoints whose last probe took more than a second.",
            unit="probes",
            beyond="the next probe waits",
        ),
    ] = 256
    resolve: Annotated[
        Seconds,
        Doc(
            "How long the addresses of a host name are used.",
            unit="seconds",
            beyond="the host name of the endpoint is looked up again; also at once when none of its addresses accepts",
        ),
    ] = 30
    pool: Annotated[
        int,
        at_least(0),
        Doc("Idle connections to one endpoint.", unit="connections", beyond="the oldest idle connection closes"),
    ] = 4096
    instances: Annotated[
        int,
        at_least(1),
        at_most(1000),
        Doc(
            "Machines that share the limits of requests, those of routes and of own_paths. Each takes its part of them.",
            unit="machines",
        ),
    ] = 1
    routes: Annotated[
        RequestLimits,
        Doc("Limits of the requests of each route that has no `limits` of its own. Each route is counted by itself."),
    ] = ()
    own_paths: Annotated[
        RequestLimits,
        Doc(
            "Limits of the requests for the gateway's own paths, all of them together, except `/livez`, `/readyz`,"
            " `/health` and `/metrics`."
        ),
    ] = ()
