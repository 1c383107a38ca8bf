"""How one service of the demonstration is described, and how a fleet of them is served.

A service is real: its own socket, its own aiohttp application, its own manners (token, latency, faults). What it does
is deterministic: the same seed and the same moment give the same trouble.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

from aiohttp import web

TOKEN_HEADER = "X-VX11-Token"  # noqa: S105  the name of a header
VERSION = "7.0"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NAME = web.AppKey("name", str)


class Ports(Enum):
    """Which ports the services take."""

    CANONICAL = "canonical"
    """The contract's; one that is taken is an error."""
    PREFERRED = "preferred"
    """The contract's, and a free one where that is taken."""
    FREE = "free"
    """Any free ones."""


def chance(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` only."""
    digest = blake2b(":".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass(frozen=True, slots=True)
class DemoFault:
    """Trouble that returns once in every period, at a moment that the seed decides."""

    every: float
    """Seconds of a period. Its first third is always calm, so that a fresh start looks well."""
    lasts: float
    """Seconds of trouble in it, at most two thirds of `every`."""
    status: int | None = None
    """Answer everything with this status."""
    delay: float = 0.0
    """Answer everything this many seconds later."""

    def is_active(self, at: float, seed: str) -> bool:
        """Whether there is trouble `at` seconds after the start."""
        period, moment = divmod(at, self.every)
        calm = self.every / 3
        begins = calm + chance(seed, int(period)) * (self.every - calm - self.lasts)
        return begins <= moment < begins + self.lasts


@dataclass(frozen=True, slots=True)
class DemoService:
    """One service of the fleet."""

    name: str
    port: int
    """Its port in the contract."""
    routes: tuple[web.RouteDef, ...]
    """Its paths, besides `/health`."""
    latency: float = 0.01
    """Seconds an answer takes, give or take half."""
    health_word: str = "ok"
    """What its health says when it is well."""
    guards_health: bool = False
    """Whether `/health` asks for the token as every other path does."""
    fault: DemoFault | None = None
    off: bool = False
    """Off on purpose: started only when asked for."""


class PortTakenError(Exception):
    """A service's port is in use by somebody else."""

    def __init__(self, service: str, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is taken, so {service} cannot start")


class Service:
    """A blueprint, served.

    `token` is what callers must send, None for a service that asks for none. `clock` is in monotonic seconds.
    """

    def __init__(
        self, blueprint: DemoService, *, token: str | None, seed: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.blueprint = blueprint
        self._token = token
        self._seed = f"{seed}:{blueprint.name}"
        self._clock = clock
        self._started = clock()
        self._answered = 0
        app = web.Application(middlewares=[self._manners])
        app[NAME] = blueprint.name
        app.add_routes([web.get("/health", self._health), *blueprint.routes])
        # A client that leaves ends its stream at once; a stream that still runs at the end is given half a second.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)

    def __repr__(self) -> str:
        return f"<Service {self.blueprint.name}: {self._answered} answered>"

    async def start(self, host: str, ports: Ports) -> int:
        """Listen, and return the port.

        Raises PortTakenError when the port is taken and no other is allowed.
        """
        await self._runner.setup()
        wanted = 0 if ports is Ports.FREE else self.blueprint.port
        try:
            await web.TCPSite(self._runner, host, wanted).start()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if ports is not Ports.PREFERRED:
                raise PortTakenError(self.blueprint.name, host, wanted) from error
            await web.TCPSite(self._runner, host, 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop listening and end what still runs."""
        await self._runner.cleanup()

    @web.middleware
    async def _manners(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Token, trouble, latency, then the service's own answer; its errors are JSON, as a caller expects."""
        if not self._may_call(request):
            return self._error(request, 401, "auth_required")
        self._answered += 1
        fault = self.blueprint.fault
        trouble = fault if fault and fault.is_active(self._clock() - self._started, self._seed) else None
        if trouble is not None and trouble.status is not None:
            return self._error(request, trouble.status, "the demonstration's planned fault, over in a few seconds")
        pause = self.blueprint.latency * (0.5 + chance(self._seed, self._answered))
        await asyncio.sleep(pause + (trouble.delay if trouble else 0.0))
        try:
            return await handler(request)
        except web.HTTPClientError as error:
            return self._error(request, error.status, error.text or error.reason)

    def _may_call(self, request: web.Request) -> bool:
        if self._token is None or (request.path == "/health" and not self.blueprint.guards_health):
            return True
        return hmac.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self._token.encode())

    def _error(self, request: web.Request, status: int, detail: str) -> web.Response:
        answer = {"detail": detail, "service": self.blueprint.name, "path": request.path}
        return web.json_response(answer, status=status)

    async def _health(self, request: web.Request) -> web.Response:
        answer = {"status": self.blueprint.health_word, "module": self.blueprint.name, "version": VERSION}
        return web.json_response(answer)


class DemoServices:
    """Several services in one process."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._services = tuple(services)

    async def start(self, host: str, ports: Ports) -> dict[str, int]:
        """Start each, and return the ports by name. Where one cannot, none is left running."""
        taken: dict[str, int] = {}
        try:
            for service in self._services:
                taken[service.blueprint.name] = await service.start(host, ports)
        except (OSError, PortTakenError):
            await self.close()
            raise
        return taken

    async def close(self) -> None:
        """Stop them all, together."""
        await asyncio.gather(*(service.close() for service in self._services))
