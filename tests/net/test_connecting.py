from __future__ import annotations

import asyncio
import errno

import pytest

from tentaculo.net.connecting import Addresses, NoPortError, connect_first, is_shortage
from tests.support.addresses import Names

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
NO_ROUTE = OSError(errno.ENETUNREACH, "no route")
NO_DESCRIPTOR = OSError(errno.EMFILE, "no descriptor")
NOT_AVAILABLE = OSError(errno.EADDRNOTAVAIL, "cannot assign requested address")


class Net:
    """Addresses and what connecting to each of them does: an error, or a time after which it succeeds."""

    def __init__(self, **outcomes: OSError | float) -> None:
        self.outcomes = outcomes
        self.started: list[str] = []
        self.closed: list[str] = []
        self.cancelled: list[str] = []

    async def connect(self, address: str) -> str:
        self.started.append(address)
        outcome = self.outcomes[address]
        try:
            if isinstance(outcome, OSError):
                raise outcome
            await asyncio.sleep(outcome)
        except asyncio.CancelledError:
            self.cancelled.append(address)
            raise
        return f"to {address}"

    async def run(self, *, delay: float = 0.01) -> tuple[str, str]:
        return await connect_first(list(self.outcomes), self.connect, self.closed.append, delay=delay)


async def test_the_first_is_enough() -> None:
    net = Net(a=0, b=0)
    assert await net.run(delay=60) == ("a", "to a")
    assert net.started == ["a"]


async def test_the_next_is_tried_at_once_where_one_refuses() -> None:
    net = Net(a=REFUSED, b=NO_ROUTE, c=0)
    assert await net.run(delay=60) == ("c", "to c")


async def test_the_next_is_tried_beside_one_that_is_silent() -> None:
    net = Net(a=3600, b=0)
    assert await net.run() == ("b", "to b")
    assert net.cancelled == ["a"]


async def test_a_late_first_one_still_wins() -> None:
    net = Net(a=0.05, b=3600)
    assert await net.run() == ("a", "to a")
    assert net.cancelled == ["b"]


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        ({"a": REFUSED}, REFUSED),
        ({"a": NO_ROUTE, "b": REFUSED}, REFUSED),
        ({"a": REFUSED, "b": NO_ROUTE}, REFUSED),
        ({"a": NO_ROUTE, "b": NO_ROUTE}, NO_ROUTE),
    ],
)
async def test_the_most_telling_error(outcomes: dict[str, OSError | float], error: OSError) -> None:
    with pytest.raises(OSError) as caught:
        await Net(**outcomes).run()
    assert caught.value is error


async def test_a_shortage_of_the_gateway_is_not_repeated_at_every_address() -> None:
    net = Net(a=NO_DESCRIPTOR, b=0)
    with pytest.raises(OSError) as caught:
        await net.run()
    assert (caught.value, net.started) == (NO_DESCRIPTOR, ["a"])


async def test_a_cancellation_leaves_nothing() -> None:
    net = Net(a=3600, b=3600)
    task = asyncio.get_running_loop().create_task(net.run())
    while len(net.started) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(net.cancelled) == ["a", "b"]


async def test_a_cancellation_while_the_others_end_leaves_no_connection() -> None:
    ending = asyncio.Event()
    closed: list[str] = []

    async def connect(address: str) -> str:
        if address == "b":
            return "to b"
        try:
            await asyncio.sleep(3600)
        finally:
            ending.set()
            await asyncio.sleep(3600)
        return ""

    task = asyncio.get_running_loop().create_task(connect_first(["a", "b"], connect, closed.append, delay=0))
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["to b"]


async def test_two_at_once_and_one_is_closed() -> None:
    ready = asyncio.Event()
    closed: list[str] = []

    async def connect(address: str) -> str:
        if address == "b":
            ready.set()
        await ready.wait()
        return address

    winner, _ = await connect_first(["a", "b"], connect, closed.append, delay=0)
    assert [winner, *closed] in (["a", "b"], ["b", "a"], ["a"], ["b"])


