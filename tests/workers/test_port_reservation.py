"""A port that several processes share is theirs alone, and one that somebody has is told of."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence

import pytest

from tentaculo.server.listeners import CannotListenError, Listeners
from tentaculo.workers.port_reservation import reserve_ports

HERE = "127.0.0.1"


class Quiet(asyncio.Protocol):
    """Takes a connection and says which listener took it."""

    def __init__(self, taken: Counter[str], name: str) -> None:
        self._taken = taken
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._taken[self._name] += 1
        transport.close()


async def listening(where: Sequence[tuple[str, int]], taken: Counter[str], name: str) -> Listeners:
    listeners = Listeners()
    await listeners.open(lambda: Quiet(taken, name), where, share=True)
    return listeners


async def test_workers_share_it_and_the_holder_gets_none_of_it() -> None:
    taken: Counter[str] = Counter()
    with reserve_ports([(HERE, 0)]) as addresses:
        ((host, port),) = addresses
        assert (host, port > 0) == (HERE, True)
        workers = [await listening(addresses, taken, name) for name in "ab"]
        for _ in range(200):
            reader, writer = await asyncio.open_connection(host, port)
            await reader.read()
            writer.close()
        assert sum(taken.values()) == 200
        # By a hash of the addresses: that one of two gets none of 200 happens once in 2^199.
        assert set(taken) == {"a", "b"}
        for worker in workers:
            await worker.close()
        # Nobody listens, and still it is nobody else's.
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        with pytest.raises(CannotListenError), reserve_ports(addresses):
            raise AssertionError
    with reserve_ports(addresses):
        pass


@pytest.mark.parametrize("do_they_listen", [False, True])
async def test_nobody_else_gets_in(do_they_listen: bool) -> None:
    with reserve_ports([(HERE, 0)]) as addresses:
        workers = [await listening(addresses, Counter(), name) for name in ("ab" if do_they_listen else "")]
        with pytest.raises(CannotListenError) as caught, reserve_ports(addresses):
            raise AssertionError("two groups on one port")
        assert caught.value.address == f"{HERE}:{addresses[0][1]}"
        assert caught.value.strerror == "Address already in use"
        alone = Listeners()
        with pytest.raises(CannotListenError):
            await alone.open(asyncio.Protocol, addresses)
        for worker in workers:
            await worker.close()


@pytest.mark.parametrize("shares", [False, True])
async def test_a_port_that_somebody_has_is_told_of_even_where_it_is_shared(shares: bool) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        other.bind((HERE, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError) as caught, reserve_ports([(HERE, 0), (HERE, port)]):
            raise AssertionError
    assert caught.value.address == f"{HERE}:{port}"


async def test_names_and_both_families_come_out_as_numbers() -> None:
    with reserve_ports([("localhost", 0), ("::1", 0), ("::", 0), ("0.0.0.0", 0)]) as addresses:
        hosts = [host for host, _ in addresses]
        assert {HERE, "::1", "::", "0.0.0.0"} == set(hosts)
        assert all(port for _, port in addresses)
        # "::" leaves IPv4 alone, so that "0.0.0.0" may have the same port.
        port = dict(addresses)["::"]
        with reserve_ports([("0.0.0.0", port)]):
            pass
        workers = await listening(addresses, Counter(), "all")
        assert workers.bound == list(addresses)
        await workers.close()


async def test_a_name_that_is_none_is_told_of() -> None:
    with pytest.raises(CannotListenError) as caught, reserve_ports([("nowhere.invalid", 0)]):
        raise AssertionError
    assert caught.value.address == "nowhere.invalid:0"
    assert caught.value.strerror
