"""How many requests each caller, each address, or all together may send by a route, and how many of them at once.

A request is judged once, when its caller is known and before its body is read. It uses up what each limit of its route
gives, or, where one of them refuses it, nothing of any. What it holds of limits of requests at once is given back when
its record is closed, which happens once, whichever way it ends.

The fields `RateLimit-Policy` and `RateLimit` of a response follow draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tentaculo.config.request_limits import RequestLimitSettings, parse_rate
from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.history import RouteKey
from tentaculo.security.rate_limit import RateLimit, StateTable, Verdict
from tentaculo.security.sign_in import network_of

MOST_STATES = 65_536
"""Callers and addresses whose rates are remembered, by all limits together; each limit has an equal part of them."""
LEAST_STATES = 1024
"""Those of one limit at least, however many limits there are."""
PROBLEM_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"
UNLIMITED_PATHS = frozenset(("/livez", "/readyz", "/health", "/metrics"))
"""Own paths that no limit counts: a monitor must not take the gateway for dead."""
OF_OWN_PATHS = RouteKey("", "")
"""Stands for all of the gateway's own paths together."""


class _Clients:
    """What is known of those that a limit counts apart: all callers with a token, or all addresses."""

    __slots__ = ("in_flight", "states")

    def __init__(self, most: int, in_flight: dict[str, int] | None = None) -> None:
        self.states = StateTable(most)
        self.in_flight: dict[str, int] = {} if in_flight is None else in_flight
        """Those that have requests at once, with how many. None stays here without one."""


