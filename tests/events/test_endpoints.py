"""Which paths of events there are, and `GET /debug/events/cardinality`, on a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from tests.events.conftest import Gateway


@pytest.mark.parametrize("path", ["/debug/events/correlations"])
async def test_what_belongs_to_a_later_issue_is_absent(gateway: Gateway, path: str) -> None:
    async with gateway.session.get(gateway.url + path) as answer:
        assert answer.status == 404


async def test_cardinality_report(gateway: Gateway, alert: dict[str, Any]) -> None:
    assert (await gateway.cardinality())["total_events"] == 0
    for _ in range(5):
        await gateway.ingest({"source": "spawner", "type": "spawn_created", "payload": {}})
    await gateway.ingest({"source": "madre", "type": "system.alert", "payload": alert})
    await gateway.ingest({"source": "madre", "type": "system.alert", "payload": {}})
    report = await gateway.cardinality()
    assert report["status"] == "ok"
    assert report["timestamp"].endswith("Z")
    assert report["window_seconds"] == 300
    assert report["events"] == {
        "spawn_created": {"count": 5, "rate_per_min": 1.0},
        "system.alert": {"count": 1, "rate_per_min": 0.2},
    }
    assert report["total_events"] == 6
