"""Limits of the requests of a route: `[[services.<name>.routes.limits]]`, and the defaults of them in `[limits]`."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Literal, NamedTuple

from tentaculo.config.section import Check, Doc, Parse, Section, at_least, at_most
from tentaculo.config.types import Network, as_network

MOST_REQUESTS = 1_000_000
"""Of a rate, and of a burst: more than a gateway serves."""
LONGEST_PERIOD = 86_400
"""Seconds of a rate."""
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"([0-9]{1,9})/([0-9]{0,6})(s|min|h|d)")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Rate(NamedTuple):
    """A number of requests in a number of seconds."""

    requests: int
    seconds: int


def parse_rate(text: str) -> Rate:
    """The rate that `text` names, as `100/s` or `5/10min`. Raises ValueError."""
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError('must be requests and a time, such as "100/s", "10/min", "1000/h" or "5/10s"')
    rate = Rate(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])
    if not 1 <= rate.requests <= MOST_REQUESTS:
        raise ValueError(f"must have from 1 to {MOST_REQUESTS} requests")
    if not 1 <= rate.seconds <= LONGEST_PERIOD:
        raise ValueError("must have a time from 1s to 1d")
    return rate


def _check_rate(value: str) -> str:
    parse_rate(value)
    return value


def _as_client_network(value: Any) -> Network:
    if isinstance(value, str) and "%" in value:
        raise ValueError("has a zone, which says nothing about a client; write the network without it")
    network: Network = as_network(value)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        # An IPv4 client of an IPv6 socket is judged by its IPv4 address.
        address = network.network_address.ipv4_mapped
        assert address is not None
        return ipaddress.IPv4Network((address, network.prefixlen - 96))
    return network


def _check_allowed(networks: Any) -> Any:
    if not networks:
        # Who writes it may mean that nobody is allowed, and it must not let everybody through.
        raise ValueError("is empty: leave it out for all networks, or list all of them in `deny` to refuse everybody")
    return networks


RateText = Annotated[str, Check(_check_rate, {"pattern": f"^{_RATE.pattern}$"})]
ClientNetwork = Annotated[Network, Parse(_as_client_network, {"type": "string"})]
AllowedNetworks = Annotated[tuple[ClientNetwork, ...], Check(_check_allowed, {"minItems": 1})]


class RequestLimitSettings(Section, frozen=True):
    """One limit of the requests of a route."""

    per: Annotated[
        Literal["caller", "address", "route"],
        Doc(
            "Who is counted apart: each caller by its token, each address (of IPv6 each network of 64 bits), or all"
            " requests of the route together. A caller without an accepted token is counted by its address."
        ),
    ] = "caller"
    rate: Annotated[
        RateText | None,
        Doc(
            "Requests in a time: a number, and a time in s, min, h or d, such as 100/s or 5/10min.",
            default="no limit of the rate",
            example="100/s",
        ),
    ] = None
    burst: Annotated[
        Annotated[int, at_least(1), at_most(MOST_REQUESTS)] | None,
        Doc(
            "Requests that may come at once after a pause.",
            unit="requests",
            default="the number of rate",
            example=100,
        ),
    ] = None
    in_flight: Annotated[
        Annotated[int, at_least(1), at_most(MOST_REQUESTS)] | None,
        Doc(
            "Requests at once. A request counts until its response has been sent; a tunnel and an event stream until"
            " they end.",
            unit="requests",
            default="no limit of those at once",
            example=10,
        ),
    ] = None

    def check(self) -> None:
        """Raises ValueError for keys that contradict each other."""
        if self.rate is None and self.in_flight is None:
            raise ValueError("has neither rate nor in_flight, and limits nothing")
        if self.burst is not None and self.rate is None:
            raise ValueError("has a burst and no rate, by which the burst would be regained")


def _check_distinct(limits: tuple[RequestLimitSettings, ...]) -> tuple[RequestLimitSettings, ...]:
    rates = [(one.per, parse_rate(one.rate)) for one in limits if one.rate is not None]
    at_once = [one.per for one in limits if one.in_flight is not None]
    if len(set(rates)) < len(rates):
        raise ValueError("has the same rate twice for the same `per`")
    if len(set(at_once)) < len(at_once):
        raise ValueError("has in_flight twice for the same `per`")
    return limits


RequestLimits = Annotated[tuple[RequestLimitSettings, ...], Check(_check_distinct)]
