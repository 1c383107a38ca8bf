"""The rules of sessions, over a store in memory that can be away. tests/gateway/test_sign_in.py has them on sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tentaculo.security import sessions as sessions_module
from tentaculo.security.sessions import CACHED, IDLE, LIFETIME, MARKED, Session, SessionCheck, Sessions
from tentaculo.security.tokens import Tokens, hash_token
from tentaculo.tasks import TaskGroup
from tests.support.waits import eventually

REFUSED, UNAVAILABLE = SessionCheck.REFUSED, SessionCheck.UNAVAILABLE


class Store:
    """The rows: token, when it was made and when it was used. They can be out of reach, or read slowly."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, float, float]] = {}
        self.now = 1000.0
        self.is_away = False
        self.reads = self.marks = 0
        self.gate: asyncio.Event | None = None

    async def add(self, digest: str, token: str, lifetime: int) -> bool:
        assert lifetime == LIFETIME
        if not self.is_away:
            self.rows[digest] = (token, self.now, self.now)
        return not self.is_away

    async def read(self, digests: Sequence[str]) -> Mapping[str, tuple[str, int, int]] | None:
        self.reads += 1
        found = {
            digest: (token, int(self.now - made), int(self.now - used))
            for digest, (token, made, used) in self.rows.items()
            if digest in digests
        }
        if self.gate is not None:
            await self.gate.wait()
        return None if self.is_away else found

    async def mark(self, digests: Sequence[str]) -> bool:
        self.marks += 1
        for digest in () if self.is_away else digests:
            token, made, _ = self.rows[digest]
            self.rows[digest] = (token, made, self.now)
        return not self.is_away

    async def remove(self, digests: Sequence[str]) -> bool:
        for digest in () if self.is_away else digests:
            self.rows.pop(digest, None)
        return not self.is_away


class World:
    """Some workers on one database; the clock is that of all."""

    def __init__(self, *tokens: str) -> None:
        self.store = Store()
        self.tokens = Tokens(map(hash_token, tokens or ("right",)))

    def worker(self) -> Sessions:
        return Sessions(self.store, self.tokens.has_fingerprint, clock=lambda: self.store.now)

    async def sign_in(self, sessions: Sessions, token: str = "right") -> bytes:
        fingerprint = self.tokens.fingerprint(token.encode())
        assert fingerprint is not None
        made = await sessions.begin(fingerprint)
        assert made is not None
        return made.encode()


async def found(sessions: Sessions, session_id: bytes) -> Session:
    session = await sessions.find(session_id)
    assert isinstance(session, Session)
    return session


async def test_a_session_holds_on_every_worker_and_over_a_restart() -> None:
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    sessions = [await found(worker, session_id) for worker in (one, other, world.worker())]
    assert len({session.form_token for session in sessions}) == 1
    assert session_id.decode() not in repr(world.store.rows), "the database has only its hash"
    assert len({await world.sign_in(one) for _ in range(100)}) == 100
    assert len({session.form_token for session in [*sessions, await found(one, await world.sign_in(one))]}) == 2


@pytest.mark.parametrize("session_id", [b"", b"x", b"a" * 42, b"a" * 44, b"a" * 42 + b"\n", b"a" * 42 + b"\xff"])
async def test_what_has_not_the_form_of_one_is_not_even_looked_up(session_id: bytes) -> None:
    world = World()
    assert await world.worker().find(session_id) is REFUSED
    assert world.store.reads == 0


async def test_an_invented_one_is_refused() -> None:
    assert await World().worker().find(b"a" * 43) is REFUSED


async def test_it_ends_twelve_hours_after_its_last_use() -> None:
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    for _ in range(3):
        world.store.now += IDLE - 1
        await found(one, session_id)
        await one.sweep()  # writes that it was used
    await found(other, session_id)
    world.store.now += IDLE
    assert [await worker.find(session_id) for worker in (one, other)] == [REFUSED] * 2
    await one.sweep()
    assert world.store.rows == {}


async def test_it_ends_after_seven_days_however_it_is_used() -> None:
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    while world.store.now < 1000 + LIFETIME - 3600:
        world.store.now += 3600
        await found(worker, session_id)
        await worker.sweep()
    world.store.now += 3599
    session = await found(worker, session_id)
    assert session.ends_at == 1000 + LIFETIME, "also where nothing more is read"
    world.store.now += 1
    assert await worker.find(session_id) is REFUSED


async def test_the_time_of_the_last_use_is_written_once_a_minute() -> None:
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    for _ in range(600):
        world.store.now += 1
        await found(worker, session_id)
        await worker.sweep()
    assert world.store.marks == 600 // MARKED - 1 or world.store.marks == 600 // MARKED
    assert world.store.reads <= 600 / CACHED + 1


async def test_it_ends_with_its_token() -> None:
    world = World("right", "other")
    session_id, other_id = [await world.sign_in(world.worker(), token) for token in ("right", "other")]
    world.tokens = Tokens([hash_token("other")])
    restarted = world.worker()
    assert await restarted.find(session_id) is REFUSED
    await found(restarted, other_id)


async def test_a_sign_out_holds_here_at_once_and_elsewhere_when_the_row_is_read_again() -> None:
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    session = await found(one, session_id)
    await found(other, session_id)
    assert await one.end(session)
    assert await one.find(session_id) is REFUSED
    world.store.now += CACHED
    assert await other.find(session_id) is REFUSED


