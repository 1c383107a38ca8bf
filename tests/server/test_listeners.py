"""The listening sockets: every address or none, and what is said when one cannot be had."""

from __future__ import annotations

import ast
import asyncio
import errno
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from structlog.testing import capture_logs

from tentaculo.config.listening import ServerSettings
from tentaculo.config.reader import read
from tentaculo.server.listeners import CannotListenError, ConnectionLimits, Listeners, connections_within
from tests.support.needs import need_ipv6
from tests.support.wire import TIMEOUT


class Greeter(asyncio.Protocol):
    """Sends a greeting to every client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        open_transport = cast(asyncio.Transport, transport)
        open_transport.write(b"hello")
        open_transport.close()


@pytest.fixture
async def listeners() -> AsyncIterator[Listeners]:
    made = Listeners()
    yield made
    await made.close()


@contextmanager
def taken(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        yield int(other.getsockname()[1])


async def greeting(host: str, port: int) -> bytes:
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            return await reader.read()
        finally:
            writer.close()


async def is_refused(host: str, port: int) -> bool:
    """Whether nobody listens there. A socket that was closed goes with the loop's next turns, so it asks again."""
    for _ in range(100):
        try:
            await greeting(host, port)
        except ConnectionRefusedError:
            return True
        except ConnectionError:
            pass
        await asyncio.sleep(0.01)
    return False


async def test_port_0_takes_any_free_port(listeners: Listeners) -> None:
    await listeners.open(Greeter, ServerSettings(port=0).addresses)
    ((host, port),) = listeners.bound
    assert (host, port > 0) == ("127.0.0.1", True)
    assert await greeting(host, port) == b"hello"
    assert repr(listeners) == f"<Listeners: 127.0.0.1:{port}>"


async def test_several_addresses_and_both_families(listeners: Listeners) -> None:
    need_ipv6()
    where = ServerSettings(listen=("127.0.0.1:0", "[::1]:0", "127.0.0.2:0")).addresses
    assert where == (("127.0.0.1", 0), ("::1", 0), ("127.0.0.2", 0))
    await listeners.open(Greeter, where)
    assert [host for host, _ in listeners.bound] == ["127.0.0.1", "::1", "127.0.0.2"]
    for host, port in listeners.bound:
        assert await greeting(host, port) == b"hello"


async def test_ipv6_alone(listeners: Listeners) -> None:
    need_ipv6()
    await listeners.open(Greeter, read(ServerSettings, {"host": "[::1]", "port": 0}).addresses)
    ((host, port),) = listeners.bound
    assert host == "::1"
    assert await greeting("::1", port) == b"hello"
    assert await is_refused("127.0.0.1", port)


async def test_all_of_ipv4_and_all_of_ipv6_go_together_on_one_port(listeners: Listeners) -> None:
    need_ipv6()
    await listeners.open(Greeter, [("::", 0)])
    port = listeners.bound[0][1]
    await listeners.open(Greeter, [("0.0.0.0", port)])
    assert await greeting("::1", port) == await greeting("127.0.0.1", port) == b"hello"


async def test_a_name_is_listened_on_at_each_of_its_addresses(listeners: Listeners) -> None:
    await listeners.open(Greeter, [("localhost", 0)])
    assert {host for host, _ in listeners.bound} <= {"127.0.0.1", "::1"}
    for host, port in listeners.bound:
        assert await greeting(host, port) == b"hello"


