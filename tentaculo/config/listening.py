"""The declaration of [server]: where the gateway listens, and how it ends."""

from __future__ import annotations

from typing import Annotated

from tentaculo.config.request_limits import AllowedNetworks, ClientNetwork
from tentaculo.config.section import Doc, Section, at_least, at_most
from tentaculo.config.types import (
    InstanceName,
    Listen,
    ListenHost,
    Port,
    RouteHost,
    Seconds,
    TrustedNetwork,
    split_host_port,
)


class ServerSettings(Section, frozen=True):
    """[server]: where the gateway listens."""

    host: Annotated[
        ListenHost,
        Doc('Address to listen on: "0.0.0.0" for all IPv4 addresses, "::" for all IPv6 addresses.', active=True),
    ] = "127.0.0.1"
    port: Annotated[Port, Doc("Port to listen on.", zero="any free port", active=True)] = 8000
    listen: Annotated[
        tuple[Listen, ...],
        Doc("Several addresses to listen on, in place of host and port.", example=["127.0.0.1:8000", "[::1]:8000"]),
    ] = ()
    hosts: Annotated[
        tuple[RouteHost, ...],
        Doc(
            "Names of the gateway, at which its own paths are reached, as at localhost and IP addresses.",
            default="every name that no route claims",
            example=["gateway.example.org"],
        ),
    ] = ()
    allow: Annotated[
        AllowedNetworks | None,
        Doc(
            "Networks whose clients may use the gateway's own paths, `/livez` and `/metrics` included. Routes have keys"
            " of their own.",
            default="all networks",
            example=["10.0.0.0/8", "::1"],
        ),
    ] = None
    deny: Annotated[
        tuple[ClientNetwork, ...],
        Doc("Networks whose clients may not. It counts more than allow.", example=["10.9.0.0/16"]),
    ] = ()
    trusted_proxies: Annotated[
        tuple[TrustedNetwork, ...],
        Doc("Networks of proxies whose X-Forwarded-* and Forwarded headers are trusted.", example=["10.0.0.0/8"]),
    ] = ()
    instance: Annotated[
        InstanceName | None,
        Doc(
            "Name of this machine among several on one PostgreSQL. Events and `/metrics` show it.",
            default="made from the host's name and the addresses, which it does not show",
            example="gateway-1",
        ),
    ] = None
    workers: Annotated[
        int,
        at_least(1),
        at_most(64),
        Doc("Worker processes that share the addresses. With more than one, a supervisor restarts them."),
    ] = 1
    keepalive: Annotated[
        Seconds,
        Doc(
            "How long an idle client connection stays open.",
            unit="seconds",
            beyond="an idle client connection closes",
        ),
    ] = 75
    grace: Annotated[
        Seconds,
        Doc(
            "How long active requests may take to finish when the gateway stops.",
            unit="seconds",
            beyond="an active request when the gateway stops: 503 `stopping`, or a cut response",
        ),
    ] = 10
    handover_grace: Annotated[
        Seconds,
        Doc(
            "How long active requests, tunnels and event streams may take to finish when a successor replaces the gateway.",
            unit="seconds",
            beyond="a tunnel, or an event stream, of a gateway that was replaced closes",
        ),
    ] = 300

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each listener: `listen`, else `host` and `port`. IPv6 hosts without brackets."""
        if not self.listen:
            return ((self.host, self.port),)
        return tuple((host, port or 0) for host, port in map(split_host_port, self.listen))
