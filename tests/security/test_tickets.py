"""The rules of tickets, over a store in memory that can be away. tests/wire/test_tickets.py has them on sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tentaculo.security import tickets as tickets_module
from tentaculo.security.tickets import (
    LIFETIME,
    MOST_LOOKUPS,
    TicketCheck,
    Tickets,
    is_ticket,
    tickets_in,
    without_tickets,
)
from tentaculo.tasks import TaskGroup
from tests.support.waits import eventually

REFUSED, UNAVAILABLE = TicketCheck.REFUSED, TicketCheck.UNAVAILABLE
TOKEN = "the fingerprint of a token"


class Store:
    """The rows, and whether they can be reached."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, str]] = {}
        self.is_away = False

    async def add(self, digest: str, issuer: str, token: str, lifetime: int) -> bool:
        assert lifetime == LIFETIME
        if not self.is_away:
            self.rows[digest] = (issuer, token)
        return not self.is_away

    async def take(self, digest: str) -> str | None:
        return None if self.is_away else self.rows.pop(digest, ("", ""))[1]

    async def remove(self, digests: Sequence[str]) -> bool:
        for digest in () if self.is_away else digests:
            self.rows.pop(digest, None)
        return not self.is_away

    async def unused(self, issuer: str) -> set[str] | None:
        return None if self.is_away else {digest for digest, (name, _) in self.rows.items() if name == issuer}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_ticket_works_once_wherever_it_arrives() -> None:
    store = Store()
    one, other = Tickets(store), Tickets(store)
    for giver, taker in ((one, one), (one, other), (other, one)):
        ticket = await giver.issue(TOKEN)
        assert is_ticket(ticket)
        assert ticket.startswith(f"{giver.name}.")
        assert await taker.redeem(ticket) == TOKEN
        assert [await each.redeem(ticket) for each in (taker, one, other)] == [REFUSED] * 3
    assert store.rows == {}
    assert len({(await one.issue(TOKEN)).partition(".")[2] for _ in range(100)}) == 100


@pytest.mark.parametrize("ticket", ["", "x", "0badc0de", f"{'a' * 8}.{'b' * 32}", f"{'a' * 8}.{'b' * 33}", "é" * 41])
async def test_an_invented_ticket_is_refused(ticket: str) -> None:
    tickets = Tickets(Store())
    assert await tickets.redeem(ticket) is REFUSED
    assert await tickets.redeem(f"{tickets.name}.{'b' * 32}") is REFUSED


async def test_while_the_database_is_away_the_process_that_gave_it_takes_it_and_no_other_one_does() -> None:
    store = Store()
    one, other = Tickets(store), Tickets(store)
    before = await one.issue(TOKEN)
    store.is_away = True
    during = await one.issue(TOKEN)
    for ticket in (before, during):
        assert await other.redeem(ticket) is UNAVAILABLE
        assert await one.redeem(ticket) == TOKEN
        assert await one.redeem(ticket) is REFUSED
    await one.sweep()
    store.is_away = False
    # Its row is there until the next sweep of the one that took it.
    assert len(store.rows) == 1
    await one.sweep()
    assert store.rows == {}
    assert [await other.redeem(ticket) for ticket in (before, during)] == [REFUSED] * 2


async def test_a_ticket_that_was_used_elsewhere_does_not_work_again_where_it_was_given() -> None:
    store = Store()
    one, other = Tickets(store), Tickets(store)
    used, unused = await one.issue(TOKEN), await one.issue(TOKEN)
    assert await other.redeem(used) == TOKEN
    await one.sweep()
    store.is_away = True
    await one.sweep()
    assert await one.redeem(used) is REFUSED
    assert await one.redeem(unused) == TOKEN


async def test_a_ticket_that_is_given_during_the_look_for_used_ones_stays() -> None:
    class Slow(Store):
        async def unused(self, issuer: str) -> set[str] | None:
            found = await super().unused(issuer)
            given.append(await tickets.issue(TOKEN))
            return found

    store, given = Slow(), list[str]()
    tickets = Tickets(store)
    first = await tickets.issue(TOKEN)
    await tickets.sweep()
    store.is_away = True
    assert [await tickets.redeem(ticket) for ticket in (first, *given)] == [TOKEN, TOKEN]