@pytest.mark.parametrize(
    ("family", "host", "shown"), [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")]
)
async def test_a_taken_port_is_named_with_the_reason(
    listeners: Listeners, family: socket.AddressFamily, host: str, shown: str
) -> None:
    if family is socket.AF_INET6:
        need_ipv6()
    with taken(family, host) as port, pytest.raises(CannotListenError) as caught:
        await listeners.open(Greeter, [(host, port)])
    error = caught.value
    assert (error.address, error.errno) == (f"{shown}:{port}", errno.EADDRINUSE)
    assert error.strerror == "Address already in use"


async def test_an_address_of_another_machine_is_named_with_the_reason(listeners: Listeners) -> None:
    with pytest.raises(CannotListenError) as caught:
        await listeners.open(Greeter, [("192.0.2.1", 0)])
    assert (caught.value.address, caught.value.strerror) == ("192.0.2.1:0", "Cannot assign requested address")


async def test_a_name_that_does_not_exist_is_named_with_the_reason(listeners: Listeners) -> None:
    with pytest.raises(CannotListenError) as caught:
        await listeners.open(Greeter, [("no-such-host.invalid", 8000)])
    assert caught.value.address == "no-such-host.invalid:8000"
    assert caught.value.strerror
    assert "Unknown error" not in caught.value.strerror
    assert "name" in caught.value.strerror.lower()


async def test_a_failure_leaves_nothing_open(listeners: Listeners) -> None:
    await listeners.open(Greeter, [("127.0.0.1", 0)])
    free = listeners.bound[0][1]
    await listeners.close()
    assert await is_refused("127.0.0.1", free)
    with taken() as port, pytest.raises(CannotListenError):
        await listeners.open(Greeter, [("127.0.0.1", free), ("127.0.0.1", port)])
    assert listeners.bound == []
    assert await is_refused("127.0.0.1", free)
    await listeners.open(Greeter, [("127.0.0.1", free)])
    assert await greeting("127.0.0.1", free) == b"hello"


async def test_closing_takes_no_new_connection_and_leaves_those_that_stand(listeners: Listeners) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast(asyncio.Transport, transport)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    await listeners.open(Echo, [("127.0.0.1", 0)])
    port = listeners.bound[0][1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        await listeners.close()
        await listeners.close()
        assert listeners.bound == []
        assert await is_refused("127.0.0.1", port)
        writer.write(b"two")
        async with asyncio.timeout(TIMEOUT):
            assert await reader.readexactly(3) == b"two"
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("descriptors", "connections"), [(64, 24), (256, 96), (300, 112), (1024, 384), (20_000, 9872), (1, 1)]
)
def test_the_descriptors_say_how_many_clients_can_connect(descriptors: int, connections: int) -> None:
    assert connections_within(descriptors) == connections


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("hard", "configured", "allowed", "warning"),
    [
        (256, 0, 96, "256 file descriptors are enough for 96 client connections only: "),
        (
            256,
            5000,
            96,
            "limits.connections is 5000, but 256 file descriptors are enough for 96 client connections: ",
        ),
        (256, 50, 50, ""),
        (2600, 0, 1172, ""),
        (2600, 1000, 1000, ""),
    ],
)
def test_few_descriptors_are_worth_a_warning(hard: int, configured: int, allowed: int, warning: str) -> None:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"
        "from tentaculo.server.listeners import connection_limit\n"
        f"print(repr(connection_limit({configured})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    end = "raise the limit of the process (ulimit -n)" if warning else ""
    assert ast.literal_eval(done.stdout) == (allowed, warning + end)


@pytest.mark.parametrize(("configured", "accepted"), [(0, 3), (2, 2), (3, 3), (5000, 3)])
def test_no_more_connections_than_the_descriptors_allow(
    monkeypatch: pytest.MonkeyPatch, configured: int, accepted: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (8, 8))
    limits = ConnectionLimits(configured, 0)
    assert [limits.enter("a") for _ in range(5)].count(True) == accepted


@pytest.mark.parametrize("limits", [(8, 0), (0, 8)])
def test_connections_that_are_being_closed_keep_nobody_out_any_more(limits: tuple[int, int]) -> None:
    admission = ConnectionLimits(*limits)
    assert [admission.enter("a") for _ in range(8)].count(True) == 8
    crowded = []
    for _ in range(4):
        crowded.append(admission.is_crowded("a"))
        admission.note_ending("a")
    assert crowded == [True] * 4
    assert not admission.is_crowded("a")
    for _ in range(4):
        admission.leave("a", was_ending=True)
    assert not admission.is_crowded("a")
    assert admission.enter("a")
    assert admission.is_crowded("a")


def test_the_limit_is_logged_once_until_half_of_the_connections_have_ended() -> None:
    limits = ConnectionLimits(4, 0)
    with capture_logs() as logs:
        assert [limits.enter("a") for _ in range(50)].count(True) == 4
        for _ in range(20):
            limits.leave("a")
            assert [limits.enter("a"), limits.enter("a")] == [True, False]
    assert [(line["event"], line["connections"]) for line in logs] == [("connection limit reached", 4)]
    with capture_logs() as logs:
        limits.leave("a")
        limits.leave("a")
        assert [limits.enter("a") for _ in range(5)].count(True) == 2
    assert [line["event"] for line in logs] == ["connection limit reached"]


def test_a_network_of_ipv6_is_one_address() -> None:
    """Any customer has more addresses than the gateway has connections."""
    limits = ConnectionLimits(100, 2)
    assert [limits.enter(f"2001:db8::{number}") for number in range(3)] == [True, True, False]
    assert limits.is_crowded("2001:db8::ffff")
    assert limits.enter("2001:db8:0:1::1")
    assert not limits.is_crowded("2001:db8:0:1::1")
    assert [limits.enter("::ffff:192.0.2.1"), limits.enter("::ffff:192.0.2.2")] == [True, True]
    limits.note_ending("2001:db8::0")
    limits.leave("2001:db8::0", was_ending=True)
    assert [limits.enter("2001:db8::8"), limits.enter("2001:db8::9")] == [True, False]


@pytest.mark.parametrize(("descriptors", "most"), [(64, 4), (256, 16), (1024, 64), (1_000_000, 64)])
def test_refused_clients_take_a_quarter_of_the_reserve(
    descriptors: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.server.listeners._descriptors", lambda: descriptors)
    limits = ConnectionLimits(0, 0)
    assert [limits.may_linger() for _ in range(most + 1)] == [True] * most + [False]
