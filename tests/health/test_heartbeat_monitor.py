from __future__ import annotations

import asyncio

import pytest

from tentaculo.health.heartbeat_monitor import HeartbeatMonitor
from tests.support.health import Clock, fleet
from tests.support.waits import eventually

CONFIG = fleet(
    cron={"url": "http://h:1", "probe": {"kind": "heartbeat", "silence": 60}},
    off={"url": "http://h:1", "enabled": False, "probe": {"kind": "heartbeat"}},
    madre={"url": "http://h:2"},
)


def test_only_services_of_this_kind_are_expected() -> None:
    heartbeats = HeartbeatMonitor(CONFIG, clock=Clock(), on_change=lambda _: None)
    assert [name for name in CONFIG.services if heartbeats.expects(name)] == ["cron"]
    with pytest.raises(KeyError):
        heartbeats.beat("madre", b"")
    assert repr(heartbeats) == "<HeartbeatMonitor: 0 of 1 services have sent one>"


def test_the_first_one_is_waited_for_and_each_later_one_counts() -> None:
    clock = Clock()
    news: list[str] = []
    heartbeats = HeartbeatMonitor(CONFIG, clock=clock, on_change=news.append)
    clock.seconds += 59
    assert heartbeats.last("cron") is None
    clock.seconds += 1
    assert heartbeats.last("cron") == (60.0, b"")
    heartbeats.beat("cron", b"{}")
    assert news == ["cron"]
    clock.seconds += 7
    assert heartbeats.last("cron") == (7.0, b"{}")
    clock.seconds += 600
    assert heartbeats.last("cron") == (607.0, b"{}"), "the probe says what that means"


async def test_a_silence_is_news_when_it_has_lasted_too_long() -> None:
    loop = asyncio.get_running_loop()
    config = fleet(cron={"url": "http://h:1", "probe": {"kind": "heartbeat", "silence": 0.2}})
    told: list[tuple[float, bool]] = []

    def on_change(service: str) -> None:
        last = heartbeats.last(service)
        told.append((loop.time(), last is not None and last[0] >= 0.2))

    heartbeats = HeartbeatMonitor(config, clock=loop.time, on_change=on_change)
    start = loop.time()
    heartbeats.start()
    await eventually(lambda: len(told) == 1)
    heartbeats.beat("cron", b"")
    await eventually(lambda: len(told) == 3)
    heartbeats.stop()
    assert [is_silent for _, is_silent in told] == [True, False, True]
    assert told[0][0] - start >= 0.2


def test_a_silence_goes_on_after_a_restart() -> None:
    clock = Clock()
    heartbeats = HeartbeatMonitor(CONFIG, clock=clock, on_change=lambda _: None)
    assert heartbeats.services == ("cron",)
    assert heartbeats.restore("cron", 50.0, b'{"status": "ok"}')
    assert heartbeats.last("cron") == (50.0, b'{"status": "ok"}')
    clock.seconds += 7
    assert heartbeats.last("cron") == (57.0, b'{"status": "ok"}')
    heartbeats.beat("cron", b"")
    assert not heartbeats.restore("cron", 50.0, b"{}"), "it has sent one since"
    assert heartbeats.last("cron") == (0.0, b"")


def test_a_first_heartbeat_that_never_came_is_awaited_no_longer_after_a_restart() -> None:
    clock = Clock()
    heartbeats = HeartbeatMonitor(CONFIG, clock=clock, on_change=lambda _: None)
    assert heartbeats.restore("cron", 50.0, None)
    assert heartbeats.last("cron") is None
    clock.seconds += 10
    assert heartbeats.last("cron") == (60.0, b"")


async def test_what_is_left_of_a_silence_is_waited_for_after_a_restart() -> None:
    config = fleet(cron={"url": "http://h:1", "probe": {"kind": "heartbeat", "silence": 3600}})
    clock, told = Clock(), asyncio.Event()
    heartbeats = HeartbeatMonitor(config, clock=clock, on_change=lambda _: told.set())
    heartbeats.restore("cron", 3600.0, b"")
    heartbeats.start()
    async with asyncio.timeout(20):
        await told.wait()
    told.clear()
    # The database answered late: the timers run already.
    heartbeats.stop()
    late = HeartbeatMonitor(config, clock=clock, on_change=lambda _: told.set())
    late.start()
    late.restore("cron", 3600.0, b"")
    assert told.is_set()
    late.stop()


def test_a_pause_of_the_gateway_is_no_silence() -> None:
    clock = Clock()
    config = fleet(
        **{name: {"url": "http://h:1", "probe": {"kind": "heartbeat", "silence": 60}} for name in ("a", "b", "new")}
    )
    heartbeats = HeartbeatMonitor(config, clock=clock, on_change=lambda _: None)
    heartbeats.beat("b", b"{}")
    clock.seconds += 30
    heartbeats.beat("a", b'{"a": 1}')
    clock.seconds += 55
    heartbeats.note_pause(25)
    assert heartbeats.last("a") == (0.0, b'{"a": 1}'), "it had been silent for 30 s before the pause"
    assert heartbeats.last("b") == (85.0, b"{}"), "it had been silent for 60 s before the pause"
    assert heartbeats.last("new") == (85.0, b"")
    clock.seconds += 59
    assert heartbeats.last("a") == (59.0, b'{"a": 1}')


def test_the_first_heartbeat_is_awaited_again_after_a_pause() -> None:
    clock = Clock()
    heartbeats = HeartbeatMonitor(CONFIG, clock=clock, on_change=lambda _: None)
    clock.seconds += 600
    heartbeats.note_pause(590)
    assert heartbeats.last("cron") is None
    clock.seconds += 60
    assert heartbeats.last("cron") == (60.0, b"")
