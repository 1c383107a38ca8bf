"""Workers that do not serve the same services at a moment, since a reload reaches them one after the other."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.comparison import Changes
from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.model.health import Health, ProbeResult
from tentaculo.model.text import utc_now
from tentaculo.security.tokens import hash_token
from tentaculo.workers.channel import RELOADS
from tentaculo.workers.generations import Prepare, Swap, write_file
from tentaculo.workers.leader_state import LeaderState
from tentaculo.workers.worker_process import WorkerSpec
from tests.conftest import TOKEN
from tests.support.waits import eventually
from tests.support.wire import answering, upstream
from tests.workers.test_coordination import HEALTHY, at, crew, madre


def with_another(config: Config, port: int) -> Config:
    """`config` with one more service, which is before the other one."""
    another = Config.of({"services": {"another": at(port)}}).services["another"]
    return config.replace(services={"another": another, **config.services})


class Prepares:
    """A gateway that says when it has prepared a configuration."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.is_prepared = asyncio.Event()

    async def prepare(self, config: Config, hashes: AcceptedTokens | None) -> Any:
        prepared = await self._gateway.prepare(config, hashes)
        self.is_prepared.set()
        return prepared

    def swap(self, generation: Any, by: str) -> Changes:
        return self._gateway.swap(generation, by)


async def test_what_the_leader_finds_of_a_service_waits_until_it_is_served(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        follower = await here.start(2)
        before, after = here.config, with_another(here.config, up.port)
        here.config = after
        leader = await here.start(1)
        board = leader.health_service.board
        await eventually(lambda: board.health("another") is board.health("madre") is Health.UP)
        leader.health_service.set_maintenance("another", "a new disk")
        leader.health_service.set_maintenance("madre", "a new cable")
        await eventually(lambda: madre(follower).maintenance == "a new cable")
        await here.settled(2)

        reloads, gateway = here.members[2].reloads, Prepares(follower)
        reloads.open(gateway)
        spec = WorkerSpec(after.replace(server=before.server), (hash_token(TOKEN),), "tentaculo-link-shared")
        reloads.receive(RELOADS + pickle.dumps(Prepare(1)), write_file(spec))
        await gateway.is_prepared.wait()
        reloads.receive(RELOADS + pickle.dumps(Swap(1, "a test")), None)
        view = follower.health_service.board.service("another")
        assert (view.health, view.maintenance) == (Health.MAINTENANCE, "a new disk")
        assert [one.health for one in view.upstreams] == [Health.UP]
        await reloads.close()


async def test_results_with_long_reasons_reach_a_worker_that_starts(tmp_path: Path) -> None:
    """Twenty of them are longer than a message may be."""
    urls = [f"http://127.0.0.1:{port}" for port in range(20_001, 20_021)]
    service = {"urls": urls, "probe": {"kind": "none"}}
    async with crew(tmp_path, service) as here:
        leader = await here.start(1)
        upstreams = here.config.services["madre"].upstreams
        for number, one in enumerate(upstreams):
            leader.health_service.accept_result(ProbeResult(one, Health.DOWN, f"{number} " * 2000, utc_now()))
        follower = await here.start(2)
        board = follower.health_service.board
        await eventually(lambda: len(list(board.results())) == 20)
        assert {one.reason for one in board.results()} == {f"{number} " * 2000 for number in range(20)}


async def test_what_is_found_of_a_service_that_is_served_nowhere_is_dropped(tmp_path: Path) -> None:
    async with upstream(answering(HEALTHY)) as up, crew(tmp_path, at(up.port)) as here:
        follower = await here.start(2)
        state = LeaderState()
        state.take_reasons(follower.health_service, {"gone": ("a new disk", None)})
        assert repr(state) == "<LeaderState: 0 results and 1 services wait>"
        state.take_early(follower.health_service)
        assert repr(state) == "<LeaderState: 0 results and 0 services wait>"
