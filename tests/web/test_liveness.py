"""The responses of `/livez` and `/readyz`."""

from __future__ import annotations

import pytest

from tentaculo.server.listeners import Phase
from tests.support.native_gateway import Gateway


async def test_livez(gateway: Gateway) -> None:
    gateway.state.phase, gateway.state.lost = Phase.DRAINING, "The database file x.db is read-only."
    async with gateway.client.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(("phase", "status"), [(Phase.STARTING, 503), (Phase.READY, 200), (Phase.DRAINING, 503)])
async def test_readyz_follows_the_process(gateway: Gateway, phase: Phase, status: int) -> None:
    gateway.state.phase = phase
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == status
        assert await answer.json() == {
            "status": phase.value,
            "checks": {
                "process": {"status": "ok" if phase is Phase.READY else phase.value},
                "database": {"status": "ok"},
            },
        }


async def test_a_lost_database_is_named_and_leaves_it_ready(gateway: Gateway) -> None:
    gateway.state.lost = "The database file x.db is read-only."
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == 200
        assert (await answer.json())["checks"]["database"] == {
            "status": "failed",
            "problem": "The database file x.db is read-only.",
        }
