"""One service at `/s`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tentaculo.server.connection import ClientConnection
from tests.support.certificates import Certificate, self_signed

Service = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def service() -> Service:
    """One service at `/s`, open, with its prefix stripped: `service(port, timeout=1)`; other keywords are the route's."""

    def service(
        *ports: int,
        breaker: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        scheme: str = "http",
        **route: Any,
    ) -> dict[str, dict[str, Any]]:
        return {
            "s": {
                **(settings or {}),
                "urls": [f"{scheme}://127.0.0.1:{port}" for port in ports],
                "routes": [{"prefix": "/s", "strip": True, "auth": "none", **route}],
                "breaker": breaker or {"failures": 1000},
            }
        }

    return service


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")


@pytest.fixture
def tls(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of an upstream with https, which gateways of this test trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    return certificate.server_context()


@pytest.fixture
def notices_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway looks twenty times as often for clients that have gone and not only closed their sending half."""
    monkeypatch.setattr("tentaculo.server.connection.WATCH", 0.05)


@pytest.fixture
def small_send_buffers(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Transport]:
    """The client transports, whose kernel buffers are as small as they can be, in the order of their connections."""
    transports: list[asyncio.Transport] = []
    begin = ClientConnection.connection_made

    def begin_small(self: ClientConnection, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        begin(self, transport)
        assert self.transport is not None
        transports.append(self.transport)

    monkeypatch.setattr(ClientConnection, "connection_made", begin_small)
    return transports