class TestAddresses:
    """With a resolver and connections that do as told; `tests/upstream/test_pool.py` has real sockets."""

    @staticmethod
    async def connect(addresses: Addresses, net: Net, seconds: float = 10) -> str:
        async with asyncio.timeout(seconds):
            return await addresses.connect(net.connect, net.closed.append, seconds)

    async def test_an_address_that_was_outrun_is_tried_last(self) -> None:
        net, addresses = Net(a=3600, b=0), Addresses("name", 1, 3600, look_up=Names(["a", "b"]))
        assert await self.connect(addresses, net) == "to b"
        net.started.clear()
        for _ in range(3):
            assert await self.connect(addresses, net) == "to b"
        assert net.started == ["b"] * 3

    async def test_it_is_tried_again_when_the_other_fails(self) -> None:
        net, addresses = Net(a=REFUSED, b=0), Addresses("name", 1, 3600, look_up=Names(["a", "b"]))
        assert await self.connect(addresses, net) == "to b"
        net.outcomes = {"a": 0, "b": REFUSED}
        assert await self.connect(addresses, net) == "to a"

    @pytest.mark.parametrize("outcome", [REFUSED, NO_ROUTE, 3600.0], ids=["refuses", "no route", "silent"])
    async def test_a_known_address_that_fails_is_looked_up_again_at_once(self, outcome: OSError | float) -> None:
        names = Names(["a"], ["b"])
        net, addresses = Net(a=0, b=0), Addresses("name", 1, 3600, look_up=names)
        assert await self.connect(addresses, net) == "to a"
        net.outcomes["a"] = outcome
        assert await self.connect(addresses, net, 1) == "to b"
        assert len(names.asked) == 2

    async def test_a_known_address_that_is_only_slow_keeps_its_time(self) -> None:
        """As a small device whose TLS handshake takes seconds. It is not begun again at the half of the time."""
        names = Names(["a"])
        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["a"] = 0.6
        assert await self.connect(addresses, net, 1) == "to a"
        assert (net.started, net.cancelled, len(names.asked)) == (["a", "a"], [], 2)

    async def test_a_slow_name_server_holds_up_no_slow_address(self) -> None:
        names = [["a"]]

        async def once(name: str, _: int) -> list[str]:
            return names.pop() if names else await asyncio.get_running_loop().create_future()

        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=once)
        await self.connect(addresses, net)
        net.outcomes["a"] = 0.6
        assert await self.connect(addresses, net, 1) == "to a"

    async def test_one_look_up_serves_all_that_fail_together(self) -> None:
        names = Names(["a"], ["b"])
        net, addresses = Net(a=0, b=0), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["a"] = REFUSED
        assert await asyncio.gather(*(self.connect(addresses, net) for _ in range(20))) == ["to b"] * 20
        assert len(names.asked) == 2

    async def test_an_address_that_was_just_looked_up_is_not_looked_up_again(self) -> None:
        names = Names(["a"])
        with pytest.raises(ConnectionRefusedError):
            await self.connect(Addresses("name", 1, 3600, look_up=names), Net(a=REFUSED))
        assert len(names.asked) == 1

    async def test_the_same_addresses_are_not_tried_twice_after_a_refusal(self) -> None:
        names = Names(["a"])
        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["a"] = REFUSED
        with pytest.raises(ConnectionRefusedError):
            await self.connect(addresses, net)
        assert (net.started, len(names.asked)) == (["a", "a"], 2)

    async def test_a_shortage_of_the_gateway_asks_no_name_server(self) -> None:
        names = Names(["a"])
        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["a"] = NO_DESCRIPTOR
        with pytest.raises(OSError, match="no descriptor"):
            await self.connect(addresses, net)
        assert len(names.asked) == 1

    async def test_a_name_server_that_fails_leaves_the_error_of_the_address(self) -> None:
        names = Names(["a"], OSError("away"))
        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["a"] = REFUSED
        with pytest.raises(ConnectionRefusedError):
            await self.connect(addresses, net)
        assert len(names.asked) == 2

    async def test_what_a_look_up_finds_too_late_serves_the_next_connection(self) -> None:
        """A resolver whose first name server is dead takes 5 s each time."""
        found = asyncio.Event()
        calls: list[str] = []

        async def late(name: str, _: int) -> list[str]:
            calls.append(name)
            await found.wait()
            return ["a"]

        net, addresses = Net(a=0), Addresses("name", 1, 3600, look_up=late)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await self.connect(addresses, net, 0.01)
            assert addresses.is_unresolved
        found.set()
        assert await self.connect(addresses, net) == "to a"
        assert not addresses.is_unresolved
        assert calls == ["name"]

    async def test_no_port_for_an_address_that_can_be_reached_is_a_shortage(self) -> None:
        names = Names(["127.0.0.1"])
        net, addresses = Net(**{"127.0.0.1": 0}), Addresses("name", 1, 3600, look_up=names)
        await self.connect(addresses, net)
        net.outcomes["127.0.0.1"] = NOT_AVAILABLE
        with pytest.raises(NoPortError) as raised:
            await self.connect(addresses, net)
        assert is_shortage(raised.value)
        assert len(names.asked) == 1

    async def test_an_address_of_a_family_that_this_machine_lacks_is_no_shortage(self) -> None:
        net = Net(**{"fe80::1%no-such-interface": NOT_AVAILABLE})
        with pytest.raises(OSError, match="cannot assign") as raised:
            await self.connect(Addresses("name", 1, 3600, look_up=Names(list(net.outcomes))), net)
        assert not is_shortage(raised.value)
