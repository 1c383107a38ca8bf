"""A route with all that forwarding needs, computed once when the configuration is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tentaculo.config.limits import LimitSettings
from tentaculo.config.routes import RouteSettings
from tentaculo.config.services import ServiceSettings
from tentaculo.model.history import RouteKey
from tentaculo.model.scopes import to_service
from tentaculo.net.http1 import field_name
from tentaculo.upstream.client_affinity import StickySessions
from tentaculo.upstream.concurrency_limit import RouteDeadline
from tentaculo.upstream.load_balancer import LoadBalancer


class HeaderRules:
    """The headers that a route sets and removes, compiled once.

    Names match in any case, and `_` matches `-`, so that `X_User` does not pass a rule for `X-User`.
    """

    __slots__ = ("_gone", "block")

    def __init__(self, setting: Mapping[str, str], removing: Iterable[str]) -> None:
        self._gone = frozenset(name.lower().replace("_", "-").encode() for name in (*setting, *removing))
        self.block = b"".join(f"{name}: {value}\r\n".encode() for name, value in setting.items())

    def removes(self, lower: bytes) -> bool:
        """Whether a field of this name (lower case) does not pass."""
        return lower.replace(b"_", b"-") in self._gone

    def filter(self, lines: bytes) -> bytes:
        """The lines that the gateway adds, without those that the route sets or removes."""
        if not self._gone:
            return lines
        return b"".join([line for line in lines.splitlines(keepends=True) if not self.removes(field_name(line))])

    def __bool__(self) -> bool:
        return bool(self._gone)


class CompiledRoute:
    """A route, ready to use."""

    __slots__ = (
        "alters_request",
        "alters_response",
        "asks_with_get",
        "balancer",
        "breaker_statuses",
        "checks_origin",
        "claimed_host",
        "connect",
        "deadline",
        "default_host",
        "first_byte",
        "group",
        "hedges",
        "host",
        "identity",
        "idle",
        "is_native",
        "is_redirect",
        "is_static",
        "key",
        "limits",
        "max_body",
        "needs",
        "needs_token",
        "public_prefix",
        "request_rules",
        "response_rules",
        "rewrites",
        "route",
        "sends_token",
        "service",
        "service_name",
        "sticky",
        "token_line",
        "upgrade_methods",
        "upgrades",
        "via",
    )

    def __init__(
        self, service: ServiceSettings, route: RouteSettings, limits: LimitSettings, balancer: LoadBalancer | None
    ) -> None:
        """`balancer` is None for a service that is off."""
        self.service = service
        self.service_name: str | None = service.name
        self.key: RouteKey | None = RouteKey(service.name, route.label)
        self.identity = object()
        """What remembers something for its requests has this: the route itself refers to its endpoints' connections, which
        have such a memory."""
        self.is_native = self.is_redirect = False
        self.route = route
        self.balancer = balancer
        self.sticky = StickySessions(service.name, service.upstreams) if service.is_sticky else None
        self.limits = limits
        self.is_static = True
        """Whether the same path leads to the same target as long as the gateway runs."""
        self.group: object | None = None
        """The `TargetGroup` of a route that has one; its requests are `RotatedExchange`s."""
        self.asks_with_get = False
        """Whether HEAD goes to the service as GET, and the body of its response no further."""
        self.needs_token = route.auth == "token"
        self.needs = to_service(service.name)
        """The scopes of a caller who is known by a token."""
        self.connect = route.connect_timeout or limits.connect
        self.first_byte = route.timeout or limits.first_byte
        self.idle = route.timeout or limits.idle
        self.hedges = route.hedge and balancer is not None and len(balancer.endpoints) > 1
        """Whether requests may be sent to a second endpoint while the first has not responded."""
        limit = balancer.concurrency if balancer is not None and self.first_byte <= limits.first_byte else None
        self.deadline = RouteDeadline(limit, route.slow or service.slow) if limit is not None else None
        """From when on a response is late; None where its requests do not count for the limit."""
        self.max_body = limits.body if route.max_body is None else route.max_body
        self.checks_origin = route.check_origin
        self.claimed_host = route.host
        self.host = service.host.encode() if service.host is not None else None
        self.default_host = service.upstreams[0].authority.encode()
        """For a client of HTTP/1.0 that names no host."""
        token = service.token.reveal() if service.token is not None else ""
        self.sends_token = route.send_token
        """Whether anonymous requests carry the service's token too."""
        self.token_line = f"X-VX11-Token: {token}\r\n".encode() if token else b""
        self.request_rules = HeaderRules(route.set_headers, route.remove_headers)
        self.response_rules = HeaderRules(route.set_response_headers, route.remove_response_headers)
        self.alters_request = bool(self.request_rules)
        self.alters_response = bool(self.response_rules)
        self.rewrites = route.replacement != route.base and not route.exact
        """Whether a prefix is removed or replaced, so that the paths in headers are mapped. An exact path has no prefix."""
        listed = ("websocket",) if route.upgrades is None else route.upgrades
        self.upgrades = frozenset(name.encode() for name in listed)
        """Protocols that a request may switch to, in lower case."""
        self.upgrade_methods = ("GET",) if route.upgrades is None else None
        """Methods that may; None for any."""
        self.breaker_statuses = frozenset(
            status for low, high in route.breaker_statuses for status in range(low, high + 1)
        )
        """Statuses of responses that count as failures of the endpoint."""
        self.via = route.via
        """Whether the gateway adds Via."""
        self.public_prefix = route.base if self.rewrites else ""
        """For X-Forwarded-Prefix."""

    @classmethod
    def for_health(
        cls, service: ServiceSettings, limits: LimitSettings, balancer: LoadBalancer | None
    ) -> CompiledRoute:
        """The route of `/<service>/health`, which leads to the service's own health path.

        It is open where all routes of the service are.
        """
        is_open = bool(service.routes) and all(route.auth == "none" for route in service.routes)
        route = RouteSettings(
            prefix=f"/{service.name}/health",
            exact=True,
            to=service.health[0].partition("?")[0],
            timeout=service.probe.timeout,
            auth="none" if is_open else "token",
            set_headers=service.common_headers,
        )
        plan = cls(service, route, limits, balancer)
        plan.is_static = False  # the service's own health path may become another one
        plan.deadline = None
        plan.asks_with_get = True  # many services serve no other method there
        return plan

    def __repr__(self) -> str:
        return f"<CompiledRoute {self.route.prefix} → {self.service.name}>"
