"""The two ends of a handover, with a successor that does what the test says."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.server import handover as module
from tentaculo.server.handover import Handover, HandoverFailed, Predecessor
from tentaculo.tasks import TaskGroup
from tests.support.gateway_process import ROOT, clean_environment

READY = """
import asyncio, sys
from tentaculo.config.environment import take_inherited_descriptors
from tentaculo.server.handover import Predecessor
predecessor = Predecessor(take_inherited_descriptors().handover)
names = [sock.getsockname() for sock in predecessor.inherited.sockets]
predecessor.report_ready(names[:1])
asyncio.run(predecessor.lead_released())
print("leads", len(names), predecessor.inherited.is_activated, flush=True)
"""


REPORTING = """
import os, socket, time
channel = socket.socket(fileno=int(os.environ["TENTACULO_HANDOVER"]))
channel.send(%r)
time.sleep(60)
"""
"""A successor of another version, which reports something else."""


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """More sockets than one message carries."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(module._MOST_DESCRIPTORS + 2)]
    yield sockets
    for sock in sockets:
        sock.close()


def replacing(program: str, *, is_activated: bool = False) -> Handover:
    environment = clean_environment({"PYTHONPATH": str(ROOT)})
    return Handover([sys.executable, "-c", program], environment, ServiceManager(), is_activated=is_activated)


@pytest.mark.thorough
@pytest.mark.parametrize("is_activated", [False, True])
async def test_the_sockets_arrive_and_the_lead_follows(
    listening: list[socket.socket], capfd: pytest.CaptureFixture[str], is_activated: bool
) -> None:
    handover = replacing(READY, is_activated=is_activated)
    with capture_logs() as logs:
        assert await handover.run(listening)
    assert [entry["event"] for entry in logs] == ["successor started", "successor ready"]
    assert handover.kept == {listening[0].getsockname()}
    successor = handover.successor
    assert successor is not None
    await asyncio.sleep(0.1)
    assert capfd.readouterr().out == "", "it waits for the lead"
    successor.release_lead()
    await successor._wait(10)
    assert capfd.readouterr().out == f"leads {len(listening)} {is_activated}\n"
    with capture_logs() as logs:
        assert not await handover.run(listening)
    assert logs[0]["reason"] == "a successor has been started already"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(3)", "it ended with exit code 3 before it accepted connections; its own output says why"),
        ("import os; os.kill(os.getpid(), 9)", "it ended with SIGKILL before it accepted connections"),
        ("import os, time; os.close(int(os.environ['TENTACULO_HANDOVER'])); time.sleep(60)", "it closed its channel"),
        ("import time; time.sleep(60)", "it was not ready within 0.5 s"),
        (REPORTING % b"nonsense", "it reported something else than the addresses at which it listens"),
        (REPORTING % b"[1]", "it reported something else than the addresses at which it listens"),
    ],
)
async def test_one_that_fails_is_ended_and_another_may_follow(
    listening: list[socket.socket], monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    monkeypatch.setattr(module, "READY_WITHIN", 0.5 if "within" in reason else 60.0)
    handover = replacing(program)
    for _ in range(2):
        with capture_logs() as logs:
            assert not await handover.run(listening)
        assert reason in logs[-1]["reason"]
        with pytest.raises(ProcessLookupError):
            os.kill(logs[-1]["pid"], 0)


async def test_a_command_that_is_not_there(listening: list[socket.socket]) -> None:
    with capture_logs() as logs:
        assert not await Handover(["/no/such/command"], {}, ServiceManager(), is_activated=False).run(listening)
    assert (logs[0]["event"], logs[0]["reason"]) == ("successor not started", "No such file or directory")


async def test_the_first_process_of_a_container_is_not_replaced(
    listening: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with capture_logs() as logs:
        assert not await replacing(READY).run(listening)
    assert "container" in logs[0]["reason"]


async def test_a_predecessor_that_ends_leaves_the_lead() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, socket.create_server(("127.0.0.1", 0)) as sock:
        socket.send_fds(ours, [b'{"sockets": 1, "activated": false}'], [sock.fileno()])
        predecessor = Predecessor(theirs.detach())
        waiting = TaskGroup("test").start(predecessor.lead_released(), "lead")
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 10)
    predecessor.report_ready([("127.0.0.1", 1)])
    predecessor.close()
    predecessor.inherited.close()


@pytest.mark.parametrize("message", [b"", b"{}", b"not JSON", b'{"sockets": "many"}'])
def test_a_channel_of_something_else(message: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECEIVE_WITHIN", 0.2)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        if message:
            ours.send(message)
        with pytest.raises(HandoverFailed, match="the listening sockets of the predecessor have not arrived"):
            Predecessor(theirs.detach())
    with pytest.raises(HandoverFailed):
        Predecessor(os.open(os.devnull, os.O_RDONLY))
