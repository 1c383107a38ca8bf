"""Requests that wait for room at an endpoint: a reload and a stop reach them too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tentaculo.tasks import TaskGroup
from tentaculo.upstream.load_balancer import LoadBalancer
from tests.support.reloading import Served, ask, service, serving
from tests.support.waits import eventually
from tests.support.wire import Request, Response, Upstream, answering, dial, ok, upstream

pytestmark = pytest.mark.usefixtures("both_ways")
CLIENTS = 4


@dataclass
class Waiting:
    """A gateway with a service that has room for one request. It has one, and the others wait."""

    served: Served
    up: Upstream
    go: asyncio.Event
    """The service responds once this is set."""
    asked: list[asyncio.Task[Response]]
    ask: Callable[[], Awaitable[None]]
    """Sends one more request."""
    stop: Callable[[], Awaitable[None]]
    """Ends the gateway."""

    @property
    def balancer(self) -> LoadBalancer:
        [found] = {route.balancer for route in self.served.gateway.proxy.routes}
        assert found is not None
        return found

    async def refusals(self) -> list[tuple[int, str]]:
        """The status and the word of each response."""
        found = [await one for one in self.asked]
        return [(one.status, json.loads(one.body)["error"]) for one in found]


@asynccontextmanager
async def waiting(folder: Path, **sections: Any) -> AsyncIterator[Waiting]:
    go, tasks = asyncio.Event(), TaskGroup("test")

    async def answer(_: Request) -> bytes:
        await go.wait()
        return ok()

    async with upstream(answering(answer)) as up, AsyncExitStack() as stack, AsyncExitStack() as running:
        sections = {"limits": {"in_flight": 1}, **sections}
        served = await running.enter_async_context(serving(folder, {"madre": service(up)}, **sections))
        wires = [await stack.enter_async_context(dial(served.port)) for _ in range(CLIENTS)]

        async def ask_more() -> None:
            state.asked.append(tasks.start(ask(await stack.enter_async_context(dial(served.port))), "more"))

        state = Waiting(served, up, go, [tasks.start(ask(wires[0]), "first")], ask_more, running.aclose)
        await up.until(lambda: len(up.requests) == 1)
        state.asked += [tasks.start(ask(wire), "waits") for wire in wires[1:]]
        await eventually(lambda: len(state.balancer.waiting) == CLIENTS - 1)
        yield state
        await tasks.close()


async def test_a_limit_that_is_raised_is_used_at_once(tmp_path: Path) -> None:
    """One alone was let through for each that ended: while any waited, no more were in flight than before."""
    async with waiting(tmp_path) as state:
        await state.served.reload(limits={"in_flight": 3})
        await state.up.until(lambda: len(state.up.requests) == 3)
        assert len(state.balancer.waiting) == CLIENTS - 3
        state.go.set()
        assert [(await one).status for one in state.asked] == [200] * CLIENTS


async def test_room_that_comes_by_itself_is_used_when_another_request_arrives(tmp_path: Path) -> None:
    """As where the time of a circuit breaker has passed. All waited for a request to end, and it may hang."""
    async with waiting(tmp_path) as state:
        state.balancer.endpoints[0].limit = CLIENTS
        await state.ask()
        await state.up.until(lambda: len(state.up.requests) == CLIENTS)
        await eventually(lambda: len(state.balancer.waiting) == 1)
        state.go.set()
        assert [(await one).status for one in state.asked] == [200] * (CLIENTS + 1)


async def test_those_of_a_service_that_is_removed_are_ended_where_that_is_asked_for(tmp_path: Path) -> None:
    """They took the places of those that were ended, and went to the service that was removed."""
    async with waiting(tmp_path) as state:
        await state.served.reload(services={}, reload={"close_removed": True})
        assert await state.refusals() == [(503, "service_off")] * CLIENTS
        assert len(state.up.requests) == 1


async def test_they_get_a_response_when_the_gateway_stops(tmp_path: Path) -> None:
    """Their connections were closed without a response."""
    async with waiting(tmp_path, server={"port": 0, "grace": 0.1}) as state:
        await state.stop()
        assert await state.refusals() == [(503, "stopping")] * CLIENTS
        assert len(state.up.requests) == 1
