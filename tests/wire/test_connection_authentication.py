"""NTLM and Negotiate authenticate a connection, not a request (RFC 4559 section 6): it serves one client connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.reloading import serving
from tests.support.wire import Reader, Script, Upstream, Wire, Writer, answering, dial, ok, read_request, upstream
from tests.wire.asking import ask
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")


def authenticating(challenge: bytes, *, closes_after: int = 0) -> Script:
    """A service that takes a connection for its user's once `Authorization: <scheme> <user>` came on it."""

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        user, count = "", 0
        while True:
            request = await read_request(reader)
            state.requests.append(request)
            authorization = request.get("authorization")
            if authorization is not None and not authorization.endswith("hello"):
                user = authorization.partition(" ")[2]
            count += 1
            status = b"200 OK" if user else b"401 Unauthorized"
            lines = [] if user else [b"WWW-Authenticate: " + challenge]
            writer.write(ok(f"mail of {user or 'nobody'}".encode(), *lines, status=status))
            await writer.drain()
            if count == closes_after:
                return

    return script


async def log_in(wire: Wire, scheme: bytes, user: bytes) -> list[int]:
    """The three requests of a handshake, and one that relies on it."""
    lines: list[tuple[bytes, ...]] = [(), (b"hello",), (user,)]
    statuses = []
    for words in lines:
        fields = [b"Authorization: " + scheme + b" " + word for word in words]
        statuses.append((await ask(wire, "/s/mail", *fields)).status)
    return statuses


