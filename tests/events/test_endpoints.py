"""Which paths of events there are, and `GET /debug/events/cardinality`, on a real socket."""

from __future__ import annotations

from typing import Any

from tests.events.conftest import Gateway


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
