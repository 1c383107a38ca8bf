"""A real receiver of webhooks that misbehaves as told, and keeps what came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Post:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each request with the next of `answers`, then with 204.

    An answer is a status, or "hang" (never answers), "reset" (drops the connection), "redirect", "garbage" (no HTTP),
    "flood" (200 and an endless body), "stall" (200 and a body that never comes), "cut" (200 and half a body), "later"
    (503 and Retry-After) or "wait" (204 once `gate` is set).
    """

    answers: deque[int | str] = field(default_factory=deque)
    posts: list[Post] = field(default_factory=list)
    url: str = ""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        post = Post(request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read())
        answer = self.answers.popleft() if self.answers else 204
        async with self.came:
            self.posts.append(post)
            self.came.notify_all()
        assert request.transport is not None
        match answer:
            case "hang":
                await asyncio.Event().wait()
            case "wait":
                await self.gate.wait()
            case "reset":
                request.transport.abort()
            case "redirect":
                return web.Response(status=307, headers={"Location": "/elsewhere"})
            case "garbage":
                request.transport.write(b"SIP/2.0 200 OK\r\n\r\n")
                request.transport.close()
            case "flood":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x" * 65536)
            case "stall" | "cut":
                request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal")
                if answer == "cut":
                    request.transport.close()
                await asyncio.Event().wait()
            case "later":
                return web.Response(status=503, headers={"Retry-After": "120"})
        return web.Response(status=answer if isinstance(answer, int) else 200)

    async def has(self, number: int) -> list[Post]:
        """Wait until so many requests have come."""
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(lambda: len(self.posts) >= number)
        return self.posts


@asynccontextmanager
async def receiving(*answers: int | str) -> AsyncIterator[Receiver]:
    """A receiver on a free port of the loopback."""
    receiver = Receiver(deque(answers))
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}/hook?token=a-secret"
        yield receiver
    finally:
        await runner.cleanup()
