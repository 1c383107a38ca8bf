"""The history of a whole gateway: from a request and a probe to the answer, over a restart and without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.store import writer
from tentaculo.store.migrate import upgrade
from tests.conftest import TOKEN, Live, living
from tests.store.conftest import eventually
from tests.wirekit import Request, answering, ok, upstream

HEADERS = {"X-VX11-Token": TOKEN}
STATUSES = {"/madre/bad": b"500 Bad", "/madre/none": b"404 None"}


def answer(request: Request) -> bytes:
    """200, but for two paths."""
    return ok(status=STATUSES.get(request.target, b"200 OK"))


def madre(port: int) -> dict[str, Any]:
    """The one service."""
    routes = [{"prefix": "/madre"}]
    probe = {"interval": 3600}
    return {"madre": {"url": f"http://127.0.0.1:{port}", "aliases": ["mother"], "routes": routes, "probe": probe}}


async def ask(live: Live, client: ClientSession, path: str, status: int = 200, **headers: str) -> None:
    async with client.get(f"http://127.0.0.1:{live.port}{path}", headers=headers or HEADERS) as response:
        assert response.status == status


async def history(live: Live, client: ClientSession, query: str = "?hours=2") -> Any:
    """What the gateway tells of madre once the minute is over."""
    live.gateway.fleet.history.flush()
    async with client.get(f"http://127.0.0.1:{live.port}/vx11/history/mother{query}", headers=HEADERS) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def counts(found: Any) -> tuple[int, int, int, int]:
    """Probes, then requests: ok and failed."""
    return tuple(found[who][what] for who in ("probes", "requests") for what in ("ok", "failed"))


async def test_what_probes_and_requests_met_is_told_apart_and_outlives_a_restart(tmp_path: Path) -> None:
    database = {"url": f"sqlite:///{tmp_path}/fleet.db"}
    upgrade(database["url"])
    async with upstream(answering(answer)) as up, ClientSession() as client:
        async with living(tmp_path, madre(up.port), probes=True, database=database) as live:
            for path, status in (("/madre/a", 200), ("/madre/none", 404), ("/madre/bad", 500)):
                await ask(live, client, path, status)
            await ask(live, client, "/madre/a", 401, Accept="*/*")
            await eventually(lambda: live.gateway.fleet.board.service("madre").checked_at)
            first = await history(live, client)
            assert counts(first) == (1, 0, 2, 1)
            assert first["requests"]["latency_ms"]["p50"] > 0
            assert counts(await history(live, client, "")) == counts(first)
            assert counts(await history(live, client, "?days=90")) == counts(first)
            await ask(live, client, "/madre/a")
        async with living(tmp_path, madre(up.port), database=database) as live:
            await ask(live, client, "/madre/a")
            # What had not been handed on when the first one left is there too.
            for query in ("?hours=2", "?hours=24", "?days=2"):
                assert counts(await history(live, client, query)) == (1, 0, 4, 1)
            async with client.get(f"http://127.0.0.1:{live.port}/status") as response:
                assert "100 %" in await response.text()


async def test_a_database_that_is_away_costs_history_and_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(writer, "LAST_RETRY", 0.05)
    file = tmp_path / "late" / "fleet.db"
    database = {"url": f"sqlite:///{file}"}
    async with (
        upstream(answering(answer)) as up,
        ClientSession() as client,
        living(tmp_path, madre(up.port), database=database) as live,
    ):
        await ask(live, client, "/madre/a")
        live.gateway.fleet.history.flush()
        await ask(live, client, "/vx11/history/madre", 503)
        await ask(live, client, "/status")
        await ask(live, client, "/madre/a")
        upgrade(database["url"])
        await eventually(lambda: live.gateway._recorder.problem is None)
        # What was met meanwhile has waited, within bounds.
        assert counts(await history(live, client)) == (0, 0, 2, 0)
