"""What was learned of targets: on the page, in the metrics, in the log of events, and after a restart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from tentaculo.gateway.target_rotation import TargetRotation
from tentaculo.model.event import Event
from tests.conftest import Start
from tests.support.gateway_process import running_gateway

CHATS = 60


async def chat(request: web.Request) -> web.Response:
    model = (await request.json())["model"]
    return web.json_response({"status": "ok" if model == "B" else "partial", "latency_ms": 0})


def settings(**rotation: Any) -> dict[str, Any]:
    targets = [{"name": "A"}, {"name": "B"}]
    return {"set": "/model", "targets": targets, "success_at": "/status", "latency_at": "/latency_ms", **rotation}


@pytest.mark.command
async def test_it_is_shown_recorded_and_kept_over_a_restart(tmp_path: Path) -> None:
    app = web.Application()
    app.router.add_post("/chat", chat)
    async with TestServer(app) as models, ClientSession() as session:
        route = {"prefix": "/s", "strip": True, "rotation": settings(floor=0)}
        config = {
            "database": {"url": f"sqlite:///{tmp_path}/tentaculo.db"},
            "server": {"instance": "one"},
            "services": {"s": {"url": f"http://127.0.0.1:{models.port}", "routes": [route]}},
        }

        async def served(url: str, headers: dict[str, str], path: str) -> str:
            async with session.get(f"{url}{path}", headers=headers) as response:
                assert response.status == 200
                return await response.text()

        async with running_gateway(config) as gateway:
            for _ in range(CHATS):
                async with session.post(f"{gateway.url}/s/chat", json={}, headers=gateway.headers) as response:
                    assert response.status == 200
            page = await served(gateway.url, gateway.headers, "/status/services/s")
            assert "B gets 100 % of the requests." in page
            assert "B: 1.00 ± 0.00 over its last" in page
            for language, words in (("es", "B recibe el 100 %"), ("pt", "B recebe 100 %")):
                assert words in await served(gateway.url, gateway.headers, f"/status/services/s?lang={language}")
            metrics = await served(gateway.url, gateway.headers, "/metrics")
            [line] = [one for one in metrics.splitlines() if 'target="B"' in one and "probability" in one]
            assert float(line.split()[-1]) > 0.99
        async with running_gateway(config) as gateway:
            events = await served(gateway.url, gateway.headers, "/events?type=gateway.rotation.counted")
            assert '"requests":60' in events.replace(" ", "")
            async with session.post(f"{gateway.url}/s/chat", json={}, headers=gateway.headers) as response:
                assert response.status == 200
            metrics = await served(gateway.url, gateway.headers, "/metrics")
            [line] = [one for one in metrics.splitlines() if 'target="B"' in one and "probability" in one]
            assert float(line.split()[-1]) > 0.99, "it has not begun at 0.5"


def event_of(**payload: Any) -> Event:
    at = datetime.now(UTC)
    return Event(
        1, "tentaculo_link", "gateway.rotation.counted", payload, at, key="k", digest="", severity="info", stated_ms=0
    )


async def no_events(limit: int) -> list[Event]:
    return []


async def test_only_the_newest_own_event_is_restored_and_nonsense_is_passed_over(start: Start) -> None:
    routes = [{"prefix": "/s", "rotation": settings()}]
    live = await start({"s": {"url": "http://127.0.0.1:9", "routes": routes}})
    [group] = live.gateway.proxy.groups
    recorded: list[tuple[str, dict[str, Any]]] = []

    def record(type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        recorded.append((type_, payload))

    rotation = TargetRotation([group], record, no_events, instance="one", worker=2)
    own = {"service": "s", "route": "/s", "instance": "one", "worker": 2}
    rotation.restore(
        [
            event_of(**own | {"worker": 1}, targets=[{"target": "A", "learned": [9, 9]}]),
            event_of(
                **own,
                targets=[
                    {"target": "gone", "learned": [5, 5]},
                    {"target": "A", "learned": [3, 2]},
                    {"target": "B", "learned": [1, 1e9]},
                    "nonsense",
                    {"target": "B"},
                ],
            ),
            event_of(**own, targets=[{"target": "B", "learned": [7, 7]}]),
        ]
    )
    assert group.chooser.state() == [(3, 2), (0, 0)]
    rotation.record()
    assert recorded == [], "without requests there is nothing to say"
    group.choose()
    rotation.record()
    rotation.record()
    [(name, members)] = recorded
    assert name == "rotation.counted"
    assert (members["service"], members["route"], members["requests"]) == ("s", "/s", 1)
    assert [one["target"] for one in members["targets"]] == ["A", "B"]
    assert members["targets"][0]["learned"] == [3, 2]


async def test_what_was_learned_while_the_database_was_away_is_joined_with_what_was_before(start: Start) -> None:
    live = await start({"s": {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/s", "rotation": settings()}]}})
    [group] = live.gateway.proxy.groups
    before = {"targets": [{"target": "A", "learned": [2.9, 0]}, {"target": "B", "learned": [330.433333, 330.433333]}]}
    own = {"service": "s", "route": "/s", "instance": "one", "worker": 2}
    for _ in range(20):
        group.chooser.learn(1, 1.0)
    rotation = TargetRotation([group], lambda *_, **__: None, no_events, instance="one", worker=2)
    rotation.restore([event_of(**own, **before)])
    (first, nothing), (second, _) = group.chooser.state()
    # Older requests count 0.3 % less with each later one: never more than 333 in all.
    assert first == pytest.approx(2.9 * 0.997**20)
    assert nothing == 0
    assert second == pytest.approx(330.433333 * 0.997**20 + (1 - 0.997**20) / 0.003)
