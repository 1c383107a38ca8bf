"""What one generation of the configuration says about requests. A reload makes new ones and puts them in place at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from tentaculo.server.access_control import AccessControl
from tentaculo.server.request_limits import RequestLimits
from tentaculo.server.route_networks import RouteNetworks
from tentaculo.server.route_table import RouteTable

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Stamp:
    """Marks what was decided by the rules of one generation.

    Connections keep it and not the rules, whose routes and handlers would stay in memory with each idle connection.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Stamp {id(self):x}>"


@dataclass(frozen=True, slots=True)
class RequestRules:
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
    stamp: Stamp = field(default_factory=Stamp)
