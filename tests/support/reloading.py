"""A gateway whose configuration is replaced while it runs, and a client that keeps its connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.gateway.generation import Generation
from tentaculo.security.tokens import hash_token
from tests.conftest import TOKEN, is_fast_path
from tests.support.wire import Response, Upstream, Wire

OTHER = "another-token"


@dataclass
class Served:
    """A gateway, and its configuration as in the file."""

    gateway: Gateway
    data: dict[str, Any]
    hashes: list[str]

    @property
    def port(self) -> int:
        return self.gateway.running.addresses[0][1]

    async def prepare(self, hashes: list[str] | None = None, **sections: Any) -> Generation:
        """Prepare the configuration with other sections, or with other tokens."""
        self.data = {**self.data, **sections}
        self.hashes = self.hashes if hashes is None else hashes
        return await self.gateway.prepare(Config.of(self.data), self.hashes)

    async def reload(self, hashes: list[str] | None = None, **sections: Any) -> Generation:
        """Prepare, and serve it."""
        generation = await self.prepare(hashes, **sections)
        self.gateway.swap(generation, by="a test")
        return generation


@asynccontextmanager
async def serving(
    folder: Path, services: dict[str, Any], *, probes: bool = False, **sections: Any
) -> AsyncIterator[Served]:
    data = {
        "server": {"port": 0, "grace": 1},
        "database": {"url": f"sqlite:///{folder}/none/tentaculo.db"},
        "services": services,
        **sections,
    }
    hashes = [hash_token(TOKEN), hash_token(OTHER)]
    async with Gateway(Config.of(data), hashes, probes=probes, fast_path=is_fast_path()) as gateway:
        yield Served(gateway, data, hashes)


def service(up: Upstream, *routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{up.port}", "routes": list(routes or [{"prefix": "/madre"}]), **more}


async def ask(
    wire: Wire, *lines: str, target: str = "/madre/x", token: str | None = TOKEN, method: str = "GET"
) -> Response:
    """Send a request on a connection that stays."""
    auth = [f"X-VX11-Token: {token}"] if token else []
    await wire.send("\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *auth, *lines, "", ""]).encode())
    return await wire.response(method)
