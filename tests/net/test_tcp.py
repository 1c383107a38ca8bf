"""A limit that is set again and again."""

from __future__ import annotations

import asyncio

from tentaculo.net.tcp import Deadline, send_room, unread_events
from tests.support.waits import eventually


class Clock:
    """A loop's time and timers, turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: object) -> Timer:
        timer = Timer(when, callback)
        self.timers.append(timer)
        return timer

    def turn(self, now: float) -> None:
        self.now = now
        for timer in [timer for timer in self.timers if timer.at <= now and not timer.cancelled]:
            self.timers.remove(timer)
            timer.callback()  # type: ignore[operator]


class Timer:
    """A timer of that clock."""

    def __init__(self, at: float, callback: object) -> None:
        self.at, self.callback, self.cancelled = at, callback, False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


def make() -> tuple[Clock, Deadline, list[float]]:
    clock, reached = Clock(), list[float]()
    return clock, Deadline(clock, lambda: reached.append(clock.now)), reached  # type: ignore[arg-type]


def test_it_is_reached_once() -> None:
    clock, deadline, reached = make()
    deadline.set(5)
    clock.turn(4.9)
    assert reached == []
    clock.turn(5)
    clock.turn(50)
    assert reached == [5]


def test_after_a_pause_of_the_process_it_gives_time_to_read_what_arrived() -> None:
    clock, deadline, reached = make()
    deadline.set(5)
    clock.turn(600)
    assert reached == []
    clock.turn(601)
    assert reached == [601]


def test_after_a_pause_a_response_lifts_it() -> None:
    clock, deadline, reached = make()
    deadline.set(5)
    clock.turn(600)
    deadline.lift()
    clock.turn(700)
    assert reached == []


def test_setting_it_again_moves_it_and_makes_no_second_timer() -> None:
    clock, deadline, reached = make()
    for now in range(100):
        clock.turn(now / 10)
        deadline.set(30)
        deadline.lift()
        deadline.set(30)
    assert len([timer for timer in clock.timers if not timer.cancelled]) == 1
    clock.turn(30)
    assert reached == []
    clock.turn(39.9)
    assert reached == [39.9]


def test_an_earlier_limit_takes_a_timer_of_its_own() -> None:
    clock, deadline, reached = make()
    deadline.set(30)
    deadline.set(1)
    clock.turn(1)
    assert reached == [1]


def test_lifted_or_stopped_it_is_never_reached() -> None:
    clock, deadline, reached = make()
    deadline.set(1)
    deadline.lift()
    clock.turn(2)
    deadline.set(1)
    deadline.stop()
    clock.turn(10)
    assert reached == []
    assert clock.timers == [] or all(timer.cancelled for timer in clock.timers)


async def test_on_a_real_loop() -> None:
    reached = asyncio.Event()
    deadline = Deadline(asyncio.get_running_loop(), reached.set)
    deadline.set(60)
    deadline.set(0.01)
    await asyncio.wait_for(reached.wait(), 5)


async def test_unread_events_are_seen_each_time_they_come() -> None:
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    async with server:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        peer = await accepted.get()
        transport.pause_reading()
        events = unread_events(transport)
        assert [len(events(0)) for _ in range(3)] == [0, 0, 0]
        peer.write(b"x")
        await eventually(lambda: len(events(0)) == 1)
        transport.resume_reading()
        await eventually(lambda: not events(0))
        transport.pause_reading()
        peer.close()
        await eventually(lambda: len(events(0)) == 1)
        transport.abort()


async def test_the_room_of_a_socket_ends_where_its_peer_reads_nothing() -> None:
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), "127.0.0.1", 0, limit=1)
    async with server:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        peer, writer = await accepted.get()
        room = send_room(transport)
        assert room is not None
        before = room()
        assert before > 0
        while not transport.get_write_buffer_size():
            transport.write(bytes(room() or 1 << 20))
        assert room() == 0

        async def read() -> None:
            while await peer.read(1 << 20):
                pass

        reading = asyncio.gather(read())
        await eventually(lambda: room() >= before)
        transport.close()
        assert room() == 0
        await reading
        writer.close()
