"""Probes every service once, all at the same time, for `tentaculo truth`."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import replace

from tentaculo.config.schema import Config, ServerSettings
from tentaculo.config.services import ServiceSettings
from tentaculo.health.board import Board
from tentaculo.health.prober import Prober
from tentaculo.model.health import GATEWAY_ALIAS, GATEWAY_NAME, Health, ServiceView
from tentaculo.model.text import utc_now
from tentaculo.tasks import TaskGroup

PATH_TIMEOUT = 3.0
"""Seconds that a probe of one health path may take."""


def is_failure(view: ServiceView) -> bool:
    """Whether an enabled service is down."""
    return view.health is Health.DOWN


async def probe_all(config: Config, on_result: Callable[[ServiceView], None]) -> list[ServiceView]:
    """Probe the gateway and every service once, all at the same time.

    `on_result` receives each service when the probes of all its endpoints are done. The list has the gateway first,
    then the order of the configuration. It omits the gateway if its port is not known (0).
    """
    extended = with_gateway(config)
    board = Board(extended, now=utc_now)
    tasks = TaskGroup("truth")

    async def examine(service: ServiceSettings, prober: Prober) -> None:
        if service.enabled and service.probe.kind != "none":
            for result in await asyncio.gather(*(prober.probe(upstream) for upstream in service.upstreams)):
                board.accept_result(result)
        on_result(_as_found(board.service(service.name), service))

    prober = Prober(extended, path_timeout=PATH_TIMEOUT)
    try:
        await asyncio.gather(
            *(tasks.start(examine(service, prober), service.name) for service in extended.services.values())
        )
    finally:
        await tasks.close()
    return [_as_found(view, extended.services[view.name]) for view in board.snapshot()]


def _as_found(view: ServiceView, service: ServiceSettings) -> ServiceView:
    """Nothing is known of a service that is not probed: the command sees none of its requests."""
    if service.probe.kind != "none" or not service.enabled:
        return view
    return replace(view, health=Health.UNKNOWN, reason="not probed")


def with_gateway(config: Config) -> Config:
    """`config` with the gateway itself as the first service, if its port is known."""
    address = _own_address(config.server)
    if address is None or GATEWAY_NAME in config.services:
        return config
    gateway = ServiceSettings(name=GATEWAY_NAME, aliases=(GATEWAY_ALIAS,), url=address)
    return config.replace(services={GATEWAY_NAME: gateway, **config.services})


def _own_address(server: ServerSettings) -> str | None:
    """URL of the gateway on this machine; None if it takes any free port."""
    host, port = server.host, str(server.port)
    if server.listen:
        host, _, port = server.listen[0].rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if port == "0":
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
