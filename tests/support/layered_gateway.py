"""A whole gateway in this process whose configuration is a file with changes over it, as `process.serve` joins them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tentaculo.config.comparison import Changes
from tentaculo.config.loader import load_usable
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.gateway import Gateway
from tentaculo.gateway.layer_reloads import LayerReloads
from tentaculo.gateway.reloading import Reloader
from tentaculo.security.token_file import accepted_tokens
from tests.support.gateway_process import to_toml
from tests.support.wire import Response, Wire, dial

ADMIN = "a-token-of-an-administrator"
BASE = "/tentaculo/admin"


@dataclass
class Elapsed:
    """The clock by which overrides end."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class LayeredGateway:
    """A gateway, what reads and keeps its configuration, and clients of it."""

    gateway: Gateway
    reloader: Reloader
    layers: LayerReloads
    file: Path
    wires: dict[str, Wire] = field(default_factory=dict)
    """Connections that stay, by name."""

    @property
    def port(self) -> int:
        return self.gateway.running.addresses[0][1]

    async def send(
        self, method: str, target: str, fields: Mapping[str, str], body: bytes | None = None, *, on: str = ""
    ) -> Response:
        """Send a request on the kept connection `on`; on one of its own where that is empty."""
        if body is not None:
            fields = {**fields, "Content-Length": str(len(body))}
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *(f"{key}: {one}" for key, one in fields.items())]
        data = "\r\n".join([*lines, "", ""]).encode() + (body or b"")
        if on:
            await self.wires[on].send(data)
            return await self.wires[on].response(method)
        async with dial(self.port) as wire:
            await wire.send(data)
            return await wire.response(method)

    async def administer(
        self, method: str, path: str, body: Any = None, *, if_match: str = "*", on: str = ""
    ) -> tuple[int, Any]:
        """The status and the JSON of a request of the write API."""
        fields = {"X-VX11-Token": ADMIN, "If-Match": if_match, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        response = await self.send(method, BASE + path, fields, data, on=on)
        return response.status, json.loads(response.body)


def write_tables(file: Path, tables: Mapping[str, Any]) -> None:
    """Write a configuration file."""
    file.write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items()))


@asynccontextmanager
async def layered_gateway(
    file: Path, *, elapsed: Elapsed | None = None, connections: tuple[str, ...] = (), probes: bool = False
) -> AsyncIterator[LayeredGateway]:
    """A gateway of the configuration in `file`, with so many kept connections. It follows its services with `probes` only."""
    source = ConfigurationSource(file)
    loaded = source.load(load_usable)
    reloader = Reloader(source)
    assert source.first is not None
    layers = reloader.layers = LayerReloads(source, reloader, source.first, elapsed=elapsed or Elapsed())
    async with AsyncExitStack() as stack:
        hashes = tuple(accepted_tokens(loaded.config))
        gateway = await stack.enter_async_context(Gateway(loaded.config, hashes, probes=probes, reloads=reloader))

        async def apply(candidate: Candidate, by: str, _number: int) -> Changes:
            return gateway.swap(await gateway.prepare(candidate.config, candidate.hashes), by)

        reloader.open(apply, watch=False)
        stack.push_async_callback(reloader.close)
        layers.open()
        stack.push_async_callback(layers.close)
        served = LayeredGateway(gateway, reloader, layers, file)
        for name in connections:
            served.wires[name] = await stack.enter_async_context(dial(served.port))
        yield served
