from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import pytest

from tentaculo.net.connecting import connect_first, look_up

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
NO_ROUTE = OSError(errno.ENETUNREACH, "no route")
NO_DESCRIPTOR = OSError(errno.EMFILE, "no descriptor")


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
    assert net.cancelled == ["a", "b"]


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


async def test_families_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    families = [(6, "::1"), (6, "::2"), (4, "1.1.1.1"), (6, "::1"), (4, "2.2.2.2"), (4, "3.3.3.3")]

    async def getaddrinfo(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(family, 1, 6, "", (address, 1)) for family, address in families]

    monkeypatch.setattr(asyncio, "get_running_loop", _loop_with(getaddrinfo))
    assert await look_up("name", 1) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "3.3.3.3"]


def _loop_with(getaddrinfo: Callable[..., object]) -> Callable[[], object]:
    class Loop:
        pass

    Loop.getaddrinfo = staticmethod(getaddrinfo)  # type: ignore[attr-defined]
    return Loop
