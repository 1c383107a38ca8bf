"""Turns of the loop: how many requests one takes, who waits, and that nobody overtakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tentaculo.server.request_scheduler import LOOK, MAX_KEPT, MOST, RequestScheduler


class Wire(asyncio.Transport):
    """Stands until it is told to close."""

    closing = False

    def is_closing(self) -> bool:
        """Whether it was told to close."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True


class Client:
    """A connection that notes what it is given, and when."""

    def __init__(self, journal: list[Client]) -> None:
        self._journal = journal
        self.transport: asyncio.Transport | None = Wire()
        self.got: list[bytes] = []
        self.then: Callable[[], None] = lambda: None

    def receive(self, data: bytes) -> None:
        """Note it."""
        self._journal.append(self)
        self.got.append(data)
        self.then()


@pytest.fixture
async def turns() -> RequestScheduler:
    return RequestScheduler(asyncio.get_running_loop())


async def turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def test_a_turn_takes_a_bounded_number_and_the_others_come_in_their_order(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(journal) for _ in range(3 * MOST + 5)]
    for client in clients:
        turns.begin(client, b"x")
    found = [len(journal)]
    while len(journal) < len(clients):
        await turn()
        found.append(len(journal))
    assert sorted(set(found)) == [MOST, 2 * MOST, 3 * MOST, 3 * MOST + 5]
    assert journal == clients


async def test_nobody_overtakes_those_who_wait(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    first = [Client(journal) for _ in range(2 * MOST + 1)]
    for client in first:
        turns.begin(client, b"x")
    await turn()
    late = Client(journal)
    turns.begin(late, b"x")
    for _ in range(4):
        await turn()
    assert journal == [*first, late]


async def test_who_sends_on_while_it_is_served_neither_overtakes_nor_doubles_a_turn(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(journal) for _ in range(4 * MOST)]
    for client in clients:
        turns.begin(client, b"x")
    again = clients[MOST]
    again.then = lambda: turns.begin(again, b"y") if again.got == [b"x"] else None
    found = []
    while len(journal) < len(clients) + 1:
        before = len(journal)
        await turn()
        found.append(len(journal) - before)
    assert journal == [*clients, again]
    assert max(found) == MOST


async def test_few_in_each_turn_never_wait(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    for count in range(1, 20 * MOST):
        turns.begin(Client(journal), b"x")
        assert len(journal) == count
        if count % LOOK == 0:
            await turn()


async def test_what_comes_meanwhile_stays_in_order(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    for _ in range(MOST):
        turns.begin(Client(journal), b"x")
    client = Client(journal)
    for piece in (b"one ", b"two ", b"three"):
        turns.begin(client, piece)
    assert client.got == []
    await turn()
    assert client.got == [b"one two three"]


async def test_who_has_much_to_send_does_not_wait_so_that_memory_stays_bounded(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    for _ in range(MOST):
        turns.begin(Client(journal), b"x")
    large, growing = Client(journal), Client(journal)
    turns.begin(large, bytes(MAX_KEPT + 1))
    assert large.got == [bytes(MAX_KEPT + 1)]
    turns.begin(growing, b"first")
    assert growing.got == []
    turns.begin(growing, bytes(MAX_KEPT))
    assert growing.got == [b"first" + bytes(MAX_KEPT)]
    await turn()
    assert len(growing.got) == 1


async def test_a_client_that_has_gone_or_is_about_to_is_left_out(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(journal) for _ in range(MOST + 3)]
    for client in clients:
        turns.begin(client, b"x")
    gone, leaving, stays = clients[MOST:]
    gone.transport = None
    assert leaving.transport is not None
    leaving.transport.close()
    await turn()
    assert journal == [*clients[:MOST], stays]


async def test_a_fault_in_one_costs_the_others_nothing(turns: RequestScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(journal) for _ in range(2 * MOST)]
    loop, caught = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: caught.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("broken")

    clients[MOST].then = fail
    for client in clients:
        turns.begin(client, b"x")
    for _ in range(4):
        await turn()
    loop.set_exception_handler(None)
    assert journal == clients
    assert [str(error) for error in caught] == ["broken"]