async def test_the_row_of_a_ticket_that_was_used_meanwhile_is_removed_as_soon_as_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tickets_module, "SWEEP", 3600.0)
    monkeypatch.setattr(tickets_module, "RETRY", 0.001)

    class Counting(Store):
        asked = 0

        async def remove(self, digests: Sequence[str]) -> bool:
            self.asked += 1
            return await super().remove(digests)

    store, tasks = Counting(), TaskGroup("test")
    tickets = Tickets(store)
    tasks.start(tickets.run(), "tickets")
    try:
        used = await tickets.issue(TOKEN)
        store.is_away = True
        assert await tickets.redeem(used) == TOKEN
        await eventually(lambda: store.asked > 3)
        store.is_away = False
        await eventually(lambda: not store.rows)
    finally:
        await tasks.close()


async def test_a_ticket_whose_storing_is_uncertain_was_given_to_nobody() -> None:
    class Slow(Store):
        async def add(self, digest: str, issuer: str, token: str, lifetime: int) -> bool:
            self.rows[digest] = (issuer, token)  # after the caller has given up
            return False

    store = Slow()
    one, other = Tickets(store), Tickets(store)
    ticket = await one.issue(TOKEN)
    assert await other.redeem(ticket) is REFUSED
    assert await one.redeem(ticket) == TOKEN


async def test_it_expires_by_the_clock_that_is_never_set() -> None:
    store, clock = Store(), Clock()
    tickets = Tickets(store, clock=clock)
    early, late, kept = [await tickets.issue(TOKEN) for _ in range(3)]
    clock.now += LIFETIME - 0.01
    assert await tickets.redeem(early) == TOKEN
    clock.now += 0.01
    assert await tickets.redeem(late) is REFUSED
    assert len(store.rows) == 2
    await tickets.sweep()
    assert (repr(tickets), store.rows) == (f"<Tickets {tickets.name}: 0 held>", {})
    assert await tickets.redeem(kept) is REFUSED


async def test_no_more_than_so_many_are_held_and_the_oldest_gives_way_everywhere() -> None:
    store = Store()
    one, other = Tickets(store, most=3), Tickets(store)
    oldest, *newest = [await one.issue(TOKEN) for _ in range(4)]
    assert await one.redeem(oldest) is REFUSED
    await one.sweep()
    assert await other.redeem(oldest) is REFUSED
    assert [await one.redeem(ticket) for ticket in newest] == [TOKEN] * 3


async def test_invented_tickets_wait_for_each_other_and_not_in_the_queue_of_the_database() -> None:
    class Slow(Store):
        def __init__(self) -> None:
            super().__init__()
            self.waiting, self.most = 0, 0

        async def take(self, digest: str) -> str | None:
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            await asyncio.sleep(0)
            self.waiting -= 1
            return await super().take(digest)

    store = Slow()
    tickets = Tickets(store)
    invented = (f"{number:08x}.{'b' * 32}" for number in range(200))
    assert set(await asyncio.gather(*map(tickets.redeem, invented))) == {REFUSED}
    assert store.most == MOST_LOOKUPS


async def test_without_tokens_a_ticket_has_no_rights() -> None:
    store = Store()
    ticket = await Tickets(store, enabled=False).issue(TOKEN)
    assert is_ticket(ticket)
    assert store.rows == {}
    assert await Tickets(store).redeem(ticket) is REFUSED


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("?", []),
        ("?ticket", []),
        ("?ticket=", [""]),
        ("?ticket=a", ["a"]),
        ("?a=1&ticket=b%2F&c", ["b%2F"]),
        ("?ticket=a&ticket=b", ["a", "b"]),
        ("?ticketx=a&xticket=b&Ticket=c&%74icket=d&a=ticket=e;ticket=f", []),
    ],
)
def test_only_the_plain_name_counts(query: str, found: list[str]) -> None:
    assert tickets_in(query) == found


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("/p", "/p"),
        ("/p?", "/p?"),
        ("/p?ticket=x", "/p"),
        ("/p?ticket=x&", "/p?"),
        ("/p?&ticket=x", "/p?"),
        ("/p?ticket=x&b=%2F", "/p?b=%2F"),
        ("/p?a&ticket=x&b=%2f", "/p?a&b=%2f"),
        ("/p?a=1&&b=?&ticket=x", "/p?a=1&&b=?"),
        ("/p?ticket=y&ticket=x", "/p?ticket=y"),
        ("/p?ticketx=x&ticket=xx", "/p?ticketx=x&ticket=xx"),
    ],
)
def test_every_other_byte_of_a_target_stays(target: str, rest: str) -> None:
    assert without_tickets(target, ["x"]) == rest
