"""What one generation of the configuration says about requests, and a request that is judged by it.

A reload makes new rules and puts them in place at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.response_bytes import SentResponse
from tentaculo.security.sessions import Session
from tentaculo.server.access_control import AccessControl
from tentaculo.server.request_limits import RequestLimits, RouteLimits
from tentaculo.server.route_networks import RouteNetworks
from tentaculo.server.route_table import RouteTable
from tentaculo.telemetry.request_log import RequestRecord

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Stamp:
    """Marks what was decided by the rules of one generation.

    Connections keep it and not the rules, whose routes and handlers would stay in memory with each idle connection.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Stamp {id(self):x}>"


class RequestRules(msgspec.Struct, frozen=True):
    """The rules by which a request is judged. Each request is judged by those of one generation, from begin to end."""

    native: Handler
    """The handler of the native application."""
    routes: RouteTable
    """All routes."""
    access: AccessControl
    is_trusted: Callable[[str], bool]
    """Whether the forwarding fields of a peer, by its address, are used."""
    max_head: int
    """Most bytes of a request's head."""
    limits: RequestLimits | None = None
    """The limits of requests; None where there are none."""
    networks: RouteNetworks | None = None
    """From which networks clients may use each route; None where every route is for all."""
    stamp: Stamp = msgspec.field(default_factory=Stamp)


class JudgedRequest:
    """A request on its way through the steps, and what they found."""

    __slots__ = (
        *("access", "caller", "cors", "hides_authorization", "inbound", "is_authenticated", "is_foreign_preflight"),
        *("keep_alive", "limits", "native", "needs_token", "record", "response", "route", "session", "session_id"),
        *("target", "ticket"),
    )

    def __init__(
        self, inbound: InboundRequest, record: RequestRecord, rules: RequestRules, *, keep_alive: bool
    ) -> None:
        self.inbound = inbound
        self.record = record
        # Not the rules themselves: a tunnel would keep their routes in memory after a reload.
        self.access = rules.access
        self.cors = rules.access.cors
        self.native: Handler | None = None
        """The handler of the native application, for a native route."""
        self.keep_alive = keep_alive
        """Whether the client's connection is to stay open after the response."""
        self.route: Any = None
        """The entry of the route table, once it is found."""
        self.target = ""
        """The target that an upstream is to see, or a native handler if it is not the one that came."""
        self.hides_authorization = False
        """Whether Authorization carried the gateway's token."""
        self.caller: Any = None
        """The `Caller`, once it is known who that is: as the route sees it."""
        self.is_authenticated = False
        """Whether the caller sent an accepted token, ticket or session, and has the scope of the route."""
        self.needs_token = False
        """Whether its route is closed to those that did not."""
        self.ticket: str | None = None
        """A ticket that is to authenticate the caller, and has not been redeemed yet."""
        self.session_id: bytes | None = None
        """The id of a session that is to authenticate the caller, and has not been looked up yet."""
        self.session: Session | None = None
        """The session that authenticated the caller."""
        self.is_foreign_preflight = False
        """Whether this is the preflight of an origin that is not listed: it carries no token and is the service's."""
        self.limits: RouteLimits | None = None
        """Those of its route that it has not passed yet."""
        self.response: SentResponse | None = None
        """The response, if the dispatcher has sent it."""

    def __repr__(self) -> str:
        return f"<JudgedRequest {self.inbound.method} {self.record.request_id}>"
