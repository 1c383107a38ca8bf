"""A log is recorded from the gateway in front of the demonstration, and replayed as `make eval LOG=file` does it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from aiohttp import ClientSession

from bench.model_rotation.policies import IN_TURN, OURS, POLICIES
from bench.model_rotation.replay import Replayed, read, replay_file
from tentaculo.demo.catalogue import MODELS
from tentaculo.demo.process import Demo
from tentaculo.demo.services import Ports
from tests.support.gateway_process import ROOT, running_gateway
from tests.support.waits import eventually

CHATS, AT_ONCE = 240, 8


def with_floor(data: dict[str, Any], floor: float) -> dict[str, Any]:
    """The demonstration's switch, where each of the two models keeps a quarter of the chats."""
    switch = data["services"]["switch"]
    for route in switch["routes"]:
        if "rotation" in route:
            route["rotation"] = {**route["rotation"], "floor": floor}
    return {"services": {"switch": {**switch, "routes": switch["routes"]}}}


@pytest.mark.command
async def test_a_log_of_the_demonstration_is_recorded_and_replayed(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with Demo(ports=Ports.FREE) as demo, running_gateway(with_floor(demo.config_data, 0.5)) as gateway:

        async def chat(session: ClientSession) -> None:
            for _ in range(CHATS // AT_ONCE):
                async with session.post(f"{gateway.url}/switch/chat", json={"message": "hello"}) as response:
                    assert response.status == 200

        async with ClientSession(headers=gateway.headers) as session, asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(chat(session))
        await eventually(lambda: gateway.output.read_text().count('"probability"') == CHATS, "every chat is in the log")
        log.write_bytes(gateway.output.read_bytes())

    (calls,) = read(log.read_text().splitlines()).values()
    assert {call.target for call in calls} == set(MODELS)
    # By a floor of a half, half of the choices are uniform.
    assert all(0.25 <= call.probability <= 0.75 for call in calls)
    assert {call.reward == 0 for call in calls} == {True, False}, "some failed, though their status was 200"
    found = {one.method: one for one in replay_file(log, "seed")}
    assert set(found) == set(POLICIES)
    for one in found.values():
        # At least a quarter of the calls are left as a uniform choice, and a method chooses as recorded in half of them.
        assert one.of == CHATS
        assert CHATS / 16 < one.used < CHATS * 0.75
    # The worse model fails in 8 of 20 chats and the better in 1 of 20. Within this test they change places once at most.
    assert found[OURS].reward > found[IN_TURN].reward - 0.05

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.model_rotation.replay", str(log)), cwd=ROOT, stdout=PIPE
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0
    rows = re.findall(r"^\| access\.log: switch \| (.+?) \| (\d+) \| (\d+) \|", printed, re.MULTILINE)
    assert [row[0] for row in rows] == list(POLICIES)
    assert all(int(of) == CHATS for _, _, of in rows)


def test_a_log_without_choices_has_nothing_to_replay(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text('{"event": "request", "service": "s", "ms": 3}\n')
    assert replay_file(log, "seed") == list[Replayed]()