async def test_a_lookup_that_began_before_a_sign_out_brings_nothing_back() -> None:
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    session = await found(worker, session_id)
    world.store.now += CACHED
    world.store.gate = asyncio.Event()
    tasks = TaskGroup("test")
    late = tasks.start(worker.find(session_id), "late")
    await eventually(lambda: world.store.reads == 2)
    await worker.end(session)
    world.store.gate.set()
    assert await late is REFUSED
    await tasks.close()


async def test_while_the_database_is_away_known_sessions_go_on_and_others_are_refused() -> None:
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    session = await found(one, session_id)
    world.store.is_away = True
    world.store.now += IDLE - 1
    await found(one, session_id)
    assert await other.find(session_id) is UNAVAILABLE
    assert await one.begin("x") is None
    # Signed out meanwhile: here at once, elsewhere once the row is gone.
    assert not await one.end(session)
    assert await one.find(session_id) is REFUSED
    world.store.is_away = False
    await found(other, session_id)
    await one.sweep()
    world.store.now += CACHED
    assert await other.find(session_id) is REFUSED


async def test_while_the_database_is_away_a_known_session_ends_too() -> None:
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    await found(worker, session_id)
    world.store.is_away = True
    world.store.now += IDLE
    assert await worker.find(session_id) is REFUSED


async def test_a_clock_that_was_ahead_makes_no_session_longer() -> None:
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    world.store.now -= 3600
    assert await worker.find(session_id) is REFUSED


@pytest.mark.parametrize("how", ["signed out here", "signed out elsewhere", "idle"])
async def test_what_depends_on_a_session_is_told_of_its_end(how: str) -> None:
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    session, elsewhere = await found(one, session_id), await found(other, session_id)
    ended: list[str] = []
    session.when_ended(lambda: ended.append("stream"))
    session.when_ended(lambda: ended.append("closed before"))()
    if how == "signed out here":
        await one.end(session)
    elif how == "signed out elsewhere":
        await other.end(elsewhere)
        await one.sweep()
        assert ended == []
        world.store.now += CACHED
        await one.sweep()
    else:
        world.store.now += IDLE - 1
        await one.sweep()
        assert (ended, world.store.marks) == ([], 0), "an open stream is no use of it"
        world.store.now += 1
        world.store.is_away = True
        await one.sweep()
    assert ended == ["stream"]
    session.when_ended(lambda: ended.append("late"))
    assert ended == ["stream", "late"]


async def test_invented_sessions_delay_no_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_WAITING", 3)
    world = World()
    worker = world.worker()
    session_id = await world.sign_in(worker)
    await found(worker, session_id)
    world.store.now += CACHED
    world.store.gate = asyncio.Event()
    tasks = TaskGroup("test")
    invented = [tasks.start(worker.find(b"%043d" % number), "invented") for number in range(3)]
    await eventually(lambda: world.store.reads == 4)
    assert await worker.find(b"b" * 43) is UNAVAILABLE
    await found(worker, session_id)
    world.store.gate.set()
    assert [await one for one in invented] == [REFUSED] * 3
    await tasks.close()


async def test_invented_sessions_keep_no_session_open_that_ended_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_WAITING", 3)
    world = World()
    one, other = world.worker(), world.worker()
    session_id = await world.sign_in(one)
    session = await found(one, session_id)
    await found(other, session_id)
    assert await one.end(session)
    world.store.now += CACHED
    world.store.gate, tasks = asyncio.Event(), TaskGroup("test")
    for number in range(3):
        tasks.start(other.find(b"%043d" % number), "invented")
    await eventually(lambda: world.store.reads == 5)
    known = await found(other, session_id)
    world.store.gate = None
    await other.sweep()
    assert known.has_ended
    assert isinstance(await other.find(session_id), SessionCheck)
    await tasks.close()


async def test_a_session_that_others_push_out_while_it_is_looked_up_is_known_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions_module, "MOST_KNOWN", 1)
    world = World()
    worker = world.worker()
    first, second = await world.sign_in(worker), await world.sign_in(worker)
    session = await found(worker, first)
    world.store.now += CACHED
    gate = world.store.gate = asyncio.Event()
    tasks = TaskGroup("test")
    waiting = tasks.start(worker.find(first), "first")
    await eventually(lambda: world.store.reads == 2)
    world.store.gate = None
    await found(worker, second)
    world.store.is_away = True
    gate.set()
    assert await waiting is session
    assert repr(worker) == "<Sessions: 1 known>"
    await tasks.close()


async def test_a_session_is_known_though_all_others_have_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_KNOWN", 1)
    world = World()
    worker = world.worker()
    (await found(worker, await world.sign_in(worker))).when_ended(lambda: None)
    session_id = await world.sign_in(worker)
    session = await found(worker, session_id)
    worker.use(lambda _token: False)
    assert session.has_ended


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MOST_KNOWN", 3)
    world = World()
    worker = world.worker()
    watched = await found(worker, await world.sign_in(worker))
    watched.when_ended(lambda: None)
    others = [await found(worker, await world.sign_in(worker)) for _ in range(10)]
    assert repr(worker) == "<Sessions: 3 known>"
    world.store.is_away = True
    for session in others:
        await worker.end(session)
    assert await worker.end(watched) is False
    assert watched.has_ended
