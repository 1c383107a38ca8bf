"""Turns of the loop: how many reads one handles, in which order connections wait, and what is held meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from tentaculo.net.turns import LOOK, MOST, MOST_READ, READ_SIZE, SMALL_READ, STEPS, TurnReader, TurnScheduler


class Wire(asyncio.Transport):
    """Remembers whether it is read."""

    closing = False
    is_read = True

    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True

    def pause_reading(self) -> None:
        """Read no more."""
        self.is_read = False

    def resume_reading(self) -> None:
        """Read on."""
        self.is_read = True


class Client(TurnReader):
    """A connection that notes when it is given something, and what."""

    def __init__(self, turns: TurnScheduler, journal: list[Client]) -> None:
        super().__init__(turns)
        self._journal = journal
        self.wire = Wire()
        self.transport = self.wire
        self.got: list[bytes] = []
        self.then: Callable[[], object] = lambda: None

    def receive(self, data: bytes) -> None:
        """Note it."""
        self._journal.append(self)
        self.got.append(data)
        self.then()

    def read(self, data: bytes) -> None:
        """What the event loop does when `data` has arrived."""
        self.get_buffer(-1)[: len(data)] = data
        self.buffer_updated(len(data))


@pytest.fixture
async def turns() -> TurnScheduler:
    return TurnScheduler()


async def turn() -> None:
    """Let the loop turn once."""
    await asyncio.sleep(0)


async def test_a_turn_handles_a_bounded_number_and_the_others_come_in_their_order(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(3 * MOST + 5)]
    for client in clients:
        client.read(b"x")
    found = [len(journal)]
    while len(journal) < len(clients):
        await turn()
        found.append(len(journal))
    assert sorted(set(found)) == [MOST, 2 * MOST, 3 * MOST, 3 * MOST + 5]
    assert journal == clients


async def test_a_connection_that_waits_is_not_read_and_then_read_again(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(MOST + 1)]
    for client in clients:
        client.read(b"x")
    assert [client.wire.is_read for client in clients] == [True] * MOST + [False]
    await turn()
    assert clients[-1].wire.is_read
    assert clients[-1].got == [b"x"]


async def test_one_that_sends_without_a_pause_gets_no_more_than_its_share(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    greedy, other = Client(turns, journal), Client(turns, journal)
    for _ in range(100):
        if not greedy.wire.is_read:
            break
        greedy.read(bytes(READ_SIZE))
    assert len(greedy.got) == LOOK + 1
    other.read(b"x")
    await turn()
    assert journal[-2:] == [greedy, other]


async def test_one_that_sends_without_a_pause_takes_half_of_a_turn_while_nobody_waits(turns: TurnScheduler) -> None:
    greedy = Client(turns, [])
    found = list[int]()
    for _ in range(4):
        before = len(greedy.got)
        for _ in range(MOST):
            if greedy.wire.is_read:
                greedy.read(bytes(READ_SIZE))
        await turn()
        found.append(len(greedy.got) - before)
    assert found[1:] == [LOOK] * 3
    assert not turns.memory.held


async def test_a_receiver_that_takes_much_is_read_for_at_once(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    client, other = Client(turns, journal), Client(turns, journal)
    room = MOST_READ
    client.read_room = lambda: room
    client.read(bytes(READ_SIZE - 1))
    assert len(client.get_buffer(-1)) == READ_SIZE, "nothing shows that more is there"
    client.read(bytes(READ_SIZE))
    large = bytes(range(256)) * (MOST_READ // 256)
    assert len(client.get_buffer(-1)) == MOST_READ
    client.read(large)
    assert client.got[-1] == large
    assert len(client.get_buffer(-1)) == READ_SIZE, "it has had its share of this turn"
    await turn()
    room = READ_SIZE + 1
    assert len(client.get_buffer(-1)) == READ_SIZE + 1
    room = 0
    assert len(client.get_buffer(-1)) == SMALL_READ, "what is read waits in this process"
    room = MOST_READ
    turns.wait(other)
    assert len(client.get_buffer(-1)) == READ_SIZE, "another one waits"


async def test_what_waits_for_a_turn_says_for_how_long(turns: TurnScheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr("tentaculo.net.turns.perf_counter", lambda: now)
    clients = [Client(turns, []) for _ in range(MOST + 1)]
    for client in clients:
        client.read(b"x")
    now = 10.5
    await turn()
    assert [client.waited for client in clients] == [0.0] * MOST + [0.5]


async def test_no_connection_overtakes_those_that_wait(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    first = [Client(turns, journal) for _ in range(2 * MOST + 1)]
    for client in first:
        client.read(b"x")
    await turn()
    late = Client(turns, journal)
    late.read(b"x")
    for _ in range(4):
        await turn()
    assert journal == [*first, late]


async def test_a_connection_that_sends_on_while_it_is_served_waits_for_its_next_turn(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(4 * MOST)]
    for client in clients:
        client.read(b"x")
    again = clients[MOST]
    again.then = lambda: again.read(b"y") if again.got == [b"x"] else None
    found = []
    while len(journal) < len(clients) + 1:
        before = len(journal)
        await turn()
        found.append(len(journal) - before)
    assert journal == [*clients, again]
    assert max(found) == MOST


def send_without_a_pause(turns: TurnScheduler, count: int) -> list[Client]:
    """So many connections that always have something to read."""
    clients = [Client(turns, []) for _ in range(count)]
    for client in clients:
        client.then = partial(asyncio.get_running_loop().call_soon, client.read, b"x")
        client.read(b"x")
    return clients


async def test_one_that_sends_seldom_waits_for_no_thousand_that_send_without_a_pause(turns: TurnScheduler) -> None:
    send_without_a_pause(turns, 1000)
    for _ in range(100):
        await turn()
    seldom = Client(turns, [])
    for number in range(1, 6):
        seldom.read(b"y")
        for _ in range(2):
            await turn()
        assert len(seldom.got) == number
        # It has its next turn before the others only after they all had theirs.
        for _ in range(1100 // MOST):
            await turn()
    seldom.read(b"y")
    await turn()
    seldom.read(b"y")
    await turn()
    assert len(seldom.got) == 6


@pytest.mark.parametrize(("steps", "least"), [(0, 19 * MOST // 2), (2 * MOST * STEPS, 9)])
async def test_those_that_send_seldom_take_no_more_than_half(turns: TurnScheduler, steps: int, least: int) -> None:
    """Half of each turn, and of the turns where one read fills a turn."""
    busy = send_without_a_pause(turns, 1000)
    for _ in range(100):
        await turn()
    before = sum(len(client.got) for client in busy)
    for _ in range(20):
        # Each is new, and so goes before the others.
        for _ in range(MOST):
            client = Client(turns, [])
            client.then = lambda: turns.charge(steps)
            client.read(b"y")
        await turn()
    assert sum(len(client.got) for client in busy) - before >= least


async def test_few_reads_in_each_turn_never_wait(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    for count in range(1, 20 * MOST):
        Client(turns, journal).read(b"x")
        assert len(journal) == count
        if count % LOOK == 0:
            await turn()


async def test_what_arrives_meanwhile_stays_in_order(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    for _ in range(MOST):
        Client(turns, journal).read(b"x")
    client = Client(turns, journal)
    for piece in (b"one ", b"two ", b"three"):
        client.read(piece)
    assert client.got == []
    await turn()
    assert client.got == [b"one two three"]


async def test_a_client_that_has_gone_or_is_about_to_is_left_out(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(MOST + 3)]
    for client in clients:
        client.read(b"x")
    gone, leaving, stays = clients[MOST:]
    gone.transport = None
    leaving.wire.close()
    await turn()
    assert journal == [*clients[:MOST], stays]


async def test_a_fault_in_one_costs_the_others_nothing(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(2 * MOST)]
    loop, caught = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: caught.append(context["exception"]))

    def fail() -> None:
        raise RuntimeError("broken")

    clients[MOST].then = fail
    for client in clients:
        client.read(b"x")
    for _ in range(4):
        await turn()
    loop.set_exception_handler(None)
    assert journal == clients
    assert [str(error) for error in caught] == ["broken"]


async def test_steps_of_a_parser_count_as_reads(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    clients = [Client(turns, journal) for _ in range(3 * MOST)]
    for client in clients:
        client.then = lambda: turns.charge(7 * STEPS)
        client.read(b"x")
    found = [len(journal)]
    while len(journal) < len(clients):
        before = len(journal)
        await turn()
        found.append(len(journal) - before)
    assert journal == clients
    assert max(found) <= MOST // 8 + 1


async def test_one_whose_reads_cost_little_waits_for_no_hundred_whose_reads_cost_much(turns: TurnScheduler) -> None:
    def send_on(client: Client) -> None:
        turns.charge(2 * MOST * STEPS)
        asyncio.get_running_loop().call_soon(client.read, b"x")

    costly = [Client(turns, []) for _ in range(100)]
    for client in costly:
        client.then = partial(send_on, client)
        client.read(b"x")
    for _ in range(300):
        await turn()
    cheap = Client(turns, [])
    for number in range(1, 11):
        cheap.read(b"y")
        for _ in range(4):
            await turn()
        assert len(cheap.got) == number
    assert max(len(client.got) for client in costly) - min(len(client.got) for client in costly) <= 1


async def test_tasks_take_turns_with_connections(turns: TurnScheduler) -> None:
    journal: list[Client] = []
    for _ in range(MOST + 2):
        Client(turns, journal).read(b"x")
    await turns.turn()
    assert len(journal) == MOST + 2