@pytest.mark.parametrize(
    ("scheme", "challenge"),
    [
        (b"NTLM", b"NTLM"),
        (b"Negotiate", b"Negotiate"),
        (b"ntlm", b'Basic realm="a, b", nTLM'),
        (b"Negotiate", b"Digest"),
        (b"Kerberos", b"Kerberos"),
        (b"credssp", b"CredSSP"),
        (b"Nego2", b'Basic realm="x",Negotiate,\tNEGO2'),
        # By a scheme that is not known here: what the service says of its connection counts.
        (b"Other", b"Other\r\nPersistent-Auth: true"),
    ],
)
async def test_another_client_is_not_answered_as_its_user(
    start: Start, service: Service, scheme: bytes, challenge: bytes
) -> None:
    async with upstream(authenticating(challenge)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as ana:
            assert await log_in(ana, scheme, b"ana") == [401, 401, 200]
            async with dial(live.port) as stranger:
                assert (await ask(stranger, "/s/mail")).body == b"mail of nobody"
            for method in ("GET", "POST"):
                assert (await ask(ana, "/s/mail", method=method)).body == b"mail of ana"
        # The end of the client's connection is the end of the service's.
        await up.until(lambda: up.gone >= 1)
        async with dial(live.port) as stranger:
            assert (await ask(stranger, "/s/mail")).body == b"mail of nobody"


@pytest.mark.parametrize(
    ("lines", "supports"),
    [
        ([b"WWW-Authenticate: Negotiate"], True),
        # As IIS does for a request with Via; a client on Windows then relies on what the gateway says.
        (
            [
                b"WWW-Authenticate: Negotiate",
                b"WWW-Authenticate: NTLM",
                b"Connection: Proxy-Support",
                b"Proxy-Support: Session-Based-Authentication",
            ],
            True,
        ),
        ([b"WWW-Authenticate: NTLM", b"Proxy-Support: Session-Based-Authentication"], True),
        ([b"WWW-Authenticate: Basic", b"Proxy-Support: Session-Based-Authentication"], False),
    ],
)
async def test_the_client_learns_that_the_authentication_of_a_connection_is_supported(
    start: Start, service: Service, lines: list[bytes], supports: bool
) -> None:
    """It must not use this authentication through a proxy that does not say so (RFC 4559 section 6)."""
    async with upstream(answering(ok(b"", *lines, status=b"401 Unauthorized"))) as up:
        live = await start(service(up.port))
        async with dial(live.port) as wire:
            for _ in range(2):
                response = await ask(wire, "/s/mail")
                assert response.all("proxy-support") == (["Session-Based-Authentication"] if supports else [])
                assert response.all("connection") == (["Proxy-Support"] if supports else [])


async def test_a_handshake_stays_at_one_endpoint(start: Start, service: Service) -> None:
    async with upstream(authenticating(b"NTLM")) as one, upstream(authenticating(b"NTLM")) as two:
        live = await start(service(one.port, two.port))
        async with dial(live.port) as ana, dial(live.port) as bob:
            assert await log_in(ana, b"NTLM", b"ana") == [401, 401, 200]
            assert await log_in(bob, b"NTLM", b"bob") == [401, 401, 200]
            for _ in range(3):
                assert (await ask(ana, "/s/mail")).body == b"mail of ana"
                assert (await ask(bob, "/s/mail")).body == b"mail of bob"
    assert one.connections + two.connections == 2


async def test_a_connection_that_the_service_closed_is_replaced(start: Start, service: Service) -> None:
    async with upstream(authenticating(b"NTLM", closes_after=3)) as up:
        live = await start(service(up.port))
        async with dial(live.port) as ana:
            assert await log_in(ana, b"NTLM", b"ana") == [401, 401, 200]
            await up.until(lambda: up.gone == 1)
            assert (await ask(ana, "/s/mail")).body == b"mail of nobody"
            assert (await ask(ana, "/s/mail", b"Authorization: NTLM ana")).body == b"mail of ana"
    assert up.connections == 2


@pytest.mark.parametrize("line", [b"Authorization: Basic NTLM", b'Authorization: Digest realm="Negotiate"', b"X: NTLM"])
async def test_other_authentication_shares_connections(start: Start, service: Service, line: bytes) -> None:
    async with upstream(answering(ok(b"x", b'WWW-Authenticate: Basic realm="NTLM"'))) as up:
        live = await start(service(up.port))
        for _ in range(3):
            async with dial(live.port) as wire:
                assert (await ask(wire, "/s/", line)).status == 200
    assert up.connections == 1


@pytest.mark.parametrize(
    ("settings", "limits"),
    [({"policy": "round_robin"}, {}), ({"weights": [2, 1]}, {}), ({"concurrency": 9}, {}), ({}, {"queue": 7})],
)
async def test_a_reload_that_keeps_the_endpoint_keeps_the_user(
    tmp_path: Path, service: Service, settings: dict[str, Any], limits: dict[str, Any]
) -> None:
    async with (
        upstream(authenticating(b"NTLM")) as up,
        upstream(authenticating(b"NTLM")) as other,
        serving(tmp_path, service(up.port, other.port)) as served,
        dial(served.port) as ana,
    ):
        assert await log_in(ana, b"NTLM", b"ana") == [401, 401, 200]
        await served.reload(services=service(up.port, other.port, settings=settings), limits=limits)
        assert (await ask(ana, "/s/mail")).body == b"mail of ana"
        async with dial(served.port) as stranger:
            assert (await ask(stranger, "/s/mail")).body == b"mail of nobody"


async def test_a_reload_that_removes_the_endpoint_closes_the_connections_of_its_users(
    tmp_path: Path, service: Service
) -> None:
    async with (
        upstream(authenticating(b"NTLM")) as up,
        upstream(authenticating(b"NTLM")) as other,
        serving(tmp_path, service(up.port)) as served,
        dial(served.port) as ana,
        dial(served.port) as bob,
    ):
        for wire, user in ((ana, b"ana"), (bob, b"bob")):
            assert await log_in(wire, b"NTLM", user) == [401, 401, 200]
        await served.reload(services=service(other.port))
        await up.until(lambda: up.gone == 2)
        assert (await ask(ana, "/s/mail")).body == b"mail of nobody"
        assert await log_in(bob, b"NTLM", b"bob") == [401, 401, 200]