class RequestLimit:
    """One limit, and the state of all that it counts."""

    __slots__ = (
        "_addresses",
        "_callers",
        "_most",
        "at_once",
        "at_once_name",
        "policy",
        "rate",
        "rate_name",
        "settings",
    )

    def __init__(
        self, settings: RequestLimitSettings, *, most_states: int, parts: int, earlier: RequestLimit | None = None
    ) -> None:
        """The requests that are let through by `earlier`, which counts the same apart, are at once with the new ones."""
        self.settings = settings
        self.rate_name = f"{settings.rate} per {settings.per}"
        self.at_once_name = f"{settings.in_flight} at once per {settings.per}"
        # Apart, since a caller with a token may be called like an address, and nobody without one may use its state up.
        self._callers: _Clients = _Clients(most_states, earlier._callers.in_flight if earlier else None)
        self._addresses: _Clients = _Clients(most_states, earlier._addresses.in_flight if earlier else None)
        self.divide(parts)

    def __repr__(self) -> str:
        return f"<RequestLimit {self.policy}>"

    def divide(self, parts: int) -> None:
        """Take one of `parts` equal parts of the limit from now on.

        Of a part that was used up, as much is used of the new one, and it is regained at the same time.
        """
        settings = self.settings
        self.rate: RateLimit | None = None
        self.at_once: int | None = None
        shown = []
        if settings.rate is not None:
            requests, seconds = parse_rate(settings.rate)
            self.rate = RateLimit(requests, seconds, settings.burst or requests, parts=parts)
            shown.append(f'"{self.rate_name}";q={self.rate.burst};w={self.rate.window}')
        if settings.in_flight is not None:
            self.at_once = max(1, settings.in_flight // parts)
            shown.append(f'"{self.at_once_name}";q={self.at_once};qu="concurrent-requests"')
        self.policy = ", ".join(shown)
        """Its items of `RateLimit-Policy`."""

    def clients(self, caller: str | None, network: str) -> tuple[_Clients, str]:
        """Where a caller is counted, and its key there."""
        if self.settings.per == "route":
            return self._callers, ""
        if self.settings.per == "caller" and caller is not None:
            return self._callers, caller
        return self._addresses, network


class AdmittedRequest:
    """A request that every limit of its route has let through."""

    __slots__ = ("_held", "fields")

    def __init__(self, fields: Mapping[str, str], held: Sequence[tuple[dict[str, int], str]]) -> None:
        self.fields = fields
        """Header fields of its response."""
        self._held = held

    def __repr__(self) -> str:
        return f"<AdmittedRequest, holding {len(self._held)}>"

    @property
    def lines(self) -> bytes:
        """The header fields as whole lines."""
        return "".join([f"{name}: {value}\r\n" for name, value in self.fields.items()]).encode()

    def release(self) -> None:
        """Give back what the request holds. A second call does nothing."""
        held, self._held = self._held, ()
        for in_flight, key in held:
            left = in_flight[key] - 1
            if left:
                in_flight[key] = left
            else:
                del in_flight[key]


class Refusal(NamedTuple):
    """Which limits a request is beyond."""

    names: tuple[str, ...]
    kind: str
    """`rate` or `in_flight`."""
    per: str
    wait: int
    """Seconds until another may pass; a guess where too many are in flight."""
    fields: Mapping[str, str]

    def problem(self, service: str) -> Problem:
        """The response to it, in the words of the configuration. It names no other caller."""
        names = " and ".join(f"`{name}`" for name in self.names)
        if self.kind == "rate":
            seconds = "a second" if self.wait == 1 else f"{self.wait} seconds"
            failure, detail = Failure.RATE_LIMITED, f"The limit is {names}. One more request may come in {seconds}."
        else:
            failure, detail = Failure.TOO_MANY_AT_ONCE, f"The limit is {names}. Wait until a request has ended."
        extra = {
            "type": PROBLEM_TYPE,
            **({"service": service} if service else {}),
            "violated-policies": list(self.names),
            "retry_after": self.wait,
        }
        return Problem(failure, detail, extra, {"Retry-After": str(self.wait), **self.fields})


class RouteLimits:
    """The limits of one route, or of the gateway's own paths."""

    __slots__ = ("key", "limits", "policy", "shared")

    def __init__(self, key: RouteKey, limits: Sequence[RequestLimit], shared: SharedLimits) -> None:
        self.key = key
        self.shared = shared
        self.limits = tuple(limits)
        self.note_division()

    def __repr__(self) -> str:
        return f"<RouteLimits {self.key.service} {self.key.route}: {self.policy}>"

    def note_division(self) -> None:
        """The limits have been divided among another number of processes."""
        self.policy = ", ".join([limit.policy for limit in self.limits])

    def enter(self, caller: str | None, network: str, now: int) -> AdmittedRequest | Refusal:
        """Judge a request that comes `now`, in nanoseconds of a clock that is never set.

        `caller` is the name of a caller with an accepted token; `network` is that of the client's address.
        """
        verdicts: list[tuple[StateTable, str, Verdict]] = []
        held: list[tuple[dict[str, int], str]] = []
        shown: list[str] = []
        slow: list[RequestLimit] = []
        full: list[RequestLimit] = []
        wait = 1
        for limit in self.limits:
            clients, key = limit.clients(caller, network)
            if limit.rate is not None:
                verdict = limit.rate.judge(clients.states.get(key), now)
                if verdict.is_refused:
                    slow.append(limit)
                    wait = max(wait, verdict.seconds)
                verdicts.append((clients.states, key, verdict))
                shown.append(f'"{limit.rate_name}";r={verdict.remaining};t={verdict.seconds}')
            if limit.at_once is not None:
                left = limit.at_once - clients.in_flight.get(key, 0)
                if left <= 0:
                    full.append(limit)
                held.append((clients.in_flight, key))
                shown.append(f'"{limit.at_once_name}";r={max(0, left - 1)}')
        fields = {"RateLimit-Policy": self.policy, "RateLimit": ", ".join(shown)}
        if slow or full:
            # It uses up nothing, so what is left is more than was to be left after it.
            fields["RateLimit"] = ", ".join(self._left(caller, network, now))
        if slow:
            return Refusal(tuple(one.rate_name for one in slow), "rate", slow[0].settings.per, wait, fields)
        if full:
            return Refusal(tuple(one.at_once_name for one in full), "in_flight", full[0].settings.per, wait, fields)
        for states, key, verdict in verdicts:
            states.put(key, verdict.state)
        for in_flight, key in held:
            in_flight[key] = in_flight.get(key, 0) + 1
        return AdmittedRequest(fields, held)

    def _left(self, caller: str | None, network: str, now: int) -> Iterator[str]:
        """The items of `RateLimit` where no request comes `now`."""
        for limit in self.limits:
            clients, key = limit.clients(caller, network)
            if limit.rate is not None:
                remaining, seconds = limit.rate.left(clients.states.get(key), now)
                yield f'"{limit.rate_name}";r={remaining};t={seconds}'
            if limit.at_once is not None:
                yield f'"{limit.at_once_name}";r={max(0, limit.at_once - clients.in_flight.get(key, 0))}'

    def admit(self, caller: str | None, address: str) -> AdmittedRequest:
        """Let a request of a client's `address` pass, or raise `Problem` (429). `caller` is the name of its token."""
        network, shared = network_of(address), self.shared
        found = self.enter(caller, network, shared.clock())
        if isinstance(found, AdmittedRequest):
            return found
        service, label = self.key
        shared.refused[service, label, found.kind, found.per] += 1
        shared.on_refused(LimitedRequest(self.key, found, caller, network))
        raise found.problem(service)


class LimitedRequest(NamedTuple):
    """A request that was refused, for what reports it."""

    route: RouteKey
    refusal: Refusal
    caller: str | None
    network: str


class SharedLimits:
    """What the limits of all generations of the configuration have in common."""

    def __init__(self, processes: int = 1, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`processes` of this machine share each limit. `clock` gives nanoseconds, and is never set."""
        self.processes = processes
        self.clock = clock
        self.refused: Counter[tuple[str, str, str, str]] = Counter()
        """Requests that were refused, by service, route, kind and `per` of the limit.

        There are as many entries as the configuration has limits. Those that were refused for the network of their
        client are counted here too: their kind is `network`, and their `per` is empty.
        """
        self.on_refused: Callable[[LimitedRequest], None] = lambda _: None
        self._used: RequestLimits | None = None

    def __repr__(self) -> str:
        return f"<SharedLimits of {self.processes} processes>"

    def use(self, limits: RequestLimits | None) -> None:
        """These limits are served from now on."""
        self._used = limits
        self.divide(self.processes)

    def divide(self, processes: int) -> None:
        """Share each limit among so many processes on this machine from now on."""
        self.processes = max(1, processes)
        if self._used is not None:
            self._used.divide(self.processes)

    def note_network(self, key: RouteKey) -> None:
        """Count a request that was refused for the network of its client."""
        self.refused[key.service, key.route, "network", ""] += 1


class RequestLimits:
    """The limits of all routes of one configuration."""

    def __init__(self, config: Config, shared: SharedLimits, earlier: RequestLimits | None = None) -> None:
        """What is known of a limit of `earlier` ones is kept where the limit is the same, and else the requests at once."""
        self._instances = config.limits.instances
        found = dict(_settings(config))
        limits = sum(len(some) for some in found.values())
        most = max(LEAST_STATES, MOST_STATES // (2 * max(1, limits)))
        before = earlier._routes if earlier is not None else {}
        known = {key: route.limits for key, route in before.items()}
        parts = shared.processes * self._instances
        self._parts: int = parts if earlier is None or earlier._parts == parts else 0
        """Into how many each of them is divided; 0 where those that are kept may be divided otherwise."""
        self._routes: dict[RouteKey, RouteLimits] = {
            key: RouteLimits(key, [_limit(one, known.get(key, ()), most, parts) for one in some], shared)
            for key, some in found.items()
        }

    def __repr__(self) -> str:
        return f"<RequestLimits of {len(self._routes)} routes>"

    def __bool__(self) -> bool:
        return bool(self._routes)

    def divide(self, processes: int) -> None:
        """Share each limit among so many processes on this machine from now on."""
        parts = processes * self._instances
        if parts == self._parts:
            return
        self._parts = parts
        for route in self._routes.values():
            for limit in route.limits:
                limit.divide(parts)
            route.note_division()

    def of(self, key: RouteKey | None, path: str) -> RouteLimits | None:
        """The limits of a route by its key, which is None for the gateway's own paths; None where it has none."""
        if key is None:
            return None if path in UNLIMITED_PATHS else self._routes.get(OF_OWN_PATHS)
        return self._routes.get(key)


def _limit(settings: RequestLimitSettings, known: Sequence[RequestLimit], most: int, parts: int) -> RequestLimit:
    kept = next((limit for limit in known if limit.settings == settings), None)
    if kept is not None:
        return kept
    alike = (limit for limit in known if limit.settings.per == settings.per and limit.settings.in_flight is not None)
    return RequestLimit(settings, most_states=most, parts=parts, earlier=next(alike, None))


def _settings(config: Config) -> Iterator[tuple[RouteKey, tuple[RequestLimitSettings, ...]]]:
    """The limits of each route that has some, by its key."""
    limits = config.limits
    for service in config.services.values():
        for route in service.routes:
            found = limits.routes if route.limits is None else route.limits
            if found:
                yield RouteKey(service.name, route.label), found
        if limits.routes:
            yield RouteKey(service.name, f"/{service.name}/health"), limits.routes
    if limits.own_paths:
        yield OF_OWN_PATHS, limits.own_paths
