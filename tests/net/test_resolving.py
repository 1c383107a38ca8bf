"""Look-ups of names: their threads, and what is shared between those who ask."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from tentaculo.net import resolving
from tentaculo.net.connecting import is_shortage
from tentaculo.net.resolving import LOOKUPS, LOOKUPS_OF_SLOW, Resolver, find_addresses, look_up
from tests.support.waits import eventually


class NameServer:
    """Each name waits for its own permission."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._permissions: dict[str, threading.Event] = {}

    def permission(self, name: str) -> threading.Event:
        return self._permissions.setdefault(name, threading.Event())

    def find(self, name: str, _: int) -> list[str]:
        self.asked.append(name)
        assert self.permission(name).wait(50)
        if name == "missing":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [f"address of {name}"]


@pytest.fixture
def server() -> NameServer:
    return NameServer()


async def test_one_look_up_of_a_name_serves_all_who_ask_meanwhile(server: NameServer) -> None:
    resolver = Resolver(server.find)
    async with asyncio.TaskGroup() as group:
        leaves, stays = (group.create_task(resolver.look_up("name", 80)) for _ in range(2))
        await eventually(lambda: server.asked == ["name"])
        leaves.cancel()
        server.permission("name").set()
    assert stays.result() == ["address of name"]
    assert leaves.cancelled()
    assert server.asked == ["name"]
    assert await resolver.look_up("name", 80) == ["address of name"]
    assert server.asked == ["name"] * 2


async def test_all_who_ask_get_the_error(server: NameServer) -> None:
    resolver = Resolver(server.find)
    server.permission("missing").set()
    errors = await asyncio.gather(*(resolver.look_up("missing", 80) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [socket.gaierror] * 3


async def test_look_ups_beyond_the_limit_wait(server: NameServer) -> None:
    resolver = Resolver(server.find)
    names = [f"n{number}" for number in range(LOOKUPS + 3)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(resolver.look_up(name, 80)) for name in names]
        await eventually(lambda: len(server.asked) == LOOKUPS)
        server.permission("n0").set()
        await eventually(lambda: len(server.asked) == LOOKUPS + 1)
        for name in names:
            server.permission(name).set()
    assert [task.result() for task in tasks] == [[f"address of {name}"] for name in names]


async def test_names_that_were_slow_leave_threads_to_others(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "SLOW", -1.0)
    resolver = Resolver(server.find)
    names = [f"n{number}" for number in range(LOOKUPS + 3)]
    for name in names:
        server.permission(name).set()
        await resolver.look_up(name, 80)
        server.permission(name).clear()
    server.asked.clear()
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(resolver.look_up(name, 80))
        await eventually(lambda: len(server.asked) == LOOKUPS_OF_SLOW)
        server.permission("other").set()
        assert await resolver.look_up("other", 80) == ["address of other"]
        assert len(server.asked) == LOOKUPS_OF_SLOW + 1
        for name in names:
            server.permission(name).set()
    assert len(server.asked) == len(names) + 1


async def test_no_thread_is_a_shortage_of_the_gateway(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(server.find)
    server.permission("name").set()
    with monkeypatch.context() as patch:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread") as raised:
            await resolver.look_up("name", 80)
    assert is_shortage(raised.value)
    assert await resolver.look_up("name", 80) == ["address of name"]


def test_families_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    families = [(6, "::1"), (6, "::2"), (4, "1.1.1.1"), (6, "::1"), (4, "2.2.2.2"), (4, "3.3.3.3")]

    def getaddrinfo(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(family, 1, 6, "", (address, 1)) for family, address in families]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert find_addresses("name", 1) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "3.3.3.3"]


async def test_what_is_no_name() -> None:
    with pytest.raises(UnicodeError):
        await look_up("a" * 64 + ".test", 80)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr
    return done.stdout


def test_the_end_of_the_process_does_not_wait_for_a_silent_name_server() -> None:
    assert run(_SILENT) == "over\n"


_SILENT = """
import asyncio, threading
from tentaculo.net.resolving import Resolver

async def main():
    try:
        async with asyncio.timeout(0.01):
            await Resolver(lambda *_: threading.Event().wait()).look_up("name", 80)
    except TimeoutError:
        print("over")

asyncio.run(main())
"""


def test_a_look_up_without_descriptors_is_no_fault_of_the_name() -> None:
    assert run(_WITHOUT_DESCRIPTORS) == "True OSError\n"


_WITHOUT_DESCRIPTORS = """
import asyncio, os, resource
from tentaculo.net.connecting import is_shortage
from tentaculo.net.resolving import look_up

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            os.dup(0)
    except OSError:
        pass
    try:
        await look_up("a-name.invalid", 80)
    except OSError as error:
        print(is_shortage(error), type(error).__name__)

asyncio.run(main())
"""
