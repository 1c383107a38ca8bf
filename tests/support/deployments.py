"""The ways in which the gateway is run, as real processes: what a client sees must be the same in each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from tentaculo.store import migrate
from tests.support.gateway_process import TOKEN
from tests.support.machines import Clock, Machine, running_machines
from tests.support.postgresql import Server

DEPLOYMENTS = {"one process": (1, 1), "two workers": (1, 2), "two machines": (2, 1)}
"""Machines, and workers of each. Several machines have PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Gateways on one database, which last for all tests of a module."""

    database: str
    """The URL of the database."""
    machines: Sequence[Machine]

    @property
    def urls(self) -> list[str]:
        """Two places to send requests to: two machines where there are two. Of workers any one takes a request."""
        found = [str(machine.url) for machine in self.machines]
        return found * 2 if len(found) == 1 else found


@pytest.fixture(scope="module", params=list(DEPLOYMENTS))
def deployment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Each way to run the gateway, started once for a module. Each test has events of its own."""
    machines, workers = DEPLOYMENTS[request.param]
    folder = tmp_path_factory.mktemp("deployment")
    # Its own event loop, since a test has one of its own: it runs only while the processes start and end.
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        if machines == 1:
            url = f"sqlite:///{folder / 'fleet.db'}"
            migrate.upgrade(url)
        else:
            server: Server = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database(server.template("migrated", migrate.upgrade)))
        try:
            running = running_machines(machines, workers, folder, url, Clock(folder))
            yield Deployment(url, runner.run(stack.enter_async_context(running)))
        finally:
            runner.run(stack.aclose())


@asynccontextmanager
async def calling(**headers: str) -> AsyncIterator[ClientSession]:
    """A client with the token, whose requests may each reach another worker."""
    connector = TCPConnector(limit=0, force_close=True)
    async with ClientSession(headers={"X-VX11-Token": TOKEN, **headers}, connector=connector) as session:
        yield session


async def ingest(session: ClientSession, url: str, body: Any) -> tuple[int, dict[str, Any]]:
    """The status and the body of the response to an event, or to a list of events."""
    async with session.post(f"{url}/events/ingest", json=body) as response:
        return response.status, await response.json()


async def read(session: ClientSession, url: str, query: str) -> dict[str, Any]:
    """A page of `GET /events`."""
    async with session.get(f"{url}/events?{query}") as response:
        assert response.status == 200, await response.text()
        page: dict[str, Any] = await response.json()
        return page
