"""The event loop of production, and a whole gateway in this process on real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from hypothesis import settings

from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.security.tokens import hash_token
from tentaculo.server import listeners
from tentaculo.telemetry.request_log import RequestRecord

TOKEN = "test-token"
pytest_plugins = (
    "tests.support.groups",
    "tests.support.config",
    "tests.support.postgresql",
    "tests.support.databases",
    "tests.support.deployments",
    "tests.support.health",
)

# How long an example takes is the machine's affair; each test has a limit of its own.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop for every test, as in production."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Live:
    """A gateway that takes requests."""

    gateway: Gateway
    port: int
    records: list[RequestRecord] = field(default_factory=list)
    """One for each proxied request that has ended."""

    @property
    def auth(self) -> bytes:
        """A header line that is let in."""
        return f"X-VX11-Token: {TOKEN}\r\n".encode()


@pytest.fixture(scope="session", autouse=True)
def _stop_without_late_clients() -> Iterator[None]:
    """Gateways in this process stop thousands of times, and no client is connecting then: tests/gateway/test_stop.py
    stops processes of their own under load."""
    before, listeners.QUEUE_EMPTY_FOR = listeners.QUEUE_EMPTY_FOR, 0.0
    yield
    listeners.QUEUE_EMPTY_FOR = before


Start = Callable[..., Awaitable[Live]]
_at_once = True
"""Whether gateways serve what they can without a task, as in production."""


@pytest.fixture(params=[True, False], ids=["at once", "in a task"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test twice: what a client and a service see must not depend on how the gateway serves a request."""
    monkeypatch.setattr("tests.conftest._at_once", request.param)


def is_fast_path() -> bool:
    """Whether this test's gateways serve what they can without a task."""
    return _at_once


@asynccontextmanager
async def living(
    folder: Path, services: dict[str, dict[str, Any]], *, probes: bool = False, **sections: Any
) -> AsyncIterator[Live]:
    """A gateway; services and sections are as in the file. Its database would be in `folder`, but is not."""
    data = {
        "server": {"port": 0, "grace": 1},
        "database": {"url": f"sqlite:///{folder}/none/tentaculo.db"},
        "services": services,
        **sections,
    }
    config = Config.of(data)
    records: list[RequestRecord] = []
    async with Gateway(
        config, [hash_token(TOKEN), *config.auth.tokens], access_log=records.append, probes=probes, fast_path=_at_once
    ) as gateway:
        yield Live(gateway, gateway.running.addresses[0][1], records)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts gateways: `await start({"madre": {…}}, limits={…})`. Services and sections are as in the file.

    Without `probes=True` an upstream sees nothing but what the test sends.
    """
    async with AsyncExitStack() as stack:

        async def start(services: dict[str, dict[str, Any]], *, probes: bool = False, **sections: Any) -> Live:
            return await stack.enter_async_context(living(tmp_path, services, probes=probes, **sections))

        yield start


@pytest.fixture
def only_warnings() -> Iterator[None]:
    """A log without a line for each of thousands of refusals."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port at which nobody listens, and that nobody else can take meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
