"""One service of the demonstration on a real socket, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession

from tentaculo.demo.services import DemoService, Ports, Service

TOKEN = "the-fleet's"
Start = Callable[..., Awaitable[ClientSession]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(blueprint, clock=…)` gives a session whose base is that service; both end with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(
            blueprint: DemoService, *, token: str = TOKEN, clock: Callable[[], float] = lambda: 0.0
        ) -> ClientSession:
            service = Service(blueprint, token=TOKEN, seed="test", clock=clock)
            stack.push_async_callback(service.close)
            port = await service.start("127.0.0.1", Ports.FREE)
            session = ClientSession(f"http://127.0.0.1:{port}", headers={"X-VX11-Token": token} if token else {})
            return await stack.enter_async_context(session)

        yield start_one
