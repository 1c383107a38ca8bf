"""The demonstration beside the gateway: its services in a child process, and the configuration that fits them."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tomllib
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from tentaculo.demo.catalogue import FLEET, MODELS
from tentaculo.demo.services import Ports
from tentaculo.security.tokens import hash_token
from tentaculo.tasks import TaskGroup

log = structlog.get_logger(__name__)

START_TIMEOUT = 20.0
"""Seconds until every service must listen."""
STOP_TIMEOUT = 3.0
"""Seconds until the child process must have ended after SIGTERM; then it is killed."""
_PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout, and in an installed package (pyproject.toml puts it there).
_ROUTES = (_PACKAGE.parent / "docker" / "vx11.toml", Path(__file__).resolve().with_name("vx11.toml"))


_CHAT = {
    "prefix": "/switch/chat",
    "rotation": {
        "set": "/model",
        "targets": [{"name": model} for model in MODELS],
        "success_at": "/status",
        "latency_at": "/latency_ms",
        "latency_limit": 1,
    },
}
"""The route by which the gateway chooses the model of a chat."""


class DemoError(Exception):
    """The demonstration could not start. The text is the reason."""


class Demo:
    """The services in a child process, while the context is open.

    The child ends with the context: by SIGTERM, after three seconds by SIGKILL, and by itself when this process ends.
    Each start has a new token, the same for the gateway and its services. The child receives it through a pipe, so that
    no list of processes shows it.
    """

    def __init__(self, *, ports: Ports = Ports.PREFERRED, seed: str = "vx11") -> None:
        self.token = secrets.token_urlsafe(24)
        self.ports: dict[str, int] = {}
        """The port of each service that runs."""
        self._ports = ports
        self._seed = seed
        self._child: Process | None = None
        self._tasks = TaskGroup("demo")

    def __repr__(self) -> str:
        return f"<Demo: {len(self.ports)} services>"

    async def __aenter__(self) -> Self:
        """Start the services and wait until they listen. Raises DemoError."""
        # -m finds the package from its own parent folder, wherever the gateway was started. The child has its own
        # session, so that Ctrl-C reaches the gateway only, which stops the child in order.
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tentaculo.demo", "--attached", "--ports", self._ports.value, "--seed", self._seed),
            stdin=PIPE,
            stdout=PIPE,
            cwd=_PACKAGE.parent,
            start_new_session=True,
        )
        try:
            self.ports = await asyncio.wait_for(self._start_services(self._child), START_TIMEOUT)
        except TimeoutError:
            await self._stop()
            raise DemoError(f"the demonstration's services did not start in {START_TIMEOUT:g} s") from None
        except BaseException:
            await self._stop()
            raise
        self._tasks.start(_log_end(self._child), "end")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the services."""
        await self._stop()

    @property
    def config_data(self) -> dict[str, Any]:
        """A configuration as `tomllib` returns it: the routes of `docker/vx11.toml`, to the ports on which the services listen."""
        services: dict[str, Any] = {}
        for name, service in _routes()["services"].items():
            canonical = next((blueprint.port for blueprint in FLEET if blueprint.name == name), None)
            port = self.ports.get(name, canonical)
            own = {key: value for key, value in service.items() if key not in ("url", "urls")}
            # The child has decided, by SHUB_ENABLED, whether the service that is off on purpose was started.
            running = {"url": f"http://127.0.0.1:{port}", "token": self.token, "enabled": name in self.ports}
            services[name] = {**own, **running}
        # VX11's own configuration leaves the choice of the model to the switch: only the demonstration shows it.
        services["switch"]["routes"] = [*services["switch"]["routes"], _CHAT]
        return {"auth": {"tokens": [hash_token(self.token)]}, "services": services}

    async def _start_services(self, child: Process) -> dict[str, int]:
        assert child.stdin and child.stdout  # noqa: PT018  they are pipes
        # uvloop raises RuntimeError if the child has already ended. Reading then reports the end.
        with suppress(ConnectionError, RuntimeError):
            child.stdin.write(f"{self.token}\n".encode())
            await child.stdin.drain()
        line = await child.stdout.readline()
        if not line:
            raise DemoError("the demonstration's services did not start; standard error has the reason")
        ports: dict[str, int] = json.loads(line)["ports"]
        return ports

    async def _stop(self) -> None:
        child = self._child
        if child is None:
            return
        self._child = None
        await self._tasks.close()
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            # communicate() also reads the rest of the output, so that a full pipe cannot block the child.
            await asyncio.wait_for(child.communicate(), STOP_TIMEOUT)
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()


async def _log_end(child: Process) -> None:
    """Log the end of the child. The gateway continues without the services and shows them as down."""
    log.error("demonstration ended", code=await child.wait())


def _routes() -> dict[str, Any]:
    for path in _ROUTES:
        if path.exists():
            return tomllib.loads(path.read_text())
    raise DemoError("the demonstration's routes, vx11.toml, are not installed")
