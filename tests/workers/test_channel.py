"""Lines between processes: messages stay whole and in order, nobody waits, and an end is noticed."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tentaculo.workers.channel import (
    ALL,
    LONGEST,
    MOST_WAITING,
    STOP,
    WorkerChannel,
    pair,
    recipients,
)


class End:
    """One end of a line, and what it has heard."""

    def __init__(self, sock: socket.socket) -> None:
        self.heard: list[bytes] = []
        self.ended = 0
        self.news = asyncio.Event()
        self.channel = WorkerChannel(sock, on_message=self._hear, on_end=self._end)

    def _hear(self, message: bytes) -> None:
        self.heard.append(message)
        self.news.set()

    def _end(self) -> None:
        self.ended += 1
        self.news.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()


async def test_messages_stay_whole_and_in_order_both_ways() -> None:
    one, other = map(End, pair())
    messages = [bytes([number % 251]) * (number * 13 + 1) for number in range(400)] + [b"x" * LONGEST]
    for message in messages:
        one.channel.send(message)
        other.channel.send(message[::-1])
    await one.until(len(messages))
    await other.until(len(messages))
    assert other.heard == messages
    assert one.heard == [message[::-1] for message in messages]
    one.channel.close()
    async with asyncio.timeout(20):
        while not other.ended:
            other.news.clear()
            await other.news.wait()
    assert (one.ended, other.ended) == (0, 1), "who closes need not be told"
    other.channel.send(b"too late")
    one.channel.close()


async def test_who_does_not_read_costs_a_bounded_memory_and_orders_come_first() -> None:
    ours, theirs = pair()
    one = End(ours)
    for number in range(MOST_WAITING + 5000):
        one.channel.send(b"%d" % number)
    assert f"{MOST_WAITING} waiting" in repr(one.channel)
    one.channel.order(STOP)
    other = End(theirs)
    await other.until(MOST_WAITING + 1)
    # What the kernel had already stays in front.
    place = other.heard.index(STOP)
    await other.until(place + 1 + MOST_WAITING)
    numbers = [int(message) for message in other.heard if message != STOP]
    assert numbers == list(range(len(numbers)))
    assert place == len(numbers) - MOST_WAITING
    assert "0 waiting" in repr(one.channel)
    one.channel.send(b"again")
    await other.until(len(numbers) + 2)
    assert other.heard[-1] == b"again"
    one.channel.close()
    other.channel.close()


async def test_orders_that_wait_keep_their_order() -> None:
    ours, theirs = pair()
    one = End(ours)
    number = 0
    while "0 waiting" in repr(one.channel):
        one.channel.send(b"%d" % number)
        number += 1
    orders = [b"order %d" % number for number in range(5)]
    for message in orders:
        one.channel.order(message)
    other = End(theirs)
    await other.until(number + len(orders))
    assert [message for message in other.heard if message in orders] == orders
    assert int(other.heard[-1]) == number - 1, "the message that waited comes last"
    one.channel.close()
    other.channel.close()


async def test_an_end_is_told_once_even_with_messages_that_wait() -> None:
    ours, theirs = pair()
    one = End(ours)
    for _ in range(MOST_WAITING):
        one.channel.send(b"x" * 1000)
    theirs.close()
    async with asyncio.timeout(20):
        await one.news.wait()
    one.channel.send(b"y")
    assert one.ended == 1
    assert "closed" in repr(one.channel)


@pytest.mark.parametrize(
    ("message", "sender", "expected"),
    [
        (ALL + b"x", 2, [1, 3]),
        (ALL + b"x", 1, [2, 3]),
        (b"\1x", 2, [1]),
        (b"\3x", 1, [3]),
        (b"\7x", 1, []),
        (STOP, 1, []),
    ],
)
def test_who_gets_it(message: bytes, sender: int, expected: list[int]) -> None:
    assert recipients(message, sender, [1, 2, 3]) == expected
